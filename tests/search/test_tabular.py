import itertools

import numpy as np
import pytest
from evaluators import Function

from nasnet_zoo.architecture import architecture_cost
from nasnet_zoo.search import (
    Budget,
    Journal,
    NASNetSpace,
    RandomSearch,
    Result,
    Serial,
    TabularBenchmark,
    Trial,
    run_search,
)

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)


def train(trial):
    """Rewards by the operations; one child fails."""
    names = trial.child.normal.blocks[0].operations
    if names == ("identity", "identity"):
        return Result.failed("diverged", curve=(0.3,), metrics={"losses": [2.0, np.inf]})
    reward = 0.25 + 0.25 * names.count("sep_3x3")
    return Result(reward, (0.25, reward), metrics={"losses": [1.5, 0.5]})


@pytest.fixture
def table(tmp_path):
    journal = Journal(tmp_path / "j.sqlite", {})
    cost = {"parameters": 7, "mult_adds": 11}
    executor = Serial(Function(train, lambda genotype: cost))
    run_search(RandomSearch(SPACE), SPACE, executor, journal, 60)
    return TabularBenchmark.of(SPACE, journal.children(), {"why": "a test"})


def children():
    return itertools.product(*map(range, SPACE.choices))


def test_every_child_is_found_however_it_is_written(table):
    forms = {SPACE.canonical(actions) for actions in children()}
    assert len(table.actions) == len(forms)
    for actions in children():
        found = table.evaluate(Trial(0, table.prepare(SPACE.genotype(actions)), 5))
        expected = train(Trial(0, SPACE.decode(actions), 0))
        assert (found.reward, found.status) == (expected.reward, expected.status)
        if found.status == "finished":
            assert (found.curve, found.metrics) == (expected.curve, expected.metrics)
        cost = {"parameters": 7, "mult_adds": 11}
        assert table.cost(SPACE.genotype(actions)) == cost


def test_a_child_below_a_threshold_stops_as_it_would_in_training(table):
    trial = Trial(0, table.prepare(SPACE.genotype([0, 1, 1, 1, 0])), 0, thresholds=(0.26,))
    expected = Result(0.25, (0.25,), "stopped", metrics={"losses": [1.5]})
    assert table.evaluate(trial) == expected
    assert table.evaluate(trial._replace(thresholds=(0.25,))).reward == 0.75


def test_a_child_pauses_and_fails_where_it_would_in_training(table):
    trial = Trial(0, table.prepare(SPACE.genotype([0, 1, 1, 1, 0])), 0)
    assert table.evaluations == 2
    paused = Result(0.25, (0.25,), "stopped", metrics={"losses": [1.5]})
    assert table.evaluate(trial._replace(pause_at=1)) == paused
    assert table.evaluate(trial) == Result(0.75, (0.25, 0.75), metrics={"losses": [1.5, 0.5]})
    fails = trial._replace(child=table.prepare(SPACE.genotype([0, 0, 0, 0, 0])))
    assert table.evaluate(fails._replace(pause_at=1)).status == "stopped"
    failed = table.evaluate(fails)
    assert (failed.status, failed.reward, failed.message) == ("failed", 0.0, "diverged")
    assert failed.curve == pytest.approx((0.3,))
    assert failed.metrics == {"losses": [2.0, np.inf]}


def test_the_best_share_by_hand(table):
    # Per pair of inputs: identity twice fails; one separable convolution 0.5, two 0.75.
    counts = {0.0: 3, 0.5: 4, 0.75: 3}
    assert {reward: int((table.final == reward).sum()) for reward in counts} == counts
    assert table.best(0) == table.best(0.3) == 0.75
    assert table.best(0.4) == table.best(0.7) == 0.5
    assert table.best(0.8) == 0.0


def test_a_saved_table_is_the_same(table, tmp_path):
    table.save(tmp_path / "t.npz")
    loaded = TabularBenchmark.load(tmp_path / "t.npz")
    assert loaded.space == SPACE
    assert loaded.about == {"why": "a test"}
    for name in ("actions", "rewards", "losses", "parameters", "mult_adds", "seconds"):
        one, other = getattr(table, name), getattr(loaded, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert set(loaded.parameters) == {7}
    (tmp_path / "no.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"no.npz: expected a tabular benchmark"):
        TabularBenchmark.load(tmp_path / "no.npz")


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("rewards", lambda values: values + 1, "Expected rewards in .0, 1."),
        ("rewards", lambda values: values * np.nan, "Expected rewards in .0, 1."),
        ("losses", lambda values: values[:, :1], "Expected losses of the shape"),
        ("seconds", lambda values: values[1:], "Expected seconds of the shape"),
        ("actions", lambda values: values + 1, "Expected 5 ints from 0"),
        ("actions", lambda values: values[:, :4], "Expected actions of the shape"),
    ],
)
def test_a_table_whose_columns_do_not_fit_is_refused(table, tmp_path, column, change, message):
    object.__setattr__(table, column, change(getattr(table, column)))
    table.save(tmp_path / "t.npz")
    with pytest.raises(ValueError, match=f"t.npz: expected a tabular benchmark. Received: {message}"):
        TabularBenchmark.load(tmp_path / "t.npz")


def test_what_is_not_in_the_table_is_told(table):
    space = NASNetSpace(blocks=1, operations=("conv_1x1",), combinations=("add",), cells=1)
    with pytest.raises(ValueError, match="Expected a genotype of NASNetSpace"):
        table.prepare(space.genotype([0] * 5))


def test_the_package_s_table_holds_every_child_of_its_space():
    table = TabularBenchmark.load()
    everything = itertools.product(*map(range, table.space.choices))
    assert {table.space.canonical(actions) for actions in everything} == set(
        map(tuple, table.actions.tolist())
    )
    assert len(table.actions) == table.about["children_of_space"] == 1296
    assert np.isfinite(table.losses).all()
    assert (table.rewards[:, -1] > table.rewards[:, 0]).mean() > 0.99
    assert table.best(0.01) == np.sort(table.final)[-13]


def test_the_package_s_table_agrees_with_the_code_and_with_a_second_seed():
    table = TabularBenchmark.load()
    budget = Budget(**table.about["budget"])
    for row in range(0, 1296, 100):
        genotype = table.space.genotype(table.actions[row])
        cost = architecture_cost(budget.architecture(genotype, table.about["image_size"], 1), 10)
        assert (cost.parameters, cost.mult_adds) == (table.parameters[row], table.mult_adds[row])
    first, second = np.array(table.about["two_seeds"]).T
    assert len(first) == 60
    # The spread of the rewards is more than noise.
    assert np.corrcoef(first.argsort().argsort(), second.argsort().argsort())[0, 1] > 0.7
