"""Worker processes on one machine: each trains one child at a time, with one thread."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from nasnet_zoo.checking import PositiveInt, checked

from .child import ChildError, Images, Trained, child_graph, train_graph
from .search import Job, Outcome
from .settings import Budget

# Two processes of one thread each train more children than one process of two threads.
_ONE_THREAD = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
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


# === In a worker ===


class _Answer(NamedTuple):
    """Answer to a job: a result, or the reason why there is none.

    Args:
        seconds: Seconds that the job took.
        trained: Result of the training.
        failed: Reason why the child cannot be trained.
        error: Programming error, with its type.
        traceback: Traceback of the error.
        died: Reason why the worker died.
    """

    seconds: float = 0.0
    trained: Trained | None = None
    failed: str | None = None
    error: str | None = None
    traceback: str = ""
    died: str | None = None


def _work(pipe: Connection) -> None:
    """Train the children that come through the pipe until it is closed."""
    # Ctrl-C reaches every process of a terminal; the search is the one that minds it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # TensorFlow warns of functions that are traced again and again: here every child is another one.
    tf.get_logger().setLevel("ERROR")
    threading.Thread(target=_end_with_the_search, daemon=True).start()
    with suppress(EOFError):
        pipe.send("ready")
        images, budget = pickle.loads(pipe.recv_bytes())
        while True:
            pipe.send(_train(pipe.recv_bytes(), images, budget))


def _end_with_the_search() -> None:
    """End this process when the process of the search has ended."""
    search = multiprocessing.parent_process()
    assert search is not None
    search.join()
    os._exit(1)


def _train(job: bytes, images: Images, budget: Budget) -> _Answer:
    begun = time.perf_counter()
    # The last child's graph refers to itself; it would stay while this one's is traced.
    gc.collect()
    found: dict[str, Any]
    try:
        graph, seed, thresholds = pickle.loads(job)
        found = {"trained": train_graph(graph, images, budget, seed, thresholds)}
    except ChildError as error:
        found = {"failed": str(error)}
    except (MemoryError, tf.errors.ResourceExhaustedError):
        os._exit(_OUT_OF_MEMORY)
    # All others end the search: it raises them.
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    return _Answer(time.perf_counter() - begun, **found)


# === In the search ===


class _Worker:
    """A worker process, seen from the search.

    Args:
        images: Images that children are trained and evaluated on.
        budget: Training of a child.
    """

    def __init__(self, images: Images, budget: Budget) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _environment(_ONE_THREAD):
            self._process.start()
        theirs.close()
        self._images, self._budget = images, budget
        self._job: bytes | None = None
        self.ready, self.answers = False, 0

    def begin(self, job: Job) -> None:
        """Give it a child to train, as soon as it is ready.

        The child is sent as a graph of primitives, plain data that needs no registry of operations.
        """
        graph = child_graph(job.genotype, self._images, self._budget)
        self._job = pickle.dumps((graph, job.seed, job.thresholds))
        if self.ready:
            self._send(self._job)

    def answer(self) -> _Answer | None:
        """Wait for its answer, which may be that it has died; None when it has become ready.

        Raises:
            RuntimeError: If it died before it was ready, which is not caused by a child.
        """
        answer: _Answer | Literal["ready"] | None = None
        with suppress(EOFError, OSError):
            answer = self.pipe.recv()
        if answer is None:
            return self._death()
        if answer != "ready":
            self.answers += 1
            return answer
        self.ready = True
        self._send(pickle.dumps((self._images, self._budget)))
        if self._job is not None:
            self._send(self._job)
        return None

    def _send(self, message: bytes) -> None:
        with suppress(OSError):  # of a process that has died: its answer says so
            self.pipe.send_bytes(message)

    def _death(self) -> _Answer:
        self._process.join()
        status = self._process.exitcode or 0
        if status == _UNGUARDED:
            raise RuntimeError(
                'Expected a script that searches below `if __name__ == "__main__":`, as every worker '
                "process runs the rest of it. Received: a script that searches without this guard"
            )
        if status == _OUT_OF_MEMORY:
            reason = "out of memory"
        else:
            reason = (
                f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            )
        if not self.ready:
            raise RuntimeError(
                f"Expected a worker process to start. Received: one that ended, {reason}"
            )
        return _Answer(died=reason)

    def close(self) -> None:
        """End the process; unfinished children are lost."""
        self._process.terminate()
        self._process.join()
        self.pipe.close()


class LocalWorkers:
    """Trains children in processes of their own.

    A child whose process dies, or runs out of memory, is tried once more while no other child is
    trained, and fails if that happens again. The children beside it are not concerned.

    Args:
        images: Images that children are trained and evaluated on.
        budget: Training of a child.
        processes: Number of processes. Default: one for each core.
        children_per_process: Number of children after which a process is replaced, to bound its memory.

    Raises:
        ValueError: If a number is below 1.
    """

    @checked
    def __init__(
        self,
        images: Images,
        budget: Budget,
        processes: PositiveInt | None = None,
        children_per_process: PositiveInt = 50,
    ) -> None:
        end_if_unguarded()
        self._images, self._budget = images, budget
        self._processes = processes or os.cpu_count() or 1
        self._children_per_process = children_per_process
        self._workers: list[_Worker] = []

    def start(self) -> None:
        """Start the processes and wait for one to be ready; `run` starts those it needs, too.

        Raises:
            RuntimeError: If a process ends before it is ready, as in a script without a main guard.
        """
        while len(self._workers) < self._processes:
            self._workers.append(_Worker(self._images, self._budget))
        while not any(worker.ready for worker in self._workers):
            for worker in _heard(self._workers):
                worker.answer()

    def close(self) -> None:
        """End the processes; unfinished children are lost."""
        while self._workers:
            self._workers.pop().close()

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, jobs: Iterable[Job], started: Callable[[int], None]) -> Iterator[Outcome]:
        """See `Workers`; at most as many jobs are under way as there are processes.

        Raises:
            RuntimeError: If a training raises a programming error, or a process ends before it is
                ready.
        """
        again: list[Job] = []
        for job, outcome in self._run(jobs, started, self._processes):
            if outcome.worker_died:
                again.append(job)
            else:
                yield outcome
        # One at a time: memory may have run out because of a neighbour.
        for _, outcome in self._run(again, started, 1):
            if outcome.worker_died:
                yield outcome._replace(error=f"its worker died twice: {outcome.error}")
            else:
                yield outcome

    def _run(
        self, jobs: Iterable[Job], started: Callable[[int], None], width: int
    ) -> Iterator[tuple[Job, Outcome]]:
        """Every job with its outcome, ``width`` of them at a time."""
        waiting = deque(jobs)
        running: dict[_Worker, Job] = {}
        try:
            while waiting or running:
                while waiting and len(running) < width:
                    job = waiting.popleft()
                    started(job.number)
                    worker = self._idle(running)
                    running[worker] = job
                    worker.begin(job)
                for worker in _heard(running):
                    outcome = self._outcome(worker, running[worker])
                    if outcome is not None:
                        yield running.pop(worker), outcome
        finally:
            for worker in running:
                self._end(worker)

    def _idle(self, running: Collection[_Worker]) -> _Worker:
        """A process without a job, a new one if there is none."""
        idle = [worker for worker in self._workers if worker not in running]
        if not idle:
            idle = [_Worker(self._images, self._budget)]
            self._workers += idle
        return max(idle, key=lambda worker: worker.ready)

    def _outcome(self, worker: _Worker, job: Job) -> Outcome | None:
        """The outcome of the job of a process that was heard; None if it has just become ready."""
        answer = worker.answer()
        if answer is None:
            return None
        failed = Trained((), (), failed=True)
        if answer.died:
            self._end(worker)
            return Outcome(job.number, failed, 0.0, answer.died, worker_died=True)
        if answer.error:
            error = RuntimeError(f"Expected child {job.number} to be trained. Received: {answer.error}")
            error.add_note(answer.traceback)
            raise error
        if worker.answers == self._children_per_process:
            self._end(worker)
        return Outcome(job.number, answer.trained or failed, answer.seconds, answer.failed)

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.close()


def _heard(workers: Iterable[_Worker]) -> list[_Worker]:
    """Those that have answered, become ready or died: at least one."""
    by_pipe: dict[Any, _Worker] = {worker.pipe: worker for worker in workers}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe))]


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
