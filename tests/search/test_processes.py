import multiprocessing
import os
import signal
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from evaluators import Digit, Scripted, Slow

from nasnet_zoo.cells import OPERATIONS, register_operation
from nasnet_zoo.cells.operations import conv
from nasnet_zoo.search import (
    Budget,
    Journal,
    NASNetSpace,
    Processes,
    RandomSearch,
    Result,
    Serial,
    Synchronous,
    Trial,
    run_search,
)
from nasnet_zoo.search.executors.processes import _load
from nasnet_zoo.search.images.child import FastChild, Images

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=1, operations=("identity", "conv_1x1"), combinations=("add",), cells=1)
BUDGET = Budget(filters=2, stem_filters=2, steps=4, batch_size=8, evaluations=2)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    parts = []
    for count in (32, 64):
        parts.append(rng.integers(0, 256, (count, 8, 8, 1), np.uint8))
        parts.append(rng.integers(0, 3, count, np.int32))
    return Images(*parts, 3)


@pytest.fixture(scope="module")
def fast(images):
    return FastChild(images, BUDGET)


def genotype(operation):
    space = NASNetSpace(1, ("identity", operation), ("add",), cells=1)
    return space.genotype([0, 1, 1, 0, 0])


GOOD = [(k, genotype(name), 7 + k) for k, name in enumerate(("conv_1x1", "conv_3x3", "max_3x3"))]


def run(executor, children):
    """The outcomes of children (number, architecture, seed) by number; as many at a time as fit."""
    waiting, outcomes = list(children), {}
    while len(outcomes) < len(children):
        while waiting and len(children) - len(waiting) - len(outcomes) < executor.capacity:
            number, architecture, seed = waiting.pop(0)
            executor.submit(Trial(number, executor.evaluator.prepare(architecture), seed))
        outcomes |= {outcome.number: outcome for outcome in executor.completed()}
    return outcomes


@pytest.fixture(scope="module")
def undisturbed(fast):
    """The good children's results, from one process."""
    with Processes(fast, 1) as executor:
        return {number: outcome.result for number, outcome in run(executor, GOOD).items()}


def test_children_trained_by_workers_are_those_trained_here(fast, undisturbed):
    """But for rounding: a worker has one thread."""
    with Serial(fast) as here:
        for number, outcome in run(here, GOOD).items():
            losses = undisturbed[number].metrics["losses"]
            assert losses == pytest.approx(outcome.result.metrics["losses"], rel=1e-4)
    assert len({tuple(result.metrics["losses"]) for result in undisturbed.values()}) == len(GOOD)


def test_a_result_depends_on_neither_process_nor_neighbour(fast, undisturbed):
    children = [*GOOD, (3, GOOD[0][1], 99)]
    with Processes(fast, 2) as executor:
        found = {number: outcome.result for number, outcome in run(executor, children).items()}
    assert {number: found[number] for number in undisturbed} == undisturbed
    assert found[3] != found[0]


def test_a_process_ends_after_so_many_children_and_with_its_executor(fast):
    with Processes(fast, 1, children_per_process=2) as executor:
        run(executor, GOOD[:2])
        assert multiprocessing.active_children() == []
        run(executor, GOOD[2:])
        assert len(multiprocessing.active_children()) == 1
    assert multiprocessing.active_children() == []


def test_workers_say_nothing_of_what_they_trace(fast, capfd):
    children = [(k, genotype("conv_1x1"), k) for k in range(6)]
    with Processes(fast, 1) as executor:
        outcomes = run(executor, children).values()
    assert {outcome.result.status for outcome in outcomes} == {"finished"}
    assert "retracing" not in capfd.readouterr().err


@pytest.mark.usefixtures("custom_operations")
def test_a_child_that_kills_its_worker_concerns_no_other(fast, undisturbed):
    deadly = [(10 + k, genotype(name), 0) for k, name in enumerate(("kill", "memory"))]
    children = [deadly[0], GOOD[0], GOOD[1], deadly[1], GOOD[2]]
    with Processes(fast, 2) as executor:
        outcomes = run(executor, children)
    killed, memory = outcomes.pop(10), outcomes.pop(11)
    assert killed.result.status == "lost"
    assert killed.result.message == "its worker was lost: killed by SIGKILL"
    assert (memory.result.status, memory.out_of_memory) == ("failed", True)
    assert {number: outcome.result for number, outcome in outcomes.items()} == undisturbed


@pytest.mark.usefixtures("custom_operations")
def test_images_too_small_for_a_child_are_an_outcome(fast):
    with Processes(fast, 1) as executor:
        (outcome,) = run(executor, [(0, genotype("large"), 0)]).values()
    assert outcome.result.status == "failed"
    assert (
        "the images are too small: Reduction_Cell_0/block_0_left has the shape (0, 0, 4)"
        in outcome.result.message
    )


@pytest.mark.usefixtures("custom_operations")
def test_registered_operations_reach_workers(fast):
    """A lambda cannot be sent to a process, and a worker has not registered it."""
    register_operation("lambda", lambda stride, channels, filters: conv(3, stride))
    names = ("lambda", "conv_3x3", "tanh")
    with Processes(fast, 2) as executor:
        outcomes = run(executor, [(k, genotype(name), 0) for k, name in enumerate(names)])
    results = [outcomes[number].result for number in range(3)]
    assert {result.status for result in results} == {"finished"}
    assert results[0] == results[1] != results[2]


