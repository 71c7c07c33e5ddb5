"""Each fault of KerasHub's RetinaNet, shown in KerasHub itself, and that ours is without it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nasnet_zoo import NASNET_A, NASNet

keras_hub = pytest.importorskip("keras_hub")
pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

from keras_hub.src.models.retinanet.retinanet_label_encoder import (  # noqa: E402
    RetinaNetLabelEncoder,
)

from nasnet_zoo.export import load_runtime  # noqa: E402
from nasnet_zoo.export.formats import MODULES  # noqa: E402
from nasnet_zoo.export.official import serving_module  # noqa: E402
from nasnet_zoo.hub import (  # noqa: E402
    AnchorTargets,
    NASNetBackbone,
    PerClassSuppression,
    PyramidAnchors,
    RetinaNet,
)

LEVELS = (3, 6)
ANCHORS = {"num_scales": 3, "aspect_ratios": [0.5, 1.0, 2.0], "anchor_size": 4.0}


class Convolutions(keras_hub.models.FeaturePyramidBackbone):
    """As little of a backbone as KerasHub's RetinaNet takes: its faults do not depend on it."""

    def __init__(self):
        x = images = keras.Input((None, None, 3))
        pyramid = {}
        for level in range(1, 6):
            x = keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
            pyramid[f"P{level}"] = x
        super().__init__(inputs=images, outputs=x)
        self.pyramid_outputs = pyramid


def detector(kind, norm=False, **arguments):
    pyramid = keras_hub.models.RetinaNetBackbone(
        Convolutions(), *LEVELS, use_p5=False, use_fpn_batch_norm=norm
    )
    built = kind(pyramid, **{"num_classes": 3, "pre_logits_num_conv_layers": 1, **arguments})
    built.compile(jit_compile=False)
    return built


@pytest.fixture(scope="module")
def theirs():
    return detector(keras_hub.models.RetinaNetObjectDetector)


@pytest.fixture(scope="module")
def ours():
    return detector(RetinaNet)


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, (*shape, 3)).astype("float32")


# === Initial values ===


def test_the_prior_is_of_the_classes(theirs, ours):
    def start(model):
        found = model(noise(1, 64, 64))
        scores = keras.ops.sigmoid(found["cls_logits"])
        return float(np.mean(scores)), float(np.mean(found["bbox_regression"]))

    score, delta = start(theirs)
    assert score == pytest.approx(0.5, abs=0.1)
    assert delta == pytest.approx(-np.log(99), abs=0.5)  # each box e^-4.6 as large as its anchor
    score, delta = start(ours)
    assert score == pytest.approx(0.01, abs=0.001)
    assert delta == pytest.approx(0.0, abs=0.1)


def test_the_heads_start_with_the_deviation_of_the_paper(theirs, ours):
    for model, deviation in ((theirs, 0.05), (ours, 0.01)):
        for head in (model.classification_head, model.box_head):
            for layer in (*head.conv_layers, head.prediction_layer):
                assert np.std(layer.kernel) == pytest.approx(deviation, rel=0.05)


def test_batch_norm_of_the_pyramid_has_its_momentum():
    for kind, kept in ((keras_hub.models.RetinaNetObjectDetector, 0.001), (RetinaNet, 0.99)):
        model = detector(kind, norm=True)
        pyramid = model.backbone.feature_pyramid
        assert pyramid.batch_norm_momentum == 0.99
        norm = pyramid.lateral_batch_norm_layers["P3"]
        norm.moving_variance.assign(1e6 * keras.ops.ones_like(norm.moving_variance))
        model(noise(1, 64, 64), training=True)
        np.testing.assert_allclose(norm.moving_variance, kept * 1e6, rtol=0.01)


def test_the_pyramid_takes_multiples_of_32(theirs, ours):
    """A limit that stands: KerasHub adds maps to maps that it has doubled."""
    for model in (theirs, ours):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            model(noise(1, 80, 80))


# === Losses ===


def paper_s_loss(deltas, labels, found, alpha=0.25, gamma=2.0):
    """Focal loss and smooth L1 of all anchors, over the number of those that stand for an object."""
    logits = np.array(found["cls_logits"], "float64")
    truth = labels[..., None] == np.arange(logits.shape[-1])
    p = 1 / (1 + np.exp(-logits))
    right, weight = np.where(truth, p, 1 - p), np.where(truth, alpha, 1 - alpha)
    focal = -weight * (1 - right) ** gamma * np.log(right)
    off = np.abs(np.array(found["bbox_regression"]) - deltas)
    smooth = np.where(off < 1, off**2 / 2, off - 0.5)
    return (focal[labels != -2].sum() + smooth[labels >= 0].sum()) / (labels >= 0).sum()


