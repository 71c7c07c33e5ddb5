import itertools
import math
from collections import Counter

import numpy as np
import pytest
from evaluators import Function
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from nasnet_zoo.cells import TREECELL_A, TREECELL_B, PathNode, TreeGenotype
from nasnet_zoo.search import POLICIES, Journal, Result, Serial, Synchronous, TreeCellSpace, run_search
from nasnet_zoo.search.path_level.space import canonical

SPACE = TreeCellSpace()
SMALL = TreeCellSpace(edges=("sep3", "identity"), depth=2)
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed, space=SPACE):
    return space.sample(np.random.default_rng(seed))


def decisions(space, actions):
    """What is decided by each of a cell's actions."""
    growth = space.growth()
    for action in actions:
        yield growth.decision
        growth.decide(action)
    assert growth.decision is None


@pytest.mark.parametrize(
    ("cell", "draws", "log_probability"),
    [
        (TREECELL_A, {"merge": 7, "branches": 6, "expand": 6, "edge": 13}, -41.304884),
        (TREECELL_B, {"merge": 7, "branches": 4, "expand": 6, "edge": 9}, -32.134949),
    ],
)
def test_the_paper_s_cells_grow_by_as_many_draws_as_its_code_replays(cell, draws, log_probability):
    actions = SPACE.actions(cell)
    made = list(decisions(SPACE, actions))
    assert Counter(decision.kind for decision in made) == draws
    assert len(actions) == sum(draws.values())
    logs = [-math.log(SPACE.choices[decision.kind]) for decision in made]
    assert sum(logs) == pytest.approx(log_probability, abs=1e-6)
    assert SPACE.genotype(actions, cell.name) == cell


def test_the_order_of_decisions_is_that_of_a_stack():
    made = [decision.place for decision in decisions(SPACE, SPACE.actions(TREECELL_B))]
    # The root's merge and branches; the first child to its end before the second one expands.
    assert made[:6] == ["m", "e", "e[0][1]", "e[0][1].m", "e[0][1].e", "e[0][1].e[0][0]"]
    assert made[6:9] == ["e[0][1].e[1][0]", "e[0][1].e[0][1]", "e[0][1].e[0][1].m"]
    assert made.index("e[1][1]") == 13


def test_the_number_of_sequences_of_actions():
    assert SPACE.size == 29_986_678_769_403_186_482_832_715_562_500


@pytest.mark.parametrize(("edges", "depth"), [(("sep3",), 2), (("sep3", "max3"), 2)])
def test_the_number_is_that_of_an_enumeration(edges, depth):
    space = TreeCellSpace(edges=edges, depth=depth)

    def sequences(actions):
        growth = space.growth()
        for action in actions:
            growth.decide(action)
        if growth.decision is None:
            yield tuple(actions)
            return
        for action in range(space.choices[growth.decision.kind]):
            yield from sequences((*actions, action))

    every = list(sequences(()))
    assert len(set(every)) == len(every) == space.size
    refused = []
    for actions in every:
        try:
            assert space.actions(space.genotype(actions)) == actions
        except ValueError:
            refused.append(actions)
    # One for each merge and number of branches of the root.
    assert len(refused) == 4


@examples(30)
@given(SEEDS)
def test_actions_and_cells_are_each_other_s_inverse(seed):
    actions = drawn(seed)
    cell = SPACE.genotype(actions)
    assert SPACE.actions(cell) == actions
    assert SPACE.from_json(SPACE.to_json(cell)) == cell


def test_every_decision_is_drawn_uniformly():
    counts = Counter()
    draws = 3000
    first = Counter(drawn(seed, SMALL)[0] for seed in range(draws))
    # Of the merges of the root: it is drawn again when none of its children expands.
    kept = np.array([1 / 2, (3 / 4 + 7 / 8) / 2, 3 / 4])
    expected = draws * kept / kept.sum()
    assert all(abs(first[k] - expected[k]) < 5 * np.sqrt(expected[k]) for k in range(3))
    for seed in range(300):
        actions = drawn(seed)
        for decision, action in zip(decisions(SPACE, actions), actions, strict=True):
            if decision.kind == "edge":
                counts[action] += 1
    mean = counts.total() / 7
    assert all(abs(counts[k] - mean) < 5 * np.sqrt(mean) for k in range(7))


@examples(30)
@given(SEEDS)
def test_a_mutation_changes_one_decision_and_what_follows_from_it(seed):
    rng = np.random.default_rng(seed)
    actions = SPACE.sample(rng)
    changed = SPACE.mutate(actions, rng)
    before, after = (
        dict(zip(decisions(SPACE, some), some, strict=True)) for some in (actions, changed)
    )
    others = [
        decision for decision in before.keys() & after.keys() if before[decision] != after[decision]
    ]
    assert len(others) == 1
    (where,) = others
    for decision in before.keys() ^ after.keys():
        parent = where.path if where.kind == "expand" else where.path[:-1]
        assert where.kind != "edge"
        assert decision.path[: len(parent)] == parent


def test_every_decision_is_mutated():
    rng = np.random.default_rng(0)
    actions = SMALL.actions(TreeGenotype("cell", PathNode((("gconv3", PathNode((("sep3", None),))),))))
    found = {SMALL.mutate(actions, rng) for _ in range(200)}
    # The root's merge, the child's merge and its edge; the child is the only one that can expand.
    assert {some[0] for some in found} == {0, 1, 2}
    assert {some[2] for some in found if some[0] == 0} == {0, 1, 2}
    assert (0, 1, 0, 1) in found


