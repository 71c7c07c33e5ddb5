"""Exported detectors against Keras, each in its own runtime, without ours."""

import dataclasses
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from documented import check_figures
from PIL import Image
from settled import HYPERPARAMETERS, settled

import nasnet_zoo as zoo
from nasnet_zoo.cells import IMAGENET
from nasnet_zoo.cli import main
from nasnet_zoo.detection import FasterRCNN
from nasnet_zoo.export import export_detector
from nasnet_zoo.export.runtime import METADATA_NAME

pytestmark = pytest.mark.tensorflow
SLOW = pytest.mark.slow
CELL = zoo.CellGenotype((zoo.Block((0, 1), ("sep_3x3", "identity")),))
SMALL = zoo.Genotype("small", CELL, CELL)
NAMES = ["red", "green", "blue"]
SIZE = 72
_NOISE = np.random.default_rng(2).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
#: Noise twice, and a dark and dull image in which nothing is found.
IMAGES = np.stack([*_NOISE, _NOISE[0] // 16 + 40])
EMPTY = 2


def seen(detector, images):
    found = detector(zoo.preprocess_input(images), training=False)
    return {name: np.asarray(values) for name, values in found.items()}


def made(genotype, kind=FasterRCNN):
    keras.utils.set_random_seed(1)
    decay = dataclasses.replace(IMAGENET, bn_momentum=HYPERPARAMETERS.bn_momentum)
    sizes = {"cells": 1, "filters": 8, "stem": "imagenet", "stem_filters": 8, "image_size": 64}
    network = zoo.NASNet(
        genotype, input_shape=(None, None, 3), include_top=False, hyperparameters=decay, **sizes
    )
    detector = kind(
        settled(network, (SIZE, SIZE)),
        NAMES,
        anchor_sizes=(16.0, 32.0),
        rpn_filters=8,
        candidates=60,
        proposals=12,
        crop_size=5,
        detections=20,
        score=0.0,
    )
    detector.score = 1.05 * float(seen(detector, IMAGES)["scores"][EMPTY].max())
    return detector


@pytest.fixture(scope="module")
def small():
    return made(SMALL)


def in_tensorflow(path, image):
    found = tf.saved_model.load(os.fspath(path)).signatures["serving_default"](image=tf.constant(image))
    return {name: value.numpy() for name, value in found.items()}


def in_litert(path, image):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(os.fspath(path))
    operators, shapes = interpreter._get_ops_details(), interpreter.get_tensor_details()
    assert not [op for op in operators if op["op_name"].startswith("Flex")]
    # The network is written natively: XNNPACK would take no larger kernels.
    kernels = [op["inputs"][1] for op in operators if op["op_name"] == "DEPTHWISE_CONV_2D"]
    assert max(np.prod(shapes[k]["shape"][1:3]) for k in kernels) <= 25
    return interpreter.get_signature_runner()(image=image)


def in_onnx_runtime(path, image):
    session = pytest.importorskip("onnxruntime").InferenceSession(os.fspath(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


RUNTIMES = {
    "detector": in_tensorflow,
    "detector.tflite": in_litert,
    "detector.onnx": in_onnx_runtime,
}


def assert_finds_the_same(detector, path):
    """On images one at a time, and where the batch is open on all at once."""
    expected = seen(detector, IMAGES)
    assert expected["count"][EMPTY] == 0
    assert (expected["count"][:EMPTY] > 1).all()
    batches = [(slice(k, k + 1)) for k in range(len(IMAGES))]
    if path.suffix != ".tflite":
        batches.append(slice(None))
    for batch in batches:
        found = RUNTIMES[path.name](path, IMAGES[batch])
        assert sorted(found) == ["boxes", "classes", "count", "scores"]
        for name in ("count", "classes"):
            assert found[name].dtype == np.int32
            np.testing.assert_array_equal(found[name], expected[name][batch], err_msg=name)
        np.testing.assert_allclose(found["boxes"], expected["boxes"][batch], atol=0.01)
        np.testing.assert_allclose(found["scores"], expected["scores"][batch], atol=1e-4)


@SLOW
@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("genotype", [SMALL, zoo.NASNET_A], ids=["small", "NASNet-A"])
def test_a_file_finds_what_keras_finds(tmp_path, genotype, name):
    detector = made(genotype)
    result = export_detector(detector, tmp_path / name, image_size=(SIZE, SIZE), images=IMAGES)
    assert result.agreement == 1.0
    assert result.detections == seen(detector, IMAGES)["count"].sum()
    assert_finds_the_same(detector, tmp_path / name)


@SLOW
def test_an_image_need_not_be_square(small, tmp_path):
    wide = IMAGES[:1, :48]
    export_detector(small, tmp_path / "detector.onnx", image_size=(48, SIZE))
    found, expected = in_onnx_runtime(tmp_path / "detector.onnx", wide), seen(small, wide)
    assert expected["count"][0] > 0
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=0.01)


class Shifted(FasterRCNN):
    """Finds something else in a file than in Keras."""

    def detect(self, *arguments):
        found = super().detect(*arguments)
        return {**found, "boxes": found["boxes"] + (0.0 if tf.executing_eagerly() else 0.2)}


class Unscored(FasterRCNN):
    """Gives scores in a file that are no numbers."""

    def detect(self, *arguments):
        found = super().detect(*arguments)
        return found if tf.executing_eagerly() else {**found, "scores": found["scores"] * float("nan")}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        pytest.param(Shifted, "95% of the detections as in Keras.* Received: 0.0% of", marks=SLOW),
        (Unscored, "Expected finite detections. Received: others, from .*detector.tflite"),
    ],
)
def test_a_file_that_finds_something_else_is_refused(tmp_path, kind, told):
    path = tmp_path / "detector.tflite"
    with pytest.raises(ValueError, match=told):
        export_detector(made(SMALL, kind), path, image_size=(SIZE, SIZE), images=IMAGES[:1])
    assert not list(tmp_path.iterdir())


def test_a_detector_that_finds_nothing_was_not_compared(small, tmp_path):
    told = "Expected images with objects that the detector finds.*there is nothing to compare"
    with pytest.raises(ValueError, match=told):
        export_detector(
            small, tmp_path / "d.tflite", image_size=(SIZE, SIZE), images=IMAGES[EMPTY : EMPTY + 1]
        )
    assert not list(tmp_path.iterdir())


def test_a_detector_of_no_finite_numbers_is_refused(tmp_path):
    detector = made(SMALL)
    detector.class_logits.kernel.assign(detector.class_logits.kernel * np.float32(3e38))
    with pytest.raises(ValueError, match="Expected finite detections. Received: others, from Keras"):
        export_detector(detector, tmp_path / "d.tflite", image_size=(SIZE, SIZE), images=IMAGES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("images", [IMAGES[:0], IMAGES[:, 1:], np.float32(IMAGES)])
def test_images_that_do_not_fit_are_refused(small, tmp_path, images):
    with pytest.raises(ValueError, match="Expected uint8 images of shape .images, 72, 72, 3."):
        export_detector(small, tmp_path / "d.onnx", image_size=(SIZE, SIZE), images=images)


# === The command line ===


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    # `score` is set after the detector was made, and its file holds what it was made with.
    saved = FasterRCNN.from_config({**small.get_config(), "score": small.score})
    saved.set_weights(small.get_weights())
    saved.save(folder / "detector.keras")
    for k, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{k}.png")
    return folder


def test_the_command_exports(small, folder, tmp_path, capsys):
    path = tmp_path / "detector.tflite"
    command = ["detect", "export", str(folder / "detector.keras"), "--out", str(path)]
    images = [str(folder / f"{k}.png") for k in range(len(IMAGES))]
    assert main([*command, "--image-size", str(SIZE), "--images", *images, "--json"]) == 0
    count = seen(small, IMAGES)["count"].sum()
    output = capsys.readouterr()
    check_figures("detect export", json.loads(output.out))
    assert f"of {count} detections on 3 images 100.0% as in Keras" in output.err
    assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}.md"}
    assert_finds_the_same(small, path)

    model = pytest.importorskip("ai_edge_litert.schema_py_generated").ModelT.InitFromPackedBuf(
        path.read_bytes()
    )
    (entry,) = [entry for entry in model.metadata if entry.name.decode() == METADATA_NAME]
    told = json.loads(bytes(model.buffers[entry.buffer].data))
    assert json.loads(told["class_names"]) == NAMES
    assert "Classes: red, green, blue." in (tmp_path / "detector.tflite.md").read_text()

    assert main(["benchmark", str(path), "--profile", "--rounds", "1"]) == 1
    assert "expected a file without loops to profile. Received: one with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"detector": "nothing.keras"}, "nothing.keras: expected a detector"),
        ({"--out": "detector.bin"}, "Expected a format of saved_model, litert, onnx, or a path"),
        ({"--out": "nowhere/detector.onnx"}, "onnx: expected a file in an existing folder"),
        ({"--images": "nothing.png"}, "nothing.png: expected an image. Received: no such file"),
        ({"--image-size": "1"}, "Expected image_size: an int of at least 16 and of at most 4096"),
        ({"--image-size": "1000000"}, "Expected image_size: an int of at least 16 and of at most 4096"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    folder, tmp_path, capsys, monkeypatch, changed, message
):
    monkeypatch.chdir(tmp_path)
    arguments = {"detector": str(folder / "detector.keras"), "--out": "detector", "--image-size": "72"}
    detector, *options = (arguments | changed).items()
    command = ["detect", "export", detector[1], *(part for option in options for part in option)]
    assert main(command) == (2 if "--image-size" in changed else 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
