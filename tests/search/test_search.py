import io
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from evaluators import Function
from rich.console import Console

from nasnet_zoo.cells import Genotype
from nasnet_zoo.search import (
    PPO,
    Asynchronous,
    Journal,
    NASNetSpace,
    RandomSearch,
    RegularizedEvolution,
    Result,
    Serial,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.executors.executor import Outcome
from nasnet_zoo.search.progress import Events, LiveProgress
from nasnet_zoo.search.search import evaluate_all, ranked

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)


class Counting:
    """A closed-form reward: the share of separable convolutions; remembers what it was asked."""

    def __init__(self, fails=()):
        self.trained, self.fails = [], fails

    def __call__(self, trial):
        self.trained.append((trial.child.normal, trial.seed))
        names = trial.child.normal.blocks[0].operations
        if names in self.fails:
            raise ValueError("cannot be trained")
        reward = names.count("sep_3x3") / 2
        return Result(reward, (reward,))


def search(path, evaluator, children=12, minibatch=5):
    journal = Journal(path, {"children": "any"})
    policy = RegularizedEvolution(SPACE, population=6, sample=3, seed=1)
    executor = Serial(Function(evaluator))
    records = run_search(policy, SPACE, executor, journal, children, Synchronous(minibatch))
    journal.close()
    return records


def test_every_child_is_in_the_journal_and_equal_ones_are_trained_once(tmp_path):
    evaluator = Counting()
    records = search(tmp_path / "j.sqlite", evaluator)
    assert [record.number for record in records] == list(range(12))
    assert [record.version for record in records] == [0] * 5 + [1] * 5 + [2] * 2
    assert [record.learned for record in records] == [record.version for record in records]
    assert {record.state for record in records} == {"finished"}
    forms = {record.key for record in records}
    assert len(forms) < 12
    assert len(evaluator.trained) == len(forms)
    for record in records:
        genotype = Genotype.from_dict(record.architecture)
        assert record.reward == genotype.normal.blocks[0].operations.count("sep_3x3") / 2
        assert str(list(SPACE.canonical(record.actions))) == record.key
        if record.same_as is not None:
            assert records[record.same_as].key == record.key
            assert record.same_as < record.number
    seeds = {(record.key, record.seed) for record in records}
    assert len(seeds) == len(forms)
    for record in records[10:]:  # drawn when the population was whole
        parent = records[record.parent]
        assert sum(a != b for a, b in zip(record.actions, parent.actions, strict=True)) == 1


def test_a_child_that_fails_has_no_reward_and_the_search_goes_on(tmp_path):
    records = search(tmp_path / "j.sqlite", Counting(fails=[("identity", "identity")]))
    failed = [record for record in records if record.state == "failed"]
    assert {record.reward for record in failed} == {0.0}
    first = next(record for record in failed if record.same_as is None)
    assert first.message == "cannot be trained"
    assert len(records) == 12


@pytest.mark.parametrize("error", [KeyError, TypeError, AttributeError, ZeroDivisionError])
def test_an_error_of_the_program_ends_the_search_and_is_no_reward(tmp_path, error):
    class Broken(Counting):
        def __call__(self, trial):
            if len(self.trained) == 2:
                raise error("swish")
            return super().__call__(trial)

    with pytest.raises(error, match="swish"):
        search(tmp_path / "j.sqlite", Broken())
    evaluator = Counting()
    assert len(search(tmp_path / "j.sqlite", evaluator)) == 12
    expected = Counting()
    search(tmp_path / "whole.sqlite", expected)
    assert evaluator.trained == expected.trained[2:]


def test_a_reward_that_is_no_number_is_a_failure_and_no_result_ends_the_search(tmp_path):
    rewards = iter([float("nan"), float("inf"), 50.0])
    executor = Serial(Function(lambda trial: Result(next(rewards))))
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        policy = RandomSearch(SPACE, seed=4)
        records = run_search(policy, SPACE, executor, journal, 3, Synchronous(1), remember=False)
    assert [record.state for record in records] == ["failed", "failed", "finished"]
    assert [record.reward for record in records] == [0.0, 0.0, 50.0]
    assert records[0].message == "Expected a finite reward. Received: nan"
    with pytest.raises(TypeError, match="Function.evaluate to return a Result. Received: 0.5"):
        search(tmp_path / "k.sqlite", lambda trial: 0.5)


