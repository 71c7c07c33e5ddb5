"""Tree cells as genotypes, and the graphs that they become, against a plain recursive reference."""

import json
import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from strategies import examples, tree_genotypes

from nasnet_zoo.cells import (
    CIFAR,
    TREECELL_A,
    TREECELL_B,
    BlockLayer,
    Genotype,
    PathNode,
    ScheduledDropPath,
    TreeCell,
    TreeGenotype,
    graph_cost,
)
from nasnet_zoo.cells.networks import network_genotype
from nasnet_zoo.cells.tree import segments

A = """{"m":"add","a":"copy","e":[
 ["gconv3",{"m":"add","a":"copy","e":[["conv1",{"m":"concat","a":"split","e":[["avg3",null],["sep7",null]]}],
   ["max3",{"m":"add","a":"copy","e":[["sep3",null],["sep5",null]]}]]}],
 ["gconv3",{"m":"add","a":"copy","e":[["sep5",{"m":"add","a":"copy","e":[["sep5",null],["avg3",null],["avg3",null]]}],
   ["sep3",{"m":"add","a":"copy","e":[["avg3",null],["sep3",null]]}]]}]]}"""
B = """{"m":"add","a":"copy","e":[
 ["gconv3",{"m":"add","a":"copy","e":[["conv1",{"m":null,"a":null,"e":[["sep5",null]]}],["sep7",{"m":null,"a":null,"e":[["avg3",null]]}]]}],
 ["gconv3",{"m":"add","a":"copy","e":[["avg3",{"m":"add","a":"copy","e":[["sep7",null],["conv1",null]]}],
   ["sep7",{"m":null,"a":null,"e":[["avg3",null]]}]]}]]}"""


@pytest.mark.parametrize(("text", "published"), [(A, TREECELL_A), (B, TREECELL_B)], ids=["A", "B"])
def test_the_published_cells_are_those_of_figure_6(text, published):
    read = TreeGenotype.from_json(text)
    assert read.root == published.root
    assert {**json.loads(text), "name": published.name} == published.to_dict()


@pytest.mark.parametrize(
    ("genotype", "channels", "filters", "parameters"),
    [
        (TREECELL_A, 18, 18, 7_956),
        (TREECELL_A, 192, 48, 107_400),
        (TREECELL_B, 18, 18, 8_316),
        (TREECELL_B, 192, 48, 106_560),
    ],
)
def test_parameters_of_the_published_cells_are_exact(genotype, channels, filters, parameters):
    graph = TreeCell(genotype.root, filters).graph((channels,))
    assert graph_cost(graph, [(8, 8, channels)]).parameters == parameters
    bare = TreeCell(genotype.root, filters, root_norm=False).graph((channels,))
    # Two branches with a scale and an offset of every channel.
    assert graph_cost(bare, [(8, 8, channels)]).parameters == parameters - 2 * 2 * filters


@given(genotype=tree_genotypes())
def test_json_holds_every_genotype(genotype):
    assert TreeGenotype.from_json(genotype.to_json()) == genotype
    assert network_genotype(json.loads(json.dumps(genotype.to_dict()))) == genotype
    assert genotype.root.depth <= 3


LEAVES = [["conv1", None], ["sep3", None]]


def node(merge="add", allocation="copy", edges=LEAVES):
    return {"m": merge, "a": allocation, "e": edges}


