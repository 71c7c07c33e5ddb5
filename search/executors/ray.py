"""Children as tasks of Ray, on this machine or on a cluster.

Ray places the tasks, starts and replaces the workers, and shares the evaluator. The search decides what
is tried again: Ray does not report its own tries, and repeats a child that runs out of memory for ever.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import sysconfig
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat, checked
from nasnet_zoo.extras import import_extra
from nasnet_zoo.search.evaluator import Evaluator, Trial

from .executor import Outcome, program_error
from .worker import ONE_THREAD, Answer, lost, out_of_memory, pickled, run_trial, set_up, too_long

# Ray reads these when it is imported. The first keeps its reports of dead workers from the terminal.
_ENVIRONMENT = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "4",
    "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "4",
}
_CHILDREN_PER_WORKER = 50
_CLIENT_PORT = 10001
# Seconds to wait for a cluster to answer, and for a child before the nodes are counted again.
_CONNECT, _WAIT = 15, 5


# === In a worker ===

#: The evaluator of this worker, set up, by its reference.
_READY: dict[Any, Evaluator] = {}


def _run(shared: list[Any], trial: bytes, limit: float | None) -> Answer:
    """Evaluate a child; the body of the task."""
    import ray

    (ref,) = shared
    if ref not in _READY:
        evaluator = ray.get(ref)
        set_up(evaluator)
        _READY.clear()
        _READY[ref] = evaluator
    return run_trial(_READY[ref], trial, limit)


# === In the search ===


class _Running(NamedTuple):
    """A child that Ray has: its number and when it was submitted."""

    number: int
    begun: float


class Ray:
    """Evaluates children as tasks of Ray Core.

    Args:
        evaluator: Evaluator of the children. Workers read its arrays in Ray's object store.
        address: Address of a cluster: "auto" on one of its machines, else "ray://host:port". Default:
            the Ray that this process is connected to, or else one of this machine, until `close`.
        cpus_per_child: Number of CPUs that Ray reserves for a child.
        gpus_per_child: Number of GPUs that a child sees, or the share of one that it needs.
        child_timeout: Seconds after which a child fails. Default: no limit.

    Raises:
        ValueError: If a number is out of range, or the evaluator cannot be pickled.
        ImportError: If Ray is not installed.
    """

    shares_memory = False

    @checked
    def __init__(
        self,
        evaluator: Evaluator,
        address: str | None = None,
        cpus_per_child: PositiveFloat = 1,
        gpus_per_child: NonNegativeFloat = 0,
        child_timeout: PositiveFloat | None = None,
    ) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._ray = import_extra("ray", "ray")
        if address is not None and address != "auto" and not address.startswith("ray://"):
            raise ValueError(f"Expected address: auto, or ray://host:port. Received: {address}")
        if gpus_per_child > 1 and gpus_per_child % 1:
            raise ValueError(
                f"Expected gpus_per_child: at most 1, or a whole number. Received: {gpus_per_child}"
            )
        self.evaluator = evaluator
        #: One until it has started and knows the cluster.
        self.capacity = 1
        self._address, self._limit = address, child_timeout
        self._needs = {"CPU": cpus_per_child, "GPU": gpus_per_child}
        # The arrays stay where they are: this is to fail before a cluster is waited for.
        pickled(evaluator, "an evaluator", self._ray.cloudpickle.dumps, buffer_callback=lambda _: None)
        self._running: dict[Any, _Running] = {}
        self._task: Any = None
        self._shared: list[Any] = []
        self._owned = False

    def start(self) -> None:
        """Connect to the cluster and give it the evaluator.

        Raises:
            ConnectionError: If the cluster does not answer.
            ValueError: If no node of it has the CPUs and GPUs of a child.
        """
        if self._task is not None:
            return
        ray = self._ray
        if self._address is not None or not ray.is_initialized():
            _connect(ray, self._address)
            self._owned = True
        self.capacity = self._room()
        if not self.capacity:
            raise ValueError(self._too_small())
        # In a list, or Ray would unpickle it for every child.
        self._shared = [ray.put(self.evaluator)]
        self._task = ray.remote(max_retries=0, max_calls=_CHILDREN_PER_WORKER)(_run).options(
            num_cpus=self._needs["CPU"],
            num_gpus=self._needs["GPU"],
            runtime_env={"env_vars": ONE_THREAD | _path()},
        )

    def _room(self) -> int:
        """Number of children that the nodes have CPUs and GPUs for."""
        nodes = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        needs = [(name, need) for name, need in self._needs.items() if need]
        # Rounded, as 0.3 / 0.1 is less than 3.
        return sum(min(int(node.get(name, 0) / need + 1e-6) for name, need in needs) for node in nodes)

    def _too_small(self) -> str:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        found = sorted({tuple(node.get(name, 0) for name in self._needs) for node in nodes})
        cpus, gpus = self._needs.values()
        received = ", ".join(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in found)
        return (
            f"Expected a node of Ray with {cpus:g} CPUs and {gpus:g} GPUs for a child. "
            f"Received: nodes of {received or 'none'}"
        )

    def submit(self, trial: Trial) -> None:
        """Give a child to Ray."""
        self.start()
        data = pickled(trial, "an architecture", self._ray.cloudpickle.dumps)
        ref = self._task.remote(self._shared, data, self._limit)
        self._running[ref] = _Running(trial.number, time.perf_counter())

    def completed(self) -> list[Outcome]:
        """Wait for a child, but not for long: nodes may have joined; see `Executor`."""
        refs = list(self._running)
        if not refs:
            # There was no room: the last node has left.
            time.sleep(1)
        elif self._ray.wait(refs, timeout=_WAIT)[0]:
            refs, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        else:
            refs = []
        if self._task is not None:
            self.capacity = self._room()
        return [self._outcome(ref) for ref in refs]

    def _outcome(self, ref: Any) -> Outcome:
        ray, (number, begun) = self._ray, self._running.pop(ref)
        seconds = time.perf_counter() - begun
        try:
            answer: Answer = ray.get(ref)
        except ray.exceptions.OutOfMemoryError:
            return out_of_memory(number, seconds)
        except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
            cause = getattr(error, "cause", error)
            text = f"{type(cause).__name__}: {cause}"
            raise program_error(None, text, str(error)) from None
        except ray.exceptions.RayError as error:
            # Ray does not say what ended a worker, nor when it began: a younger child was in time.
            if (
                self._limit
                and isinstance(error, ray.exceptions.WorkerCrashedError)
                and seconds >= self._limit
            ):
                return too_long(number, seconds, self._limit)
            return lost(number, seconds, type(error).__name__)
        if answer.result is not None:
            return Outcome(number, answer.result, answer.seconds)
        if answer.out_of_memory:
            return out_of_memory(number, answer.seconds)
        raise program_error(number, answer.error, answer.traceback)

    def close(self) -> None:
        """Stop all evaluations, and the Ray of this machine if `start` started it."""
        for ref in self._running:
            self._ray.cancel(ref, force=True)
        self._running.clear()
        self._task, self._shared = None, []
        if self._owned:
            self._ray.shutdown()
        self._owned = False

    def __enter__(self) -> Ray:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(ray: ModuleType, address: str | None) -> None:
    """Connect to a cluster, or start Ray on this machine.

    Raises:
        ConnectionError: If the cluster does not answer, or Ray does not start.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        try:
            ray.init("local", include_dashboard=False, **quiet)
        except Exception as error:  # Ray has no class of its own for it
            raise ConnectionError(
                f"Expected Ray to start on this machine. Received: {' '.join(str(error).split())}"
            ) from error
        return
    try:
        _check_answers(address)
        with _at_most(_CONNECT), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address, **quiet)
    except (OSError, ValueError) as error:  # ValueError: of a port that is no number
        raise ConnectionError(
            f"Expected a cluster of Ray that answers at {address} within {_CONNECT} seconds. "
            f"Received: {' '.join(str(error).split())}"
        ) from None


def _check_answers(address: str) -> None:
    """Check that something listens: Ray itself would try for a minute, and print that it does."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address != "auto":  # or Ray looks for one among the processes of this machine
        place = urlsplit(address if "://" in address else f"//{address}")
        port = place.port or _CLIENT_PORT
        socket.create_connection((place.hostname or "", port), timeout=_CONNECT).close()


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError after so many seconds, in the main thread; in others Ray's own limits hold.

    Ray has one for each of its steps, and no answer from what is not Ray takes all of them.
    """

    def stop(*_: object) -> None:
        raise TimeoutError("no answer of Ray's, or another token than its own")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _path() -> dict[str, str]:
    """Let workers find modules that are not installed, such as a script's, where this process does."""
    standard = sysconfig.get_path("stdlib")
    folders = [
        str(folder.absolute())
        for folder in map(Path, sys.path)
        if folder.is_dir()
        and not folder.is_relative_to(standard)
        and not {"site-packages", "dist-packages"} & set(folder.parts)
    ]
    # Ray replaces the variable by that of the worker's machine.
    return {"PYTHONPATH": os.pathsep.join([*folders, "${PYTHONPATH}"])}