class Failing(Serial):
    """Loses every worker, or runs out of memory; counts the tries of each child."""

    def __init__(self, result, out_of_memory=False):
        super().__init__(Function(None))
        self._outcome, self.tries = (result, 0.0, out_of_memory), Counter()

    def completed(self):
        number = self._trial.number
        self.tries[number] += 1
        return [Outcome(number, *self._outcome)]


def test_a_child_whose_worker_is_lost_is_tried_again_and_nothing_is_learned_from_it(tmp_path):
    journal = Journal(tmp_path / "j.sqlite", {})
    lost = Failing(Result(0.0, status="lost", message="its worker was lost: killed"))
    policy = RegularizedEvolution(SPACE)
    records = run_search(policy, SPACE, lost, journal, 60, Synchronous(30))
    assert {(r.state, r.reward) for r in records} == {("lost", 0.0)}
    assert {r.message for r in records if r.same_as is None} == {
        "its worker was lost: killed (3 tries)"
    }
    assert (policy.version, policy._told) == (2, 0)
    tried = [record for record in records if record.same_as is None]
    assert lost.tries == {record.number: 3 for record in tried}
    # Equal children: once in a minibatch, and again in the next.
    kinds = {(record.version, record.key) for record in records}
    assert {(record.version, record.key) for record in tried} == kinds
    assert len(tried) == len(kinds) > len({record.key for record in records})
    # Whoever trains it is believed.
    executor = Serial(Function(Counting()))
    policy = RegularizedEvolution(SPACE)
    records = run_search(policy, SPACE, executor, journal, 90, Synchronous(30))
    assert {record.state for record in records[60:]} == {"finished"}
    assert policy._told == 30


@pytest.mark.parametrize("retries", [0, 5])
def test_the_number_of_retries_is_that_asked_for(tmp_path, retries):
    lost = Failing(Result(0.0, status="lost", message="gone"))
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        (record,) = run_search(RandomSearch(SPACE), SPACE, lost, journal, 1, retries=retries)
    assert lost.tries.pop(0) == retries + 1
    assert record.message == ("gone (6 tries)" if retries else "gone")
    with Journal(tmp_path / "again.sqlite", {}) as journal:
        evaluate_all([record], SPACE, lost, journal, retries=retries)
    assert lost.tries[0] == retries + 1


def test_a_child_that_runs_out_of_memory_twice_has_failed(tmp_path):
    executor, policy = Failing(Result.failed("out of memory"), True), RegularizedEvolution(SPACE)
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        records = run_search(policy, SPACE, executor, journal, 10)
    tried = [record for record in records if record.same_as is None]
    assert {record.state for record in records} == {"failed"}
    assert {record.message for record in tried} == {"out of memory (2 tries)"}
    assert set(executor.tries.values()) == {2}
    assert policy._told == 10


class Several(Serial):
    """Evaluates several children at a time, which finish in an order of its own; keeps that order."""

    def __init__(self, function, capacity, seed):
        super().__init__(Function(function))
        self.capacity, self._trials, self._rng = capacity, [], np.random.default_rng(seed)
        self.most, self.finished, self.submitted = 0, [], []

    def submit(self, trial):
        self._trials.append(trial)
        self.submitted.append(trial.number)
        self.most = max(self.most, len(self._trials))

    def completed(self):
        self._trial = self._trials.pop(self._rng.integers(len(self._trials)))
        self.finished.append(self._trial.number)
        return super().completed()


LARGE = NASNetSpace(2, ("identity", "sep_3x3", "max_3x3"), cells=1)


