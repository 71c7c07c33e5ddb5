"""The search: a policy asks for children, an executor evaluates them, the journal keeps everything."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np

from nasnet_zoo.checking import NonNegativeInt, PositiveInt, Seed, checked
from nasnet_zoo.files import plain_json

from .checkpoints import Checkpoints
from .evaluator import Evaluator, Result, Trial
from .executors.executor import Executor, Outcome
from .journal import Journal, Outline, Record
from .objectives import Objectives
from .policies import Experience, Policy, Proposal
from .schedulers import Load, Scheduler, Synchronous
from .space import Space
from .stopping import QuantileStopping, Rungs, SuccessiveHalving
from .weights import Weights

#: How often a child is tried again whose worker was lost, which is not the child's fault.
RETRIES = 2
#: Number of random children, one of which at least has to have a reward by all that is known of it.
_TRIED = 1000
#: How often a child is tried again that ran out of memory.
_MEMORY_RETRIES = 1


class Callback:
    """Base class of callbacks of a search, which does nothing."""

    def rewarded(self, record: Record) -> None:
        """Called when a child has its reward."""

    def promoted(self, record: Record) -> None:
        """Called when a child that had paused has the reward of more training."""

    def learned(self, records: Sequence[Record], metrics: Mapping[str, float]) -> None:
        """Called when the policy has learned from a minibatch of children, with its metrics."""


@checked
def run_search(
    policy: Policy,
    space: Space,
    executor: Executor,
    journal: Journal,
    children: PositiveInt,
    scheduler: Scheduler = Synchronous(),
    seed: Seed = 0,
    stopping: QuantileStopping | SuccessiveHalving | None = None,
    objectives: Objectives = Objectives(),
    callbacks: Sequence[Callback] = (),
    remember: bool = True,
    retries: NonNegativeInt = RETRIES,
    keep_weights: PositiveInt | None = None,
) -> list[Record]:
    """Search, or continue the search of the same journal.

    Args:
        policy: New policy, which is restored from the journal.
        space: Search space.
        executor: Executor that evaluates the children.
        journal: Journal of the search.
        children: Number of children to sample in all, including those in the journal.
        scheduler: When the policy is asked and told: `Synchronous`, exact, or `Asynchronous`.
        seed: Seed from which the seed of every child's evaluation is derived.
        stopping: Rule of early stopping. Default: no child is stopped. With `SuccessiveHalving` the
            policy learns from a child once, when it rests on a rung; what paused children go on from is
            in the folder ``checkpoints`` beside the journal.
        objectives: What is looked for. Default: the evaluator's reward.
        callbacks: Callbacks.
        remember: Whether a child that equals one with a reward gets that reward and is not evaluated.
            Children that equal one which is being evaluated share its result in any case.
        retries: How often a child is tried again whose worker was lost.
        keep_weights: Where children inherit weights, the number of possible parents, the best ones,
            whose weights are kept in the folder ``weights`` beside the journal. Those that a child
            under way needs are kept besides. Default: all that the policy can name.

    Returns:
        All children, by number.

    Raises:
        ValueError: If the journal is not that of a search of this space and policy, an argument is out
            of range, the objectives are none of the evaluator's, or its children cannot pause.
        RuntimeError: If an evaluation raises an error of the program in a worker.
    """
    if isinstance(stopping, SuccessiveHalving) and not remember:
        raise ValueError(
            "Expected remember=True with successive halving, which trains no child twice. "
            "Received: remember=False"
        )
    search = _Search(
        policy,
        space,
        executor,
        journal,
        seed,
        stopping,
        objectives,
        callbacks,
        remember,
        retries,
        keep_weights,
    )
    while True:
        load = search.load(children)
        if promoted := scheduler.promotes(load):
            search.promote(promoted)
        elif told := scheduler.tells(load):
            search.tell(told)
        elif asked := scheduler.asks(load):
            search.ask(asked)
        elif load.under_way:
            search.evaluate()
        elif not search.promote_last():
            return journal.children()


def check_objectives(objectives: Objectives, space: Space, evaluator: Evaluator, seed: int = 0) -> None:
    """Check with random children that objectives are known, and that some child can have a reward.

    Args:
        objectives: Objectives to check.
        space: Search space.
        evaluator: Evaluator of the children.
        seed: Seed of the random children.

    Raises:
        ValueError: If they are not, if each is above a limit or fails by the expression of the reward
            whatever its evaluation gives, or if one cannot be measured.
    """
    rng = np.random.default_rng(seed)
    for _ in range(_TRIED):
        architecture = space.decode(space.sample(rng))
        costs = evaluator.cost(architecture)
        problem = objectives.above(costs) or objectives.unrewarded(evaluator.objective, costs)
        if problem is None:
            break
    else:
        raise ValueError(
            f"Expected some child with a reward. Received: {_TRIED:,} random children, "
            f"the last {problem}"
        )
    objectives.check(evaluator.objective, {**costs, **evaluator.measure(architecture)})


class _Search:
    """The state of a search between two decisions of its scheduler; see `run_search`."""

    def __init__(
        self,
        policy: Policy,
        space: Space,
        executor: Executor,
        journal: Journal,
        seed: int,
        stopping: QuantileStopping | SuccessiveHalving | None,
        objectives: Objectives,
        callbacks: Sequence[Callback],
        remember: bool,
        retries: int,
        keep_weights: int | None,
    ) -> None:
        self.policy, self.space, self.executor, self.journal = policy, space, executor, journal
        self.seed, self.stopping, self.callbacks, self.remember = seed, stopping, callbacks, remember
        self.objectives = objectives
        self.rungs: Rungs | None = None
        if isinstance(stopping, SuccessiveHalving):
            self.rungs = Rungs(stopping, executor.evaluator.evaluations)
        pauses = self.rungs.ends[:-1] if self.rungs else ()
        self.weights = Weights(journal.path) if executor.evaluator.inherits else None
        self.keep_weights = keep_weights
        self.evaluation = Evaluation(
            space, executor, journal, retries, objectives, pauses, self.weights
        )
        #: Of each key the first child that was evaluated, to give others its reward.
        self.known: dict[str, _Known] = {}
        #: The costs of each different child by its key, and why they exclude it or None.
        self.costs: dict[str, tuple[dict[str, Any], str | None]] = {}
        #: Children with a reward that the policy has not learned from, in the order of the rewards. One
        #: that goes on is none of them until it is back.
        self.untold: list[Record] = []
        self.climbing: set[int] = set()
        self.curves: list[tuple[float, ...]] = []
        self.thresholds: tuple[float, ...] = ()
        self.asked = 0
        self._restore()

    def _restore(self) -> None:
        outlines = self.journal.check()
        self.asked = len(outlines)
        if not outlines:
            check_objectives(self.objectives, self.space, self.executor.evaluator, self.seed)
        if state := self.journal.state():
            try:
                self.policy.restore(_part(state, "policy."))
                self.executor.evaluator.restore(_part(state, "evaluator."))
            except ValueError as error:
                raise ValueError(f"{self.journal.path}: the policy's state: {error}") from None
        versions = len(self.journal.minibatches())
        if self.policy.version != versions:
            raise ValueError(
                f"{self.journal.path}: expected a policy after {versions} minibatches. "
                f"Received: one after {self.policy.version}"
            )
        for outline in outlines:
            if outline.reward is not None and outline.same_as is None:
                self._know(outline.key, _Known(outline.number, outline.reward, outline.state))
        for record in self.journal.untold():
            self._check(record)
            self.costs[record.key] = record.costs, self.objectives.above(record.costs)
            if record.reward is None:
                self.evaluation.add(record)
            else:
                self._rest(record)
        if self.stopping:
            learned = self.journal.learned()
            self._take_curves(learned)
            for record in learned:
                self._rest(record)
            if self.rungs:
                paused = (record for record in [*learned, *self.untold] if record.state == "stopped")
                Checkpoints(self.journal.path).sweep(paused)
        self._keep_weights()

    def _take_curves(self, records: Sequence[Record]) -> None:
        """Take the curves of children that the policy has learned from into the thresholds."""
        if isinstance(self.stopping, QuantileStopping):
            self.curves += [record.curve for record in records if record.has_curve]
            self.thresholds = self.stopping.thresholds(self.curves)

    def _rest(self, record: Record) -> None:
        """Take a child that is not under way: on its rung, and for the policy to learn from."""
        if record.learned is None:
            self.untold.append(record)
        if self.rungs and record.same_as is None and (rewards := self._at(self.rungs, record)):
            self.rungs.put(record.number, rewards, record.state == "stopped")

    def _at(self, rungs: Rungs, record: Record) -> tuple[float, ...]:
        """The rewards of a child at the rungs that it came to."""
        objective, found = self.executor.evaluator.objective, []
        with suppress(ValueError):  # by which it failed
            for end in rungs.ends:
                if end <= len(record.curve):
                    value = record.curve[end - 1]
                    found.append(self.objectives.reward_of(objective, value, record.costs))
        return tuple(found)

    def _check(self, record: Record) -> None:
        """Check that a child is one of this space and search."""
        place = f"{self.journal.path}: {record.name}"
        try:
            expected, _ = self._sampled(Proposal(record.actions, record.version), record.number)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        for name in ("key", "architecture", "seed"):
            if getattr(record, name) != getattr(expected, name):
                received = f"{getattr(record, name)!r:.100}"
                raise ValueError(f"{place}: Expected {name} as it follows. Received: {received}")

    def load(self, children: int) -> Load:
        """What the scheduler decides by, for so many children in all."""
        left = max(children - self.asked, 0)
        promotable = len(self.rungs.promotable()) if self.rungs else 0
        under_way, untold = self.evaluation.under_way, len(self.untold)
        return Load(self.executor.capacity, under_way, untold, left, promotable)

    def promote(self, count: int) -> None:
        """Let paused children go on."""
        assert self.rungs is not None
        self._promote(self.rungs, self.rungs.promotable()[:count])

    def promote_last(self) -> bool:
        """At the end of a search, if no child was evaluated to the end, let the best go on.

        Returns:
            Whether there was one.
        """
        if self.rungs is None or (number := self.rungs.last()) is None:
            return False
        self._promote(self.rungs, [number])
        return True

    def _promote(self, rungs: Rungs, numbers: Sequence[int]) -> None:
        self.untold = [record for record in self.untold if record.number not in numbers]
        self.climbing.update(numbers)
        for number in numbers:
            rungs.leave(number)
            self.evaluation.add(self.journal.child(number))

    def ask(self, count: int) -> None:
        """Ask the policy for children; those that equal known ones have their rewards.

        Those that their costs exclude have failed.
        """
        self.executor.evaluator.before_ask(self.policy)
        records = []
        for number, proposal in enumerate(self.policy.ask(count), self.asked):
            record, architecture = self._sampled(proposal, number)
            costs, problem = self._costs(record.key, architecture)
            record = dataclasses.replace(record, costs=costs)
            if first := self._first(record):
                record = _as(record, first)
            elif problem:
                record = _with(record, Result.failed(problem), 0.0)
                self._know(record.key, _Known(number, 0.0, record.state))
            records.append(record)
        self.journal.commit_ask(records, self._state())
        self.asked += len(records)
        for record in records:
            if record.reward is None:
                self.evaluation.add(record)
            else:
                self._rewarded(record)

    def _sampled(self, proposal: Proposal, number: int) -> tuple[Record, Any]:
        """A child without its costs, and its architecture."""
        architecture = self.space.decode(proposal.actions)
        key = self.space.key(architecture)
        record = Record(
            number=number,
            actions=tuple(map(int, proposal.actions)),
            key=key,
            architecture=plain_json("an architecture", self.space.to_json(architecture)),
            version=proposal.version,
            seed=self.space.seed(key, self.seed),
            parent=proposal.parent,
            log_probabilities=proposal.log_probabilities,
        )
        return record, architecture

    def _costs(self, key: str, architecture: Any) -> tuple[dict[str, Any], str | None]:
        """The costs of a child, and why they exclude it or None."""
        if key not in self.costs:
            if first := self.known.get(key):
                self.costs[key] = self.journal.child(first.number).costs, None
            else:
                self.costs[key] = _costs(self.executor.evaluator, architecture, self.objectives)
        return self.costs[key]

    def _state(self) -> dict[str, np.ndarray]:
        states = {"policy.": self.policy.state(), "evaluator.": self.executor.evaluator.state()}
        return {prefix + name: array for prefix, s in states.items() for name, array in s.items()}

    def evaluate(self) -> None:
        """Wait for children and take their rewards."""
        for record in self.evaluation.evaluate(self.thresholds):
            if record.number in self.climbing:
                self._promoted(record)
                continue
            if record.same_as is None:
                assert record.reward is not None
                self._know(record.key, _Known(record.number, record.reward, record.state))
            self._rewarded(record)
        self._keep_weights()

    def _keep_weights(self) -> None:
        """Remove weights that no child will inherit; called when the journal has what follows from it.

        What is kept follows from the children and the policy alone, not from when it was asked.
        """
        if self.weights is None:
            return
        able = {*self.policy.parents(), *(record.number for record in self.untold)}
        best = sorted(self.evaluation.trained(able), key=_rank)[: self.keep_weights]
        self.weights.keep([*best, *self.evaluation.parents()])

    def _first(self, record: Record) -> _Known | None:
        """The earlier child whose reward a new one gets, if there is one.

        One with a parent may be a parent, too: it is evaluated if the earlier one's weights are gone.
        """
        first = self.known.get(record.key)
        if first and self.weights and record.parent is not None and first.state == "finished":
            trained = self.journal.child(first.number)
            return first if self.weights.path(trained).exists() else None
        return first

    def _know(self, key: str, first: _Known) -> None:
        if self.remember and first.state != "lost":
            self.known[key] = first

    def _rewarded(self, record: Record) -> None:
        self._rest(record)
        for callback in self.callbacks:
            callback.rewarded(record)

    def _promoted(self, record: Record) -> None:
        """Take the reward of a child that had paused, which later equal ones share."""
        assert record.reward is not None
        self.climbing.remove(record.number)
        self._know(record.key, _Known(record.number, record.reward, record.state))
        self._rest(record)
        for callback in self.callbacks:
            callback.promoted(record)

    def tell(self, count: int) -> None:
        """Let the policy learn from the first children; of lost ones there is nothing to learn."""
        batch = sorted(self.untold[:count], key=lambda record: record.number)
        experiences = [self._experience(record) for record in batch if record.state != "lost"]
        number = self.policy.version
        metrics = self.policy.tell(experiences) if experiences else {}
        self.policy.version = number + 1
        records = [dataclasses.replace(record, learned=number) for record in batch]
        self.journal.commit_tell(records, self._state(), metrics)
        del self.untold[:count]
        self._keep_weights()
        self._take_curves(records)
        for callback in self.callbacks:
            callback.learned(records, metrics)

    def _experience(self, record: Record) -> Experience:
        assert record.reward is not None
        proposal = Proposal(record.actions, record.version, record.log_probabilities, record.parent)
        objectives: tuple[float, ...] = ()
        if self.objectives.names and record.state != "failed":
            first = record if record.same_as is None else self.journal.child(record.same_as)
            objective = self.executor.evaluator.objective
            objectives = self.objectives.values(objective, first.objectives(objective))
        return Experience(record.number, proposal, record.reward, objectives)


class _Known(NamedTuple):
    """A child that was evaluated."""

    number: int
    reward: float
    state: Any


def _as(record: Record, first: _Known) -> Record:
    """A child with the reward of an earlier one."""
    return dataclasses.replace(
        record, state=first.state, reward=first.reward, same_as=first.number, seconds=0.0
    )


def _part(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }


def _costs(
    evaluator: Evaluator, architecture: Any, objectives: Objectives
) -> tuple[dict[str, Any], str | None]:
    """The costs of a child, and why they exclude it or None; only what is not excluded is measured."""
    costs = plain_json("costs", evaluator.cost(architecture))
    if above := objectives.above(costs):
        return costs, above
    try:
        costs |= plain_json("costs", evaluator.measure(architecture))
    except ValueError as error:
        return costs, " ".join(str(error).split())
    return costs, objectives.above(costs)


class _OrphanError(ValueError):
    """The weights of a child's parent are gone."""


