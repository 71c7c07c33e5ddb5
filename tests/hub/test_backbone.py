"""NASNet as a backbone of KerasHub: the features and weights of the network; detector and segmenter."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from nasnet_zoo import CIFAR, NASNET_A, NASNET_B, PNASNET_5, NASNet, feature_extractor

keras_hub = pytest.importorskip("keras_hub")
pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

from nasnet_zoo.hub import NASNetBackbone  # noqa: E402

STRIDES = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}


def tiny(genotype=NASNET_A, **arguments):
    sizes = {"cells": 1, "filters": 4, "stem_filters": 4, "classes": 3}
    return NASNet(genotype, **{**sizes, **arguments})


def images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, (*shape, 3)).astype("float32")


@pytest.fixture(scope="module")
def backbone():
    return NASNetBackbone(tiny(input_shape=(64, 64, 3)))


@pytest.mark.parametrize("genotype", [NASNET_A, NASNET_B], ids=["A", "B"])
def test_any_size_gives_the_features_of_the_network(genotype):
    # A classifier for one size, and the same weights in a network for any.
    classifier = tiny(genotype, input_shape=(64, 64, 3))
    network = tiny(genotype, include_top=False)
    network.set_weights(classifier.get_weights()[:-2])
    backbone = NASNetBackbone(classifier)

    pyramid = keras.Model(backbone.input, backbone.pyramid_outputs)
    states = feature_extractor(network, [4, 8, 16, 32])
    for size in ((64, 64), (96, 160)):
        x = images(1, *size)
        np.testing.assert_array_equal(backbone(x), network(x))
        for (level, ours), expected in zip(pyramid(x).items(), states(x), strict=True):
            np.testing.assert_array_equal(ours, expected)
            assert ours.shape[1:3] == tuple(side // STRIDES[level] for side in size)


def test_the_weights_are_the_network_s_own():
    network = tiny()
    backbone = NASNetBackbone(network)
    assert [id(w) for w in backbone.weights] == [id(w) for w in network.weights[:-2]]


def test_a_model_s_name():
    # Keras's own NASNetMobile without its classifier has as many.
    assert NASNetBackbone("nasnet_mobile").count_params() == 4_269_716


def test_a_cifar_network_has_no_such_pyramid():
    with pytest.raises(ValueError, match="Expected one of .* Received: 8"):
        NASNetBackbone(tiny(stem="cifar"))


@pytest.mark.parametrize("genotype", [NASNET_A, NASNET_B], ids=["A", "B"])
def test_saved_and_loaded(genotype, tmp_path):
    backbone = NASNetBackbone(tiny(genotype), name="feathers", trainable=False)
    x = images(1, 64, 64)
    backbone.save(tmp_path / "backbone.keras")
    backbone.save_to_preset(tmp_path / "preset")
    for loaded in (
        keras.models.load_model(tmp_path / "backbone.keras"),
        keras_hub.models.Backbone.from_preset(str(tmp_path / "preset")),
    ):
        assert isinstance(loaded, NASNetBackbone)
        assert (loaded.name, loaded.trainable) == ("feathers", False)
        assert list(loaded.pyramid_outputs) == list(STRIDES)
        np.testing.assert_array_equal(loaded(x), backbone(x))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"skip_reduction_layer_input": True, "repeat_stem": True},
        {"drop_path_keep": 0.7, "drop_path_steps": 9, "gradient_checkpointing": True},
        {"genotype": NASNET_B, "hyperparameters": CIFAR, "input_shape": (None, None, 1)},
        {"genotype": PNASNET_5, "cells": 2, "count_reduction_cells": True},
    ],
    ids=["plain", "other states", "training", "B", "PNASNet"],
)
def test_the_config_is_plain_data_that_builds_the_same(arguments):
    backbone = NASNetBackbone(tiny(**arguments))
    config = backbone.get_config()
    assert json.loads(json.dumps(config)).keys() == config.keys()
    again = NASNetBackbone.from_config(json.loads(json.dumps(config)))
    assert json.dumps(again.get_config()) == json.dumps(config)
    again.set_weights(backbone.get_weights())
    x = images(1, 64, 64)[..., : backbone.input_shape[-1]]
    np.testing.assert_array_equal(again(x), backbone(x))


def test_backbones_of_version_0_1_0_load():
    """Their config holds the network as a serialised Keras model."""
    backbone = NASNetBackbone(tiny(NASNET_B))
    outputs = [backbone.output, *backbone.pyramid_outputs.values()]
    network = keras.Model(backbone.input, outputs, name="nasnet")
    config = backbone.get_config()
    del config["image_shape"]
    config["network"] = keras.saving.serialize_keras_object(network)
    old = NASNetBackbone.from_config(json.loads(json.dumps(config)))
    assert [w.path for w in old.weights] == [w.path for w in backbone.weights]
    assert old.get_config()["network"] == backbone.get_config()["network"]


def test_another_policy_than_the_network_s_is_refused():
    with pytest.raises(ValueError, match="Expected the network's dtype 'float32'. Received: "):
        NASNetBackbone(tiny(), dtype="bfloat16")
    assert NASNetBackbone(tiny(), dtype="float32").dtype_policy.name == "float32"


def keras_hub_test():
    """KerasHub's own test case."""
    pytest.importorskip("grain")
    from keras_hub.src.tests.test_case import TestCase

    return TestCase()


