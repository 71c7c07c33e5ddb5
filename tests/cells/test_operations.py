"""Every operation against the same operation written with Keras's own layers."""

import keras
import numpy as np
import pytest
from keras import layers

from nasnet_zoo.cells import (
    COMBINATIONS,
    OPERATIONS,
    SEARCH_COMBINATIONS,
    SEARCH_OPERATIONS,
    Block,
    Cell,
    CellGenotype,
    Operation,
    cell_graph,
    graph_cost,
    register_combination,
    register_operation,
)
from nasnet_zoo.cells.draw import cell_svg
from nasnet_zoo.cells.graph import operation_graph
from nasnet_zoo.cells.operations import separable
from nasnet_zoo.cells.primitives import Conv, InstanceNorm, LayerNorm

F = 6


def _conv(kernel, stride=1, **options):
    convolution = layers.Conv2D(F, kernel, stride, "same", use_bias=False, **options)
    return [layers.ReLU(), convolution, layers.BatchNormalization(epsilon=1e-3)]


def _separable(kernel, stride):
    steps = []
    for s in (stride, 1):
        convolution = layers.SeparableConv2D(F, kernel, s, "same", use_bias=False)
        steps += [layers.ReLU(), convolution, layers.BatchNormalization(epsilon=1e-3)]
    return steps


def _pool(layer, kernel, stride, channels):
    project = [] if channels == F else _conv(1)[1:]
    return [layer(kernel, stride, "same"), *project]


def _every_second_pixel(stride):
    return [layers.Lambda(lambda x: x[:, ::stride, ::stride])] if stride > 1 else []


# Written anew from the paper's list, not from the registry. A dilated convolution with stride 2 is
# one of rate 1 on every second pixel.
REFERENCES = {
    "identity": lambda s, c: [] if s == 1 and c == F else _conv(1, s),
    "1x3_3x1": lambda s, c: _conv((1, 3), s) + _conv((3, 1)),
    "1x7_7x1": lambda s, c: _conv((1, 7), s) + _conv((7, 1)),
    "dil_3x3": lambda s, c: _every_second_pixel(s) + _conv(3, dilation_rate=3 - s),
    "avg_3x3": lambda s, c: _pool(layers.AveragePooling2D, 3, s, c),
    "avg_5x5": lambda s, c: _pool(layers.AveragePooling2D, 5, s, c),
    "max_3x3": lambda s, c: _pool(layers.MaxPooling2D, 3, s, c),
    "max_5x5": lambda s, c: _pool(layers.MaxPooling2D, 5, s, c),
    "max_7x7": lambda s, c: _pool(layers.MaxPooling2D, 7, s, c),
    "conv_1x1": lambda s, c: _conv(1, s),
    "conv_3x3": lambda s, c: _conv(3, s),
    "sep_3x3": lambda s, c: _separable(3, s),
    "sep_5x5": lambda s, c: _separable(5, s),
    "sep_7x7": lambda s, c: _separable(7, s),
}


def test_the_search_space_is_the_papers():
    assert set(SEARCH_OPERATIONS) == set(REFERENCES) - {"avg_5x5"}
    assert len(SEARCH_OPERATIONS) == 13
    assert SEARCH_COMBINATIONS == ("add", "concat")
    assert {"add", "concat", "ln_add", "in_add"} <= set(COMBINATIONS)


def _randomise(layer, rng):
    layer.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) * (1 if "variance" in w.name else rng.choice([-1, 1]))
            for w in layer.weights
        ]
    )