@pytest.mark.parametrize("capacity", [1, 3, 50])
def test_an_asynchronous_policy_learns_from_each_minibatch_of_results(tmp_path, capacity):
    executor = Several(Counting(), capacity, seed=capacity)
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        policy = PPO(LARGE, seed=1)
        records = run_search(policy, LARGE, executor, journal, 43, Asynchronous(8))
        minibatches = journal.minibatches()
    assert executor.most == min(capacity, 43)
    assert sorted(executor.finished) == [r.number for r in records if r.same_as is None]
    assert policy.version == len(minibatches) == 6
    sizes = Counter(record.learned for record in records)
    assert [sizes[k] for k in range(6)] == [8] * 5 + [3]
    # Nobody learns from a child before it is drawn, and children come back stale.
    lags = [record.learned - record.version for record in records]
    assert min(lags) >= 0
    assert (max(lags) > 0) == (capacity > 1)
    for k, metrics in enumerate(minibatches):
        lag = np.mean([r.learned - r.version for r in records if r.learned == k])
        assert metrics["lag"] == pytest.approx(lag)
    assert all(len(record.log_probabilities) == 10 for record in records)


def test_an_asynchronous_search_that_was_stopped_loses_nothing_and_repeats_nothing(tmp_path):
    class Stopped(Counting):
        def __call__(self, trial):
            if len(self.trained) == 9:
                raise KeyboardInterrupt
            return super().__call__(trial)

    def run(function, children):
        executor = Several(function, 4, seed=len(finished))
        try:
            with Journal(tmp_path / "j.sqlite", {}) as journal:
                policy = RegularizedEvolution(LARGE, population=10, sample=3, seed=2)
                return run_search(policy, LARGE, executor, journal, children, Asynchronous(5))
        finally:
            finished.extend(executor.finished[: len(function.trained)])

    finished = []
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(Stopped(), 60)
    records = run(Counting(), 60)
    assert [record.number for record in records] == list(range(60))
    assert sorted(finished) == [r.number for r in records if r.same_as is None]
    assert {record.state for record in records} == {"finished"}


def test_a_child_that_is_retried_on_shared_memory_is_alone(tmp_path):
    class Flaky(Several):
        """Its first child runs out of memory once."""

        shares_memory = True

        def completed(self):
            alone.append((len(self._trials), [trial.number for trial in self._trials]))
            if self.submitted.count(0) == 1 and self._trials[0].number == 0:
                self._trials.pop(0)
                return [Outcome(0, Result.failed("out of memory"), 0.0, True)]
            return super().completed()

    alone = []
    executor = Flaky(Counting(), 3, seed=0)
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        records = run_search(RandomSearch(LARGE), LARGE, executor, journal, 12, Asynchronous(4))
    assert executor.submitted.count(0) == 2
    assert (1, [0]) in alone
    assert all(number == 1 for number, trials in alone[1:] if 0 in trials)
    assert {record.state for record in records} == {"finished"}


def test_a_finished_search_goes_on_to_more_children_as_if_it_had_never_stopped(tmp_path):
    whole = search(tmp_path / "whole.sqlite", Counting(), children=15)
    search(tmp_path / "parts.sqlite", Counting(), children=5)
    evaluator = Counting()
    parts = search(tmp_path / "parts.sqlite", evaluator, children=15)
    keys = ("number", "actions", "reward", "seed", "same_as", "learned")
    for one, other in zip(whole, parts, strict=True):
        assert [getattr(one, key) for key in keys] == [getattr(other, key) for key in keys]
    evaluator = Counting()
    assert search(tmp_path / "parts.sqlite", evaluator, children=15) == parts
    assert evaluator.trained == []
    search(tmp_path / "odd.sqlite", Counting(), children=7)
    odd = search(tmp_path / "odd.sqlite", Counting(), children=12)
    assert [record.number for record in odd] == list(range(12))
    assert [record.version for record in odd] == [0] * 5 + [1] * 2 + [2] * 5


SCRIPT = """
import sys, time
sys.path[:0] = sys.argv[2:]
from test_search import Counting, search
class Slow(Counting):
    def __call__(self, trial):
        time.sleep(0.1)
        return super().__call__(trial)
search(sys.argv[1], Slow(), children=20, minibatch=4)
"""