class Evaluation:
    """Evaluates children of a journal, equal ones once, and records their results.

    A child whose worker is lost, or runs out of memory, is tried again; the others are not concerned.

    Args:
        space: Search space.
        executor: Executor that evaluates them.
        journal: Journal that gets their results.
        retries: How often a child is tried again whose worker was lost.
        objectives: What is looked for.
        pauses: Numbers of evaluations after which children pause. Default: they do not.
        weights: Weights of children, which later ones begin with. Default: they begin without.
    """

    def __init__(
        self,
        space: Space,
        executor: Executor,
        journal: Journal,
        retries: int = RETRIES,
        objectives: Objectives = Objectives(),
        pauses: Sequence[int] = (),
        weights: Weights | None = None,
    ) -> None:
        self._space, self._executor, self._journal = space, executor, journal
        self._retries, self._objectives = retries, objectives
        self._pauses, self._checkpoints = pauses, Checkpoints(journal.path)
        self._weights = weights
        self._waiting: deque[Record] = deque()
        self._running: dict[int, Record] = {}
        #: Children that wait for the result of an equal one, by key.
        self._equal: dict[str, list[Record]] = {}
        self._failures: Counter[int] = Counter()
        #: Outcomes of children that could not begin.
        self._unbegun: list[Outcome] = []
        #: Children as they paused, whose next results are not yet in the journal.
        self._passed: list[Record] = []
        #: Number of children without a result, equal ones included: a policy that draws one child
        #: again and again would otherwise be asked for more without end.
        self.under_way = 0

    def add(self, record: Record) -> None:
        """Add a child of the journal: one without a reward, or one that paused."""
        self.under_way += 1
        if record.key in self._equal:
            self._equal[record.key].append(record)
        else:
            self._equal[record.key] = []
            self._waiting.append(record)

    def evaluate(self, thresholds: tuple[float, ...] = ()) -> list[Record]:
        """Begin to evaluate what there is room for; wait for results and return their children.

        Args:
            thresholds: See `Trial`.
        """
        self._begin(thresholds)
        outcomes, self._unbegun = self._unbegun or self._executor.completed(), []
        records = [record for outcome in outcomes for record in self._finished(outcome)]
        # A worker that is free now need not wait for the journal and the policy.
        self._begin(thresholds)
        if records:
            self._journal.commit_results(records)
        while self._passed:
            self._checkpoints.remove(self._passed.pop())
        return records

    def _begin(self, thresholds: tuple[float, ...]) -> None:
        while self._waiting and self._has_room():
            record = self._waiting.popleft()
            self._running[record.number] = record
            try:
                trial = self._trial(record, thresholds)
            except _OrphanError as error:
                self._unbegun.append(Outcome(record.number, Result.failed(str(error)), 0.0))
            else:
                self._executor.submit(trial)

    def _trial(self, record: Record, thresholds: tuple[float, ...]) -> Trial:
        child = self._executor.evaluator.prepare(self._space.from_json(record.architecture))
        pause_at = next((pause for pause in self._pauses if pause > len(record.curve)), None)
        checkpoint = self._checkpoints.load(record) if record.curve else None
        weights = self._inherited(record) if checkpoint is None else None
        return Trial(record.number, child, record.seed, thresholds, pause_at, checkpoint, weights)

    def _inherited(self, record: Record) -> dict[str, np.ndarray] | None:
        """The weights of a child's parent; None if it has no parent.

        Raises:
            _OrphanError: If they are gone.
        """
        if self._weights is None or record.parent is None:
            return None
        (parent,) = self.trained([record.parent])
        found = self._weights.load(parent)
        if found is None:
            raise _OrphanError(
                f"Expected the weights of its parent, {parent.name}, in "
                f"weights/{self._weights.path(parent).name}. Received: no such file, or a damaged one"
            )
        return found

    def trained(self, numbers: Iterable[int]) -> list[Record]:
        """The different children whose evaluation gave children of these numbers their rewards."""
        child = self._journal.child
        return [child(source) for source in {child(number).source for number in numbers}]

    def parents(self) -> list[Record]:
        """The parents of the children without a result, as `trained` says."""
        equal = (record for some in self._equal.values() for record in some)
        records = (*self._waiting, *self._running.values(), *equal)
        return self.trained(record.parent for record in records if record.parent is not None)

    def _has_room(self) -> bool:
        """A child that failed for want of memory, or was killed for it, is tried again by itself."""
        under_way = [self._waiting[0].number, *self._running]
        alone = self._executor.shares_memory and any(self._failures[number] for number in under_way)
        return len(self._running) < (1 if alone else self._executor.capacity)

    def _finished(self, outcome: Outcome) -> list[Record]:
        """A child and its equals with their result; none if it is tried again."""
        record, result = self._running.pop(outcome.number), outcome.result
        allowed = self._retries if result.status == "lost" else _MEMORY_RETRIES * outcome.out_of_memory
        self._failures[record.number] += 1
        if self._failures[record.number] <= allowed:
            self._waiting.append(record)
            return []
        tries = self._failures.pop(record.number)
        if tries > 1 and result.message:
            result = dataclasses.replace(result, message=f"{result.message} ({tries} tries)")
        result = self._rewarded(record, result)
        first = _with(record, result, outcome.seconds)
        if record.curve:
            self._passed.append(record)
        if result.checkpoint is not None:
            self._checkpoints.save(first, result.checkpoint)
        if self._weights is not None and result.weights is not None:
            self._weights.save(first, result.weights)
        known = _Known(first.number, first.reward or 0.0, first.state)
        records = [first, *(_as(other, known) for other in self._equal.pop(record.key))]
        self.under_way -= len(records)
        return records

    def _rewarded(self, record: Record, result: Result) -> Result:
        """A result with the reward that the expression gives it, if there is one."""
        objective = self._executor.evaluator.objective
        if self._objectives.expression is None or result.status in ("failed", "lost"):
            return result
        metrics = {**result.metrics, objective: result.reward}
        try:
            reward = self._objectives.reward_of(objective, result.reward, record.costs)
        except ValueError as error:
            return Result.failed(str(error), curve=result.curve, metrics=metrics)
        return dataclasses.replace(result, reward=reward, metrics=metrics)


