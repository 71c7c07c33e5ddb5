"""The relatives against the tables that their authors released, and their costs against the papers."""

import dataclasses
import re

import keras
import numpy as np
import pytest

from nasnet_zoo import NASNet
from nasnet_zoo.architecture import architecture_cost, plan_cells
from nasnet_zoo.cells import (
    AMOEBANET_A,
    DARTS_V2,
    ENAS,
    NASNET_A,
    PNASNET_5,
    Block,
    Cell,
    CellGenotype,
    Genotype,
    cell_graph,
    graph_cost,
)
from nasnet_zoo.cells.primitives import CIFAR, Depthwise
from nasnet_zoo.network import build_model
from nasnet_zoo.presets import PRESETS

RELATIVES = {"pnasnet": PNASNET_5, "amoebanet": AMOEBANET_A, "enas": ENAS, "darts": DARTS_V2}


# === Genotypes ===


def _cell(text, names, swap=False, **fields):
    """Reads a table such as ``sep5(1)+max3(1) ..``; ``swap`` exchanges the initial states."""
    blocks = []
    for block in text.split():
        sides = [re.fullmatch(r"(\w+)\((\d)\)", side).groups() for side in block.split("+")]
        states = [int(state) for _, state in sides]
        if swap:
            states = [1 - state if state < 2 else state for state in states]
        blocks.append(Block(tuple(states), tuple(names[name] for name, _ in sides)))
    return CellGenotype(tuple(blocks), **fields)


# States as the TF-Slim and Cloud TPU tables number them: 0 is the previous cell's output.
SLIM = {
    "sep3": "sep_3x3",
    "sep5": "sep_5x5",
    "sep7": "sep_7x7",
    "avg": "avg_3x3",
    "max": "max_3x3",
    "none": "identity",
    "1x7": "bottleneck_1x7_7x1",
}


def test_pnasnet_is_the_released_table():
    text = "sep5(1)+max(1) sep7(0)+max(0) sep5(0)+sep3(0) sep3(4)+max(0) sep3(1)+none(0)"
    cell = _cell(text, SLIM, outputs=(2, 3, 4, 5, 6))
    assert cell == PNASNET_5.normal == PNASNET_5.reduction


def test_amoebanet_is_the_released_table():
    normal = "avg(0)+max(0) sep3(1)+none(1) none(0)+avg(1) sep3(0)+sep5(2) avg(5)+sep3(0)"
    reduction = "sep3(1)+avg(0) max(0)+sep7(2) max(1)+max(0) sep3(4)+1x7(0) avg(1)+sep7(0)"
    # The table marks the states that are not concatenated with 1.
    unused = ([1, 0, 1, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0, 0])
    outputs = [tuple(k for k, mark in enumerate(marks) if not mark) for marks in unused]
    assert _cell(normal, SLIM, outputs=outputs[0]) == AMOEBANET_A.normal
    assert _cell(reduction, SLIM, outputs=outputs[1]) == AMOEBANET_A.reduction


def test_enas_is_the_released_sequence():
    operations = ["sep_3x3", "sep_5x5", "avg_3x3", "max_3x3", "skip"]
    sequences = (
        "0 2 0 0  0 4 0 1  0 4 1 1  1 0 0 1  0 2 1 1",
        "1 0 1 0  0 3 0 2  1 1 3 1  1 0 0 4  0 3 1 1",
    )
    for cell, sequence in zip((ENAS.normal, ENAS.reduction), sequences, strict=True):
        numbers = [int(n) for n in sequence.split()]
        pairs = [(numbers[k], operations[numbers[k + 1]]) for k in range(0, 20, 2)]
        # State 0 of the sequence is h_{i-1}, state 1 is h_i.
        ours = [(1 - state if state < 2 else state, name) for state, name in pairs]
        given = [(s, o) for b in cell.blocks for s, o in zip(b.inputs, b.operations, strict=True)]
        assert given == ours
    assert ENAS.normal.outputs == (2, 3, 4, 5, 6)
    assert ENAS.reduction.outputs == (2, 4, 5, 6)


