"""The inference graph and its rewrites, against the Keras model."""

import dataclasses

import keras
import numpy as np
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st
from settled import HYPERPARAMETERS, images, network, settled
from strategies import examples, genotypes

from nasnet_zoo.cells import NASNET_A, NASNET_B, NASNET_C, Block, CellGenotype, Genotype
from nasnet_zoo.cells.primitives import same_pads
from nasnet_zoo.export.compute import predict
from nasnet_zoo.export.from_keras import UnsupportedModel, inference_graph
from nasnet_zoo.export.graph import InferenceGraph, Op
from nasnet_zoo.export.litert.rewrites import merge_pointwise, nest_concats, split_depthwise
from nasnet_zoo.export.onnx.rewrites import pad_channels, paths_as_sum, zero_padded_max_by_maximum_map
from nasnet_zoo.export.rewrites import (
    average_by_depthwise,
    crop_kernels,
    equalize_channels,
    fold_batch_norm,
    fuse_relu,
    relu_before_concat,
    sample_by_depthwise,
    scale_by_depthwise,
    share_equal,
    simplify,
    take_bytes,
)
from nasnet_zoo.models import NASNetMobile
from nasnet_zoo.network import feature_extractor

pytestmark = pytest.mark.tensorflow

REWRITES = [
    share_equal,
    fold_batch_norm,
    relu_before_concat,
    fuse_relu,
    sample_by_depthwise,
    crop_kernels,
    simplify,
]
LATER_REWRITES = [
    split_depthwise,
    merge_pointwise,
    nest_concats,
    zero_padded_max_by_maximum_map,
    average_by_depthwise,
    equalize_channels,
    scale_by_depthwise,
    paths_as_sum,
    lambda graph: pad_channels(paths_as_sum(graph)),
]
SEVEN = CellGenotype((Block((0, 1), ("sep_7x7", "zero_max_3x3")), Block((2, 0), ("avg_3x3", "skip"))))


def _kinds(graph):
    return [op.kind for op in graph.ops]


def _same(graph, model, size, tolerance=1e-4):
    batch = images(2, size)
    expected = np.asarray(model(batch))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(predict(graph, batch)[0], expected, atol=tolerance)


def _response_to_rounding(model, size):
    """How far the outputs move if the images are rounded otherwise.

    Usually 1e-6; instance norms of a few pixels that are nearly equal amplify it to 1e-4.
    """
    batch = images(2, size)
    units = np.random.default_rng(0).choice([-1, 0, 1], batch.shape).astype(np.float32)
    rounded = batch + units * np.spacing(batch)
    return np.abs(np.asarray(model(rounded)) - np.asarray(model(batch))).max()


@examples(4, phases=[Phase.generate])
@given(genotypes(max_blocks=3), st.tuples(*[st.sampled_from((16, 17, 19, 22))] * 2))
def test_every_rewrite_keeps_the_function_of_any_genotype(genotype, size):
    model = network(genotype, size)
    tolerance = 1e-4 + 4 * _response_to_rounding(model, size)
    graph = inference_graph(model)
    _same(graph, model, size, tolerance)
    for rewrite in REWRITES:
        _same(rewrite(graph), model, size, tolerance)
    graph = simplify(graph)
    for rewrite in LATER_REWRITES:
        _same(rewrite(graph), model, size, tolerance)


@pytest.fixture(scope="module")
def seven():
    return network(Genotype("seven", SEVEN, SEVEN), (15, 18))


@pytest.mark.parametrize("rewrite", [*REWRITES, *LATER_REWRITES])
def test_every_rewrite_keeps_7x7_and_zero_padded_pools(seven, rewrite):
    graph = simplify(inference_graph(seven))
    changed = rewrite(graph)
    _same(changed, seven, (15, 18))


@pytest.mark.parametrize(
    ("size", "stride", "kept"), [(2, 1, 3), (3, 1, 5), (1, 1, 1), (2, 2, 2), (4, 1, 7)]
)
def test_taps_that_never_reach_the_image_are_left_out(size, stride, kept):
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)
    pads = same_pads((size, size), (7, 7), (stride, stride))
    op = Op("depthwise", "y", ("image",), kernel=kernel, stride=(stride, stride), pads=pads)
    graph = InferenceGraph("image", (size, size, 3), (op,), ("y",))
    cropped = crop_kernels(graph)
    assert cropped.ops[0].extent == (kept, kept)
    batch = images(2, (size, size))
    np.testing.assert_allclose(predict(cropped, batch)[0], predict(graph, batch)[0], atol=1e-5)


@pytest.fixture(scope="module")
def graph():
    keras.utils.set_random_seed(0)
    model = NASNetMobile(
        input_shape=(64, 64, 3), hyperparameters=HYPERPARAMETERS, classifier_activation=None
    )
    return inference_graph(settled(model, (64, 64)))


def test_batch_norm_is_gone_from_nasnet_a(graph):
    assert "scale" in _kinds(graph)
    assert "scale" not in _kinds(simplify(graph))