def chain(depth, edge="conv1"):
    return node(None, None, [[edge, chain(depth - 1) if depth > 1 else None]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "tree: expected an object."),
        ({"m": None, "a": None}, "tree: expected the key 'e'."),
        ({**node(), "x": 1}, "tree: expected only the keys"),
        ({**node(), "name": 3}, "name: expected a string."),
        (node(edges={}), "e: expected a list of pairs of an edge and a child."),
        (node(edges=[["conv1", None, None]]), "e: expected a list of pairs"),
        (node(edges=[["conv1", None]]), "e: expected 2 or 3 branches with m=add."),
        (node(edges=2 * LEAVES), "e: expected 2 or 3 branches with m=add."),
        (node("concat", edges=LEAVES + LEAVES[:1]), "e: expected 2 branches with m=concat."),
        (node(None, None), "e: expected 1 branches with m=None."),
        (node("mul"), "m: expected m and a of add and copy, concat"),
        (node([], "copy"), "m: expected m and a of add and copy, concat"),
        (node("add", "split"), "m: expected m and a of add and copy, concat"),
        (node(None, "copy", LEAVES[:1]), "m: expected m and a of add and copy, concat"),
        (node(edges=[["conv9", None], LEAVES[0]]), "e[0][0]: expected one of identity, conv1, "),
        (node(edges=[[["conv1"], None], LEAVES[0]]), "e[0][0]: expected one of identity, conv1, "),
        (node(edges=[["identity", None], LEAVES[0]]), "e[0][0]: expected one of conv1, conv3, gconv3"),
        (node(edges=[LEAVES[0], ["conv1", 3]]), "e[1][1]: expected an object."),
        (node(edges=[LEAVES[0], ["conv1", {}]]), "e[1][1]: expected a node, or null for a leaf."),
        (
            node(edges=[LEAVES[0], ["conv1", node("concat", edges=[["avg3", None], LEAVES[0]])]]),
            "e[1][1].e[0][0]: expected an edge that makes other channels (or a=split).",
        ),
        (
            node("concat", edges=[["conv3", None], ["gconv3", None]]),
            "e[1][0]: expected an edge that makes other channels (or a=split).",
        ),
        (chain(4), "e[0][1].e[0][1].e[0][1]: expected null, a leaf, at depth 3 below the root."),
    ],
)
def test_a_broken_genotype_names_the_place(data, message):
    with pytest.raises(ValueError, match=r"Received: ") as error:
        TreeGenotype.from_dict(data)
    assert str(error.value).startswith(message)


def test_a_tree_of_nodes_is_no_deeper_either():
    deep = None
    for _ in range(4):
        deep = PathNode((("conv1", deep),))
    place = re.escape("e[0][1].e[0][1].e[0][1]: expected null, a leaf, at depth 3")
    with pytest.raises(ValueError, match=f"^{place}"):
        TreeGenotype("deep", deep)
    with pytest.raises(ValueError, match="genotype: expected JSON. Received: lists nested too deeply"):
        TreeGenotype.from_json('{"m":null,"a":null,"e":[["conv1",' * 10_000)


@pytest.mark.parametrize(
    ("tree", "channels", "filters", "message"),
    [
        (
            node(edges=[["conv1", node("concat", "split", [["avg3", None]] * 2)]] * 2),
            *(4, 1),
            r"e[0][1]: expected at least 2 channels to split. Received: 1",
        ),
        (
            node("concat", "split", [["conv1", None]] * 2),
            *(1, 8),
            "tree: expected at least 2 channels to split. Received: 1",
        ),
        (
            chain(1, "gconv3"),
            *(4, 9),
            "e[0][0]: expected channels that 4 groups divide. Received: (4, 9)",
        ),
        (
            chain(1, "gconv3"),
            *(6, 8),
            "e[0][0]: expected channels that 4 groups divide. Received: (6, 8)",
        ),
    ],
)
def test_channels_that_do_not_fit_name_the_place(tree, channels, filters, message):
    cell = TreeCell(PathNode.from_dict(tree), filters, groups=4)
    with pytest.raises(ValueError, match="expected") as error:
        cell.graph((channels,))
    assert str(error.value) == message


def test_the_parts_of_a_split_take_their_share_of_the_groups():
    cell = TreeCell(PathNode.from_dict(node("concat", "split", [["gconv3", None]] * 2)), 8, groups=4)
    convolutions = [steps.primitives[-1] for steps in cell.graph((16,)).nodes[:2]]
    assert [conv.groups for conv in convolutions] == [2, 2]
    with pytest.raises(ValueError, match=r"^e\[0\]\[0\]: expected groups that 2 branches divide.*: 3"):
        TreeCell(cell.tree, 6, groups=3).graph((6,))


def test_other_genotypes_are_told_apart():
    from nasnet_zoo.cells import NAS_V1, NASNET_A

    for genotype in (NASNET_A, NAS_V1, TREECELL_A):
        assert network_genotype(genotype.to_dict()) == genotype
    assert isinstance(network_genotype(NASNET_A.to_dict()), Genotype)
    with pytest.raises(ValueError, match="genotype: expected an object"):
        network_genotype(3)


# === The graph against a recursive reference ===


