"""Faster R-CNN: the halves of the network, detections at any size, the losses, and that it learns."""

import dataclasses

import keras
import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.cells import IMAGENET
from nasnet_zoo.detection import CROWD, PADDING, FasterRCNN, split_network
from nasnet_zoo.detection.faster_rcnn import LOSSES

pytestmark = pytest.mark.tensorflow
SLOW = pytest.mark.slow

CELL = zoo.CellGenotype((zoo.Block((0, 1), ("sep_3x3", "identity")),))
SMALL = zoo.Genotype("small", CELL, CELL)


def network(genotype=SMALL, shape=(None, None, 3), **options):
    sizes = {"cells": 1, "filters": 8, "stem": "imagenet", "stem_filters": 8, "image_size": 64}
    sizes["hyperparameters"] = dataclasses.replace(IMAGENET, bn_momentum=0.9)
    return zoo.NASNet(genotype, input_shape=shape, include_top=False, **sizes | options)


def detector(**options):
    keras.utils.set_random_seed(1)
    small = {
        "anchor_sizes": (16.0, 32.0),
        "rpn_filters": 8,
        "candidates": 60,
        "proposals": 12,
        "rpn_samples": 32,
        "box_samples": 8,
        "crop_size": 5,
        "detections": 6,
        "train_batch_norm": True,
    }
    return FasterRCNN(network(), ["red", "green", "blue"], **small | options)


def images(height=64, width=96, count=2):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, height, width, 3)).astype("float32")


@pytest.mark.parametrize(
    ("genotype", "options"),
    [
        (zoo.NASNET_A, {"cells": 2}),
        pytest.param(zoo.NASNET_A, {"cells": 2, "skip_reduction_layer_input": True}, marks=SLOW),
        pytest.param(zoo.NASNET_C, {}, marks=SLOW),
        pytest.param(zoo.PNASNET_5, {}, marks=SLOW),
    ],
    ids=["mobile", "large", "C", "PNASNet"],
)
def test_the_box_head_on_the_whole_map_gives_the_classifier_s_own_features(genotype, options):
    keras.utils.set_random_seed(0)
    model = network(genotype, **options)
    first, box_head = split_network(model)
    x = images(63, 80)
    states = first(x)
    assert {tuple(state.shape[1:3]) for state in states} == {(4, 5)}  # a sixteenth
    np.testing.assert_array_equal(box_head(states), model(x))


@pytest.mark.slow
def test_large_is_cut_after_cell_11():
    large = zoo.NASNetLarge(weights=None, include_top=False, input_shape=(None, None, 3))
    first, box_head = split_network(large)
    assert [tensor.shape[-1] for tensor in first.outputs] == [2016, 2016]
    cells = [{n for n in range(18) if f"Cell_{n}" in names(half)} for half in (first, box_head)]
    assert cells == [set(range(12)), set(range(12, 18))]


def names(model):
    return {layer.name for layer in model.layers}


def test_detections_are_in_the_image_best_first_and_counted():
    found = {name: np.array(v) for name, v in detector(score=0.0)(images(50, 77)).items()}
    assert {name: v.shape for name, v in found.items()} == {
        "boxes": (2, 6, 4), "scores": (2, 6), "classes": (2, 6), "count": (2,),
    }  # fmt: skip
    for k, count in enumerate(found["count"]):
        assert count > 0
        boxes, scores = found["boxes"][k, :count], found["scores"][k, :count]
        assert (boxes >= 0).all()
        assert (boxes <= [50, 77, 50, 77]).all()
        assert (boxes[:, :2] <= boxes[:, 2:]).all()
        assert (np.diff(scores) <= 0).all()
        assert (found["boxes"][k, count:] == 0).all()
        assert set(found["classes"][k]) <= {0, 1, 2}


def test_classes_are_suppressed_each_on_its_own():
    model = detector(score=0.1, nms_iou=0.5)
    box = np.float32([10, 10, 30, 30])
    # Two proposals in the same place; class 0 in both, class 2 in the second.
    boxes = np.broadcast_to(box, (1, 2, 3, 4))
    scores = np.float32([[[0.6, 0.0, 0.0], [0.5, 0.0, 0.4]]])
    found = {name: np.array(v) for name, v in model._detections(boxes, scores).items()}
    assert found["count"][0] == 2
    assert list(found["classes"][0, :2]) == [0, 2]
    np.testing.assert_allclose(found["scores"][0, :2], [0.6, 0.4])


