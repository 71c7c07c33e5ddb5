import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from nasnet_zoo.cells import Genotype
from nasnet_zoo.search import PPO, RandomSearch, RegularizedEvolution, SearchSpace
from nasnet_zoo.search.child import ChildError, Trained
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.progress import Events, LiveProgress
from nasnet_zoo.search.search import Here, Outcome, ranked, retrain, run_search

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)


class Counting:
    """A closed-form reward: the share of separable convolutions; remembers what it was asked."""

    def __init__(self, fails=()):
        self.trained, self.fails = [], fails

    def __call__(self, job):
        self.trained.append((job.genotype.normal, job.seed))
        names = job.genotype.normal.blocks[0].operations
        if names in self.fails:
            raise ChildError("cannot be trained")
        return Trained((names.count("sep_3x3") / 2,), (1.0,))


def search(path, evaluator, children=12, minibatch=5):
    journal = Journal(path, {"children": "any"})
    policy = RegularizedEvolution(SPACE, population=6, sample=3, seed=1)
    records = run_search(policy, SPACE, Here(evaluator), journal, children, minibatch)
    journal.close()
    return records


def test_every_child_is_in_the_journal_and_equal_ones_are_trained_once(tmp_path):
    evaluator = Counting()
    records = search(tmp_path / "j.sqlite", evaluator)
    assert [record.number for record in records] == list(range(12))
    assert [record.round for record in records] == [0] * 5 + [1] * 5 + [2] * 2
    assert {record.state for record in records} == {"finished"}
    forms = {record.canonical for record in records}
    assert len(forms) < 12
    assert len(evaluator.trained) == len(forms)
    for record in records:
        genotype = Genotype.from_dict(record.genotype)
        assert record.reward == genotype.normal.blocks[0].operations.count("sep_3x3") / 2
        assert SPACE.canonical(record.tokens) == record.canonical
        if record.same_as is not None:
            assert records[record.same_as].canonical == record.canonical
            assert record.same_as < record.number
    seeds = {(record.canonical, record.seed) for record in records}
    assert len(seeds) == len(forms)


def test_a_child_that_fails_has_no_reward_and_the_search_goes_on(tmp_path):
    records = search(tmp_path / "j.sqlite", Counting(fails=[("identity", "identity")]))
    failed = [record for record in records if record.state == "failed"]
    assert {record.reward for record in failed} == {0.0}
    first = next(record for record in failed if record.same_as is None)
    assert first.result["error"] == "cannot be trained"
    assert len(records) == 12


@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, ZeroDivisionError])
def test_an_error_of_the_program_ends_the_search_and_is_no_reward(tmp_path, error):
    class Broken(Counting):
        def __call__(self, job):
            if len(self.trained) == 2:
                raise error("swish")
            return super().__call__(job)

    with pytest.raises(error, match="swish"):
        search(tmp_path / "j.sqlite", Broken())
    evaluator = Counting()
    assert len(search(tmp_path / "j.sqlite", evaluator)) == 12
    expected = Counting()
    search(tmp_path / "whole.sqlite", expected)
    assert evaluator.trained == expected.trained[2:]


def test_a_reward_that_is_none_ends_the_search(tmp_path):
    def percent(job):
        return Trained((50.0,), (1.0,))

    with pytest.raises(ValueError, match="Expected rewards: a list, each .* of at most 1"):
        search(tmp_path / "j.sqlite", percent)


class Dying:
    """Workers of which every one dies."""

    def run(self, jobs, started):
        for job in jobs:
            yield Outcome(job.number, Trained((), (), failed=True), 0.0, "died", worker_died=True)


def test_the_reward_of_a_child_whose_worker_died_is_not_that_of_its_equals(tmp_path):
    journal = Journal(tmp_path / "j.sqlite", {})
    records = run_search(RandomSearch(SPACE), SPACE, Dying(), journal, 60, minibatch=30)
    assert {(record.state, record.reward) for record in records} == {("failed", 0.0)}
    tried = [record for record in records if record.same_as is None]
    assert all(record.result["worker_died"] for record in tried)
    # Once in a minibatch, and again in the next.
    kinds = {(record.round, record.canonical) for record in records}
    assert {(record.round, record.canonical) for record in tried} == kinds
    assert len(tried) == len(kinds) > len({record.canonical for record in records})
    # Whoever trains it is believed.
    records = run_search(RandomSearch(SPACE), SPACE, Here(Counting()), journal, 90, minibatch=30)
    assert {record.state for record in records[60:]} == {"finished"}


