import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from nasnet_zoo.cells import (
    COMBINATIONS,
    NASNET_A,
    OPERATIONS,
    SEARCH_COMBINATIONS,
    SEARCH_OPERATIONS,
    Genotype,
    cell_graph,
)
from nasnet_zoo.search import NASNetSpace
from nasnet_zoo.search.nasnet.space import MOST_BLOCKS

# A chi-square statistic of k degrees of freedom has mean k and variance 2k; beyond six standard
# deviations a uniform draw is refuted.


def _is_uniform(counts):
    counts = np.asarray(counts, float)
    expected = counts.sum() / len(counts)
    degrees = len(counts) - 1
    return ((counts - expected) ** 2 / expected).sum() < degrees + 6 * np.sqrt(2 * degrees)


def sampled(space, seed, count):
    rng = np.random.default_rng(seed)
    return np.array([space.sample(rng) for _ in range(count)])


def test_the_papers_space():
    space = NASNetSpace()
    # 2 cells of 5 blocks, 5 choices each; 13 operations and 2 combinations.
    assert (len(space.steps), len(SEARCH_OPERATIONS), len(SEARCH_COMBINATIONS)) == (50, 13, 2)
    assert space.choices[:10] == (2, 2, 13, 13, 2, 3, 3, 13, 13, 2)
    states = (2 * 3 * 4 * 5 * 6) ** 2
    assert space.size == (states * 13**10 * 2**5) ** 2


def test_every_choice_is_uniform_and_a_seed_fixes_it():
    space = NASNetSpace()
    drawn = sampled(space, 0, 4000)
    for column, choices in zip(drawn.T, space.choices, strict=True):
        assert _is_uniform(np.bincount(column, minlength=choices))
    pairs = drawn[:, 5] * 3 + drawn[:, 6]
    assert _is_uniform(np.bincount(pairs, minlength=9))
    assert np.array_equal(drawn, sampled(space, 0, 4000))
    assert not np.array_equal(drawn, sampled(space, 1, 4000))


spaces = st.builds(
    NASNetSpace,
    blocks=st.integers(1, 5),
    operations=st.sets(st.sampled_from(sorted(OPERATIONS)), min_size=1).map(sorted),
    combinations=st.sets(st.sampled_from(sorted(COMBINATIONS)), min_size=1).map(sorted),
    cells=st.sampled_from((1, 2)),
)


@given(spaces, st.integers(0, 2**32))
def test_a_mutation_changes_one_action_and_json_brings_a_child_back(space, seed):
    if max(space.choices) == 1:
        return
    rng = np.random.default_rng(seed)
    actions = space.sample(rng)
    mutant = space.mutate(actions, rng)
    assert space.check(mutant) == mutant
    assert sum(a != b for a, b in zip(actions, mutant, strict=True)) == 1
    genotype = space.decode(actions)
    assert space.key(space.from_json(space.to_json(genotype))) == space.key(genotype)
    shares = {"normal": 0.0, "reduction": 0.0}
    for name, share in space.features(genotype).items():
        shares[name.split()[0]] += share
    assert list(shares.values()) == pytest.approx([1.0, 1.0])


def test_the_bound_refutes_a_biased_draw():
    assert not _is_uniform([400, 300, 300])


@given(spaces, st.integers(0, 2**32))
def test_actions_and_genotypes_are_one_to_one(space, seed):
    actions = space.sample(np.random.default_rng(seed))
    genotype = space.genotype(actions, "drawn")
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert space.actions(genotype) == actions
    assert (space.cells == 2) or genotype.normal == genotype.reduction
    for cell in (genotype.normal, genotype.reduction):
        read = {state for block in cell.blocks for state in block.inputs}
        assert set(cell.outputs) == set(range(2, 2 + space.blocks)) - read


def _reordered(blocks, rng):
    """A cell of actions with its blocks in another order and sides exchanged."""
    order, waiting = [], set(range(len(blocks)))
    while waiting:
        ready = [k for k in sorted(waiting) if not {s - 2 for s in blocks[k][:2]} & waiting]
        order.append(int(rng.choice(ready)))
        waiting.remove(order[-1])
    place = {old: new for new, old in enumerate(order)}
    cell = []
    for old in order:
        first, second, left, right, combination = blocks[old]
        moved = [s if s < 2 else 2 + place[s - 2] for s in (first, second)]
        sides = [(moved[0], left), (moved[1], right)]
        if rng.integers(2):
            sides.reverse()
        (first, left), (second, right) = sides
        cell.append((first, second, left, right, combination))
    return cell


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_encodings_of_one_child_have_one_canonical_form(seed, blocks):
    rng = np.random.default_rng(seed)
    space = NASNetSpace(blocks=blocks)
    actions = space.sample(rng)
    cells = np.array(actions).reshape(2, blocks, 5).tolist()
    other = np.array([_reordered(cell, rng) for cell in cells]).ravel()
    canonical = space.canonical(actions)
    assert space.canonical(other) == canonical == space.canonical(canonical)
    # So are their keys and what the search makes of them.
    assert space.decode(other) == space.decode(actions)
    assert space.key(space.genotype(other)) == space.key(space.decode(actions)) == str(list(canonical))
    # The canonical form is the same child: the same paths, each read as often.
    assert _shape(space.genotype(actions)) == _shape(space.genotype(canonical))


