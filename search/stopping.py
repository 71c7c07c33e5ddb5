"""Early stopping of children."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from nasnet_zoo.checking import PositiveInt, check_fields


@dataclass(frozen=True)
class QuantileStopping:
    """Early stopping below a quantile of earlier rewards.

    A child stops at an evaluation if its reward is below the quantile of the rewards that earlier
    children had at the same evaluation, children that stopped there included. With the median it is
    the median stopping rule (Golovin et al., Vizier, KDD 2017, section 3.2.2).

    A stopped child keeps the reward of its last evaluation. As that is the reward of less training,
    the policy underrates the child, so a search stops children only on request.

    Args:
        quantile: Quantile, in (0, 1).
        after: Number of earlier rewards that an evaluation needs before children stop at it.

    Raises:
        ValueError: If a number is out of range.
    """

    quantile: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    after: PositiveInt = 20

    def __post_init__(self) -> None:
        check_fields(self)

    def thresholds(self, curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Least reward at each evaluation to go on, by the curves of earlier children.

        It is shorter where too few children got so far.
        """
        found = []
        for evaluation in range(max(map(len, curves), default=0)):
            rewards = [curve[evaluation] for curve in curves if len(curve) > evaluation]
            if len(rewards) < self.after:
                break
            found.append(float(np.quantile(rewards, self.quantile)))
        return tuple(found)


@dataclass(frozen=True)
class SuccessiveHalving:
    """Asynchronous successive halving: more training for the best of those that had as much.

    Every child is trained up to the first rung, a number of evaluations, and pauses there. Whenever a
    child is among the best 1 / ``factor`` of all that came to its rung, it goes on to the next rung,
    ``factor`` times as many evaluations, and from the last one to its end (Li et al., A System for
    Massively Parallel Hyperparameter Tuning, arXiv 1810.05934).

    Algorithm 2 of the paper looks for children to promote on the highest rung first. Here it is the
    lowest, so that a rung is decided on when all that can come to it for now have come: a synchronous
    search, which promotes a whole rung at a time, then does not depend on where it was killed.

    Args:
        factor: Reduction factor, eta.
        first: Number of evaluations of the first rung.

    Raises:
        ValueError: If a number is out of range.
    """

    factor: Annotated[int, Ge(2)] = 4
    first: PositiveInt = 1

    def __post_init__(self) -> None:
        check_fields(self)

    def rungs(self, evaluations: int | None) -> tuple[int, ...]:
        """Return the evaluations at which children pause, and the last one.

        Args:
            evaluations: Number of evaluations of a child, `Evaluator.evaluations`.

        Raises:
            ValueError: If children cannot pause, or end before they would.
        """
        if evaluations is None:
            raise ValueError(
                "Expected an evaluator whose children can pause, for successive halving. "
                "Received: one whose children cannot"
            )
        if self.first >= evaluations:
            raise ValueError(
                f"Expected halving to begin below the {evaluations} evaluations of a child. "
                f"Received: halving_first={self.first}"
            )
        found = [self.first]
        while found[-1] * self.factor < evaluations:
            found.append(found[-1] * self.factor)
        return (*found, evaluations)

    def promotable(self, rewards: Mapping[int, Sequence[float]], paused: Container[int]) -> list[int]:
        """Return the children of the lowest rung that has any to promote, best first.

        Args:
            rewards: Rewards of each child at the rungs that it came to, by its number.
            paused: Numbers of the children that wait on their rungs.
        """
        for rung in range(max(map(len, rewards.values()), default=0)):
            reached = sorted((-r[rung], number) for number, r in rewards.items() if len(r) > rung)
            best = [number for _, number in reached[: len(reached) // self.factor]]
            if found := [n for n in best if n in paused and len(rewards[n]) == rung + 1]:
                return found
        return []


class Rungs:
    """The rungs of a search by successive halving, and who is on them.

    Args:
        halving: Rule by which children go on.
        evaluations: Number of evaluations of a child, `Evaluator.evaluations`.

    Raises:
        ValueError: If children cannot pause, or end before they would.
    """

    def __init__(self, halving: SuccessiveHalving, evaluations: int | None) -> None:
        #: The evaluations at which children pause, and the last one.
        self.ends = halving.rungs(evaluations)
        self._halving = halving
        self._rewards: dict[int, tuple[float, ...]] = {}
        self._paused: set[int] = set()
        self._promotable: list[int] | None = []

    def put(self, number: int, rewards: tuple[float, ...], paused: bool) -> None:
        """Put a child on its rung.

        Args:
            number: Number of the child.
            rewards: Its rewards at the rungs that it came to.
            paused: Whether it waits there to go on.
        """
        self._rewards[number] = rewards
        if paused:
            self._paused.add(number)
        self._promotable = None

    def leave(self, number: int) -> None:
        """Let a child go on: it waits no more."""
        self._paused.remove(number)
        self._promotable = None

    def promotable(self) -> list[int]:
        """Return the children that can go on now; see `SuccessiveHalving.promotable`."""
        if self._promotable is None:
            self._promotable = self._halving.promotable(self._rewards, self._paused)
        return self._promotable

    def last(self) -> int | None:
        """Return the best child of the highest rung where any waits; None once one came to the end."""
        if any(len(rewards) == len(self.ends) for rewards in self._rewards.values()):
            return None

        def place(number: int) -> tuple[int, float, int]:
            rewards = self._rewards[number]
            return len(rewards), rewards[-1], -number

        return max(self._paused, key=place, default=None)