def test_darts_is_the_released_table():
    names = {"sep": "sep_3x3", "max": "max_3x3", "skip": "skip", "dil": "dil_sep_3x3"}
    normal = "sep(0)+sep(1) sep(0)+sep(1) sep(1)+skip(0) skip(0)+dil(2)"
    reduction = "max(0)+max(1) skip(2)+max(1) max(0)+skip(2) skip(2)+max(1)"
    outputs = {"outputs": (2, 3, 4, 5)}
    assert _cell(normal, names, swap=True, **outputs) == DARTS_V2.normal
    assert _cell(reduction, names, swap=True, **outputs) == DARTS_V2.reduction


@pytest.mark.parametrize("genotype", RELATIVES.values(), ids=RELATIVES)
def test_json_round_trip(genotype):
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_projections_may_be_left_out_and_are_checked():
    data = NASNET_A.to_dict()
    del data["normal"]["projections"]
    assert Genotype.from_dict(data) == NASNET_A
    message = r"^normal.projections: expected an int of at least 1 and of at most 8. Received: "
    for wrong in (0, "2", True, 1.5, None):
        data["normal"]["projections"] = wrong
        with pytest.raises(ValueError, match=message):
            Genotype.from_dict(data)
    labelled = {"inputs": 1, "labelled": True, "projections": 2, "outputs": [1]}
    block = {"inputs": [0, 0], "operations": ["identity", "sep_3x3"]}
    with pytest.raises(ValueError, match=r"^cell.projections: expected 1 in a labelled cell"):
        CellGenotype.from_dict({"blocks": [block], **labelled})


# === Costs ===

# Trainable parameters and multiply-adds. The parameters of PNASNet-5 Large and DARTS are those of the
# networks released for PyTorch.
BUILT = {
    "pnasnet_5_mobile": (5_064_487, 587_293_200),
    "pnasnet_5_large": (86_057_668, 24_937_395_792),
    "amoebanet_a_4_50": (5_086_930, 552_580_596),
    "amoebanet_a_6_190": (86_718_797, 23_065_865_084),
    "amoebanet_a_6_36_cifar": (3_194_506, 484_619_904),
    "enas_cifar": (4_587_382, 727_702_560),
    "darts_v2_cifar": (3_349_342, 528_359_040),
}


def _as_published(preset, architecture):
    """Whether the parameters round to the published ones and the multiply-adds differ by 0.5 %."""
    cost = architecture_cost(architecture, preset.classes)
    same = round(cost.parameters / 1e6, 1) == preset.parameters
    return same and (
        preset.mult_adds is None or abs(cost.mult_adds / 1e6 / preset.mult_adds - 1) < 0.005
    )


@pytest.mark.parametrize("name", BUILT)
def test_costs_are_the_published_ones_with_no_other_n_and_f(name):
    preset = PRESETS[name]
    a = preset.architecture
    cost = architecture_cost(a, preset.classes)
    assert (cost.parameters, cost.mult_adds) == BUILT[name]
    assert _as_published(preset, a)
    for changes in (
        {"cells": a.cells + 1},
        {"cells": a.cells - 1},
        {"filters": a.filters + 2},
        {"filters": a.filters - 2},
    ):
        assert not _as_published(preset, dataclasses.replace(a, **changes))


# === Networks ===


def _tiny(name):
    """The preset with one or two cells a stack and eight filters."""
    a = PRESETS[name].architecture
    cells = 2 if a.count_reduction_cells else 1
    return dataclasses.replace(a, cells=cells, filters=8, stem_filters=6)


@pytest.mark.parametrize(
    "name", ["pnasnet_5_large", "amoebanet_a_6_190", "enas_cifar", "darts_v2_cifar"]
)
def test_a_network_runs_and_costs_what_was_counted(name):
    architecture = _tiny(name)
    model = build_model(architecture, inputs=keras.Input((None, None, 3)), classes=5)
    images = np.random.default_rng(0).normal(size=(2, 37, 32, 3)).astype("float32")
    outputs = keras.ops.convert_to_numpy(model(images))
    assert outputs.shape == (2, 5)
    assert np.isfinite(outputs).all()
    counted = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert counted == architecture_cost(architecture, 5).parameters


