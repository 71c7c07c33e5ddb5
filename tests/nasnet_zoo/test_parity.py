"""Our networks against `keras.applications`, weight for weight."""

import keras
import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.cells import Operation

# Keras names a separable convolution by its place in a cell; ours is a side of a block.
NORMAL = {
    "left1": "block_0_left",
    "right1": "block_0_right",
    "left2": "block_1_left",
    "right2": "block_1_right",
    "left5": "block_4_left",
}
REDUCTION = {
    "left1": "block_0_left",
    "right1": "block_0_right",
    "right2": "block_1_right",
    "right3": "block_2_right",
    "left4": "block_4_left",
}


def randomise(model, rng):
    """Batch norm's values made random: freshly made ones would hide exchanged layers."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (w.shape for w in layer.weights)
            values = rng.uniform(0.5, 1.5, gamma), rng.normal(0, 0.1, beta)
            layer.set_weights([*values, rng.normal(0, 0.1, mean), rng.uniform(0.5, 1.5, variance)])


def copy_weights(theirs, ours, cells):
    """Copies every weight of Keras's model with ``cells`` normal cells a stack into ours."""
    layers = {layer.name: layer.get_weights() for layer in theirs.layers if layer.weights}
    ours.get_layer("predictions").set_weights(layers.pop("predictions"))
    variables = {(layer.name, w.name): w for layer in ours.layers for w in layer.weights}

    def copy(their_layer, our_layer, node, first_step):
        """Their layer's weights are those of our node from a step on: kernels, or a batch norm."""
        values = layers.pop(their_layer)
        is_norm = len(values) == 4
        for k, value in enumerate(values):
            step = first_step if is_norm else first_step + k
            name = ("bn_scale", "bn_offset", "bn_mean", "bn_variance")[k] if is_norm else "kernel"
            name = "depthwise_kernel" if len(values) == 2 and k == 0 else name
            variable = variables.pop((our_layer, f"{node}-{step}-{name}"))
            assert tuple(variable.shape) == value.shape
            variable.assign(value)

    copy("stem_conv1", "Stem_Conv", "sequence", 0)
    copy("stem_bn1", "Stem_Conv", "sequence", 1)
    # Keras counts the first reduction cell among the normal ones, the second not.
    places = {"Stem_Cell_0": "stem_1", "Stem_Cell_1": "stem_2"}
    places |= {f"Cell_{k}": str(k + (k >= cells)) for k in range(3 * cells)}
    places |= {"Reduction_Cell_0": f"reduce_{cells}", "Reduction_Cell_1": f"reduce_{2 * cells}"}
    for our_layer, place in places.items():
        kind, sides = ("normal", NORMAL) if our_layer.startswith("Cell_") else ("reduction", REDUCTION)
        copy(f"{kind}_conv_1_{place}", our_layer, "state_0", 1)
        copy(f"{kind}_bn_1_{place}", our_layer, "state_0", 2)
        for side, node in sides.items():
            for time, first in ((1, 1), (2, 5)):
                copy(f"separable_conv_{time}_{kind}_{side}_{place}", our_layer, node, first)
                copy(f"separable_conv_{time}_bn_{kind}_{side}_{place}", our_layer, node, first + 2)
        if f"adjust_conv_projection_{place}" in layers:
            copy(f"adjust_conv_projection_{place}", our_layer, "state_1", 1)
            copy(f"adjust_bn_{place}", our_layer, "state_1", 2)
        elif f"adjust_bn_{place}" in layers:
            copy(f"adjust_conv_1_{place}", our_layer, "state_1_path_1", 0)
            copy(f"adjust_conv_2_{place}", our_layer, "state_1_path_2", 1)
            copy(f"adjust_bn_{place}", our_layer, "state_1", 0)
    assert layers == {}
    assert [key for key in variables if key[0] != "predictions"] == []


@pytest.mark.parametrize(
    ("name", "cells", "size"),
    [
        ("NASNetMobile", 4, 224),
        pytest.param("NASNetLarge", 6, 331, marks=pytest.mark.tensorflow),
    ],
)
def test_predictions_equal_those_of_keras_applications(name, cells, size):
    rng = np.random.default_rng(0)
    theirs = getattr(keras.applications, name)(weights=None)
    randomise(theirs, rng)
    ours = getattr(zoo, name)(pool_padding="keras")
    assert ours.count_params() == theirs.count_params()
    for group in ("trainable_weights", "non_trainable_weights"):
        sizes = [sum(int(np.prod(w.shape)) for w in getattr(model, group)) for model in (ours, theirs)]
        assert sizes[0] == sizes[1]
    copy_weights(theirs, ours, cells)
    images = rng.uniform(-1, 1, (2, size, size, 3)).astype("float32")

    def run(model):
        cut = keras.Model(model.input, [model.get_layer("predictions").input, model.output])
        return [np.array(y) for y in cut(images)]

    features, expected = run(theirs)
    our_features, predictions = run(ours)
    # Random weights must not make the comparison of probabilities an empty one.
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(predictions, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(our_features, features, rtol=1e-3, atol=1e-4)

    if name == "NASNetMobile":
        trained_function = zoo.NASNetMobile()
        trained_function.set_weights(ours.get_weights())
        assert np.abs(run(trained_function)[1] - expected).max() > 1e-5


def test_pool_paddings_differ_at_the_border_only():
    """The default pools as the weights were trained: what lies outside the image does not exist."""
    x = -np.random.default_rng(0).uniform(1, 2, (1, 8, 8, 4)).astype("float32")
    for name, pool in (
        ("max_3x3", keras.layers.MaxPooling2D),
        ("avg_3x3", keras.layers.AveragePooling2D),
    ):
        same = np.array(Operation(name, 4, stride=2)(x))
        zero = np.array(Operation(f"zero_{name}", 4, stride=2)(x))
        np.testing.assert_allclose(same, pool(3, 2, "same")(x), rtol=1e-6)
        np.testing.assert_allclose(zero[:, :-1, :-1], same[:, :-1, :-1], rtol=1e-6)
        # The last row and column see a row of zeros below and a column right of the image.
        assert np.all(zero[:, -1] > same[:, -1] + 0.1)
        assert np.all(zero[:, :, -1] > same[:, :, -1] + 0.1)


def test_the_default_network_is_the_genotype_with_same_padded_pools():
    operations = {
        padding: {
            operation
            for block in zoo.NASNetMobile(pool_padding=padding)
            .get_layer("Reduction_Cell_0")
            .cell.blocks
            for operation in block.operations
        }
        for padding in ("same", "keras")
    }
    assert operations["same"] - operations["keras"] == {"max_3x3"}
    assert operations["keras"] - operations["same"] == {"zero_max_3x3", "zero_avg_3x3"}
