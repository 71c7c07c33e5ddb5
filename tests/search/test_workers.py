import multiprocessing
import os
from contextlib import closing

import numpy as np
import pytest

from nasnet_zoo.cells import OPERATIONS, register_operation
from nasnet_zoo.cells.operations import conv
from nasnet_zoo.search import RandomSearch, SearchSpace
from nasnet_zoo.search.child import Images, train_child
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.search import Job, run_search
from nasnet_zoo.search.settings import Budget
from nasnet_zoo.search.workers import LocalWorkers

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(blocks=1, operations=("identity", "conv_1x1"), combinations=("add",), cells=1)
BUDGET = Budget(filters=2, stem_filters=2, steps=4, batch_size=8, evaluations=2)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    parts = []
    for count in (32, 64):
        parts.append(rng.normal(size=(count, 8, 8, 1)).astype("float32"))
        parts.append(rng.integers(0, 3, count))
    return Images(*parts, 3)


def genotype(operation):
    space = SearchSpace(1, ("identity", operation), ("add",), cells=1)
    return space.genotype([0, 1, 1, 0, 0])


GOOD = [Job(k, genotype(name), 7 + k) for k, name in enumerate(("conv_1x1", "conv_3x3", "max_3x3"))]


def run(workers, jobs, begun=None):
    begin = (lambda number: None) if begun is None else begun.append
    return {outcome.number: outcome for outcome in workers.run(jobs, begin)}


@pytest.fixture(scope="module")
def undisturbed(images):
    """The good children's results, from one process."""
    with LocalWorkers(images, BUDGET, processes=1) as workers:
        outcomes = run(workers, GOOD)
    return {number: outcome.trained for number, outcome in outcomes.items()}


def test_children_trained_by_workers_are_those_trained_here(images, undisturbed):
    """But for rounding: a worker has one thread."""
    for job in GOOD:
        here = train_child(job.genotype, images, BUDGET, job.seed)
        assert undisturbed[job.number].losses == pytest.approx(here.losses, rel=1e-4)
    assert len({trained.losses for trained in undisturbed.values()}) == len(GOOD)


def test_a_seed_fixes_a_child_to_the_bit_in_any_process(images, undisturbed):
    before = dict(os.environ)
    jobs = [*GOOD, GOOD[0]._replace(number=3), GOOD[0]._replace(number=4, seed=1)]
    with LocalWorkers(images, BUDGET, processes=2) as workers:
        outcomes = run(workers, reversed(jobs))
    assert dict(os.environ) == before
    found = {number: outcome.trained for number, outcome in outcomes.items()}
    assert {number: found[number] for number in undisturbed} == undisturbed
    assert found[3] == found[0]
    assert found[4].losses != found[0].losses


def test_a_process_ends_after_so_many_children_and_with_its_workers(images):
    with LocalWorkers(images, BUDGET, processes=1, children_per_process=2) as workers:
        run(workers, GOOD[:2])
        assert multiprocessing.active_children() == []
        run(workers, GOOD[2:])
        assert len(multiprocessing.active_children()) == 1
    assert multiprocessing.active_children() == []


def test_workers_say_nothing_of_what_they_trace(images, capfd):
    jobs = [Job(k, genotype("conv_1x1"), k) for k in range(6)]
    with LocalWorkers(images, BUDGET, processes=1) as workers:
        assert not any(outcome.trained.failed for outcome in run(workers, jobs).values())
    assert "retracing" not in capfd.readouterr().err


@pytest.mark.usefixtures("custom_operations")
def test_a_child_that_kills_its_worker_concerns_no_other(images, undisturbed):
    reasons = {"kill": "killed by SIGKILL", "memory": "out of memory"}
    deadly = [Job(10 + k, genotype(name), 0) for k, name in enumerate(reasons)]
    jobs, begun = [deadly[0], GOOD[0], GOOD[1], deadly[1], GOOD[2]], []
    with LocalWorkers(images, BUDGET, processes=2) as workers:
        outcomes = run(workers, jobs, begun)
    # Each once, and the deadly ones again by themselves.
    assert begun[:5] == [job.number for job in jobs]
    assert sorted(begun[5:]) == [10, 11]
    for job, reason in zip(deadly, reasons.values(), strict=True):
        outcome = outcomes.pop(job.number)
        assert outcome.error == f"its worker died twice: {reason}"
        assert outcome.worker_died
        assert (outcome.trained.failed, outcome.trained.reward) == (True, 0.0)
    assert {number: outcome.trained for number, outcome in outcomes.items()} == undisturbed


@pytest.mark.usefixtures("custom_operations")
def test_images_too_small_for_a_child_are_an_outcome(images):
    with LocalWorkers(images, BUDGET, processes=1) as workers:
        (outcome,) = run(workers, [Job(0, genotype("large"), 0)]).values()
    assert outcome.trained.failed
    assert (
        "the images are too small: Reduction_Cell_0/block_0_left has the shape (0, 0, 4)"
        in outcome.error
    )
    assert not outcome.worker_died


@pytest.mark.usefixtures("custom_operations")
def test_registered_operations_reach_workers(images):
    """A lambda cannot be sent to a process, and a worker has not registered it."""
    register_operation("lambda", lambda stride, channels, filters: conv(3, stride))
    jobs = [Job(k, genotype(name), 0) for k, name in enumerate(("lambda", "conv_3x3", "tanh"))]
    with LocalWorkers(images, BUDGET, processes=2) as workers:
        found = {number: outcome.trained for number, outcome in run(workers, jobs).items()}
    assert not any(trained.failed for trained in found.values())
    assert found[0] == found[1]
    assert found[2].losses != found[1].losses


@pytest.mark.usefixtures("custom_operations")
def test_an_error_of_the_program_ends_the_search_and_is_no_reward(images, tmp_path):
    space = SearchSpace(1, ("broken",), ("add",), cells=1)
    with (
        LocalWorkers(images, BUDGET, processes=1) as workers,
        closing(Journal(tmp_path / "j.sqlite", {})) as journal,
    ):
        with pytest.raises(
            RuntimeError, match="child 0 .*AttributeError: .*no_such_attribute"
        ) as error:
            run_search(RandomSearch(space), space, workers, journal, 4, minibatch=4)
        assert "custom_operations.py" in "".join(error.value.__notes__)
        assert {record.reward for record in journal.children()} == {None}
        # The workers are as good as new.
        assert not run(workers, GOOD[:1])[0].trained.failed


@pytest.mark.usefixtures("registry")
def test_an_operation_that_is_no_longer_registered_is_an_error_of_the_program(images):
    register_operation("gone", lambda stride, channels, filters: conv(3, stride))
    job = Job(0, genotype("gone"), 0)
    del OPERATIONS["gone"]
    with LocalWorkers(images, BUDGET, processes=1) as workers, pytest.raises(KeyError, match="gone"):
        run(workers, [job])


@pytest.mark.parametrize("arguments", [{"processes": 0}, {"children_per_process": 0}])
def test_numbers_of_workers_are_checked(images, arguments):
    with pytest.raises(ValueError, match="an int of at least 1"):
        LocalWorkers(images, BUDGET, **arguments)
