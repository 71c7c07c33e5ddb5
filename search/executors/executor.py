"""The interface of executors, and the one that evaluates children in the process of the search."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol

from nasnet_zoo.search.evaluator import Evaluator, Result, Trial, evaluated


class Outcome(NamedTuple):
    """What became of a trial.

    Args:
        number: Number of the trial.
        result: Its result. Of the status "lost" if its worker was lost: the search tries it again.
        seconds: Seconds that it took.
        out_of_memory: Whether its worker ran out of memory: the search tries it once again.
    """

    number: int
    result: Result
    seconds: float
    out_of_memory: bool = False


class Executor(Protocol):
    """Interface of executors.

    ``evaluator`` evaluates the children, at most ``capacity`` of them at a time. An executor whose
    workers ``share_memory`` tries a child that ran out of memory again while no other child is
    evaluated.
    """

    evaluator: Evaluator
    shares_memory: bool

    @property
    def capacity(self) -> int:
        """Number of children that can be evaluated at a time. It may change while a search runs."""

    def start(self) -> None:
        """Start, so that what cannot work fails before a search has written anything."""

    def submit(self, trial: Trial) -> None:
        """Begin to evaluate a child; there is room for it."""

    def completed(self) -> list[Outcome]:
        """Wait for at least one child, if any is evaluated; return the outcomes that have come.

        It may return an empty list when ``capacity`` has changed.

        Raises:
            RuntimeError: If an evaluation raised an error of the program.
        """

    def close(self) -> None:
        """Stop all evaluations; unfinished children are lost."""


class Serial:
    """Evaluates children one after the other in the process of the search.

    Args:
        evaluator: Evaluator of the children.
    """

    capacity = 1
    shares_memory = True

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._trial: Trial | None = None
        self._started = False

    def start(self) -> None:
        """Set up the evaluator."""
        if not self._started:
            self.evaluator.setup()
        self._started = True

    def submit(self, trial: Trial) -> None:
        """Keep a child for `completed`."""
        self._trial = trial

    def completed(self) -> list[Outcome]:
        """Evaluate the child that was submitted. Errors of the program are raised as they are."""
        trial, self._trial = self._trial, None
        if trial is None:
            return []
        self.start()
        begun = time.perf_counter()
        result = evaluated(self.evaluator, trial)
        return [Outcome(trial.number, result, time.perf_counter() - begun)]

    def close(self) -> None:
        """Forget the child that was not evaluated."""
        self._trial = None

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any backend says that memory has run out."""
    names = ("ResourceExhaustedError", "OutOfMemoryError")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in names
        or "RESOURCE_EXHAUSTED" in str(error)
    )


def program_error(number: int | None, error: str, traceback: str) -> RuntimeError:
    """The error that ends a search: the evaluation of a child, or the set-up, raised it in a worker."""
    expected = "the evaluator to be set up" if number is None else f"child {number} to be evaluated"
    raised = RuntimeError(f"Expected {expected}. Received: {error}")
    raised.add_note(traceback)
    return raised
