"""What goes wrong in a long search, with real processes."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import deeds
import numpy as np
import pytest
from deeds import Deeds, Doer, Listed
from limits import files_of_at_most

from nasnet_zoo.search.executors.executor import Serial
from nasnet_zoo.search.executors.ray import Ray
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.policies import RegularizedEvolution
from nasnet_zoo.search.schedulers import Asynchronous, Synchronous
from nasnet_zoo.search.search import run_search
from nasnet_zoo.search.settings import ExecutorSettings

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def local_ray():
    with Ray(Doer("unused")) as first:
        first.start()
        yield


@pytest.fixture(params=["processes", "ray"])
def make(request):
    """Makes an executor of an evaluator."""
    if request.param == "ray":
        request.getfixturevalue("local_ray")
    return lambda evaluator, **options: ExecutorSettings(request.param, **options).make(evaluator)


def do(path, executor, *done, retries=2):
    """Search the children that do these deeds, in one minibatch."""
    space = Deeds(*dict.fromkeys(done))
    children = [(space.deeds.index(deed), 0, *divmod(k, 10)) for k, deed in enumerate(done)]
    with executor, Journal(path, {}) as journal:
        policy, scheduler = Listed(children), Synchronous(len(done))
        return run_search(policy, space, executor, journal, len(done), scheduler, retries=retries)


def expected_reward(evaluator, record):
    return evaluator.reward(record.architecture["digits"], record.seed)


def test_a_fault_is_its_childs_alone(make, tmp_path):
    fates = {
        "work": ("finished", None, 1),
        "die once": ("finished", None, 2),
        "die": ("lost", r"its worker was lost: .* \(3 tries\)", 3),
        "hoard": ("failed", r"its worker ran out of memory \(2 tries\)", 2),
        "hoard once": ("finished", None, 2),
        "diverge": ("failed", "Expected a finite reward. Received: nan", 1),
        "refuse": ("failed", "cannot be built", 1),
    }
    done = [deed for deed in fates for _ in range(2 if deed == "work" else 1)]
    evaluator = Doer(tmp_path)
    records = do(tmp_path / "j.sqlite", make(evaluator), *done)
    begun = Counter(evaluator.begun())
    for deed, record in zip(done, records, strict=True):
        state, message, tries = fates[deed]
        assert (record.state, begun[record.number]) == (state, tries), deed
        if message is None:
            assert record.message is None
            assert record.reward == expected_reward(evaluator, record)
        else:
            assert record.reward == 0.0
            assert re.fullmatch(message, record.message)


def test_a_child_that_hangs_fails_at_its_time_limit(make, tmp_path):
    evaluator = Doer(tmp_path)
    executor = make(evaluator, child_timeout=2)
    hung, *others = do(tmp_path / "j.sqlite", executor, "hang", "work", "work", "work")
    assert (hung.state, hung.message) == ("failed", "expected at most 2 seconds. Received: longer")
    assert [record.state for record in others] == ["finished"] * 3
    assert sorted(evaluator.begun()) == [0, 1, 2, 3]


def test_an_error_of_the_program_ends_the_search_which_goes_on_from_there(make, tmp_path):
    evaluator, done = Doer(tmp_path), ("work", "mistake once", "work", "work")
    with pytest.raises(RuntimeError, match="child 1 to be .*AttributeError: .*no_such_attr") as error:
        do(tmp_path / "j.sqlite", make(evaluator), *done)
    assert "deeds.py" in "".join(error.value.__notes__)
    with Journal(tmp_path / "j.sqlite") as journal:
        before = journal.children()
    assert before[1].reward is None
    finished = {record.number for record in before if record.reward is not None}
    begun = len(evaluator.begun())
    after = do(tmp_path / "j.sqlite", make(evaluator), *done)
    assert [record.state for record in after] == ["finished"] * 4
    assert set(evaluator.begun()[begun:]) == {0, 1, 2, 3} - finished


# === The process of the search ===


def descendants(process):
    """The processes that a process has started, those that they have, and so on."""
    try:
        found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return set()
    return {int(pid) for pid in found}.union(*(descendants(int(pid)) for pid in found))


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, what, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def contents(out):
    """What the children are and became, and the policy's state."""
    names = ("number", "actions", "log_probabilities", "seed", "state", "reward", "same_as", "learned")
    with Journal(out / "journal.sqlite") as journal:
        rows = [[getattr(record, name) for name in names] for record in journal.children()]
        return rows, journal.state()


def finished(out):
    try:
        return {row[0] for row in contents(out)[0] if row[5] is not None}
    except ValueError:  # the file is being made
        return set()