def test_a_finished_search_goes_on_to_more_children_as_if_it_had_never_stopped(tmp_path):
    whole = search(tmp_path / "whole.sqlite", Counting(), children=15)
    search(tmp_path / "parts.sqlite", Counting(), children=5)
    evaluator = Counting()
    parts = search(tmp_path / "parts.sqlite", evaluator, children=15)
    keys = ("number", "tokens", "reward", "seed", "same_as")
    for one, other in zip(whole, parts, strict=True):
        assert [getattr(one, key) for key in keys] == [getattr(other, key) for key in keys]
    evaluator = Counting()
    assert search(tmp_path / "parts.sqlite", evaluator, children=15) == parts
    assert evaluator.trained == []
    search(tmp_path / "odd.sqlite", Counting(), children=7)
    odd = search(tmp_path / "odd.sqlite", Counting(), children=12)
    assert [record.number for record in odd] == list(range(12))
    assert [record.round for record in odd] == [0] * 5 + [1] * 2 + [2] * 5


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[2])
from test_search import Counting, search
class Slow(Counting):
    def __call__(self, job):
        time.sleep(0.1)
        return super().__call__(job)
search(sys.argv[1], Slow(), children=20, minibatch=4)
"""


def test_a_search_killed_at_any_moment_continues_exactly(tmp_path):
    path = tmp_path / "killed.sqlite"
    command = [sys.executable, "-c", SCRIPT, str(path), os.path.dirname(__file__)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while True:
        assert process.poll() is None
        if path.exists():
            try:
                journal = Journal(path, {"children": "any"})
                states = [record.state for record in journal.children()]
                journal.close()
            except Exception:  # the file is being made
                states = []
            if "finished" in states and "sampled" in states:
                break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = search(path, Counting(), children=20, minibatch=4)
    whole = search(tmp_path / "whole.sqlite", Counting(), children=20, minibatch=4)
    keys = ("number", "round", "tokens", "reward", "seed", "state", "same_as")
    for one, other in zip(whole, killed, strict=True):
        assert [getattr(one, key) for key in keys] == [getattr(other, key) for key in keys]


def test_the_best_are_retrained_and_going_on_trains_the_rest(tmp_path):
    best = ranked(search(tmp_path / "j.sqlite", Counting()))
    assert len({record.canonical for record in best}) == len(best) >= 4
    assert [r.reward for r in best] == sorted((r.reward for r in best), reverse=True)

    class Reversed(Counting):
        """Longer training turns the order round; the third child that is trained is interrupted."""

        def __call__(self, job):
            if len(self.trained) == 2:
                raise KeyboardInterrupt
            trained = super().__call__(job)
            return Trained((1 - trained.reward,), (1.0,))

    journal = Journal(tmp_path / "again.sqlite", {})
    with pytest.raises(KeyboardInterrupt):
        retrain(best[:3], SPACE, Here(Reversed()), journal)
    retrain(best[:3], SPACE, Here(Reversed()), journal)
    again = retrain(best[:4], SPACE, Here(Reversed()), journal)
    journal.close()
    assert {r.number for r in again} == {r.number for r in best[:4]}
    before = {r.number: r for r in best}
    for record in again:
        assert record.reward == 1 - before[record.number].reward
        assert record.seed == before[record.number].seed
        assert record.genotype == before[record.number].genotype
    assert [r.reward for r in again] == sorted((r.reward for r in again), reverse=True)


def test_what_is_shown_and_written_for_tensorboard_is_what_happened(tmp_path):
    journal, shown = Journal(tmp_path / "j.sqlite", {}), io.StringIO()
    policy = RandomSearch(SPACE, seed=1)
    callbacks = [
        LiveProgress(Console(file=shown), journal, 12),
        Events(tmp_path / "events", journal),
    ]
    records = run_search(policy, SPACE, Here(Counting()), journal, 12, 5, callbacks=callbacks)
    journal.close()
    assert [r.log_probability for r in records] == pytest.approx([-np.log(SPACE.size)] * 12)
    best = [max(r.reward for r in records if r.round <= k) for k in range(3)]
    mean = [np.mean([r.reward for r in records if r.round == k]) for k in range(3)]
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
    assert journal.policy() is None
    policy = PPO(SPACE, seed=3)
    policy.ask(3)
    journal.save_policy(7, policy.state())
    rounds, state = journal.policy()
    other = PPO(SPACE, seed=4)
    other.restore(state)
    assert rounds == 7
    np.testing.assert_array_equal(other.ask(9), policy.ask(9))
