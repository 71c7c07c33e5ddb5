"""Worker processes on one machine: each trains one child at a time, with one thread."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import tensorflow as tf

from .child import Budget, Images, Trained, train_child
from .search import Job, Outcome

# Two processes of one thread each train more children than one process of two threads.
_ONE_THREAD = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# A child whose worker dies is tried once more: memory may have run out because of its neighbour.
_TRIES = 2

_images: Images
_budget: Budget


def _begin(images: Images, budget: Budget) -> None:
    global _images, _budget
    _images, _budget = images, budget
    # Ctrl-C reaches every process of a terminal; the search is the one that minds it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # TensorFlow warns of functions that are traced again and again: here every child is another one.
    tf.get_logger().setLevel("ERROR")
    threading.Thread(target=_end_with_the_search, daemon=True).start()


def _end_with_the_search() -> None:
    """Ends this process when the search's is gone, however it was killed."""
    search = multiprocessing.parent_process()
    assert search is not None
    search.join()
    os._exit(1)


def _train(job: Job) -> tuple[Trained, float, str | None]:
    begun = time.perf_counter()
    # The last child's graph refers to itself; it would stay while this one's is traced.
    gc.collect()
    trained, error = Trained((), (), failed=True), None
    try:
        trained = train_child(job.genotype, _images, _budget, job.seed, job.hopeless)
    # Whatever a child does, it has no reward and the search goes on.
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    return trained, time.perf_counter() - begun, error


class LocalWorkers:
    """Trains children in processes of their own.

    Args:
        images: what children learn and are judged on.
        budget: how they are trained.
        processes: how many. Default: one for each core.
        children_per_process: a process is replaced after so many, which bounds its memory.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(
        self,
        images: Images,
        budget: Budget,
        processes: int | None = None,
        children_per_process: int = 50,
    ) -> None:
        processes = os.cpu_count() or 1 if processes is None else processes
        if processes < 1 or children_per_process < 1:
            raise ValueError(
                "Expected processes and children_per_process of at least 1. "
                f"Received: {processes=}, {children_per_process=}"
            )
        self._arguments = (images, budget)
        self._processes, self._children_per_process = processes, children_per_process
        self._pool: ProcessPoolExecutor | None = None

    def close(self) -> None:
        """Ends the processes; what is under way is lost."""
        if self._pool is not None:
            # From Python 3.14 on this is `terminate_workers`.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, job: Job) -> Future[tuple[Trained, float, str | None]]:
        if self._pool is None:
            with _environment(_ONE_THREAD):
                self._pool = ProcessPoolExecutor(
                    self._processes,
                    multiprocessing.get_context("spawn"),
                    _begin,
                    self._arguments,
                    max_tasks_per_child=self._children_per_process,
                )
        with _environment(_ONE_THREAD):  # of the process that this may start
            return self._pool.submit(_train, job)

    def run(self, jobs: Iterable[Job], started: Callable[[int], None]) -> Iterator[Outcome]:
        """See `Workers`; at most as many jobs are under way as there are processes."""
        queue = [(job, 1) for job in reversed(list(jobs))]
        running: dict[Future[tuple[Trained, float, str | None]], tuple[Job, int]] = {}
        while queue or running:
            while queue and len(running) < self._processes:
                job, tries = queue.pop()
                started(job.number)
                running[self._submit(job)] = job, tries
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job, tries = running.pop(future)
                try:
                    yield Outcome(job.number, *future.result())
                except BrokenProcessPool as broken:
                    # All that was under way is lost with the pool, whichever process died.
                    self._pool = None
                    if tries < _TRIES:
                        queue.append((job, tries + 1))
                    else:
                        error = f"its worker died twice: {broken}"
                        yield Outcome(job.number, Trained((), (), failed=True), 0.0, error)


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
