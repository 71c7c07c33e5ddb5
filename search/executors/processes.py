"""Worker processes on one machine, each of which evaluates one child at a time."""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from nasnet_zoo.checking import PositiveFloat, PositiveInt, checked
from nasnet_zoo.search.evaluator import Evaluator, Trial

from .executor import Outcome, program_error
from .worker import (
    ONE_THREAD,
    Answer,
    failure,
    lost,
    out_of_memory,
    pickled,
    run_trial,
    set_up,
    too_long,
)

# Exit statuses of workers.
_UNGUARDED, _OUT_OF_MEMORY = 70, 71


def end_if_unguarded() -> None:
    """End this process if it is a worker that is about to search.

    A worker imports the script that started it. One that searches at its top level, without a main
    guard, would search again in every worker. The search in the first process tells the user.
    """
    # The question that multiprocessing asks before it refuses to start a process there.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(_UNGUARDED)


# === The evaluator, once for all workers ===


class _Shared:
    """A pickled evaluator whose arrays lie in a file that all workers map into their memory.

    Raises:
        ValueError: If the evaluator cannot be pickled.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        buffers: list[pickle.PickleBuffer] = []
        self.pickled = pickled(evaluator, "an evaluator", buffer_callback=buffers.append)
        self.sizes = [buffer.raw().nbytes for buffer in buffers]
        self._folder = tempfile.TemporaryDirectory(prefix="nasnet-zoo-")
        self.path = Path(self._folder.name) / "arrays"
        with self.path.open("wb") as file:
            for buffer in buffers:
                file.write(buffer.raw())

    def close(self) -> None:
        self._folder.cleanup()


def _load(data: bytes, path: Path, sizes: list[int]) -> Evaluator:
    """The evaluator of a `_Shared`, in a worker."""
    memory = memoryview(b"")
    if sum(sizes):  # an empty file cannot be mapped
        with path.open("rb") as file:
            memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    bounds = itertools.pairwise(itertools.accumulate(sizes, initial=0))
    return pickle.loads(data, buffers=[memory[start:stop] for start, stop in bounds])


# === In a worker ===


def _work(pipe: Connection) -> None:
    """Evaluate the children that come through the pipe until it is closed."""
    # Ctrl-C reaches every process of a terminal; the search is the one that minds it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_search, daemon=True).start()
    with suppress(EOFError):
        data, path, sizes = pipe.recv()
        try:
            evaluator = _load(data, path, sizes)
            set_up(evaluator)
        except Exception as error:
            pipe.send(failure(error))
            return
        pipe.send("ready")
        while True:
            trial, limit = pipe.recv()
            answer = run_trial(evaluator, trial, limit)
            if answer.out_of_memory:
                os._exit(_OUT_OF_MEMORY)
            pipe.send(answer)


def _end_with_the_search() -> None:
    """End this process when the process of the search has ended."""
    search = multiprocessing.parent_process()
    assert search is not None
    search.join()
    os._exit(1)


# === In the search ===


class _Worker:
    """A worker process, seen from the search."""

    def __init__(self, shared: _Shared) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _environment(ONE_THREAD):
            self._process.start()
        theirs.close()
        self._send((shared.pickled, shared.path, shared.sizes))
        self._trial: Any = None
        self.number: int | None = None
        self.ready, self.answers, self.begun = False, 0, 0.0

    def begin(self, trial: Trial, limit: float | None) -> None:
        """Give it a child to evaluate, as soon as it is ready."""
        self._trial, self.number = (pickled(trial, "an architecture"), limit), trial.number
        self.begun = time.perf_counter()
        if self.ready:
            self._send(self._trial)

    def answer(self) -> Answer | None:
        """Read what it has sent. None when it has become ready; an answer without result if it died.

        Raises:
            RuntimeError: If it ended before it was ready, and was not killed.
        """
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            if not self.ready and self.exit_status >= 0:
                raise self._unstarted() from None
            return Answer(time.perf_counter() - self.begun)
        if answer != "ready":
            self.answers += 1
            return answer
        self.ready, self.begun = True, time.perf_counter()
        if self._trial is not None:
            self._send(self._trial)
        return None

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # of a process that has died: its answer says so
            self.pipe.send(message)

    @property
    def exit_status(self) -> int:
        """Exit status of a process that has ended, negative if a signal ended it."""
        return self._process.exitcode or 0

    def death(self) -> str:
        """Say how it ended."""
        status = self.exit_status
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def _unstarted(self) -> RuntimeError:
        if self.exit_status == _UNGUARDED:
            return RuntimeError(
                'Expected a script that searches below `if __name__ == "__main__":`, as every worker '
                "process runs the rest of it. Received: a script that searches without this guard"
            )
        return RuntimeError(
            f"Expected a worker process to start. Received: one that ended, {self.death()}"
        )

    def close(self) -> None:
        """End the process; an unfinished child is lost."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


