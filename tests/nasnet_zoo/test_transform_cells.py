"""Networks of the package's own layers become wider."""

import re

import keras
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import cells, examples
from transforms import conv, difference, head, images, randomised, same

import nasnet_zoo as zoo
from nasnet_zoo.cells import Block, Cell, CellGenotype, Operation
from nasnet_zoo.transform import net2deeper, net2wider

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True, scope="module")
def _float64():
    """In float32 an instance norm of a constant map divides a rounding error by almost nothing."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("genotype", [zoo.NASNET_A, zoo.AMOEBANET_A, zoo.PNASNET_5])
def test_stem_and_every_cell_of_a_network_are_widened(genotype):
    given = {"input_shape": (9, 9, 3), "classes": 4, "classifier_activation": None}
    model = randomised(zoo.NASNet(genotype, 1, 4, "cifar", 5, **given))
    names = [layer.name for layer in model.layers if hasattr(layer, "graph")]
    assert len(names) == 6
    wider = model
    for seed, name in enumerate(names):
        filters = 6 if name == "Stem_Conv" else wider.get_layer(name).filters + 3
        wider = net2wider(wider, name, filters, seed=seed)
    assert wider.get_layer("Cell_2").filters == 19
    assert same(model, wider)


def test_the_imagenet_stem_is_widened():
    given = {"input_shape": (33, 33, 3), "classes": 3, "classifier_activation": None}
    model = randomised(zoo.NASNet(zoo.NASNET_A, 1, 8, "imagenet", 4, **given))
    wider = model
    for name, filters in {"Stem_Conv": 9, "Stem_Cell_0": 7, "Cell_1": 17}.items():
        wider = net2wider(wider, name, filters, seed=1)
    assert same(model, wider)


def test_the_auxiliary_head_follows():
    given = {
        "input_shape": (32, 32, 3),
        "classes": 3,
        "classifier_activation": None,
        "auxiliary_head": True,
    }
    model = randomised(zoo.NASNet(zoo.ENAS, 1, 2, "cifar", 3, **given))
    wider = net2wider(model, "Cell_1", 7, seed=1)
    assert (
        wider.get_layer("auxiliary").weights[0].shape[2]
        > model.get_layer("auxiliary").weights[0].shape[2]
    )
    for k in (0, 1):
        pair = [keras.Model(m.inputs, m.outputs[k]) for m in (model, wider)]
        assert difference(*pair, images((32, 32, 3), 2)) < 1e-5


@examples(15)
@given(cells(max_blocks=3), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 2]))
@example(CellGenotype((Block((0, 0), ("1x3_3x1", "1x3_3x1"), "in_add"),), (2,)), 1, 1, 1)
def test_any_cell_is_widened_or_named(cell, filters, more, stride):
    inputs = keras.Input((8, 8, 3))
    first, second = conv(filters + 1)(inputs), conv(filters + 2)(inputs)
    x = Cell(cell, filters, stride, name="cell")([first, second])
    for layer in head():
        x = layer(x)
    model = randomised(keras.Model(inputs, x))
    try:
        wider = net2wider(model, "cell", filters + more, seed=1)
    except ValueError as refused:
        layer_norm = any("ln" in block.combination for block in cell.blocks)
        if not layer_norm and not re.search("other parts|different copies", str(refused)):
            raise
    else:
        assert difference(model, wider, images((8, 8, 3))) < 1e-9


@pytest.mark.parametrize(
    "operation", ["sep_5x5", "1x7_7x1", "bottleneck_1x7_7x1", "dil_3x3", "conv_3x3"]
)
def test_operations_and_what_reads_them_are_widened(operation):
    parts = [Operation(operation, 9, 2, name="wide"), Operation("sep_3x3", 4, name="next"), *head()]
    model = randomised(keras.Sequential([keras.Input((9, 9, 3)), *parts]))
    wider = net2wider(model, "wide", 14, noise=0.0, seed=1)
    assert wider.get_layer("wide").filters == 14
    assert same(model, wider)
    assert 1e-6 < difference(model, net2wider(model, "wide", 14, noise=0.1, seed=1)) < 1


def test_the_layers_of_a_layer_wise_network_are_widened():
    model = randomised(zoo.NASv1_CIFAR((9, 9, 3), classes=4, classifier_activation=None))
    wider = net2wider(net2wider(model, "Layer_1", 40, seed=1), "Layer_5", 50, seed=2)
    assert [layer.filters for layer in zoo.network.architecture_of(wider).genotype.layers[:5:4]] == [
        40,
        50,
    ]
    assert same(model, wider)


def test_what_does_not_fit_is_named_in_one_line():
    model = zoo.NASNet(zoo.NASNET_A, 1, 4, "cifar", 5, input_shape=(9, 9, 3), classes=4)
    with pytest.raises(ValueError, match="more than the 4 of layer 'Cell_0'. Received: units=3"):
        net2wider(model, "Cell_0", 3)
    with pytest.raises(ValueError, match="a layer of class Conv2D.*'Cell_0' of class Cell"):
        net2deeper(model, "Cell_0")
    inputs = keras.Input((8, 8, 3))
    x = Cell(zoo.NASNET_A.normal, 4, name="cell")([conv(5)(inputs), conv(4, "wide")(inputs)])
    with pytest.raises(ValueError, match="'cell' of class Cell, which would have other parts"):
        net2wider(keras.Model(inputs, conv(3)(x)), "wide", 6)
