"""The search: a policy asks for children, workers train them, the journal keeps everything."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from nasnet_zoo.cells import Cost, Genotype

from .child import Trained
from .journal import Journal, Record
from .policies import Policy
from .space import SearchSpace


class Job(NamedTuple):
    """A child to train: its number in the journal, its genotype, the seed of its training."""

    number: int
    genotype: Genotype
    seed: int


class Outcome(NamedTuple):
    """What became of a job; ``error`` tells why it gave no result."""

    number: int
    trained: Trained
    seconds: float
    error: str | None = None


class Workers(Protocol):
    """What trains children: `LocalWorkers`, or a cluster."""

    def run(self, jobs: Iterable[Job], started: Callable[[int], None]) -> Iterator[Outcome]:
        """Trains children and gives their outcomes as they come.

        Args:
            jobs: what to train.
            started: is called with the number of each job when its training begins.
        """


class Here:
    """Trains children one after the other in this process.

    Args:
        train: from a genotype and a seed to what became of the child.
    """

    def __init__(self, train: Callable[[Genotype, int], Trained]) -> None:
        self._train = train

    def run(self, jobs: Iterable[Job], started: Callable[[int], None]) -> Iterator[Outcome]:
        """See `Workers`."""
        for job in jobs:
            started(job.number)
            begun = time.perf_counter()
            trained, error = Trained((), (), failed=True), None
            try:
                trained = self._train(job.genotype, job.seed)
            # A child that cannot be trained has no reward; the search goes on.
            except (ArithmeticError, ValueError, MemoryError) as raised:
                error = f"{type(raised).__name__}: {raised}"
            yield Outcome(job.number, trained, time.perf_counter() - begun, error)


def run_search(
    policy: Policy,
    space: SearchSpace,
    workers: Workers,
    journal: Journal,
    children: int,
    minibatch: int = 20,
    seed: int = 0,
    cost: Callable[[Genotype], Cost] | None = None,
    watch: Callable[[dict[str, Any], Record], None] = lambda told, record: None,
) -> list[Record]:
    """Searches, or goes on where a search with the same journal was stopped.

    Synchronous: the policy learns from a whole minibatch before it samples the next, so a search that
    was killed and resumed is the one that was not, child by child.

    A child whose canonical form has a reward already gets that one and is not trained again.

    Args:
        policy: new; it is brought to the journal's state.
        space: what is searched.
        workers: train the children.
        journal: keeps what happens.
        children: how many to sample in all, those in the journal counted.
        minibatch: children sampled together ([N]: 20).
        seed: the seed of a child's training follows from it and from the child.
        cost: parameters and multiply-adds of a child, to note them.
        watch: is called with what the policy told last, and with every child when it has its reward.

    Returns:
        All children, by number.
    """
    done = 0
    if (saved := journal.policy()) is not None:
        done, state = saved
        policy.restore(state)
    else:
        journal.save_policy(0, policy.state())
    told: dict[str, Any] = {}
    rounds = -(-children // minibatch)
    for number in range(done, rounds):
        count = min(minibatch, children - number * minibatch)
        tokens = policy.ask(count)
        records = journal.children(number)
        if not records:
            records = _sampled(tokens, number, number * minibatch, space, seed, cost)
            journal.add(records)
        _reward(records, space, workers, journal, functools.partial(watch, told))
        records = journal.children(number)
        rewards = np.array([record.reward for record in records], np.float64)
        told = policy.tell(np.array([record.tokens for record in records], np.int32), rewards)
        journal.save_policy(number + 1, policy.state())
    return journal.children()


def _sampled(
    tokens: np.ndarray,
    round: int,  # noqa: A002
    first: int,
    space: SearchSpace,
    seed: int,
    cost: Callable[[Genotype], Cost] | None,
) -> list[Record]:
    records = []
    for number, child in enumerate(tokens, first):
        canonical = space.canonical(child)
        genotype = space.genotype(canonical, f"child {number}")
        found = cost(genotype) if cost else None
        records.append(
            Record(
                number,
                round,
                tuple(int(token) for token in child),
                canonical,
                genotype.to_dict(),
                zlib.crc32(np.array([seed, *canonical], np.int32).tobytes()),
                "sampled",
                None,
                None,
                found.parameters if found else None,
                found.mult_adds if found else None,
                None,
                None,
            )
        )
    return records


def _reward(
    records: list[Record],
    space: SearchSpace,
    workers: Workers,
    journal: Journal,
    watch: Callable[[Record], None],
) -> None:
    """Trains the children that have no reward yet; equal ones once."""
    waiting: dict[tuple[int, ...], list[Record]] = {}
    for record in records:
        if record.reward is None:
            waiting.setdefault(record.canonical, []).append(record)
    jobs = []
    for canonical, same in list(waiting.items()):
        earlier = journal.rewarded(canonical)
        if earlier is None:
            first = same[0]
            jobs.append(
                Job(first.number, space.genotype(canonical, f"child {first.number}"), first.seed)
            )
            continue
        _repeat(waiting.pop(canonical), earlier, journal, watch)
    by_number = {same[0].number: same for same in waiting.values()}
    for outcome in workers.run(jobs, journal.start):
        first, *others = by_number[outcome.number]
        trained = outcome.trained
        result = {"rewards": trained.rewards, "losses": trained.losses, "stopped": trained.stopped}
        if outcome.error:
            result["error"] = outcome.error
        journal.finish(first.number, trained.reward, result, outcome.seconds, failed=trained.failed)
        rewarded = journal.rewarded(first.canonical)
        assert rewarded is not None
        watch(rewarded)
        _repeat(others, rewarded, journal, watch)


def _repeat(
    records: list[Record], earlier: Record, journal: Journal, watch: Callable[[Record], None]
) -> None:
    for record in records:
        assert earlier.reward is not None
        failed = earlier.state == "failed"
        journal.finish(record.number, earlier.reward, {}, 0.0, failed, earlier.number)
        watch(earlier)
