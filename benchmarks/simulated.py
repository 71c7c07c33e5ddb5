"""Children that sleep, and executors of many workers that are not processes.

`Timers` waits in real time, `VirtualClock` jumps over the waiting. Both look up a child's result in the
process of the search at the moment when its time is over.
"""

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.architecture import architecture_cost, network_graph
from nasnet_zoo.search.evaluator import Evaluator, Result, Trial
from nasnet_zoo.search.executors.executor import Outcome
from nasnet_zoo.search.nasnet.settings import Budget


@dataclass(frozen=True)
class Lengths:
    """The seconds of a child, from its seed: lognormal, and some children take three times as long.

    Args:
        median: Median of the children that are not slow.
        spread: Standard deviation of the logarithm.
        slow: Share of slow children.
    """

    median: float
    spread: float = 0.0
    slow: float = 0.0

    def __call__(self, trial: Trial) -> float:
        rng = np.random.default_rng(trial.seed)
        factor = 3.0 if rng.random() < self.slow else 1.0
        return float(self.median * np.exp(self.spread * rng.normal()) * factor)


class Sleeping(Evaluator[Any]):
    """Children that sleep, with the networks and the costs of fast children of CIFAR.

    Args:
        lengths: Seconds that a child sleeps. Default: none.
        log: File that gets a line for each child with the time when it ended. Default: none.
    """

    def __init__(self, lengths: Lengths | None = None, log: Path | None = None) -> None:
        self.lengths, self.log = lengths, log

    def prepare(self, architecture: Any) -> Any:
        return network_graph(Budget().architecture(architecture, 32, 3), 10)

    def cost(self, architecture: Any) -> dict[str, float]:
        cost = architecture_cost(Budget().architecture(architecture, 32, 3), 10)
        return {"parameters": cost.parameters, "mult_adds": cost.mult_adds}

    def evaluate(self, trial: Trial) -> Result:
        if self.lengths:
            time.sleep(self.lengths(trial))
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{time.time()}\n")
        reward = trial.seed / 2**32
        return Result(reward, (reward / 2, reward), metrics={"losses": [1.5, 0.5]})


@dataclass
class Usage:
    """When children began and ended, by the clock of their workers."""

    workers: int
    begun: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    #: When the search was told of the end.
    noticed: dict[int, float] = field(default_factory=dict)

    def window(self) -> tuple[float, float]:
        """From the first end of a child to the last beginning: neither start nor end of the search."""
        return min(self.ended.values()), max(self.begun.values())

    def busy(self) -> float:
        """Share of the workers' time that children took."""
        first, last = self.window()
        used = sum(
            max(min(self.ended[number], last) - max(begun, first), 0.0)
            for number, begun in self.begun.items()
        )
        return used / (self.workers * (last - first))

    def rate(self) -> float:
        """Children that ended per second."""
        first, last = self.window()
        return sum(first < end <= last for end in self.ended.values()) / (last - first)

    def added(self) -> float:
        """Seconds that a worker had no child, for each child."""
        return self.workers * (1.0 - self.busy()) / self.rate()


class Timers:
    """Workers that are timers in the process of the search.

    Args:
        evaluator: Evaluator of the children, which does not sleep itself.
        workers: Number of workers.
        lengths: Seconds that a child takes.
    """

    shares_memory = False

    def __init__(self, evaluator: Evaluator, workers: int, lengths: Callable[[Trial], float]) -> None:
        self.evaluator, self.capacity, self.usage = evaluator, workers, Usage(workers)
        self._lengths = lengths
        self._ends: list[tuple[float, int, Trial]] = []

    def now(self) -> float:
        """Seconds of the clock that the workers go by."""
        return time.perf_counter()

    def wait_until(self, end: float) -> None:
        """Wait for a moment of that clock."""
        time.sleep(max(end - self.now(), 0.0))

    def start(self) -> None:
        """Nothing has to start."""

    def submit(self, trial: Trial) -> None:
        """Note when a child ends."""
        begun = self.now()
        self.usage.begun[trial.number] = begun
        heapq.heappush(self._ends, (begun + self._lengths(trial), trial.number, trial))

    def completed(self) -> list[Outcome]:
        """Wait for the first child that ends; return all that have ended by then."""
        outcomes: list[Outcome] = []
        if self._ends:
            self.wait_until(self._ends[0][0])
        now = self.now()
        while self._ends and self._ends[0][0] <= now:
            end, number, trial = heapq.heappop(self._ends)
            self.usage.ended[number], self.usage.noticed[number] = end, now
            seconds = end - self.usage.begun[number]
            outcomes.append(Outcome(number, self.evaluator.evaluate(trial), seconds))
        return outcomes

    def close(self) -> None:
        """Forget the children that have not ended."""
        self._ends = []


class VirtualClock(Timers):
    """Workers of a discrete-event simulation, whose clock jumps to the next end of a child.

    Args:
        evaluator: Evaluator of the children, which does not sleep itself.
        workers: Number of workers.
        lengths: Seconds that a child takes.
        with_controller: Whether the clock runs on while the search works: asking, learning, writing the
            journal. Otherwise these take no time, and a run repeats another exactly.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        workers: int,
        lengths: Callable[[Trial], float],
        with_controller: bool,
    ) -> None:
        super().__init__(evaluator, workers, lengths)
        self._with_controller, self._jumped = with_controller, 0.0

    def now(self) -> float:
        return self._jumped + (time.perf_counter() if self._with_controller else 0.0)

    def wait_until(self, end: float) -> None:
        if self._with_controller:
            self._jumped += max(end - self.now(), 0.0)
        else:
            self._jumped = max(self._jumped, end)


class Watched:
    """Notes when the children of another executor, of a known length, began and ended.

    Args:
        executor: The executor.
        lengths: Seconds that its children take.
    """

    def __init__(self, executor: Any, lengths: Callable[[Trial], float]) -> None:
        self._executor, self._lengths = executor, lengths
        self.evaluator, self.shares_memory = executor.evaluator, executor.shares_memory
        self.usage = Usage(executor.capacity)
        self._seconds: dict[int, float] = {}

    @property
    def capacity(self) -> int:
        return self._executor.capacity

    def start(self) -> None:
        self._executor.start()

    def submit(self, trial: Trial) -> None:
        self._seconds[trial.number] = self._lengths(trial)
        self._executor.submit(trial)

    def completed(self) -> list[Outcome]:
        outcomes = self._executor.completed()
        now = time.perf_counter()
        for outcome in outcomes:
            # What the executor needs before and after the child counts as idle time of the worker.
            self.usage.ended[outcome.number] = self.usage.noticed[outcome.number] = now
            self.usage.begun[outcome.number] = now - self._seconds[outcome.number]
        return outcomes

    def close(self) -> None:
        self._executor.close()
