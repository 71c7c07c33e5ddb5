"""One path becomes several, and computes the same."""

import keras
import numpy as np
import pytest
from keras import layers
from transforms import conv, difference, head, images, outputs, same, stack

from nasnet_zoo.transform import (
    distill,
    insert_identity,
    net2deeper,
    net2wider,
    replace_identity,
    replicate_add,
    replicate_concat,
    split_concat,
)

pytestmark = pytest.mark.tensorflow

#: Every kind of layer of [P]'s table, and how it becomes branches that are concatenated.
KINDS = {
    "convolution": (lambda: conv(7, "path", strides=2, activation="relu"), replicate_concat),
    "convolution without bias": (lambda: conv(9, "path", 1, use_bias=False), replicate_concat),
    "separable": (
        lambda: layers.SeparableConv2D(7, 3, depth_multiplier=2, name="path"),
        replicate_concat,
    ),
    "dense": (lambda: layers.Dense(7, "relu", name="path"), replicate_concat),
    "identity": (lambda: layers.Identity(name="path"), split_concat),
    "max pooling": (lambda: layers.MaxPooling2D(3, 2, "same", name="path"), split_concat),
    "average pooling": (lambda: layers.AveragePooling2D(3, 1, "same", name="path"), split_concat),
    "batch norm": (lambda: layers.BatchNormalization(name="path"), split_concat),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, name="path"), split_concat),
    "grouped convolution": (lambda: conv(18, "path", groups=6, strides=2), split_concat),
}


def around(path):
    return stack(
        conv(6 if path == "grouped convolution" else 7), KINDS[path][0](), layers.ReLU(), *head()
    )


def branches_of(model):
    return [layer.output.shape[-1] for layer in model.layers if "path_branch" in layer.name]


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("path", KINDS)
def test_copies_are_averaged(path, branches):
    model = around(path)
    added = replicate_add(model, "path", branches)
    assert same(model, added)
    assert isinstance(added.get_layer("path_average"), layers.Average)
    assert len(branches_of(added)) == branches


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("path", KINDS)
def test_parts_are_concatenated(path, branches):
    model, concat = around(path), KINDS[path][1]
    joined = concat(model, "path", branches)
    assert same(model, joined)
    widths = sorted(branches_of(joined))
    assert len(widths) == branches
    assert sum(widths) == model.get_layer("path").output.shape[-1]
    assert widths[-1] - widths[0] <= (2 if path == "depthwise" else 1)


@pytest.mark.parametrize(
    ("parts", "concat"),
    [
        ([layers.BatchNormalization, layers.ReLU, lambda: conv(7)], replicate_concat),
        ([lambda: conv(7, use_bias=False), layers.BatchNormalization, layers.ReLU], replicate_concat),
        ([lambda: layers.SeparableConv2D(5, 3), layers.BatchNormalization], replicate_concat),
        ([layers.BatchNormalization, layers.ReLU, lambda: conv(9, groups=3)], split_concat),
        ([lambda: conv(9, groups=3), layers.BatchNormalization, layers.ReLU], split_concat),
        ([lambda: layers.AveragePooling2D(3, 1, "same"), layers.BatchNormalization], split_concat),
    ],
)
def test_batch_norm_is_cut_with_the_layer_beside_it(parts, concat):
    row = [make() for make in parts]
    model = stack(conv(6), *row, *head())
    names = [layer.name for layer in row]
    assert same(model, replicate_add(model, names, 3))
    joined = concat(model, names, 3)
    assert same(model, joined)
    norm = next(layer for layer in row if isinstance(layer, layers.BatchNormalization))
    widths = [joined.get_layer(f"{norm.name}_branch_{k}").gamma.shape[0] for k in (1, 2, 3)]
    whole = concat is replicate_concat and row[0] is norm
    assert sum(widths) == norm.gamma.shape[0] * (3 if whole else 1)


def test_branches_are_transformed_again():
    model = stack(conv(7, "first"), conv(7, "path", activation="relu"), *head())
    x = replicate_add(model, "path", 2)
    x = replicate_concat(x, "path_branch_1", 3)
    x = insert_identity(x, "path_branch_2")
    x = split_concat(x, "path_branch_2_identity", 2)
    x = replace_identity(x, "path_branch_2_identity_branch_1", "sep5")
    x = replicate_add(x, "path_branch_2_identity_branch_1", 2)
    x = net2wider(x, "first", 12, seed=1)
    x = net2deeper(x, "path_branch_1_branch_2")
    assert len(x.layers) > 15
    assert same(model, x)


@pytest.mark.parametrize("edge", ["conv1", "conv3", "sep3", "sep5", "sep7"])
def test_an_identity_becomes_a_convolution_that_computes_it(edge):
    model = stack(conv(5), layers.Identity(name="edge"), conv(7), *head())
    replaced = replace_identity(model, "edge", edge)
    assert same(model, replaced)
    assert replaced.count_params() > model.count_params()
    x = images(count=70)
    activated = replace_identity(model, "edge", edge, images=x)
    assert same(model, activated, x)
    norm, core = activated.get_layer("edge_norm"), activated.get_layer("edge")
    norm.beta.assign(norm.beta + core.bias)
    core.bias.assign(0 * core.bias)
    assert difference(model, activated, x) > 0.01


