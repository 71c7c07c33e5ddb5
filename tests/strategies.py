"""Hypothesis strategies for genotypes."""

import os

from hypothesis import settings
from hypothesis import strategies as st

from nasnet_zoo.cells import (
    COMBINATIONS,
    EDGES,
    OPERATIONS,
    TREE_ACTIVATIONS,
    TREE_COMBINATIONS,
    Block,
    CellGenotype,
    ChainLayer,
    DenseNetGenotype,
    Genotype,
    LayerGenotype,
    LayerwiseGenotype,
    PathNode,
    PlainGenotype,
    RecurrentGenotype,
    TreeGenotype,
    TreeNode,
)

#: Names of genotypes: texts that a picture can hold.
NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=8
)

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fixed")


def examples(count, **arguments):
    """Settings for slow examples: ``count`` fixed ones, or four times as many random ones."""
    return settings(max_examples=count if PROFILE == "fixed" else 4 * count, **arguments)


@st.composite
def cells(draw, max_blocks=4, labelled=False):
    """Any valid cell: two inputs and one output, or (labelled) four of each."""
    inputs = 4 if labelled else 2
    count = draw(st.integers(1, max_blocks))
    blocks = tuple(
        Block(
            draw(st.tuples(*[st.integers(0, inputs + k - 1)] * 2)),
            draw(st.tuples(*[st.sampled_from(sorted(OPERATIONS))] * 2)),
            draw(st.sampled_from(sorted(COMBINATIONS))),
        )
        for k in range(count)
    )
    states = st.lists(st.integers(0, inputs + count - 1), unique=True, min_size=1)
    if labelled:
        states = st.permutations(range(inputs + count)).map(lambda order: order[:inputs])
        return CellGenotype(blocks, tuple(draw(states)), inputs, labelled=True)
    return CellGenotype(blocks, tuple(draw(st.one_of(st.just([]), states))))


@st.composite
def genotypes(draw, max_blocks=4):
    labelled = draw(st.booleans())
    return Genotype(draw(NAMES), draw(cells(max_blocks, labelled)), draw(cells(max_blocks, labelled)))


@st.composite
def recurrent_genotypes(draw):
    """Any valid recurrent cell of up to eight leaves."""
    base = draw(st.integers(1, 8))
    nodes = st.builds(
        TreeNode, st.sampled_from(sorted(TREE_COMBINATIONS)), st.sampled_from(sorted(TREE_ACTIVATIONS))
    )
    tree = draw(st.tuples(*[nodes] * (2 * base - 1)))
    indices = draw(st.tuples(*[st.integers(0, 2 * base - 2)] * 2))
    return RecurrentGenotype(draw(NAMES), tree, draw(nodes), indices)


@st.composite
def layerwise_genotypes(draw, layers=6):
    """Any valid layer-wise genotype of so many layers at most."""
    found = []
    for k in range(draw(st.integers(1, layers))):
        kind = draw(st.sampled_from(["conv", "conv", "conv", "max_pool", "avg_pool"]))
        sizes = [1, 3, 5] if kind == "avg_pool" else [1, 2, 3, 5]
        found.append(
            LayerGenotype(
                draw(st.tuples(*[st.sampled_from(sizes)] * 2)),
                draw(st.integers(1, 9)) if kind == "conv" else 0,
                tuple(sorted(draw(st.sets(st.integers(1, k))))) if k else (),
                draw(st.tuples(*[st.sampled_from([1, 1, 2, 3])] * 2)),
                kind,
            )
        )
    return LayerwiseGenotype(draw(NAMES), tuple(found))


@st.composite
def tree_genotypes(draw):
    """Any valid tree cell whose grouped convolutions are at its root, where any channels fit them."""
    makes = [name for name, edge in EDGES.items() if not edge.keeps_channels]

    def node(depth):
        kinds = [("add", "copy", 2), ("add", "copy", 3), ("concat", "copy", 2), ("concat", "split", 2)]
        merge, allocation, count = draw(st.sampled_from([*kinds, (None, None, 1)]))
        names = [name for name in (EDGES if depth else makes) if name != "gconv3" or not depth]
        if (merge, allocation) == ("concat", "copy"):
            names = [name for name in makes if name != "gconv3"]
        edges = []
        for _ in range(count):
            grows = depth < 2 and draw(st.booleans())
            edges.append((draw(st.sampled_from(names)), node(depth + 1) if grows else None))
        return PathNode(tuple(edges), merge, allocation)

    return TreeGenotype(draw(NAMES), node(0))


@st.composite
def chain_genotypes(draw):
    """Any valid plain network or DenseNet of up to three blocks."""
    name, widths = draw(NAMES), st.integers(1, 6)
    blocks = draw(st.lists(st.lists(widths, min_size=1, max_size=3), min_size=1, max_size=3))
    layers = []
    if draw(st.booleans()):
        for block in blocks:
            layers += [ChainLayer("g", growth) for growth in block] + [ChainLayer("t")]
        numbers = st.lists(widths, min_size=len(blocks) - 1, max_size=len(blocks) - 1)
        return DenseNetGenotype(name, tuple(layers[:-1]), draw(widths), tuple(draw(numbers)))
    for block in blocks:
        layers += [ChainLayer("conv", filters, draw(st.integers(1, 5))) for filters in block]
        layers.append(ChainLayer("pool"))
    dense = draw(st.lists(widths, max_size=2))
    return PlainGenotype(name, (*layers, *(ChainLayer("fc", units) for units in dense)))