def _shape(genotype):
    """A cell's blocks without their order: each as a tree of what it reads."""

    def tree(cell, state):
        if state < 2:
            return state
        block = cell.blocks[state - 2]
        sides = [
            repr((name, tree(cell, source)))
            for name, source in zip(block.operations, block.inputs, strict=True)
        ]
        return (block.combination, *sorted(sides))

    cells = (genotype.normal, genotype.reduction)
    return [sorted(repr(tree(cell, 2 + k)) for k in range(len(cell.blocks))) for cell in cells]


def _enumerated(blocks):
    """The least actions of a cell by definition: of all orders of its blocks, the lesser side first."""
    found = []
    for order in itertools.permutations(range(len(blocks))):
        place = {old: new for new, old in enumerate(order)}
        cell = []
        for new, old in enumerate(order):
            *states, left, right, combination = blocks[old]
            moved = [s if s < 2 else 2 + place[s - 2] for s in states]
            if max(moved) >= 2 + new:
                break
            (first, left), (second, right) = sorted(zip(moved, (left, right), strict=True))
            cell += (first, second, left, right, combination)
        else:
            found.append(tuple(cell))
    return min(found)


@st.composite
def twin_cells(draw):
    """Cells of few choices, in which equal blocks that are read by different ones abound."""
    states = [st.integers(0, 1 + k) | st.integers(0, 1) for k in range(draw(st.integers(1, 5)))]
    names = st.integers(0, draw(st.integers(0, 2)))
    combination = st.integers(0, draw(st.integers(0, 1)))
    return [draw(st.tuples(state, state, names, names, combination)) for state in states]


def _canonical(cell):
    names = ("identity", "sep_3x3", "max_3x3")
    return NASNetSpace(len(cell), names, cells=1).canonical(np.array(cell).ravel())


@given(twin_cells(), twin_cells())
@examples(400)
def test_the_canonical_form_is_the_least_of_all_equal_cells(cell, other):
    assert _canonical(cell) == _enumerated(cell)
    equal = len(cell) == len(other) and _enumerated(cell) == _enumerated(other)
    assert (_canonical(cell) == _canonical(other)) == equal


MOST = MOST_BLOCKS // 2
TWINS = [(0, 0, 0, 0, 0)] * MOST


@pytest.mark.parametrize(
    "cell",
    [
        [(0, 0, 0, 0, 0)] * MOST_BLOCKS,
        TWINS + [(0, 2 + k, 0, 0, 0) for k in range(MOST)],
        TWINS + [(2 + k, 2 + (k + 1) % MOST, 0, 0, 0) for k in range(MOST)],
        TWINS + [(2 + k, 2 + 3 * (k // 3) + (k + 1) % 3, 0, 1, 0) for k in range(MOST)],
        [(1 + k, 1 + k, 0, 0, 0) for k in range(MOST_BLOCKS)],
    ],
    ids=("equal blocks", "pairs", "a ring", "two rings", "a chain"),
)
def test_the_largest_cells_have_one_canonical_form_too(cell):
    """Trying every order, of which there are 479,001,600, would not end."""
    rng = np.random.default_rng(0)
    assert _canonical(_reordered(cell, rng)) == _canonical(cell)


def test_different_children_have_different_canonical_forms():
    space = NASNetSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)
    forms = {space.canonical(actions) for actions in itertools.product(*map(range, space.choices))}
    # Unordered pairs, with repetition, out of 2 states x 2 operations.
    assert (space.size, len(forms)) == (16, 10)


def test_any_child_is_a_cell_that_can_be_built():
    space = NASNetSpace()
    for actions in sampled(space, 0, 50):
        genotype = space.genotype(actions)
        for cell, stride in ((genotype.normal, 1), (genotype.reduction, 2)):
            graph = cell_graph(cell, 4, stride, (8, 8), (1, 1))
            (shape,) = graph.output_shapes([(16, 16, 8)] * 2)
            assert shape[:2] == (16 // stride, 16 // stride)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 0}, "Expected blocks: an int of at least 1 and of at most 12. Received: blocks=0"),
        ({"blocks": 13}, "at most 12. Received: blocks=13"),
        ({"blocks": 2.0}, "Received: blocks=2.0"),
        ({"cells": 3}, "Expected cells: an int of at least 1 and of at most 2. Received: cells=3"),
        ({"operations": ()}, "Expected operations: at least one name, each once"),
        ({"operations": ("identity", "identity")}, "each once. Received: identity, identity"),
        ({"operations": "identity"}, "Expected operations: a list, each a text"),
        ({"combinations": ()}, "Expected combinations: at least one name"),
        ({"operations": ("conv_9x9",)}, "conv_9x9"),
    ],
)
def test_what_is_not_a_space_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NASNetSpace(**arguments)


@pytest.mark.parametrize("actions", [[0] * 49, [0.0] * 50, [2] + [0] * 49, [-1] + [0] * 49])
def test_what_is_no_child_is_refused(actions):
    with pytest.raises(ValueError, match="Expected 50 ints from 0 to below"):
        NASNetSpace().genotype(actions)


def test_a_genotype_of_another_space_is_refused():
    # NASNet-A's normal cell gives out h_{i-1} too.
    with pytest.raises(ValueError, match="no block reads"):
        NASNetSpace().actions(NASNET_A)
    with pytest.raises(ValueError, match="Expected a genotype of NASNetSpace"):
        NASNetSpace(operations=("identity",)).actions(NASNET_A)
