"""The search: a policy asks for children, workers train them, the journal keeps everything."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from nasnet_zoo.cells import Cost, Genotype
from nasnet_zoo.checking import PositiveInt, Seed, checked

from .child import ChildError, Trained
from .journal import Journal, Record
from .policies import Policy
from .space import SearchSpace, Tokens
from .stopping import QuantileStopping


class Job(NamedTuple):
    """A child to train.

    Args:
        number: Number in the journal.
        genotype: Genotype of the child.
        seed: Seed of its training.
        thresholds: Rewards below which it stops early, see `train_child`.
    """

    number: int
    genotype: Genotype
    seed: int
    thresholds: tuple[float, ...] = ()


class Outcome(NamedTuple):
    """The result of a job.

    Args:
        number: Number of the job.
        trained: Result of the training, a failed one after an error.
        seconds: Seconds that the training took.
        error: Reason why the child could not be trained.
        worker_died: Whether the process that trained the child died or ran out of memory. That may
            happen to any child, so equal children of later minibatches are tried again.
    """

    number: int
    trained: Trained
    seconds: float
    error: str | None = None
    worker_died: bool = False


class Workers(Protocol):
    """Interface of executors that train children, such as `LocalWorkers`."""

    def run(self, jobs: Iterable[Job], started: Callable[[int], None]) -> Iterator[Outcome]:
        """Train children and yield their outcomes as they come.

        Args:
            jobs: Children to train.
            started: Function that is called with the number of each job when its training begins.

        Raises:
            Exception: Errors other than the outcomes of a child's training: it diverges, its images are
                too small, its worker dies or runs out of memory.
        """


class Here:
    """Trains children one after the other in this process.

    Args:
        train: Function from a job to the result of its training. It raises `ChildError` for a child
            that cannot be trained.
    """

    def __init__(self, train: Callable[[Job], Trained]) -> None:
        self._train = train

    def run(self, jobs: Iterable[Job], started: Callable[[int], None]) -> Iterator[Outcome]:
        """See `Workers`."""
        for job in jobs:
            started(job.number)
            begun = time.perf_counter()
            trained, error = Trained((), (), failed=True), None
            try:
                trained = self._train(job)
            except ChildError as raised:
                error = str(raised)
            yield Outcome(job.number, trained, time.perf_counter() - begun, error)


class Callback:
    """Base class of callbacks of a search, which does nothing."""

    def rewarded(self, record: Record) -> None:
        """Called when a child has its reward."""

    def learned(self, round: int, metrics: Mapping[str, float]) -> None:  # noqa: A002
        """Called when the policy has learned from a minibatch, with its metrics."""


@checked
def run_search(
    policy: Policy,
    space: SearchSpace,
    workers: Workers,
    journal: Journal,
    children: PositiveInt,
    minibatch: PositiveInt = 20,
    seed: Seed = 0,
    cost: Callable[[Genotype], Cost] | None = None,
    stopping: QuantileStopping | None = None,
    callbacks: Sequence[Callback] = (),
    remember: bool = True,
) -> list[Record]:
    """Search, or continue the search of the same journal.

    Synchronous: the policy learns from a whole minibatch before it samples the next, and children are
    stopped early by earlier minibatches alone, so a search that was killed and resumed is the one that
    was not, child by child.

    Args:
        policy: New policy, which is restored from the journal.
        space: Search space.
        workers: Executor that trains the children.
        journal: Journal of the search.
        children: Number of children to sample in all, including those in the journal.
        minibatch: Number of children sampled together ([N]: 20).
        seed: Seed from which the seed of every child's training is derived.
        cost: Function from a genotype to its parameters and multiply-adds, to record them.
        stopping: Rule of early stopping. Default: no child is stopped.
        callbacks: Callbacks.
        remember: Whether a child whose canonical form already has a reward gets that reward and is not
            trained. Equal children of a minibatch are trained once in any case.

    Returns:
        All children, by number.

    Raises:
        ValueError: If the journal is not that of a search of this space and policy, or an argument is
            out of range.
    """

    def derived(record: Record) -> dict[str, Any]:
        return _derived(record.tokens, record.number, space, seed)

    journal.check_rounds(journal.check_children(derived))
    done = 0
    if (saved := journal.policy()) is not None:
        done, state = saved
        try:
            policy.restore(state)
        except ValueError as error:
            raise ValueError(f"{journal.path}: the policy's state: {error}") from None
    else:
        journal.save_policy(0, policy.state())
    for number in itertools.count(done):
        earlier = [record for record in journal.children() if record.round < number]
        records = journal.children(number)
        count = len(records) or min(minibatch, children - len(earlier))
        if count < 1:
            break
        tokens = policy.ask(count)
        if not records:
            records = _sampled(tokens, policy, number, len(earlier), space, seed, cost)
            journal.add(records)
        thresholds = stopping.thresholds(earlier) if stopping else ()
        train_records(records, space, workers, journal, thresholds, callbacks, remember)
        records = journal.children(number)
        rewards = np.array([record.reward for record in records], np.float64)
        metrics = policy.tell(np.array([record.tokens for record in records], np.int32), rewards)
        journal.save_policy(number + 1, policy.state(), metrics)
        for callback in callbacks:
            callback.learned(number, metrics)
    return journal.children()


def _sampled(
    tokens: Tokens,
    policy: Policy,
    round: int,  # noqa: A002
    first: int,
    space: SearchSpace,
    seed: int,
    cost: Callable[[Genotype], Cost] | None,
) -> list[Record]:
    records = []
    logs = policy.log_probabilities(tokens)
    for k, child in enumerate(tokens):
        derived = _derived(child, first + k, space, seed)
        found = cost(Genotype.from_dict(derived["genotype"])) if cost else None
        records.append(
            Record(
                number=first + k,
                round=round,
                tokens=tuple(int(token) for token in child),
                log_probability=None if logs is None else float(logs[k]),
                **derived,
                parameters=found.parameters if found else None,
                mult_adds=found.mult_adds if found else None,
            )
        )
    return records


def _derived(
    tokens: Sequence[int] | Tokens, number: int, space: SearchSpace, seed: int
) -> dict[str, Any]:
    """The fields of a record that follow from a child's tokens and number."""
    canonical = space.canonical(tokens)
    return {
        "canonical": canonical,
        "genotype": space.genotype(canonical, f"child {number}").to_dict(),
        "seed": zlib.crc32(np.array([seed, *canonical], np.uint32).tobytes()),
    }


