"""Networks of tree cells are transformed, or named in one line."""

import re

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, tree_genotypes
from transforms import conv, difference, head, images, randomised, same

import nasnet_zoo as zoo
from nasnet_zoo.cells import BlockLayer, TreeCell
from nasnet_zoo.cells.base_blocks import DenseLayer
from nasnet_zoo.transform import (
    copy_miniblock,
    net2deeper,
    net2wider,
    replicate_add,
    replicate_concat,
    split_concat,
)

pytestmark = pytest.mark.tensorflow


@examples(15)
@given(
    tree_genotypes(),
    st.integers(2, 5),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
    st.booleans(),
)
def test_any_tree_cell_is_widened_or_named(tree, filters, more, groups, norm, average):
    inputs = keras.Input((6, 6, 3))
    options = {"groups": groups, "root_norm": norm, "average": average}
    try:
        dense = DenseLayer(tree.root, filters * groups, **options)
        x = BlockLayer(dense, name="block")(conv(groups)(inputs))
    except ValueError:
        return  # a tree that these channels do not fit
    # Reads the copies by a cell of its own.
    x = BlockLayer(DenseLayer(tree.root, filters * groups, **options), name="next")(x)
    for layer in head():
        x = layer(x)
    model = randomised(keras.Model(inputs, x))
    try:
        wider = net2wider(model, "block", (filters + more) * groups, seed=1)
    except ValueError as refused:
        if groups != 3 or not re.search("3 groups would have channels of each other", str(refused)):
            raise
    else:
        assert wider.get_layer("block").block.filters == (filters + more) * groups
        assert difference(model, wider, images((6, 6, 3))) < 1e-5


def network(base, genotype=zoo.TREECELL_A, **options):
    given = {"input_shape": (8, 8, 3), "classes": 4, "classifier_activation": None}
    return randomised(zoo.TreeNet(genotype, base, cells=1, width=6, **options, **given))


@pytest.mark.parametrize("average", [False, True])
def test_a_densenet_of_tree_cells_is_transformed_everywhere(average):
    model = network("densenet", average=average)
    larger = model
    for seed, name in enumerate(("Stem_Conv", "Block_1", "Transition_1", "Block_3")):
        larger = net2wider(larger, name, larger.get_layer(name).block.filters + 4, seed=seed)
    larger = replicate_add(larger, "Block_2")
    assert larger.count_params() > 1.5 * model.count_params()
    assert same(model, larger)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda m: net2wider(m, "Block_1", 24), "'Block_1' of class BlockLayer, which would make"),
        (lambda m: net2wider(m, "Stem_Conv", 18), "'Block_1' of class BlockLayer, in which is a PadCh"),
        (lambda m: net2wider(m, "Head", 18), "'Head' of class BlockLayer, which has no filters"),
        (lambda m: net2deeper(m, "Block_1"), "'Block_1' of class BlockLayer"),
        (lambda m: replicate_concat(m, "Block_1"), "'Block_1' of class BlockLayer"),
        (lambda m: split_concat(m, "Block_1"), "'Block_1' of class BlockLayer"),
        (lambda m: copy_miniblock(m, "Block_1"), "'Block_1' of class BlockLayer"),
    ],
)
def test_what_a_pyramidnet_cannot_become_is_named_in_one_line(transform, message, pyramidnet):
    with pytest.raises(ValueError, match=message) as refused:
        transform(pyramidnet)
    assert str(refused.value).startswith("Expected ")
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def pyramidnet():
    return network("pyramidnet", zoo.GROUPED_CONV_3X3)


def test_a_cell_alone_is_widened_behind_a_slice():
    inputs = keras.Input((6, 6, 4))
    x = BlockLayer(TreeCell(zoo.TREECELL_B.root, 6), name="cell")(conv(4)(inputs))
    for layer in (keras.layers.MaxPooling2D(3, 1, "same", name="pool"), *head()):
        x = layer(x)
    model = randomised(keras.Model(inputs, x))
    wider = split_concat(net2wider(model, "cell", 10, seed=1), "pool")
    assert same(model, wider)
    with pytest.raises(ValueError, match="ChannelSlice, whose parts would have channels of each other"):
        net2wider(wider, "cell", 12)
