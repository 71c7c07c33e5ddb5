import itertools

import numpy as np
import pytest

from nasnet_zoo.architecture import architecture_cost
from nasnet_zoo.cells import Cost
from nasnet_zoo.search import RandomSearch, SearchSpace
from nasnet_zoo.search.child import Trained
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.search import Here, Job, run_search
from nasnet_zoo.search.settings import Budget
from nasnet_zoo.search.tabular import TabularBenchmark

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)


def train(job):
    """Rewards by the operations; one child fails."""
    names = job.genotype.normal.blocks[0].operations
    if names == ("identity", "identity"):
        return Trained((0.3,), (2.0, np.inf), failed=True)
    count = names.count("sep_3x3")
    return Trained((0.25, 0.25 + 0.25 * count), (1.5, 0.5))


@pytest.fixture
def table(tmp_path):
    journal = Journal(tmp_path / "j.sqlite", {})
    run_search(
        RandomSearch(SPACE), SPACE, Here(train), journal, 60, cost=lambda genotype: Cost(7, 1, 11)
    )
    return TabularBenchmark.of(SPACE, journal.children(), {"why": "a test"})


def children():
    return itertools.product(*map(range, SPACE.choices))


def test_every_child_is_found_however_it_is_written(table):
    forms = {SPACE.canonical(tokens) for tokens in children()}
    assert len(table.tokens) == len(forms)
    for tokens in children():
        job = Job(0, SPACE.genotype(tokens), 5)
        found, expected = table(job), train(Job(0, SPACE.genotype(SPACE.canonical(tokens)), 0))
        assert (found.reward, found.failed) == (expected.reward, expected.failed)
        if not found.failed:
            assert (found.rewards, found.losses) == (expected.rewards, expected.losses)


def test_a_child_below_a_threshold_stops_as_it_would_in_training(table):
    job = Job(0, SPACE.genotype([0, 1, 1, 1, 0]), 0, thresholds=(0.26,))
    assert table(job) == Trained((0.25,), (1.5,), stopped=True)
    assert table(job._replace(thresholds=(0.25,))).reward == 0.75


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
    for name in ("tokens", "rewards", "losses", "parameters", "mult_adds", "seconds"):
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
        ("tokens", lambda values: values + 1, "Expected 5 ints from 0"),
        ("tokens", lambda values: values[:, :4], "Expected tokens of the shape"),
    ],
)
def test_a_table_whose_columns_do_not_fit_is_refused(table, tmp_path, column, change, message):
    object.__setattr__(table, column, change(getattr(table, column)))
    table.save(tmp_path / "t.npz")
    with pytest.raises(ValueError, match=f"t.npz: expected a tabular benchmark. Received: {message}"):
        TabularBenchmark.load(tmp_path / "t.npz")


def test_what_is_not_in_the_table_is_told(table):
    space = SearchSpace(blocks=1, operations=("conv_1x1",), combinations=("add",), cells=1)
    with pytest.raises(ValueError, match="Expected a genotype of SearchSpace"):
        table(Job(0, space.genotype([0] * 5), 0))


def test_the_package_s_table_holds_every_child_of_its_space():
    table = TabularBenchmark.load()
    everything = itertools.product(*map(range, table.space.choices))
    assert {table.space.canonical(tokens) for tokens in everything} == set(
        map(tuple, table.tokens.tolist())
    )
    assert len(table.tokens) == table.about["children_of_space"] == 1296
    assert np.isfinite(table.losses).all()
    assert (table.rewards[:, -1] > table.rewards[:, 0]).mean() > 0.99
    assert table.best(0.01) == np.sort(table.final)[-13]


def test_the_package_s_table_agrees_with_the_code_and_with_a_second_seed():
    table = TabularBenchmark.load()
    budget = Budget(**table.about["budget"])
    for row in range(0, 1296, 100):
        genotype = table.space.genotype(table.tokens[row])
        cost = architecture_cost(budget.architecture(genotype, table.about["image_size"], 1), 10)
        assert (cost.parameters, cost.mult_adds) == (table.parameters[row], table.mult_adds[row])
    first, second = np.array(table.about["two_seeds"]).T
    assert len(first) == 60
    # The spread of the rewards is more than noise.
    assert np.corrcoef(first.argsort().argsort(), second.argsort().argsort())[0, 1] > 0.7