def test_the_builder_takes_the_assembly_rules():
    rules = {"repeat_stem": True, "count_reduction_cells": True}
    model = NASNet(DARTS_V2, 1, 4, "cifar", 12, classes=10, auxiliary_head=True, **rules)
    names = [layer.name for layer in model.layers if "Cell_" in layer.name]
    assert names == ["Cell_0", "Reduction_Cell_0", "Reduction_Cell_1"]
    # The auxiliary head reads what the second reduction cell reads.
    assert model.get_layer("auxiliary").input is model.get_layer("Reduction_Cell_0").output
    assert [output.shape for output in model.outputs] == [(None, 10), (None, 10)]


def test_pnasnets_stacks_count_their_reduction_cell():
    plan = plan_cells(PRESETS["pnasnet_5_mobile"].architecture)
    strides = [cell.stride for cell in plan.cells]
    # Two stem cells, then nine cells of which the fourth and the seventh halve the resolution.
    assert strides == [2, 2, 1, 1, 1, 2, 1, 1, 2, 1, 1]
    assert [cell.filters for cell in plan.cells] == [13, 27, *[54] * 3, *[108] * 3, *[216] * 3]


def test_the_repeated_stem_is_both_inputs_of_the_first_cell():
    architecture = PRESETS["darts_v2_cifar"].architecture
    first, second = plan_cells(architecture).cells[:2]
    assert first.sources == (("Stem_Conv", 0), ("Stem_Conv", 0))
    assert second.sources == (("Cell_0", 0), ("Stem_Conv", 0))
    once = dataclasses.replace(architecture, repeat_stem=False)
    assert plan_cells(once).cells[0].sources == (("Stem_Conv", 0),)


# === Operations ===


def test_projections_are_convolutions_one_after_the_other():
    costs = []
    for projections in (1, 2, 3):
        cell = dataclasses.replace(NASNET_A.normal, projections=projections)
        graph = cell_graph(cell, 4, 1, (10, 4), (1, 1))
        costs.append(graph_cost(graph, [(8, 8, 10), (8, 8, 4)]).parameters)
    # Four filters: a 4x4 kernel with batch norm's scale and offset.
    assert np.diff(costs).tolist() == [24, 24]


def test_a_skip_halves_by_a_factorized_reduction():
    cell = CellGenotype((Block((1, 1), ("skip", "skip")),))
    kept = cell_graph(cell, 4, 1, (6, 4), (1, 1))
    assert [node.name for node in kept.nodes] == ["block_0"]
    layer = Cell(cell, filters=4, stride=2, hyperparameters=CIFAR)
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 4)).astype("float32")
    y = layer([np.zeros((1, 6, 6, 6), "float32"), x])
    assert y.shape == (1, 3, 3, 4)
    kernels = [keras.ops.convert_to_numpy(w)[0, 0] for w in layer.weights if len(w.shape) == 4]
    assert [kernel.shape for kernel in kernels] == [(4, 2)] * 4
    positive = np.maximum(x, 0)
    sides = [
        np.concatenate([positive[:, ::2, ::2] @ first, positive[:, 1::2, 1::2] @ second], axis=-1)
        for first, second in (kernels[:2], kernels[2:])
    ]
    np.testing.assert_allclose(y, sum(sides) / np.sqrt(1 + CIFAR.bn_epsilon), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel", "size"), [(3, (8, 7)), (5, (9, 10))])
def test_a_dilated_depthwise_convolution_equals_keras(kernel, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    weights = rng.normal(size=(kernel, kernel, 3, 1)).astype("float32")
    layer = keras.layers.DepthwiseConv2D(kernel, padding="same", dilation_rate=2, use_bias=False)
    layer.build(x.shape)
    layer.set_weights([weights])
    y, updates = Depthwise(kernel, dilation=2)(x, [weights], False, CIFAR)
    assert updates == ()
    np.testing.assert_allclose(y, layer(x), rtol=1e-4, atol=1e-4)


def test_a_cell_with_projections_survives_its_config():
    layer = Cell(ENAS.reduction, filters=4, stride=2)
    assert Cell.from_config(layer.get_config()).cell == ENAS.reduction
