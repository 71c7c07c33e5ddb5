import os

import numpy as np
import pytest

from nasnet_zoo.search import RegularizedEvolution, SearchSpace
from nasnet_zoo.search.child import Budget, Images, train_child
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.search import Job, run_search
from nasnet_zoo.search.workers import LocalWorkers

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(blocks=1, operations=("identity", "conv_1x1"), combinations=("add",), cells=1)
BUDGET = Budget(filters=2, stem_filters=2, steps=4, batch_size=8, parts=1)


def images():
    rng = np.random.default_rng(0)
    parts = []
    for count in (32, 16):
        parts.append(rng.normal(size=(count, 8, 8, 1)).astype("float32"))
        parts.append(rng.integers(0, 3, count))
    return Images(*parts, 3)


def test_children_trained_by_workers_are_those_trained_here(tmp_path):
    journal = Journal(tmp_path / "j.sqlite", {})
    policy = RegularizedEvolution(SPACE, population=4, sample=2)
    before = dict(os.environ)
    with LocalWorkers(images(), BUDGET, processes=2) as workers:
        records = run_search(policy, SPACE, workers, journal, children=4, minibatch=4)
    assert dict(os.environ) == before
    assert {record.state for record in records} == {"finished"}
    for record in records[:2]:
        here = train_child(SPACE.genotype(record.tokens), images(), BUDGET, record.seed)
        assert record.reward == pytest.approx(here.reward, abs=1 / 16)


def test_workers_say_nothing_of_what_they_trace(capfd):
    jobs = [Job(k, SPACE.genotype([0] * 5), k) for k in range(6)]
    with LocalWorkers(images(), BUDGET, processes=1) as workers:
        assert not any(outcome.trained.failed for outcome in workers.run(jobs, lambda number: None))
    assert "retracing" not in capfd.readouterr().err


class Deadly(Images):
    """Images that kill whoever looks at them."""

    def __getattribute__(self, name):
        if name == "train_images":
            os._exit(1)
        return super().__getattribute__(name)


def test_a_child_whose_worker_dies_fails_after_a_second_try():
    good = images()
    deadly = Deadly(good.train_images, good.train_labels, good.train_images, good.train_labels, 3)
    begun = []
    genotype = SPACE.genotype([0] * 5)
    with LocalWorkers(deadly, BUDGET, processes=1) as workers:
        (outcome,) = workers.run([Job(7, genotype, 0)], begun.append)
    assert begun == [7, 7]
    assert outcome.trained.failed
    assert "its worker died twice" in outcome.error
