import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from deeds import Deeds, Doer, Listed
from evaluators import Climbing, Heir, Number

from nasnet_zoo.cli import main
from nasnet_zoo.search.evaluator import Result
from nasnet_zoo.search.executors.ray import Ray
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.policies import PPO, RandomSearch, RegularizedEvolution
from nasnet_zoo.search.schedulers import Asynchronous, Synchronous
from nasnet_zoo.search.search import Callback, run_search
from nasnet_zoo.search.settings import ExecutorSettings
from nasnet_zoo.search.stopping import SuccessiveHalving

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def cluster():
    """A cluster of one node of two CPUs, to which this process is connected."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        with Ray(Doer("unused"), "auto") as first:
            first.start()
            yield cluster
    cluster.shutdown()


def search(path, executor, children=20):
    space = Deeds("work")
    with executor, Journal(path, {}) as journal:
        policy = PPO(space, seed=3, learning_rate=0.01)
        records = run_search(policy, space, executor, journal, children, Synchronous(5))
        return records, journal.state()


@pytest.mark.usefixtures("cluster")
def test_a_seed_gives_the_same_search_on_every_executor(tmp_path):
    found = {}
    for name in ("serial", "processes", "ray"):
        executor = ExecutorSettings(name).make(Doer(tmp_path))
        records, state = search(tmp_path / f"{name}.sqlite", executor)
        names = ("actions", "log_probabilities", "version", "seed", "state", "reward", "learned")
        found[name] = [[getattr(record, name) for name in names] for record in records], state
    assert len({row[-2] for row in found["serial"][0]}) > 10
    for records, state in found.values():
        assert records == found["serial"][0]
        for name, values in found["serial"][1].items():
            np.testing.assert_array_equal(state[name], values, err_msg=name)


@pytest.mark.usefixtures("cluster")
def test_children_that_pause_are_the_same_on_every_executor(tmp_path):
    found = {}
    for name in ("serial", "ray"):
        path, space = tmp_path / name / "journal.sqlite", Number()
        path.parent.mkdir()
        with ExecutorSettings(name).make(Climbing()) as executor, Journal(path, {}) as journal:
            stopping, policy = SuccessiveHalving(2), RandomSearch(space, seed=2)
            records = run_search(policy, space, executor, journal, 20, stopping=stopping)
        found[name] = [vars(record) | {"seconds": None} for record in records]
    assert found["ray"] == found["serial"]
    assert {len(record["curve"]) for record in found["ray"]} >= {1, 2, 4, 8}


@pytest.mark.usefixtures("cluster")
def test_children_that_inherit_are_the_same_on_every_executor(tmp_path):
    found = {}
    for name in ("serial", "ray"):
        path, space = tmp_path / name / "journal.sqlite", Number()
        path.parent.mkdir()
        with ExecutorSettings(name).make(Heir()) as executor, Journal(path, {}) as journal:
            policy = RegularizedEvolution(space, population=5, sample=2, seed=2)
            records = run_search(policy, space, executor, journal, 25, Synchronous(5))
        found[name] = [vars(record) | {"seconds": None} for record in records]
        found[name] += sorted(file.read_bytes() for file in path.with_name("weights").glob("*"))
    assert found["ray"] == found["serial"]
    assert max(len(record.metrics.get("line", ())) for record in records) > 2


class Lingering(Doer):
    """Does not come to an end on another node than the one given."""

    def __init__(self, folder, home):
        super().__init__(folder, 0.5)
        self.home = home

    def evaluate(self, trial):
        result = super().evaluate(trial)
        time.sleep(1000 if self.node() != self.home else 0)
        return result


class Changing(Callback):
    """Has a node join after some children, and leave when a worker there has begun one."""

    def __init__(self, cluster, executor):
        self.cluster, self.executor = cluster, executor
        self.rewards, self.capacities = 0, []

    def rewarded(self, record):
        self.rewards += 1
        if self.rewards == 2:
            self.node = self.cluster.add_node(num_cpus=1)
        if self.rewards == 6:
            while len(self.executor.evaluator.workers()) < 3:
                time.sleep(0.05)
            self.cluster.remove_node(self.node)
        self.capacities.append(self.executor.capacity)


@pytest.mark.slow
def test_a_node_that_joins_is_used_and_the_child_of_one_that_leaves_is_tried_again(cluster, tmp_path):
    evaluator, children = Lingering(tmp_path, Doer.node()), 14
    executor = Ray(evaluator)
    policy = Listed([(0, 0, *divmod(k, 10)) for k in range(children)])
    changing, scheduler = Changing(cluster, executor), Asynchronous(7)
    with executor, Journal(tmp_path / "j.sqlite", {}) as journal:
        records = run_search(
            policy, Deeds("work"), executor, journal, children, scheduler, callbacks=[changing]
        )
    assert changing.capacities[0] == changing.capacities[-1] == 2
    assert changing.capacities[4] == 3
    assert {record.state for record in records} == {"finished"}
    begun = Counter(evaluator.begun())
    assert sorted(begun.values()) == [1] * (children - 1) + [2]


class Counting(Doer):
    """Tells how often its worker was set up, and whether it may write to its array."""

    def setup(self):
        super().setup()
        self.setups = getattr(self, "setups", 0) + 1

    def evaluate(self, trial):
        threads = os.environ["OMP_NUM_THREADS"], os.environ["TF_NUM_INTRAOP_THREADS"]
        found = (self.worker, self.setups, self.values.flags.writeable, *threads)
        return Result(0.0, metrics={"found": found})


@pytest.mark.usefixtures("cluster")
def test_a_worker_is_set_up_once_and_reads_the_arrays_where_they_are(tmp_path):
    evaluator = Counting(tmp_path)
    evaluator.values = np.zeros(1_000_000)
    records, _ = search(tmp_path / "j.sqlite", Ray(evaluator))
    found = {tuple(record.metrics["found"]) for record in records}
    assert len(found) <= 2  # workers
    assert {values[1:] for values in found} == {(1, False, "1", "1")}


PULSE = """
import os, signal
from dataclasses import dataclass
from pathlib import Path