def test_the_loss_is_the_paper_s(theirs, ours):
    x = noise(2, 64, 64)
    y = {
        "boxes": np.float32([[[4, 4, 36, 36], [20, 30, 60, 62]], [[0, 0, 64, 64], [-1, -1, -1, -1]]]),
        "labels": np.float32([[0, 2], [1, -1]]),
    }
    for model, right in ((theirs, False), (ours, True)):
        found = model(x)
        deltas, labels = model.label_encoder(x, y["boxes"], y["labels"])
        expected = paper_s_loss(np.array(deltas), np.array(labels), found)
        loss = float(model.compute_loss(x, y, found, None))
        assert (abs(loss - expected) < 1e-3 * expected) == right


# === Anchors ===


def theirs_and_ours(bounding_box_format="yxyx", **arguments):
    arguments = {"min_level": LEVELS[0], "max_level": LEVELS[1], **ANCHORS, **arguments}
    return (
        keras_hub.layers.AnchorGenerator(bounding_box_format, **arguments),
        PyramidAnchors(bounding_box_format, **arguments),
    )


def test_places_of_a_level_are_its_stride_apart():
    # An image of 96 pixels has two places at level 6, which are 64 pixels apart.
    for generator, (first, second) in zip(theirs_and_ours(), ((0, 48), (32, 96)), strict=True):
        anchors = np.array(generator(noise(1, 96, 96))["P6"]).reshape(2, 2, 9, 4)
        centres = (anchors[..., :2] + anchors[..., 2:]) / 2
        np.testing.assert_allclose(centres[0, 0], first, atol=0.6)
        np.testing.assert_allclose(centres[1, 1], second, atol=0.6)


def test_an_aspect_ratio_is_width_over_height():
    generators = theirs_and_ours(aspect_ratios=[4.0], num_scales=1)
    for generator, (height, width) in zip(generators, ((64, 16), (16, 64)), strict=True):
        y, x, y_end, x_end = np.array(generator(noise(1, 64, 64))["P3"])[0]
        assert (y_end - y, x_end - x) == (height, width)


def test_anchors_of_unknown_sizes():
    theirs, ours = theirs_and_ours()
    signature = [tf.TensorSpec((None, None, None, 3))]
    with pytest.raises(TypeError):
        tf.function(theirs, input_signature=signature).get_concrete_function()
    dynamic = tf.function(ours, input_signature=signature)
    for size in ((64, 64), (96, 160)):
        for level, anchors in ours(noise(1, *size)).items():
            np.testing.assert_array_equal(dynamic(noise(1, *size))[level], anchors)


# === Targets ===


@pytest.mark.parametrize("padding", [0, 1])
def test_an_anchor_is_not_forced_on_padding(padding):
    # The first anchor is far from the only object.
    generator, anchors = theirs_and_ours()
    boxes = np.float32([[[24, 24, 56, 56], [-1, -1, -1, -1]]])[:, : 1 + padding]
    labels = np.float32([[2, -1]])[:, : 1 + padding]
    x = noise(1, 64, 64)
    matcher = keras_hub.layers.BoxMatcher([0.4, 0.5], [-1, -2, 1], force_match_for_each_col=True)
    overlaps = keras.utils.bounding_boxes.compute_iou(generator(x)["P3"], boxes, "yxyx")
    index, assignment = (np.array(found) for found in matcher(overlaps))
    assert (index[0, 0], assignment[0, 0]) == (1, 1)  # positive, of the second of one object

    encoder = RetinaNetLabelEncoder(generator, "yxyx", box_matcher_force_match_for_each_col=True)
    if not padding:
        with pytest.raises(tf.errors.InvalidArgumentError, match="not in"):
            encoder(x, boxes, labels)

    _, targets = (np.array(t) for t in AnchorTargets(anchors)(x, boxes, labels))
    assert targets[0, 0] == -1
    assert set(targets[targets >= 0]) == {2}


def test_an_object_like_no_anchor_is_learned():
    # 8 pixels, where the smallest anchors have 32.
    generator, anchors = theirs_and_ours()
    x, box, label = noise(1, 64, 64), np.float32([[[28, 28, 36, 36]]]), np.float32([[2]])
    _, labels = RetinaNetLabelEncoder(generator, "yxyx")(x, box, label)
    assert np.max(labels) == -1
    _, labels = AnchorTargets(anchors)(x, box, label)
    assert np.max(labels) == 2


