"""What a worker process does, whoever started it: evaluate a child, and say how that went."""

from __future__ import annotations

import gc
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from nasnet_zoo.search.evaluator import Evaluator, Result, evaluated

from .executor import Outcome, is_out_of_memory

#: Two processes of one thread each train more children than one process of two threads.
ONE_THREAD = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Answer(NamedTuple):
    """Answer to a trial: a result, or that memory ran out, or an error of the program."""

    seconds: float
    result: Result | None = None
    out_of_memory: bool = False
    error: str = ""
    traceback: str = ""


def set_up(evaluator: Evaluator) -> None:
    """Set up an evaluator in a worker."""
    evaluator.setup()
    # What is there now stays, so that what children leave is found in a moment.
    gc.collect()
    gc.freeze()


def run_trial(evaluator: Evaluator, trial: bytes, limit: float | None) -> Answer:
    """Evaluate a child, a pickled `Trial`, in at most so many seconds."""
    begun = time.perf_counter()
    # What the last child left may refer to itself, and would stay while this one is evaluated.
    gc.collect()
    try:
        with _time_limit(limit):
            result = evaluated(evaluator, pickle.loads(trial))
    # All errors that are not the child's end the search: it raises them.
    except Exception as error:
        seconds = time.perf_counter() - begun
        return (
            Answer(seconds, out_of_memory=True) if is_out_of_memory(error) else failure(error, seconds)
        )
    return Answer(time.perf_counter() - begun, result)


def failure(error: Exception, seconds: float = 0.0) -> Answer:
    """The answer that an error of the program gives."""
    text = f"{type(error).__name__}: {error}"
    return Answer(seconds, error=text, traceback="".join(traceback.format_exception(error)))


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Let the kernel end this process if the block takes longer, whatever it does."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# === Seen from the search ===


def pickled(
    value: Any, expected: str, dumps: Callable[..., bytes] = pickle.dumps, **options: Any
) -> bytes:
    """Pickle a value that is sent to workers.

    Args:
        value: Value to pickle.
        expected: What it is, for the message of the error.
        dumps: Function that pickles it.
        options: Further arguments of the function.

    Raises:
        ValueError: If it cannot be pickled.
    """
    try:
        return dumps(value, protocol=5, **options)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"Expected {expected} that can be sent to other processes. Received: {error}"
        ) from None


def out_of_memory(number: int, seconds: float) -> Outcome:
    """The outcome of a trial whose worker ran out of memory."""
    result = Result.failed("its worker ran out of memory")
    return Outcome(number, result, seconds, out_of_memory=True)


def too_long(number: int, seconds: float, limit: float | None) -> Outcome:
    """The outcome of a trial that took longer than its time limit."""
    return Outcome(
        number, Result.failed(f"expected at most {limit:g} seconds. Received: longer"), seconds
    )


def lost(number: int, seconds: float, why: str) -> Outcome:
    """The outcome of a trial whose worker was lost."""
    result = Result(0.0, status="lost", message=f"its worker was lost: {why}")
    return Outcome(number, result, seconds)