def losses(model, boxes, classes, height=64, width=96):
    proposed = model(images(height, width), training=True)
    sizes = (height, width)
    return [float(x) for x in model.detection_losses(proposed, boxes, classes, sizes)]


def test_without_boxes_only_background_is_learned():
    found = losses(detector(), np.zeros((2, 3, 4), "float32"), np.full((2, 3), PADDING))
    objectness, rpn_boxes, classes, boxes = found
    assert rpn_boxes == boxes == 0.0
    assert objectness > 0
    assert classes > 0


def test_a_crowd_teaches_no_boxes():
    boxes = np.float32([[[0, 0, 64, 96]]] * 2)
    for kind, teaches in ((CROWD, False), (0, True)):
        found = dict(zip(LOSSES, losses(detector(), boxes, np.full((2, 1), kind)), strict=True))
        assert (found["rpn_boxes"] > 0) is (found["boxes"] > 0) is teaches


def test_a_detector_is_saved_whole(tmp_path):
    model = detector(score=0.0)
    model.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    assert (np.array(model(images())["count"]) > 0).all()
    for name, values in model(images()).items():
        np.testing.assert_array_equal(values, loaded(images())[name])


def test_batch_norm_is_frozen_unless_asked():
    for train_batch_norm in (False, True):
        model = detector(train_batch_norm=train_batch_norm)
        before = [np.array(v) for v in model.network.non_trainable_variables]
        model(images(), training=True)
        same = [
            np.array_equal(b, v)
            for b, v in zip(before, model.network.non_trainable_variables, strict=True)
        ]
        assert all(same) is not train_batch_norm


def test_it_learns_one_batch_by_heart():
    model = detector(score=0.3)
    x = np.full((2, 64, 64, 3), -0.5, "float32")
    boxes = np.float32([[[8, 8, 40, 40], [0, 0, 0, 0]], [[20, 16, 60, 48], [2, 2, 18, 30]]])
    classes = np.int32([[0, PADDING], [1, 2]])
    colors = np.eye(3, dtype="float32") * 1.5 - 0.5
    for image in range(2):
        for (y, left, bottom, right), kind in zip(
            boxes[image].astype(int), classes[image], strict=True
        ):
            if kind != PADDING:
                x[image, y:bottom, left:right] = colors[kind]
    model.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    for _ in range(150):
        model.train_on_batch(x, {"boxes": boxes, "classes": classes})
    found = {name: np.array(v) for name, v in model(x, training=False).items()}
    for image in range(2):
        true = classes[image][classes[image] != PADDING]
        assert sorted(found["classes"][image, : found["count"][image]]) == sorted(true)


@pytest.mark.parametrize("class_names", [[], "red", ["a", "a"], [""], ["a", 3]])
def test_every_class_has_a_name_of_its_own(class_names):
    with pytest.raises(ValueError, match="Expected class_names: .* Received: class_names="):
        FasterRCNN(network(), class_names)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anchor_sizes", ()),
        ("anchor_sizes", (0.0,)),
        ("anchor_sizes", 16.0),
        ("aspect_ratios", (float("inf"),)),
        ("rpn_filters", 0),
        ("candidates", 0),
        ("candidates", 1_000_000),
        ("proposals", 0),
        ("rpn_nms_iou", 2.0),
        ("rpn_samples", 0),
        ("box_samples", 0),
        ("crop_size", 1),
        ("detections", 0),
        ("nms_iou", -0.1),
        ("score", float("nan")),
        ("train_batch_norm", "yes"),
        ("seed", -1),
    ],
)
def test_what_is_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"Expected {name}: .* Received: {name}="):
        detector(**{name: value})


def test_only_our_networks_can_be_cut():
    with pytest.raises(ValueError, match="Expected a model of nasnet_zoo"):
        split_network(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)]))