def test_a_pool_added_to_itself_is_computed_once(graph):
    # A normal cell's avg(1) + avg(1); the other pools of its normal cells read state 0.
    simple = simplify(graph)
    twice = [op for op in simple.ops if op.kind == "add" and op.inputs[0] == op.inputs[1]]
    assert len(twice) == 12
    before, after = (_kinds(g).count("avg_pool") for g in (graph, simple))
    assert (before, after) == (12 * 3 + 4 * 2, 12 * 2 + 4 * 2)


def test_no_relu_reads_a_concatenation(graph):
    simple = simplify(graph)
    made, readers = simple.made_by(), simple.readers()
    read = [made[op.inputs[0]] for op in simple.ops if op.kind == "relu"]
    # A factorized reduction's concatenation is a state, which other operations read as it is.
    assert read
    assert all(op.kind != "concat" or readers[op.output] > 1 for op in read)


def test_no_shift_is_left(graph):
    assert "pad" in _kinds(graph)
    assert "pad" not in _kinds(simplify(graph))


def test_7x7_depthwise_kernels_become_one_of_25_taps_and_small_ones(graph):
    simple = simplify(graph)
    split = split_depthwise(simple)
    whole = [op for op in simple.ops if op.kind == "depthwise" and op.extent == (7, 7)]
    taps = [op.kernel[..., 0].size for op in split.ops if "/piece_" in op.output]
    assert whole
    assert taps == [25, 8, 6, 6, 4] * len(whole)
    assert max(op.kernel[..., 0].size for op in split.ops if op.kind == "depthwise") == 25


def test_no_concatenation_has_more_than_5_inputs(graph):
    nested = nest_concats(simplify(graph))
    counts = {len(op.inputs) for op in nested.ops if op.kind == "concat"}
    assert max(counts) == 5
    assert max(len(op.inputs) for op in simplify(graph).ops if op.kind == "concat") == 6


def test_no_sum_of_pointwise_convolutions_is_left(graph):
    simple = simplify(graph)
    before, after = (_kinds(g).count("add") for g in (simple, merge_pointwise(simple)))
    # Two blocks of a normal cell, and one of a reduction cell, add two separable convolutions.
    assert before - after == 12 * 2 + 4


def test_channels_fill_blocks_of_16(graph):
    padded = pad_channels(paths_as_sum(simplify(graph)))
    shapes = padded.shapes()
    inner = [shapes[op.output][-1] for op in padded.ops if op.output not in padded.outputs]
    assert all(count % 16 == 0 for count in inner)


def test_an_image_smaller_than_the_kernel_can_be_split():
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)
    op = Op("depthwise", "y", ("image",), kernel=kernel, stride=(2, 2), pads=(3, 3, 3, 3))
    graph = InferenceGraph("image", (3, 3, 3), (op,), ("y",))
    batch = images(2, (3, 3))
    split = predict(split_depthwise(graph), batch)[0]
    np.testing.assert_allclose(split, predict(graph, batch)[0], atol=1e-5)


def test_bytes_are_scaled_as_preprocess_input_does(seven):
    graph = take_bytes(inference_graph(seven), 1 / 127.5, -1.0)
    batch = np.random.default_rng(0).integers(0, 256, (2, 15, 18, 3)).astype(np.float32)
    expected = np.asarray(seven(batch / 127.5 - 1))
    np.testing.assert_allclose(predict(graph, batch)[0], expected, atol=1e-5)


# === Reading models ===


@pytest.mark.parametrize("genotype", [NASNET_A, NASNET_B, NASNET_C])
def test_backbones_give_every_map(genotype):
    model = network(genotype, (20, 23))
    backbone = feature_extractor(model, (1, 2, 4))
    batch = images(2, (20, 23))
    found = predict(simplify(inference_graph(backbone)), batch)
    for array, tensor in zip(found, backbone(batch), strict=True):
        np.testing.assert_allclose(array, tensor, atol=1e-4)


def test_a_head_of_ones_own_is_read():
    base = network(NASNET_A, (16, 16), include_top=False, pooling="avg", classes=2)
    image = keras.Input((16, 16, 3))
    x = base(keras.layers.Rescaling(1 / 2.0, offset=0.1)(image))
    x = keras.layers.Dropout(0.3)(keras.layers.Dense(9, activation="relu")(x))
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="sigmoid", use_bias=False)(x))
    _same(simplify(inference_graph(model)), model, (16, 16))


def test_an_open_image_size_has_to_be_given():
    model = network(NASNET_A, (16, 16), input_shape=(None, None, 3))
    with pytest.raises(ValueError, match="Expected image_size, the height and width"):
        inference_graph(model)
    _same(inference_graph(model, (16, 19)), model, (16, 19))


def test_a_size_that_contradicts_the_model_is_refused(seven):
    with pytest.raises(ValueError, match="Expected images of .*15, 18, 3.*Received: image_size"):
        inference_graph(seven, (16, 16))


def test_an_unknown_layer_is_named():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.UpSampling2D(name="larger")(image))
    with pytest.raises(UnsupportedModel, match="Received: a layer 'larger' of class UpSampling2D"):
        inference_graph(model)


def test_what_nothing_reads_is_left_out(seven):
    graph = inference_graph(seven)
    unread = Op("relu", "unread", (graph.image,))
    grown = dataclasses.replace(graph, ops=(*graph.ops, unread))
    assert _kinds(grown.with_ops(grown.ops)) == _kinds(graph)