@pytest.mark.usefixtures("custom_operations")
def test_an_error_of_the_program_ends_the_search_and_is_no_reward(fast, tmp_path):
    space = NASNetSpace(1, ("broken",), ("add",), cells=1)
    with (
        Processes(fast, 1) as executor,
        closing(Journal(tmp_path / "j.sqlite", {})) as journal,
    ):
        with pytest.raises(
            RuntimeError, match="child 0 .*AttributeError: .*no_such_attribute"
        ) as error:
            run_search(RandomSearch(space), space, executor, journal, 4, Synchronous(4))
        assert "custom_operations.py" in "".join(error.value.__notes__)
        assert {record.reward for record in journal.children()} == {None}
        # The executor is as good as new.
        assert run(executor, GOOD[:1])[0].result.status == "finished"


@pytest.mark.usefixtures("registry")
def test_an_operation_that_is_no_longer_registered_is_an_error_of_the_program(fast):
    register_operation("gone", lambda stride, channels, filters: conv(3, stride))
    child = (0, genotype("gone"), 0)
    del OPERATIONS["gone"]
    with Processes(fast, 1) as executor, pytest.raises(KeyError, match="gone"):
        run(executor, [child])


@pytest.mark.parametrize(
    "arguments", [{"processes": 0}, {"children_per_process": 0}, {"child_timeout": 0}]
)
def test_numbers_of_processes_are_checked(fast, arguments):
    with pytest.raises(ValueError, match=f"Expected {next(iter(arguments))}: "):
        Processes(fast, **arguments)


# === Evaluators of a user's own, which need no backend ===


def test_failures_of_a_child_are_outcomes_with_their_reasons():
    evaluator = Scripted(np.arange(10) / 10)
    with Processes(evaluator, 2, child_timeout=1.5) as executor:
        outcomes = run(executor, [(kind, kind, 0) for kind in (1, 2, 3, 4, 7)])
    results = {number: outcome.result for number, outcome in outcomes.items()}
    assert results[7] == Result(0.7)
    messages = {number: result.message for number, result in results.items() if number < 7}
    assert messages == {
        1: "Expected a finite reward. Received: nan",
        2: "two lines",
        3: "expected at most 1.5 seconds. Received: longer",
        4: "expected at most 1.5 seconds. Received: longer",
    }
    assert {result.status for number, result in results.items() if number < 7} == {"failed"}
    assert 1.5 <= outcomes[3].seconds < 20


def test_a_result_of_another_type_is_an_error_of_the_program():
    with (
        Processes(Scripted(np.arange(10)), 1) as executor,
        pytest.raises(RuntimeError, match="child 5 .*Scripted.evaluate to return a Result.*'a text'"),
    ):
        run(executor, [(5, 5, 0)])


def test_arrays_are_in_a_file_that_workers_map():
    array = np.arange(1_000_000, dtype=np.uint8)
    with Processes(Scripted(array), 2) as executor:
        outcomes = run(executor, [(number, 6, 0) for number in range(4)])
        files = {outcome.result.metrics["address"] for outcome in outcomes.values()}
        (path,) = map(Path, files)
        assert path.name == "arrays"
        assert path.read_bytes() == array.tobytes()
    assert not path.exists()


def test_an_evaluator_that_cannot_be_sent_or_set_up_is_refused():
    with pytest.raises(ValueError, match="Expected an evaluator that can be sent to other processes"):
        Processes(Scripted(lambda: None), 1)
    executor = Processes(Scripted(None, setup=KeyError("no data")), 1)
    with executor, pytest.raises(RuntimeError, match="the evaluator to be set up.*KeyError"):
        executor.start()


def test_a_worker_that_is_killed_is_replaced_and_its_child_alone_is_tried_again(tmp_path):
    """The killer takes the first worker that it finds at work, once."""

    class Killed(Processes):
        def submit(self, trial):
            super().submit(trial)
            submitted.append(trial.number)
            if len(submitted) == 3:
                (worker,) = [w for w in self._workers if w.number == trial.number]
                threading.Timer(0.0, os.kill, (worker._process.pid, signal.SIGKILL)).start()

    submitted = []
    space = Digit()
    with Killed(Slow(), 2) as executor, Journal(tmp_path / "j.sqlite", {}) as journal:
        executor.start()
        records = run_search(
            RandomSearch(space, seed=1), space, executor, journal, 12, Synchronous(6), remember=False
        )
    tried = [record.number for record in records if record.same_as is None]
    assert sorted(submitted) == sorted([*tried, submitted[2]])
    assert {record.state for record in records} == {"finished"}


def test_a_pickle_is_loaded_with_its_arrays_in_their_order():
    evaluator = Scripted([np.arange(3), np.zeros((0, 2)), np.ones(5, np.float32)])
    with Processes(evaluator, 1) as executor:
        shared = executor._shared
        loaded = _load(shared.pickled, shared.path, shared.sizes)
    for one, other in zip(loaded.array, evaluator.array, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
