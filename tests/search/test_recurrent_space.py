import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from nasnet_zoo.cells import NASCELL, NASCELL_MAX, RecurrentGenotype, recurrent_step
from nasnet_zoo.search.nas.recurrent_space import RecurrentSpace, canonical

SPACE = RecurrentSpace()
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed, space=SPACE):
    return space.genotype(space.sample(np.random.default_rng(seed)))


def test_the_space_of_base_8_has_the_published_size():
    assert SPACE.size == 8**15 * 8 * 15 * 15 == 63_331_869_759_897_600
    assert len(SPACE.steps) == 34
    assert SPACE.choices == (2, 4) * 16 + (15, 15)
    assert len({step.kind for step in SPACE.steps}) == 34  # a softmax each
    assert math.isclose(sum(map(math.log, SPACE.choices)), math.log(6.33e16), rel_tol=1e-4)
    assert RecurrentSpace(2).size == 8**3 * 8 * 3 * 3


@given(SEEDS)
def test_actions_and_cells_are_each_other_s_inverse(seed):
    actions = SPACE.sample(np.random.default_rng(seed))
    cell = SPACE.genotype(actions)
    assert SPACE.actions(cell) == actions
    assert SPACE.from_json(SPACE.to_json(cell)) == cell


def test_the_published_cells_are_in_the_space():
    assert SPACE.genotype(SPACE.actions(NASCELL), "NASCell") == NASCELL
    with_max = RecurrentSpace(combinations=("add", "elem_mult", "max"))
    assert with_max.genotype(with_max.actions(NASCELL_MAX), NASCELL_MAX.name) == NASCELL_MAX
    with pytest.raises(ValueError, match="Expected a cell of RecurrentSpace"):
        SPACE.actions(NASCELL_MAX)
    with pytest.raises(ValueError, match="Expected a cell of RecurrentSpace"):
        RecurrentSpace(2).actions(NASCELL)


def swapped(cell, number):
    """The cell with the two sides of an inner node in each other's place."""
    moved = {number: number}
    level = [(pair, pair[::-1]) for pair in [cell.children(number)]]
    while level:
        pairs = [pair for old, new in level for pair in zip(old, new, strict=True)]
        moved |= dict(pairs)
        level = [(cell.children(old), cell.children(new)) for old, new in pairs if cell.children(old)]
    order = [moved.get(k, k) for k in range(len(cell.nodes))]
    nodes = [None] * len(order)
    for old, new in enumerate(order):
        nodes[new] = cell.nodes[old]
    indices = tuple(order[index] for index in cell.cell_indices)
    return RecurrentGenotype(cell.name, tuple(nodes), cell.inject, indices)


@given(SEEDS, st.lists(st.integers(8, 14), min_size=1, max_size=5))
def test_cells_that_differ_in_the_order_of_sides_are_one_child(seed, numbers):
    cell = other = drawn(seed)
    for number in numbers:
        other = swapped(other, number)
    assert canonical(other) == canonical(cell)
    assert SPACE.key(SPACE.decode(SPACE.actions(other))) == SPACE.key(SPACE.decode(SPACE.actions(cell)))
    assert canonical(canonical(cell)) == canonical(cell)


@examples(50)
@given(SEEDS, st.integers(1, 9))
def test_the_canonical_cell_computes_the_same_from_equal_leaves(seed, base):
    cell = drawn(seed, RecurrentSpace(base))
    x, m, c = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)
    for one, other in zip(
        recurrent_step(cell, [x] * base, [m] * base, c),
        recurrent_step(canonical(cell), [x] * base, [m] * base, c),
        strict=True,
    ):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5)


def test_different_cells_have_different_keys():
    cells = {SPACE.key(SPACE.decode(SPACE.sample(np.random.default_rng(seed)))) for seed in range(200)}
    assert len(cells) == 200
    tokens = list(NASCELL.tokens)
    tokens[-1] = 9  # c enters the other side, which differs
    assert canonical(RecurrentGenotype.from_tokens(tokens)) != canonical(NASCELL)


def test_a_cell_is_described_node_by_node():
    cell = RecurrentGenotype.from_tokens(
        ("add", "tanh", "elem_mult", "relu", "elem_mult", "sigmoid", "add", "relu", 1, 0)
    )
    assert RecurrentSpace(2).describe(cell) == (
        "0 = relu(add(tanh(add(x, h)), c)); 1 = relu(elem_mult(x, h)); "
        "2 = sigmoid(elem_mult(0, 1)); new c: 1 before its activation"
    )
    features = SPACE.features(cell)
    assert features["combination: elem_mult"] == pytest.approx(2 / 3)
    assert sum(value for name, value in features.items() if "activation" in name) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": 0}, "Expected base: an int of at least 1"),
        ({"combinations": ("mul",)}, "Expected combinations: at least one of add, elem_mult, max"),
        ({"activations": ()}, "Expected activations: .* Received: none"),
        ({"activations": ("tanh", "tanh")}, "each once. Received: tanh, tanh"),
    ],
)
def test_a_space_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RecurrentSpace(**arguments)