def assert_same(found, expected):
    assert found[0] == expected[0]
    assert found[1].keys() == expected[1].keys()
    for name, values in expected[1].items():
        np.testing.assert_array_equal(found[1][name], values, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    deeds.search(out, "serial", 0, "work")
    return contents(out)


@pytest.fixture
def begin(tmp_path):
    """Begins a search in a process, in a group of its own as in a terminal; waits for some children."""
    processes = []

    def begin(executor, *done):
        out = tmp_path / "out"
        command = [sys.executable, deeds.__file__, str(out), executor, "0.5", *done]
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)

        def ready():
            assert process.poll() is None, process.stderr.read()
            return len(finished(out)) > deeds.MINIBATCH

        wait_until(ready, "no children")
        return process, out

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_a_killed_search_goes_on_as_if_it_had_not_been(executor, begin, undisturbed, request):
    process, out = begin(executor, "work")
    with pytest.raises(ValueError, match="nothing else runs. Received: one that another run holds"):
        deeds.search(out, executor, 0, "work")
    process.kill()
    shown = process.communicate()
    assert "minibatch 1: best so far" in shown[0]
    assert "ray" not in "".join(shown)
    done, evaluator = finished(out), Doer(f"{out}.log")
    assert len(done) < deeds.CHILDREN
    wait_until(lambda: not any(map(alive, evaluator.workers())), "a worker outlives the search")
    begun = len(evaluator.begun())
    if executor == "ray":
        request.getfixturevalue("local_ray")
    deeds.search(out, executor, 0, "work")
    assert_same(contents(out), undisturbed)
    again = evaluator.begun()[begun:]
    assert len(set(again)) == len(again)
    assert not done & set(again)


@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "ray", "serial"])
def test_ctrl_c_ends_every_process(executor, begin):
    process, out = begin(executor, "work")
    processes = descendants(process.pid)
    assert executor == "serial" or len(processes) >= 2
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    done = len(finished(out))
    assert errors.splitlines()[-1] == (
        f"KeyboardInterrupt: stopped with {done} of {deeds.CHILDREN} children done; the same command "
        "goes on from there"
    )
    wait_until(lambda: not any(map(alive, processes)), "a process outlives the search")


KILLED = """
import os, random, signal, sys, time
sys.path[:0] = sys.argv[3:]
from test_faults import search_fast
random.seed(0)
kills, status = -1, signal.SIGKILL
while status == signal.SIGKILL:
    kills += 1
    process = os.fork()
    if not process:
        try:
            search_fast(sys.argv[1], sys.argv[2])
        except BaseException as error:
            print(error)
            os._exit(1)
        os._exit(0)
    time.sleep(random.uniform(0.02, 0.06))
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
print(kills, status)
"""


class Fresh(Doer):
    """Is not to evaluate a child that is finished."""

    def __init__(self, folder, journal):
        super().__init__(folder)
        self.finished = {r.number for r in journal.children() if r.reward is not None}

    def evaluate(self, trial):
        assert trial.number not in self.finished
        return super().evaluate(trial)


def search_fast(path, scheduler, children=200):
    """By a policy of which TensorFlow has no part, so that forks can do it."""
    space = Deeds("work")
    with Journal(path, {}) as journal:
        policy = RegularizedEvolution(space, population=20, sample=5, seed=1)
        evaluator = Fresh(Path(path).parent, journal)
        how = {"synchronous": Synchronous, "asynchronous": Asynchronous}[scheduler](4)
        return run_search(policy, space, Serial(evaluator), journal, children, how), journal.state()


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["synchronous", "asynchronous"])
def test_a_search_may_be_killed_again_and_again_also_while_it_commits(scheduler, tmp_path):
    path = tmp_path / "killed" / "j.sqlite"
    path.parent.mkdir()
    folders = map(os.path.dirname, (__file__, deeds.__file__))
    command = [sys.executable, "-c", KILLED, str(path), scheduler, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"\d+ 0\n", done.stdout), done.stdout + done.stderr
    assert int(done.stdout.split()[0]) >= 2  # kills
    records, state = search_fast(path, scheduler)
    assert {record.state for record in records} == {"finished"}
    assert {record.number for record in records} == set(range(200))
    assert Counter(record.learned for record in records) == dict.fromkeys(range(50), 4)
    if scheduler == "synchronous":
        expected, expected_state = search_fast(tmp_path / "j.sqlite", scheduler)
        # Where and for how long a child was evaluated is not the search's.
        whatever = {"seconds": 0, "metrics": {}}
        assert [dataclasses.replace(r, **whatever) for r in records] == [
            dataclasses.replace(r, **whatever) for r in expected
        ]
        for name, values in expected_state.items():
            np.testing.assert_array_equal(state[name], values, err_msg=name)


def test_a_full_disk_leaves_a_whole_journal_with_which_the_search_goes_on(tmp_path):
    path, counts = tmp_path / "j.sqlite", []
    for size in (100_000, 200_000, 400_000):
        with (
            files_of_at_most(size),
            pytest.raises(OSError, match="j.sqlite: expected to write the journal. Received: "),
        ):
            search_fast(path, "synchronous", 3000)
        with Journal(path) as journal:
            journal.check()
            counts.append(len(journal.children()))
    assert 0 < counts[0] < counts[1] < counts[2]
    (tmp_path / "whole").mkdir()
    count = counts[-1] + 10
    records, _ = search_fast(path, "synchronous", count)
    expected, _ = search_fast(tmp_path / "whole" / "j.sqlite", "synchronous", count)
    names = ("number", "actions", "reward", "seed", "parent", "learned")
    for one, other in zip(records, expected, strict=True):
        assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