def logits(model, x):
    """What a model computes before its last softmax."""
    z = outputs(keras.Model(model.inputs, model.get_layer("last").input), x)
    return z @ model.get_layer("last").kernel.numpy() + model.get_layer("last").bias.numpy()


def test_average_pooling_is_not_the_identity():
    model = stack(conv(5), layers.Identity(name="edge"), layers.Flatten(), layers.Dense(4))
    assert difference(model, replace_identity(model, "edge", "avg3")) > 0.01


@pytest.mark.parametrize(
    "end", [["softmax"], [None, layers.Softmax], [None, lambda: layers.Activation("softmax")], [None]]
)
def test_a_pooling_is_distilled(end):
    parts = [conv(5), layers.Identity(name="edge"), conv(7), layers.GlobalAveragePooling2D()]
    last = layers.Dense(4, end[0], name="last")
    model = stack(*parts, last, *[make() for make in end[1:]])
    pooled, x = replace_identity(model, "edge", "max3"), images(count=200)
    expected = logits(model, x)

    def error():
        return np.square(logits(pooled, x) - expected).mean()

    before, kept = error(), pooled.get_layer("last").kernel.numpy()
    assert before > 1e-3
    losses = distill(pooled, model, x, epochs=10, batch_size=20, learning_rate=1e-3)
    assert len(losses) == 10
    assert error() == pytest.approx(losses[-1], rel=0.5)
    assert error() < 0.3 * before
    assert (pooled.get_layer("last").kernel.numpy() != kept).any()
    assert outputs(pooled, x).sum(1).round(5).tolist() == [1] * 200 or len(end) == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_distillation_that_diverges_leaves_the_model_as_it_was():
    model = stack(conv(5), layers.Identity(name="edge"), *head())
    pooled = replace_identity(model, "edge", "max3")
    kept = pooled.get_weights()
    with pytest.raises(ValueError, match=r"Received: learning_rate=1e\+18, with which it is (nan|inf)"):
        distill(pooled, model, images(), learning_rate=1e18)
    for before, after in zip(kept, pooled.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_models_that_cannot_be_distilled_are_named_in_one_line():
    model, other = stack(conv(5), *head()), stack(layers.Flatten(), layers.Dense(5))
    with pytest.raises(ValueError, match=r"same outputs. Received: \(None, 4\) and \(None, 5\)"):
        distill(model, other, images())
    two = keras.Model(model.inputs, [*model.outputs, model.layers[-2].output])
    with pytest.raises(ValueError, match="one output. Received: 2"):
        distill(two, model, images())


REFUSED = {
    "no layer": (lambda m: replicate_add(m, "path"), "Expected the name of a layer .*'path'"),
    "no row": (
        lambda m: replicate_add(m, ["a", "c"]),
        "alone behind the one before. Received: 'a', 'c'",
    ),
    "nothing": (lambda m: replicate_add(m, []), "alone behind the one before. Received: none"),
    "one branch": (lambda m: replicate_add(m, "a", 1), "branches: an int of at least 2.*branches=1"),
    "too many": (lambda m: replicate_concat(m, "a", 8), "as many branches as channels, 7 of 'a'"),
    "a pooling": (
        lambda m: replicate_concat(m, "b"),
        "Conv2D without groups.*'b' of class MaxPooling2D",
    ),
    "no groups": (lambda m: split_concat(m, "a"), "divide the 1 groups of 'a'. Received: branches=2"),
    "two mix": (lambda m: replicate_concat(m, ["a", "b", "c"]), "at most one layer .*'a' of .*'c' of"),
    "flatten": (lambda m: split_concat(m, "d"), "keep their channels apart. .*'d' of class Flatten"),
    "two inputs": (lambda m: replicate_add(m, "e"), "layers of one input and.*'e'"),
    "softmax": (lambda m: replicate_concat(m, "f"), "'f' of class Dense, with the activation softmax"),
    "no identity": (lambda m: replace_identity(m, "a", "sep3"), "an Identity .*'a' of class Conv2D"),
    "no edge": (lambda m: replace_identity(m, "a", "sep9"), "edge: one of conv1, .*edge='sep9'"),
}


@pytest.fixture(scope="module")
def chain():
    inputs = keras.Input((9, 9, 3))
    x = conv(5, "c")(layers.MaxPooling2D(name="b")(conv(7, "a")(inputs)))
    x = layers.Flatten(name="d")(layers.Add(name="e")([x, layers.ReLU()(x)]))
    return keras.Model(inputs, layers.Dense(4, "softmax", name="f")(x))


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_paths_is_named_in_one_line(chain, case):
    transform, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refused:
        transform(chain)
    assert "\n" not in str(refused.value)