def _with(record: Record, result: Result, seconds: float) -> Record:
    """A child with a result, after an earlier one if it had paused."""
    return dataclasses.replace(
        record,
        state=result.status,
        reward=result.reward,
        # One that fails or is lost on its way to a rung was on the one before.
        curve=max(result.curve, record.curve, key=len),
        metrics=dict(result.metrics),
        message=result.message,
        seconds=float(seconds) + (record.seconds or 0.0),
    )


Ranked = TypeVar("Ranked", Record, Outline)


def _rank(record: Record | Outline) -> tuple[float, int]:
    """What children are sorted by, the best first."""
    return -(record.reward or 0.0), record.number


def ranked(records: Iterable[Ranked]) -> list[Ranked]:
    """The different children that were evaluated to the end, best first; of equal ones the last."""
    whole = {r.key: r for r in records if r.state == "finished" and r.same_as is None}
    return sorted(whole.values(), key=_rank)


def evaluate_all(
    records: Sequence[Record],
    space: Space,
    executor: Executor,
    journal: Journal,
    callbacks: Sequence[Callback] = (),
    objectives: Objectives = Objectives(),
    retries: int = RETRIES,
) -> list[Record]:
    """Evaluate children that no policy is asked for, such as the best of a search once more.

    Called again with the same journal, it evaluates those that have no reward there yet.

    Args:
        records: Different children. Costs that they have are kept, and those that are measured are
            measured if they have none.
        space: Search space.
        executor: Executor that evaluates them.
        journal: Journal of these evaluations. Children keep their numbers in it.
        callbacks: Callbacks.
        objectives: What is looked for.
        retries: How often a child is tried again whose worker was lost.

    Returns:
        All children in the journal, best first.

    Raises:
        ValueError: If the journal is damaged, or contains other children.
    """
    there = {record.number: record for record in journal.children()}
    new = []
    for record in records:
        if record.number not in there:
            costs = executor.evaluator.cost(architecture := space.from_json(record.architecture))
            known = record.costs or executor.evaluator.measure(architecture)
            new.append(
                Record(
                    number=record.number,
                    actions=record.actions,
                    key=record.key,
                    architecture=record.architecture,
                    version=record.version,
                    seed=record.seed,
                    costs=plain_json("costs", {**known, **costs}),
                )
            )
        elif there[record.number].key != record.key:
            raise ValueError(
                f"{journal.path}: {record.name}: expected the child of the search. Received: another"
            )
    journal.commit_ask(new)
    evaluation = Evaluation(space, executor, journal, retries, objectives)
    for record in [*there.values(), *new]:
        if record.reward is None:
            evaluation.add(record)
    while evaluation.under_way:
        for record in evaluation.evaluate():
            for callback in callbacks:
                callback.rewarded(record)
    return ranked(journal.children())