@pytest.mark.parametrize(
    "arguments",
    [{"box_variance": [0.1, 0.1, 0.2, 0.2], "encoding_format": "center_xywh"}, {}],
    ids=["variance", "order of the coordinates"],
)
def test_boxes_are_decoded_by_what_encoded_them(theirs, ours, arguments):
    """``arguments``: a variance, or none, when the encoder takes y first; KerasHub decodes x first."""
    box, x = np.float32([[[10, 4, 30, 60]]]), noise(1, 64, 64)

    def best(model, encoder):
        deltas, labels = encoder(x, box, np.float32([[2]]))
        logits = 20 * keras.ops.one_hot(keras.ops.cast(labels, "int32"), 3) - 10
        found = model.decode_predictions({"bbox_regression": deltas, "cls_logits": logits}, x)
        return np.array(found["boxes"])[0, 0]

    encoder = RetinaNetLabelEncoder(theirs.anchor_generator, "yxyx", **arguments)
    assert np.abs(best(theirs, encoder) - box).max() > 5
    assert np.abs(best(ours, ours.label_encoder) - box).max() < 0.01


# === Detections ===


def both_suppressions(bounding_box_format="yxyx"):
    return (
        keras_hub.layers.NonMaxSuppression(bounding_box_format, from_logits=True, max_detections=5),
        PerClassSuppression(bounding_box_format, confidence_threshold=0.5, max_detections=5),
    )


BOXES = np.float32([[[0, 0, 32, 32], [1, 1, 33, 33], [0, 2, 30, 34], [40, 40, 60, 60]]])
# Two objects of different classes in one place, the first of them found twice.
LOGITS = np.float32([[[4, -9, -9], [3, -9, -9], [-9, 2, -9], [-9, -9, 1]]])


def test_classes_do_not_suppress_each_other():
    theirs, ours = both_suppressions()
    found = theirs(BOXES, LOGITS)
    assert np.array(found["labels"])[0].tolist() == [0, 2, -1, -1, -1]
    found = ours(BOXES, LOGITS, noise(1, 64, 64))
    assert np.array(found["labels"])[0].tolist() == [0, 1, 2, -1, -1]
    np.testing.assert_array_equal(found["boxes"][0, :3], BOXES[0, [0, 2, 3]])
    assert np.array(found["num_detections"]).tolist() == [3]


def test_relative_boxes():
    theirs, ours = both_suppressions("rel_yxyx")
    x = noise(1, 64, 64)
    with pytest.raises(ValueError, match="unpack"):
        theirs(BOXES / 64, LOGITS, x)
    np.testing.assert_allclose(ours(BOXES / 64, LOGITS, x)["boxes"][0, :3], BOXES[0, [0, 2, 3]] / 64)


def test_detections_are_clipped_to_the_image():
    found = PerClassSuppression()(BOXES - 10, LOGITS, noise(1, 32, 48))
    assert np.array(found["boxes"])[0, 0].tolist() == [0, 0, 22, 22]


def test_the_last_batch_of_predict_may_be_smaller(theirs, ours):
    batches = tf.data.Dataset.from_tensor_slices(noise(3, 64, 64)).batch(2)
    with pytest.raises((TypeError, ValueError)):
        theirs.predict(batches, verbose=0)
    ours.prediction_decoder = PerClassSuppression(confidence_threshold=0.0)
    assert ours.predict(batches, verbose=0)["boxes"].shape == (3, 100, 4)