@pytest.mark.parametrize("genotype", [NASNET_A, NASNET_B], ids=["A", "B"])
def test_keras_hub_s_own_tests_of_backbones(genotype):
    network = NASNetBackbone(tiny(genotype)).get_config()["network"]
    arguments = {"network": network, "image_shape": (64, 64, 3)}
    x = keras.ops.convert_to_tensor(images(2, 64, 64))
    case = keras_hub_test()
    case.run_vision_backbone_test(
        NASNetBackbone,
        arguments,
        x,
        expected_output_shape=tuple(NASNetBackbone(**arguments)(x).shape),
        expected_pyramid_output_keys=["P2", "P3", "P4", "P5"],
        expected_pyramid_image_sizes=[(16, 16), (8, 8), (4, 4), (2, 2)],
    )
    case.run_model_saving_test(NASNetBackbone, arguments, x)


def stem(network):
    return next(w for w in network.trainable_weights if "kernel" in w.path).numpy()


def moved(before, after):
    return np.isfinite(after).all() and np.abs(after - before).max() > 0


def test_deeplab(backbone):
    segmenter = keras_hub.models.DeepLabV3ImageSegmenter(
        keras_hub.models.DeepLabV3Backbone(
            backbone,
            spatial_pyramid_pooling_key="P5",
            upsampling_size=8,
            dilation_rates=[1, 2],
            low_level_feature_key="P2",
            projection_filters=8,
        ),
        num_classes=2,
    )
    for size in ((64, 64), (96, 32)):
        assert segmenter(images(1, *size)).shape == (1, *size, 2)

    # The right half is brighter.
    x = images(2, 64, 64) / 2
    x[:, :, 32:] += 0.5
    y = np.broadcast_to(np.eye(2)[np.arange(64) // 32], (2, 64, 64, 2))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    segmenter.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    before = stem(backbone)
    losses = [float(np.ravel(segmenter.train_on_batch(x, y))[0]) for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]
    assert moved(before, stem(backbone))


def test_keras_hub_s_own_retinanet(backbone):
    pyramid = keras_hub.models.RetinaNetBackbone(backbone, min_level=3, max_level=6, use_p5=False)
    detector = keras_hub.models.RetinaNetObjectDetector(
        pyramid, num_classes=2, pre_logits_num_conv_layers=1
    )
    for height, width in ((64, 64), (96, 160)):
        places = sum(-(-height // 2**k) * -(-width // 2**k) for k in range(3, 7))
        assert detector(images(1, height, width))["cls_logits"].shape == (1, 9 * places, 2)

    detector.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    y = {"boxes": np.float32([[[8, 8, 40, 40]]] * 2), "labels": np.float32([[0], [1]])}
    before = stem(backbone)
    batch = tf.data.Dataset.from_tensors((images(2, 64, 64), y))
    losses = detector.fit(batch, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert moved(before, stem(backbone))