class Processes:
    """Evaluates children in processes on this machine, each with one thread.

    A process that dies is replaced; the others are not concerned.

    Args:
        evaluator: Evaluator of the children.
        processes: Number of processes. Default: one for each core.
        child_timeout: Seconds after which a child fails. Default: no limit.
        children_per_process: Number of children after which a process is replaced, to bound its memory.

    Raises:
        ValueError: If a number is out of range, or the evaluator cannot be pickled.
    """

    shares_memory = True

    @checked
    def __init__(
        self,
        evaluator: Evaluator,
        processes: PositiveInt | None = None,
        child_timeout: PositiveFloat | None = None,
        children_per_process: PositiveInt = 50,
    ) -> None:
        end_if_unguarded()
        self.evaluator = evaluator
        self.capacity = processes or os.cpu_count() or 1
        self._limit, self._children_per_process = child_timeout, children_per_process
        self._shared = _Shared(evaluator)
        self._workers: list[_Worker] = []

    def start(self) -> None:
        """Start the processes and wait for one to be ready; `submit` starts those it needs, too.

        Raises:
            RuntimeError: If a process ends before it is ready, as in a script without a main guard,
                or the evaluator cannot be set up.
        """
        while len(self._workers) < self.capacity:
            self._workers.append(_Worker(self._shared))
        while not any(worker.ready for worker in self._workers):
            self._hear()
            if not self._workers:
                raise RuntimeError("Expected worker processes to start. Received: killed ones")

    def submit(self, trial: Trial) -> None:
        """Give a child to a process without one, a new one if there is none."""
        idle = [worker for worker in self._workers if worker.number is None]
        if not idle:
            idle = [_Worker(self._shared)]
            self._workers += idle
        max(idle, key=lambda worker: worker.ready).begin(trial, self._limit)

    def completed(self) -> list[Outcome]:
        """Wait for at least one child; see `Executor`."""
        outcomes: list[Outcome] = []
        while not outcomes and any(worker.number is not None for worker in self._workers):
            outcomes = self._hear()
        return outcomes

    def _hear(self) -> list[Outcome]:
        """Wait for a process to answer, become ready or die; return the outcomes there are."""
        by_pipe: dict[Any, _Worker] = {worker.pipe: worker for worker in self._workers}
        outcomes = []
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]
            if (answer := worker.answer()) is not None:
                outcomes += self._outcomes(worker, answer)
        return outcomes

    def _outcomes(self, worker: _Worker, answer: Answer) -> list[Outcome]:
        """The outcome of a worker's child; none if it died without one."""
        number, worker.number = worker.number, None
        died = answer.result is None and not answer.error
        if died or answer.error or worker.answers >= self._children_per_process:
            self._workers.remove(worker)
            worker.close()
        if answer.error:
            raise program_error(number if worker.ready else None, answer.error, answer.traceback)
        if number is None:
            return []
        if answer.result is not None:
            return [Outcome(number, answer.result, answer.seconds)]
        if worker.exit_status == -signal.SIGALRM:
            return [too_long(number, answer.seconds, self._limit)]
        if worker.exit_status == _OUT_OF_MEMORY:
            return [out_of_memory(number, answer.seconds)]
        return [lost(number, answer.seconds, worker.death())]

    def close(self) -> None:
        """End the processes; unfinished children are lost."""
        while self._workers:
            self._workers.pop().close()
        self._shared.close()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables that processes started within the block inherit."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