def test_detections_convert_to_litert_and_onnx():
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    onnxruntime = pytest.importorskip("onnxruntime")
    tf2onnx = pytest.importorskip("tf2onnx.convert")
    theirs, ours = both_suppressions()
    # tf2onnx takes an input and an output of one name for the same thing.
    signature = [tf.TensorSpec(BOXES.shape, name="corners"), tf.TensorSpec(LOGITS.shape, name="logits")]

    def function(layer):
        @tf.function(input_signature=signature)
        def detect(corners, logits):
            return layer(corners, logits, images=tf.zeros((1, 64, 64, 3)))

        return detect

    def to_litert(layer):
        functions = [function(layer).get_concrete_function()]
        return tf.lite.TFLiteConverter.from_concrete_functions(functions, layer).convert()

    def to_onnx(layer):
        model, _ = tf2onnx.from_function(function(layer), signature, opset=17)
        return onnxruntime.InferenceSession(model.SerializeToString())

    with pytest.raises(Exception, match="TF Select ops: BitwiseAnd"):
        to_litert(theirs)
    expected, inputs = ours(BOXES, LOGITS, noise(1, 64, 64)), {"corners": BOXES, "logits": LOGITS}
    found = litert.Interpreter(model_content=to_litert(ours)).get_signature_runner()(**inputs)
    session = to_onnx(ours)
    names = [output.name for output in session.get_outputs()]
    for outputs in (found, dict(zip(names, session.run(names, inputs), strict=True))):
        for name, values in expected.items():
            np.testing.assert_allclose(outputs[name], values, atol=1e-6)
    with pytest.raises(Exception, match="invalid model.*Bitcast"):
        to_onnx(theirs)


def test_a_whole_detector_converts(tmp_path, ours):
    ours.prediction_decoder = PerClassSuppression(confidence_threshold=0.0, candidates=50)

    def detect(images):
        return ours.decode_predictions(ours(images), images)

    x = noise(1, 64, 96)
    module = serving_module(detect, {"image": tf.TensorSpec(x.shape)}, ours.variables)
    expected = detect(x)
    for name, path in {"litert": tmp_path / "d.tflite", "onnx": tmp_path / "d.onnx"}.items():
        MODULES[name].convert(module, path, {})
        runtime = load_runtime(path)
        found = dict(zip(runtime.outputs, runtime.predict_all(x), strict=True))
        assert found.keys() == expected.keys()
        for output, values in expected.items():
            np.testing.assert_allclose(found[output], values, atol=1e-4, err_msg=f"{name} {output}")


# === Learning ===


def squares():
    """Two images with two light or dark squares each, and their boxes."""
    x = 0.1 * noise(2, 64, 64)
    boxes = np.float32(
        [[[4, 4, 32, 30], [34, 30, 62, 60]], [[10, 32, 40, 62], [-1, -1, -1, -1]]],
    )
    labels = np.float32([[0, 1], [1, -1]])
    for image, in_image, of in zip(x, boxes.astype(int), labels, strict=True):
        for (y, left, y_end, right), label in zip(in_image, of, strict=True):
            if label >= 0:
                image[y:y_end, left:right] += 0.8 - 1.6 * label
    return x, {"boxes": boxes, "labels": labels}


def test_one_batch_is_learned():
    x, y = squares()
    model = detector(RetinaNet, num_classes=2)
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    batch = tf.data.Dataset.from_tensors((x, y))
    losses = model.fit(batch, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.02 * losses[0]

    found = model.decode_predictions(model(x), x)
    for k, objects in enumerate((2, 1)):
        overlaps = keras.utils.bounding_boxes.compute_iou(y["boxes"][k], found["boxes"][k], "yxyx")
        best = np.argmax(overlaps, 1)[:objects]
        assert (np.max(overlaps, 1)[:objects] > 0.9).all()
        assert (np.array(found["labels"])[k][best] == y["labels"][k][:objects]).all()
        assert (np.array(found["confidence"])[k][best] > 0.8).all()


def on_nasnet():
    network = NASNet(NASNET_A, cells=1, filters=4, stem_filters=4, include_top=False)
    pyramid = keras_hub.models.RetinaNetBackbone(NASNetBackbone(network), 3, 6, use_p5=False)
    return RetinaNet(pyramid, num_classes=2, pre_logits_num_conv_layers=1)


def test_keras_hub_s_own_test_of_configs():
    pytest.importorskip("grain")
    from keras_hub.src.tests.test_case import TestCase

    TestCase().run_serialization_test(on_nasnet())


def test_a_detector_on_nasnet_is_saved_and_loaded(tmp_path):
    model = on_nasnet()
    model.save(tmp_path / "detector.keras")
    loaded = keras.models.load_model(tmp_path / "detector.keras")
    assert isinstance(loaded, RetinaNet)
    assert isinstance(loaded.backbone.image_encoder, NASNetBackbone)
    x = noise(1, 64, 96)
    expected, found = model(x), loaded(x)
    for name in ("cls_logits", "bbox_regression"):
        np.testing.assert_array_equal(found[name], expected[name])
    expected, found = (m.decode_predictions(o, x) for m, o in ((model, expected), (loaded, found)))
    np.testing.assert_array_equal(found["boxes"], expected["boxes"])
