"""What keeps a search of thousands of children cheap."""

import numpy as np
import pytest

from nasnet_zoo.search import PPO, report
from nasnet_zoo.search.evaluator import Evaluator, Result
from nasnet_zoo.search.executors.executor import Outcome, Serial
from nasnet_zoo.search.folder import search_folder
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.nasnet.space import NASNetSpace
from nasnet_zoo.search.policies import Experience, Proposal, RandomSearch
from nasnet_zoo.search.schedulers import Asynchronous, Synchronous
from nasnet_zoo.search.search import Callback, ranked, run_search
from nasnet_zoo.search.settings import ExecutorSettings, SearchSettings
from nasnet_zoo.search.stopping import QuantileStopping

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)


class Share(Evaluator):
    """Reward: the share of separable convolutions, as a number of the type given."""

    def __init__(self, kind=float):
        self.kind = kind

    def evaluate(self, trial):
        names = trial.child.normal.blocks[0].operations
        reward = self.kind(names.count("sep_3x3") / 2)
        return Result(reward, [reward / 2, reward])


class Several:
    """Holds as many children as are submitted, and completes them from the first."""

    shares_memory = False

    def __init__(self, evaluator, capacity):
        self.evaluator, self.capacity, self.trials = evaluator, capacity, []

    def submit(self, trial):
        self.trials.append(trial)

    def completed(self):
        trial = self.trials.pop(0)
        return [Outcome(trial.number, self.evaluator.evaluate(trial), 1)]


class Stubborn(RandomSearch):
    """Draws the same child again and again; remembers how many it was asked for."""

    asked = 0

    def ask(self, count):
        self.asked += count
        return [Proposal((0, 1, 0, 1, 0), self.version) for _ in range(count)]


class FirstReward(Callback):
    def __init__(self, policy):
        self.policy, self.asked = policy, None

    def rewarded(self, record):
        self.asked = self.asked or self.policy.asked


def test_a_policy_that_repeats_a_child_is_asked_for_one_more_each_but_the_first_worker(tmp_path):
    policy = Stubborn(SPACE)
    first = FirstReward(policy)
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        run_search(policy, SPACE, Several(Share(), 4), journal, 40, Asynchronous(5), callbacks=[first])
    assert first.asked == 4 + 3


@pytest.mark.parametrize("kind", [float, round, np.float64])
def test_rewards_of_any_type_are_read_from_the_journal_as_they_were_written(tmp_path, kind):
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        records = run_search(RandomSearch(SPACE), SPACE, Several(Share(kind), 1), journal, 8)
    assert {type(record.reward) for record in records} == {float}
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.children() == records


def test_asking_changes_only_the_random_state_and_learning_all(tmp_path):
    policy = PPO(SPACE, units=4)
    before = policy.state()
    proposals = policy.ask(3)
    asked = policy.state()
    assert [name for name in asked if asked[name] is not before[name]] == [
        "random",
        "baseline",
        "version",
    ]
    policy.tell([Experience(k, proposal, k / 2) for k, proposal in enumerate(proposals)])
    told = policy.state()
    assert not any(told[name] is asked[name] for name in told)
    assert any((told[name] != asked[name]).any() for name in told if name.isdigit())
    policy.restore(before)
    assert all(np.array_equal(policy.state()[name], before[name], True) for name in before)


def test_nothing_in_the_loop_reads_the_whole_journal(tmp_path, monkeypatch):
    read = []
    records = Journal._records
    monkeypatch.setattr(
        Journal,
        "_records",
        lambda self, where="", *values: read.append(where) or records(self, where, *values),
    )
    settings = SearchSettings("random", minibatch=5, early_stop_quantile=0.5)
    search_folder(SPACE, Share(), tmp_path / "s", settings, 60, executor=ExecutorSettings("serial"))
    # When a search begins, children without a reward and the curves that children stop by; after each
    # minibatch the best child; when it has ended, all children, for the caller and for the report.
    assert read[:2] == ["where learned is null", "where learned is not null"]
    assert read[2:] == ["where number = ?"] * 12 + ["", ""]


def test_features_of_many_children_are_those_of_some_evenly_by_rank(tmp_path, monkeypatch):
    space = NASNetSpace(blocks=2, operations=("identity", "sep_3x3"), cells=1)
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        run_search(RandomSearch(space), space, Serial(Share()), journal, 30)
        best = ranked(journal.children())
        everything = report.report_values(journal, space)["features_table"]
        monkeypatch.setattr(report, "_DESCRIBED", len(best) // 2)
        columns, rows, _ = report.report_values(journal, space)["features_table"]
    assert everything[0][2] == f"mean of all {len(best)}"
    assert columns[2] == f"mean of {len(best[::3])} of {len(best)}"
    some = report.mean_features(best[::3], space)
    assert {row[0]: row[2] for row in rows} == {name: f"{value:.4g}" for name, value in some.items()}


def test_thresholds_are_those_of_the_children_that_the_policy_has_learned_from(tmp_path):
    seen = []

    class Watching(Share):
        def evaluate(self, trial):
            seen.append(trial.thresholds)
            return super().evaluate(trial)

    space = NASNetSpace(blocks=2, operations=("identity", "sep_3x3"), cells=1)
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        run_search(
            RandomSearch(space),
            space,
            Serial(Watching()),
            journal,
            16,
            Synchronous(8),
            stopping=QuantileStopping(0.5, after=4),
        )
        first = [r for r in journal.children() if r.learned == 0 and r.has_curve]
    expected = tuple(float(np.median([r.curve[k] for r in first])) for k in (0, 1))
    assert set(seen) == {(), expected}