def test_a_search_killed_at_any_moment_continues_exactly(tmp_path):
    path = tmp_path / "killed.sqlite"
    here = Path(__file__).parent
    command = [sys.executable, "-c", SCRIPT, str(path), str(here), str(here.parent)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while True:
        assert process.poll() is None
        if path.exists():
            try:
                journal = Journal(path)  # to read only: the search makes its tables itself
                states = [record.state for record in journal.children()]
                journal.close()
            except Exception:  # the file is being made
                states = []
            if "finished" in states and "asked" in states:
                break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = search(path, Counting(), children=20, minibatch=4)
    whole = search(tmp_path / "whole.sqlite", Counting(), children=20, minibatch=4)
    keys = ("number", "version", "actions", "reward", "seed", "state", "same_as", "learned")
    for one, other in zip(whole, killed, strict=True):
        assert [getattr(one, key) for key in keys] == [getattr(other, key) for key in keys]


def test_the_best_are_retrained_and_going_on_trains_the_rest(tmp_path):
    best = ranked(search(tmp_path / "j.sqlite", Counting()))
    assert len({record.key for record in best}) == len(best) >= 4
    assert [r.reward for r in best] == sorted((r.reward for r in best), reverse=True)

    class Reversed(Counting):
        """Longer training turns the order round; the third child that is trained is interrupted."""

        def __call__(self, trial):
            if len(self.trained) == 2:
                raise KeyboardInterrupt
            return Result(1 - super().__call__(trial).reward)

    journal = Journal(tmp_path / "again.sqlite", {})
    with pytest.raises(KeyboardInterrupt):
        evaluate_all(best[:3], SPACE, Serial(Function(Reversed())), journal)
    evaluate_all(best[:3], SPACE, Serial(Function(Reversed())), journal)
    again = evaluate_all(best[:4], SPACE, Serial(Function(Reversed())), journal)
    journal.close()
    assert {r.number for r in again} == {r.number for r in best[:4]}
    before = {r.number: r for r in best}
    for record in again:
        assert record.reward == 1 - before[record.number].reward
        assert record.seed == before[record.number].seed
        assert record.architecture == before[record.number].architecture
    assert [r.reward for r in again] == sorted((r.reward for r in again), reverse=True)


def test_what_is_shown_and_written_for_tensorboard_is_what_happened(tmp_path):
    journal, shown = Journal(tmp_path / "j.sqlite", {}), io.StringIO()
    policy = RandomSearch(SPACE, seed=1)
    callbacks = [
        LiveProgress(Console(file=shown), journal, 12),
        Events(tmp_path / "events", journal),
    ]
    executor = Serial(Function(Counting()))
    records = run_search(policy, SPACE, executor, journal, 12, Synchronous(5), callbacks=callbacks)
    journal.close()
    best = [max(r.reward for r in records if r.version <= k) for k in range(3)]
    mean = [np.mean([r.reward for r in records if r.version == k]) for k in range(3)]
    for line, b, m in zip(shown.getvalue().splitlines(), best, mean, strict=True):
        assert f"best so far {b:.4f}, mean {m:.4f}" in line
        assert "children/h" in line
    (path,) = (tmp_path / "events").iterdir()
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    for k, step in enumerate((5, 10, 12)):
        assert found["search/best", step] == pytest.approx(best[k])
        assert found["search/mean", step] == pytest.approx(mean[k])
    rewards = [found["child/reward", r.number] for r in records]
    assert rewards == pytest.approx([r.reward for r in records])


def test_a_journal_is_of_one_search(tmp_path):
    Journal(tmp_path / "j.sqlite", {"seed": 1, "minibatch": 20}).close()
    with pytest.raises(ValueError, match="expected seed=1, which .* has. Received: seed=2"):
        Journal(tmp_path / "j.sqlite", {"seed": 2, "minibatch": 20})
    (tmp_path / "no.sqlite").write_bytes(b"something else altogether" * 100)
    with pytest.raises(ValueError, match=r"no.sqlite: expected the journal of a search"):
        Journal(tmp_path / "no.sqlite", {})


def test_the_policys_state_survives(tmp_path):
    journal = Journal(tmp_path / "j.sqlite", {})
    assert journal.state() == {}
    policy = PPO(SPACE, seed=3)
    policy.ask(3)
    journal.commit_ask([], policy.state())
    other = PPO(SPACE, seed=4)
    other.restore(journal.state())
    assert other.ask(9) == policy.ask(9)