from nasnet_zoo.cells import register_operation
from nasnet_zoo.cells.operations import conv
from nasnet_zoo.cells.primitives import Primitive

@dataclass(frozen=True)
class DiesOnce(Primitive):
    mark: Path

    def __call__(self, x, weights, training, hyper):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x * 0.5, ()

mark = Path(__file__).with_name("mark")
register_operation("half", lambda stride, channels, filters: (*conv(1, stride), DiesOnce(mark)))
"""


@pytest.mark.slow
def test_a_command_shows_on_ray_what_it_shows_on_processes_and_finds_the_same(tmp_path):
    """A worker is killed in it, and an imported file has operations that the workers do not have."""
    (tmp_path / "halves.py").write_text(PULSE)
    words = (
        "search --data digits --images 200 --children 6 --minibatch 3 --options learning_rate=0.01 "
        "--import halves.py --space.blocks 1 --space.cells 1 --space.operations max_3x3 half "
        "--budget.steps 20 --budget.filters 2 --budget.stem-filters 2 --budget.batch-size 16"
    )
    contents = {}
    for executor in ("ray", "processes"):
        command = [sys.executable, "-m", "nasnet_zoo", *words.split(), "--executor", executor]
        master, terminal = pty.openpty()
        process = subprocess.Popen(
            [*command, "--out", executor],
            cwd=tmp_path,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"},
        )
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # the terminal's end
            while part := os.read(master, 1000):
                shown += part
        os.close(master)
        errors = process.communicate()[1].decode()
        assert process.returncode == 0, errors
        assert not re.search("ray|worker", errors)
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n").splitlines()
        known = r"search .* \d/6 .*|minibatch [12]: best so far .*|Wrote .*/best.json: child \d.*|\s*"
        assert [line for line in lines if not re.fullmatch(known, line)] == []
        assert any("6/6" in line for line in lines)
        with Journal(tmp_path / executor / "journal.sqlite") as journal:
            names = ("actions", "seed", "state", "reward", "curve", "metrics", "message", "same_as")
            records = [[getattr(record, name) for name in names] for record in journal.children()]
            contents[executor] = records, journal.state()
    assert (tmp_path / "mark").exists()
    (records, state), (expected, expected_state) = contents.values()
    assert records == expected
    assert {record[2] for record in records} == {"finished"}
    assert len({record[3] for record in records}) > 2
    for name, values in expected_state.items():
        np.testing.assert_array_equal(state[name], values, err_msg=name)


# === What cannot work is told in one line, before the first child ===


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ray-address auto", "options of the executor processes: .* Received: ray_address=auto"),
        ("--executor serial --retries 3", "options of the executor serial: none. Received: retries=3"),
        ("--executor ray --processes 2", "options of the executor ray: ray_address, .*=2"),
        ("--executor ray --cpus-per-child 0", "cpus_per_child: .* above 0"),
        ("--executor ray --gpus-per-child 1.5", "at most 1, or a whole number. Received: 1.5"),
        ("--executor ray --ray-address 10.0.0.1", "auto, or ray://host:port. Received: 10.0.0.1"),
        ("--executor ray --ray-address ray://127.0.0.1:1", "answers at ray://127.0.0.1:1 .*refused"),
        ("--executor ray --ray-address ray://localhost:port", "answers at ray://localhost:port .*port"),
        ("--executor spark", "spark"),
    ],
)
def test_options_that_do_not_fit(words, message, tmp_path, capfd):
    command = ["search", "--data", "digits", "--images", "200", "--out", str(tmp_path / "out")]
    assert main([*command, *words.split()]) in (1, 2)
    assert re.search(message, capfd.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_ray_that_does_not_start(tmp_path):
    # In a process of its own: this one may be connected to the cluster already.
    (tmp_path / "file").touch()
    below = {"RAY_TMPDIR": str(tmp_path / "file" / "below")}
    command = "search --data digits --images 200 --executor ray --out out"
    run = subprocess.run(
        [sys.executable, "-m", "nasnet_zoo", *command.split()],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | below,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    message = r"nasnet-zoo: expected Ray to start on this machine\. Received: .*Not a directory.*"
    assert re.fullmatch(message, run.stderr.strip().splitlines()[-1], re.IGNORECASE)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("needs", "wanted"),
    [({"gpus_per_child": 0.5}, "1 CPUs and 0.5"), ({"cpus_per_child": 3}, "3 CPUs and 0")],
)
def test_more_than_the_cluster_has(needs, wanted, tmp_path):
    executor = Ray(Doer(tmp_path), **needs)
    with pytest.raises(
        ValueError, match=f"node of Ray with {wanted} GPUs .* Received: nodes of 2 CPUs and 0 GPUs"
    ):
        executor.start()


@pytest.mark.usefixtures("cluster")
def test_a_share_of_a_cpu_makes_room_for_several_children(tmp_path):
    executor = Ray(Doer(tmp_path), cpus_per_child=0.1)
    executor.start()
    assert executor.capacity == 20


class Locked(Doer):
    """Holds what no process can send to another."""

    def __init__(self, where):
        super().__init__("unused")
        self.lock = threading.Lock() if where == "evaluator" else None

    def prepare(self, architecture):
        return threading.Lock()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["processes", "ray"])
@pytest.mark.parametrize("where", ["evaluator", "architecture"])
def test_what_cannot_be_sent_to_workers(name, where, tmp_path):
    message = f"Expected an {where} that can be sent to other processes. Received: .* '_thread.lock'"
    with pytest.raises(ValueError, match=message) as error:
        search(tmp_path / "j.sqlite", ExecutorSettings(name).make(Locked(where)))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_an_address_that_listens_and_does_not_answer(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "nasnet_zoo", "search", "--data", "digits", "--images", "200"]
        command += ["--out", str(tmp_path / "out"), "--executor", "ray", "--ray-address", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert f"nasnet-zoo: Expected a cluster of Ray that answers at {address} within 15 seconds" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_another_token_than_that_of_the_cluster(tmp_path):
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(str(free.getsockname()[1]))

    def environment(letter):
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": letter * 64}
        return {**os.environ, **token, "RAY_ADDRESS": f"127.0.0.1:{ports[0]}"}

    words = f"--head --block --port {ports[0]} --ray-client-server-port {ports[1]} --num-cpus 1"
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", *words.split(), "--temp-dir"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as folder:  # a short path, for Ray's sockets
        head = subprocess.Popen([*start, folder], env=environment("a"), **quiet)
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", int(ports[0])), timeout=1).close()
                    break
                time.sleep(0.5)
            command = [
                sys.executable,
                "-m",
                "nasnet_zoo",
                "search",
                "--data",
                "digits",
                "--images",
                "200",
            ]
            command += ["--out", str(tmp_path / "out"), "--executor", "ray", "--ray-address", "auto"]
            done = subprocess.run(
                command, env=environment("b"), capture_output=True, text=True, check=False
            )
        finally:
            head.terminate()
            head.wait()
    assert done.returncode == 1
    expected = "Expected a cluster of Ray that answers at auto within 15 seconds. Received: .* token"
    assert re.search(expected, done.stderr.splitlines()[-1])
    assert not (tmp_path / "out").exists()