def train_records(
    records: Iterable[Record],
    space: SearchSpace,
    workers: Workers,
    journal: Journal,
    thresholds: tuple[float, ...] = (),
    callbacks: Sequence[Callback] = (),
    remember: bool = True,
) -> None:
    """Train the children of a journal that have no reward yet; equal ones once.

    Args:
        records: Children in the journal.
        space: Search space.
        workers: Executor that trains them.
        journal: Journal that gets their rewards.
        thresholds: See `train_child`.
        callbacks: Callbacks.
        remember: See `run_search`.
    """
    waiting: dict[tuple[int, ...], list[Record]] = {}
    for record in records:
        if record.reward is None:
            waiting.setdefault(record.canonical, []).append(record)

    def note(record: Record, *found: Any) -> Record:
        journal.finish(record.number, *found)
        rewarded = journal.child(record.number)
        for callback in callbacks:
            callback.rewarded(rewarded)
        return rewarded

    def repeat(others: list[Record], earlier: Record) -> None:
        for other in others:
            assert earlier.reward is not None
            failed = earlier.state == "failed"
            note(other, earlier.reward, {}, 0.0, failed, earlier.number)

    jobs = []
    for canonical, same in list(waiting.items()):
        earlier = journal.rewarded(canonical) if remember else None
        if earlier is None:
            number, seed = same[0].number, same[0].seed
            jobs.append(Job(number, space.genotype(canonical, f"child {number}"), seed, thresholds))
        else:
            repeat(waiting.pop(canonical), earlier)
    by_number = {same[0].number: same for same in waiting.values()}
    for outcome in workers.run(jobs, journal.start):
        first, *others = by_number[outcome.number]
        trained = outcome.trained
        result = {"rewards": trained.rewards, "losses": trained.losses, "stopped": trained.stopped}
        if outcome.error:
            result["error"] = outcome.error
        if outcome.worker_died:
            result["worker_died"] = True
        repeat(others, note(first, trained.reward, result, outcome.seconds, trained.failed))


def ranked(records: Iterable[Record]) -> list[Record]:
    """The different children that were trained to the end, best first; of equal ones the last."""
    whole = {
        record.canonical: record
        for record in records
        if record.state == "finished"
        and record.same_as is None
        and not (record.result or {}).get("stopped")
    }
    return sorted(whole.values(), key=lambda record: (-(record.reward or 0.0), record.number))


def retrain(
    best: Sequence[Record],
    space: SearchSpace,
    workers: Workers,
    journal: Journal,
    cost: Callable[[Genotype], Cost] | None = None,
    callbacks: Sequence[Callback] = (),
) -> list[Record]:
    """Retrain the best children of a search at the budget of ``workers`` ([N] section 4).

    Called again with the same journal, it trains those that have no reward there yet.

    Args:
        best: Different children of the search, as `ranked` returns them.
        space: Search space.
        workers: Executor that trains them.
        journal: Journal of the retraining. Children keep their numbers in it.
        cost: See `run_search`.
        callbacks: Callbacks.

    Returns:
        All children in the journal, best first.

    Raises:
        ValueError: If the journal is damaged, or contains other children.
    """
    searched = {record.number: record for record in best}
    names = ("tokens", "canonical", "genotype", "seed")

    def derived(record: Record) -> dict[str, Any]:
        same = searched.get(record.number, record)
        return {name: getattr(same, name) for name in names}

    there = {record.number for record in journal.check_children(derived)}
    new = [record for record in best if record.number not in there]
    journal.add([_retrained(record, cost) for record in new])
    train_records(journal.children(), space, workers, journal, callbacks=callbacks)
    return ranked(journal.children())


def _retrained(record: Record, cost: Callable[[Genotype], Cost] | None) -> Record:
    found = cost(Genotype.from_dict(record.genotype)) if cost else None
    return Record(
        number=record.number,
        round=record.round,
        tokens=record.tokens,
        canonical=record.canonical,
        genotype=record.genotype,
        log_probability=record.log_probability,
        seed=record.seed,
        parameters=found.parameters if found else None,
        mult_adds=found.mult_adds if found else None,
    )