def node(*branches, merge=None):
    allocation = {"add": "copy", "concat": "split", None: None}[merge]
    return PathNode(branches, merge, allocation)


def key(root):
    return SPACE.key(canonical(TreeGenotype("cell", root)))


def test_the_order_of_what_is_added_makes_no_other_cell():
    below = node(("sep3", None), ("max3", None), merge="concat")
    several = [("gconv3", below), ("gconv3", None), ("gconv3", node(("sep5", None)))]
    keys = {key(node(*some, merge="add")) for some in itertools.permutations(several)}
    assert len(keys) == 1
    swapped = node(("max3", None), ("sep3", None), merge="concat")
    assert key(node(("gconv3", swapped), *several[1:], merge="add")) not in keys


def test_a_layer_after_an_identity_is_that_layer():
    plain = node(("gconv3", node(("sep3", None), ("conv1", None), merge="add")))
    for some in (("sep3", node(("identity", None))), ("identity", node(("sep3", None)))):
        assert key(node(("gconv3", node(some, ("conv1", None), merge="add")))) == key(plain)
    pool = node(("max3", None))
    assert key(node(("gconv3", node(("identity", pool))))) == key(node(("gconv3", pool)))
    other = node(("max3", node(("sep3", None))))
    assert key(node(("gconv3", other))) != key(node(("gconv3", node(("sep3", pool)))))


@examples(30)
@given(SEEDS)
def test_what_is_canonical_stays_so(seed):
    cell = SPACE.decode(drawn(seed))
    assert canonical(cell) == cell


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ((1, 0, 0), r"action 3, e\[1\]\[1\]: expected an int from 0 to below 2. Received: no more"),
        ((1, 2), "action 1, e: expected an int from 0 to below 2. Received: 2"),
        ((0, 1, 0, 7), r"action 3, e\[0\]\[1\].e\[0\]\[0\]: expected an int from 0 to below 7"),
        ((0, 1, 0, -1), "Received: -1"),
        ((0, 1, 0, 0, 0, 0), "Expected 5 actions, after which the cell has grown. Received: 6"),
        ((1, 1, 0, 0, 0), "a cell with a child that expands"),
        ((1.0,), "Expected actions: a sequence of ints"),
        ("10", "Expected actions: a sequence of ints"),
    ],
)
def test_actions_of_no_cell_are_refused(actions, message):
    with pytest.raises(ValueError, match=message):
        SPACE.decode(actions)


@pytest.mark.parametrize(
    "space", [TreeCellSpace(base="conv3"), TreeCellSpace(edges=("sep3",)), TreeCellSpace(depth=2)]
)
def test_a_cell_of_another_space_has_no_actions(space):
    with pytest.raises(ValueError, match="Expected a cell of TreeCellSpace"):
        space.actions(TREECELL_A)


def test_a_plain_convolution_is_copied_where_results_are_concatenated():
    space = TreeCellSpace(base="conv3")
    cell = space.genotype((2, 1, 2, 0, 0, 0, 0, 0))
    assert (cell.root.allocation, cell.root.edges[0][1].allocation) == ("copy", "split")
    assert space.actions(cell) == (2, 1, 2, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": "sep3"}, "Expected base: one of gconv3, conv3"),
        ({"edges": ()}, "Expected edges: .* Received: none"),
        ({"edges": ("sep3", "sep3")}, "each once. Received: sep3, sep3"),
        ({"edges": ("gconv3",)}, "Expected edges: at least one of identity, conv1, conv3"),
        ({"depth": 1}, "Expected depth: an int of at least 2"),
    ],
)
def test_a_space_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TreeCellSpace(**arguments)


def test_what_the_report_says_of_a_cell():
    assert SPACE.describe(TREECELL_B) == (
        "add(gconv3 add(conv1 (sep5), sep7 (avg3)), gconv3 add(avg3 add(sep7, conv1), sep7 (avg3)))"
    )
    features = SPACE.features(TREECELL_B)
    assert (features["layers"], features["depth"]) == (11, 3)
    assert features["layer: avg3"] == pytest.approx(3 / 9)
    assert features["merge: none"] == pytest.approx(3 / 7)
    assert "7x7 sep" in SPACE.draw(TREECELL_B)


def test_traits_are_those_of_the_canonical_cell():
    traits = set(SPACE.traits(SPACE.actions(TREECELL_B)))
    assert len(traits) == 11
    assert (("add", "gconv3"), 1) in traits
    assert (("add", "gconv3", "add", "sep7", None, "avg3"), 1) in traits


def share(trial):
    """How much of the layers are separable."""
    features = SPACE.features(trial.child)
    return Result(sum(features.get(f"layer: sep{k}", 0.0) for k in (3, 5, 7)))


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["random", "evolution", "predictor"])
def test_policies_of_any_space_search_it_and_go_on_after_a_stop(name, tmp_path):
    options = {"evolution": {"population": 8, "sample": 4}}.get(name, {})

    def search(path, *counts):
        for count in counts:
            policy = POLICIES[name](SPACE, seed=1, **options)
            with Journal(path, {"policy": name}) as journal:
                records = run_search(
                    policy, SPACE, Serial(Function(share)), journal, count, Synchronous(4), seed=1
                )
        return records

    whole = search(tmp_path / "whole.sqlite", 24)
    stopped = search(tmp_path / "stopped.sqlite", 12, 24)
    assert [record.actions for record in stopped] == [record.actions for record in whole]
    assert len({len(record.actions) for record in whole}) > 1
    assert all(SPACE.key(SPACE.decode(record.actions)) == record.key for record in stopped)