@pytest.mark.parametrize("channels", [F, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", REFERENCES)
def test_an_operation_equals_its_reference(name, stride, channels):
    rng = np.random.default_rng(0)
    ours = Operation(name, F, stride)
    reference = keras.Sequential([layers.Identity(), *REFERENCES[name](stride, channels)])
    for layer in (ours, reference):
        layer.build((None, None, None, channels))
    _randomise(ours, rng)
    # Both own their weights step by step, so the same order is the same meaning.
    for group in ("trainable_weights", "non_trainable_weights"):
        for mine, theirs in zip(getattr(ours, group), getattr(reference, group), strict=True):
            assert mine.shape == theirs.shape
            theirs.assign(mine)
    for height, width in ((8, 11), (9, 6)):
        x = rng.normal(size=(2, height, width, channels)).astype("float32")
        y = ours(x)
        assert (
            y.shape
            == ours.compute_output_shape(x.shape)
            == (2, -(-height // stride), -(-width // stride), F)
        )
        np.testing.assert_allclose(y, reference(x), rtol=1e-4, atol=1e-4)
    trained, expected = ours(x, training=True), reference(x, training=True)
    np.testing.assert_allclose(trained, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["zero_max_3x3", "zero_avg_3x3"])
def test_zero_padded_pools_equal_padding_then_pooling(name, stride):
    pool = layers.MaxPooling2D if "max" in name else layers.AveragePooling2D
    x = -np.random.default_rng(0).uniform(1, 2, (1, 9, 8, F)).astype("float32")
    # keras.applications pads one pixel less before an even axis when the stride is 2.
    padded = np.pad(x, ((0, 0), (1, 1), (2 - stride, 1), (0, 0)))
    np.testing.assert_allclose(
        Operation(name, F, stride)(x), pool(3, stride, "valid")(padded), rtol=1e-6
    )


def test_layer_and_instance_norm_normalise_what_they_say():
    x = np.random.default_rng(0).normal(2.0, 3.0, (2, 5, 7, F)).astype("float32")
    scale, offset = np.arange(1, F + 1, dtype="float32"), np.arange(F, dtype="float32")
    for norm, axes in ((LayerNorm(), (1, 2, 3)), (InstanceNorm(), (1, 2))):
        y, updates = norm(x, (scale, offset), True, None)
        expected = (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True) * scale + offset
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        assert updates == ()


# Trainable parameters at C channels in and F out, and multiply-adds a pixel, by hand.
COSTS = {
    "identity": (4 * F + 2 * F, 4 * F),
    "1x3_3x1": (3 * 4 * F + 2 * F + 3 * F * F + 2 * F, 3 * 4 * F + 3 * F * F),
    "max_5x5": (4 * F + 2 * F, 4 * F),
    "dil_3x3": (9 * 4 * F + 2 * F, 9 * 4 * F),
    "sep_5x5": (
        25 * 4 + 4 * F + 2 * F + 25 * F + F * F + 2 * F,
        25 * 4 + 4 * F + 25 * F + F * F,
    ),
}


@pytest.mark.parametrize("name", COSTS)
def test_costs_are_those_counted_by_hand(name):
    graph = operation_graph(name, F, 1, 4)
    cost = graph_cost(graph, [(10, 7, 4)])
    assert (cost.parameters, cost.mult_adds) == (COSTS[name][0], 70 * COSTS[name][1])
    layer = Operation(name, F)
    layer.build((None, 10, 7, 4))
    assert sum(int(np.prod(w.shape)) for w in layer.trainable_weights) == cost.parameters
    assert sum(int(np.prod(w.shape)) for w in layer.non_trainable_weights) == cost.statistics


def test_costs_need_an_image_size():
    with pytest.raises(ValueError, match="fixed image size. Received: shape=\\(None, 7, 6\\)"):
        graph_cost(operation_graph("conv_3x3", F, 1, 4), [(None, 7, 4)])


def test_a_new_operation_is_one_entry(tmp_path):
    register_operation(
        "test_sep_9x9",
        lambda stride, channels, filters: separable(9, stride),
        label="nine",
        colour="#abcdef",
    )
    try:
        cell = CellGenotype((Block((0, 1), ("test_sep_9x9", "identity")),))
        x = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype("float32")
        model = keras.Sequential(
            [keras.Input((6, 6, 3)), Cell(cell, F), layers.GlobalAveragePooling2D()]
        )
        model.compile("sgd", "mse")
        before = [np.array(w) for w in model.trainable_weights]
        model.train_on_batch(x, np.ones((4, F), "float32"))
        assert all(np.any(b != w) for b, w in zip(before, model.trainable_weights, strict=True))
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
        squeeze, separable_9x9, projection = 3 * F, 81 * F + F * F, 3 * F
        cost = graph_cost(cell_graph(cell, F, 1, [3], [1]), [(6, 6, 3)])
        assert cost.mult_adds == 36 * (squeeze + separable_9x9 + projection)
        picture = cell_svg(cell, "new")
        assert ">nine<" in picture
        assert "#abcdef" in picture
    finally:
        del OPERATIONS["test_sep_9x9"]


def test_names_are_taken_once():
    with pytest.raises(ValueError, match="Received: name='sep_3x3'"):
        register_operation("sep_3x3", lambda stride, channels, filters: ())
    with pytest.raises(ValueError, match="Received: name='add'"):
        register_combination("add", "add")
    with pytest.raises(ValueError, match="Received: merge='multiply'"):
        register_combination("multiply", "multiply")
    with pytest.raises(ValueError, match="Received: operation='sep_4x4'"):
        Operation("sep_4x4", F)


@pytest.mark.tensorflow
def test_a_strided_1x1_convolution_learns_from_every_second_pixel():
    # With fewer than 8 filters the gradient of TensorFlow 2.21's own crashes on CPUs.
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 64, 64, 8)).astype("float32")
    gradients = rng.normal(size=(4, 32, 32, 4)).astype("float32")
    kernel = tf.Variable(rng.normal(size=(1, 1, 8, 4)).astype("float32"))
    for _ in range(20):
        with tf.GradientTape() as tape:
            outputs, _ = Conv(1, stride=2, filters=4)(images, [kernel], True, None)
        gradient = tape.gradient(outputs, kernel, gradients)
    expected = np.einsum("bhwi,bhwo->io", images[:, ::2, ::2], gradients)
    np.testing.assert_allclose(gradient[0, 0], expected, rtol=1e-3, atol=1e-3)