def _reference(layer, cell, x):
    """The cell's result, by its definition; weights come in the order of depth-first visits."""
    weights = iter([owned for owned in layer._primitive_weights if owned])

    def batch_norm(x):
        scale, offset, mean, variance = next(weights)
        return (x - mean) / np.sqrt(np.asarray(variance) + CIFAR.bn_epsilon) * scale + offset

    def convolve(x, kernel, stride, groups=1):
        parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
        return np.concatenate([ops.conv(a, k, stride, "same") for a, k in parts], -1)

    def edge(name, x, stride, groups):
        if name == "identity":
            return x
        kind, size = name[:-1], int(name[-1])
        if kind in ("avg", "max"):
            pool = ops.average_pool if kind == "avg" else ops.max_pool
            return np.asarray(pool(x, 3, stride, "same"))
        x = np.maximum(batch_norm(x), 0)
        if kind == "sep":
            (depthwise,) = next(weights)
            x = np.asarray(ops.depthwise_conv(x, depthwise, stride, "same"))
            stride, size = 1, 1
        (kernel,) = map(np.asarray, next(weights))
        assert kernel.shape[:2] == (size, size)
        return convolve(x, kernel, stride, groups if kind == "gconv" else 1)

    def visit(tree, x, stride, root):
        count, results, start = len(tree.edges), [], 0
        for k, (name, child) in enumerate(tree.edges):
            part = x
            if tree.allocation == "split":
                size = segments(x.shape[-1], count)[k]
                part, start = x[..., start : start + size], start + size
            groups = cell.groups // count if tree.merge == "concat" else cell.groups
            made = edge(name, part, stride, groups)
            result = made if child is None else visit(child, made, 1, False)
            if root and cell.root_norm and tree.merge == "add":
                result = made + batch_norm(result)
                result = result / 2 if cell.average else result
            results.append(result)
        if tree.merge == "concat":
            return np.concatenate(results, -1)
        total = sum(results[1:], results[0])
        return total / count if tree.merge == "add" and cell.average else total

    return visit(cell.tree, x, cell.stride, True)


@examples(12)
@given(
    genotype=tree_genotypes(),
    channels=st.sampled_from((8, 18)),
    filters=st.sampled_from((8, 14)),
    stride=st.sampled_from((1, 2)),
    root_norm=st.booleans(),
    average=st.booleans(),
)
def test_a_cell_computes_what_its_tree_says(genotype, channels, filters, stride, root_norm, average):
    cell = TreeCell(genotype.root, filters, stride, 2, root_norm, average)
    layer = BlockLayer(cell, hyperparameters=CIFAR)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, 6, channels)).astype("float32")
    layer.build(x.shape)
    for weight in layer.weights:
        if "kernel" not in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    y = np.asarray(layer(x))
    assert y.shape == (2, -(-7 // stride), -(-6 // stride), filters)
    assert y.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(y, _reference(layer, cell, x), rtol=1e-4, atol=1e-4)
    again = BlockLayer.from_config(json.loads(json.dumps(layer.get_config())))
    assert again.block == cell


# === Drop path ===


def test_every_path_of_every_node_can_be_dropped():
    graph = TreeCell(TREECELL_A.root, 18).graph((18,))
    assert sum(node.drop_path for node in graph.nodes) == 2 + 4 + 9
    for tree in (TREECELL_B.root, PathNode.from_dict(chain(3))):
        graph = TreeCell(tree, 18).graph((18,))
        count = json.dumps(tree.to_dict()).count('["')
        assert sum(node.drop_path for node in graph.nodes) == count


def test_a_cell_whose_paths_are_all_dropped_is_zero():
    drop = ScheduledDropPath(1e-6, 1, version="constant", seed=0)
    layer = BlockLayer(TreeCell(TREECELL_B.root, 8), drop_path=drop)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype("float32")
    assert np.abs(layer(x)).max() > 0
    np.testing.assert_array_equal(layer(x, training=True), np.zeros((2, 6, 6, 8)))


@pytest.mark.tensorflow
def test_a_path_is_kept_as_often_as_asked():
    """A cell of one identity after a convolution is dropped as a whole, twice: two paths in a row."""
    keras.utils.set_random_seed(0)
    tree = PathNode((("conv1", PathNode((("identity", None),))),))
    drop = ScheduledDropPath(0.5, 1, version="constant", seed=1)
    layer = BlockLayer(TreeCell(tree, 4, root_norm=False), drop_path=drop)
    x = np.random.default_rng(0).uniform(0.5, 1, (400, 1, 1, 4)).astype("float32")
    kept = np.abs(np.asarray(layer(x, training=True))).max(axis=(1, 2, 3)) > 0
    assert 0.19 < kept.mean() < 0.31
