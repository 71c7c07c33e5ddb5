"""Trials on an executor, without a search: for benchmarks that evaluate children of their own."""

from collections import deque
from collections.abc import Iterable, Iterator

from nasnet_zoo.search import Executor, Outcome, Trial


def outcomes(executor: Executor, trials: Iterable[Trial]) -> Iterator[Outcome]:
    """Evaluates trials, as many at a time as there is room for; yields outcomes as they come.

    Raises:
        RuntimeError: If a child does not finish.
    """
    waiting, running = deque(trials), 0
    while waiting or running:
        while waiting and running < executor.capacity:
            executor.submit(waiting.popleft())
            running += 1
        for outcome in executor.completed():
            if outcome.result.status != "finished":
                raise RuntimeError(f"Expected a finished child. Received: {outcome}")
            running -= 1
            yield outcome
