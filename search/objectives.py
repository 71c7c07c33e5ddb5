"""What a search looks for: the reward as an expression, limits, and several objectives at once."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nasnet_zoo.checking import check

from .expressions import Expression, quantity

#: Values of an evaluator's reward, for one of which at least an expression has to give one.
_ACCURACIES = (0.0, 0.5, 1.0)
_REWARDS = (*_ACCURACIES, 10.0, 1000.0)


@dataclass(frozen=True)
class Objectives:
    """What a search looks for in children, whose reward and costs are known.

    Args:
        reward: Expression that a policy takes for the reward, such as
            ``"accuracy * (latency / 12ms) ** -0.07"``. A child fails where it is below 0. Default: the
            reward of the evaluator.
        limit: Greatest value of each cost, a number or a text such as ``"500k"``. A child above one
            fails without being evaluated.
        names: Objectives of a policy that takes several: the reward of the evaluator by its name, which
            is to be great, and costs, which are to be small.

    Raises:
        ValueError: If the expression, a limit or the names are none.
    """

    reward: str | None = None
    limit: Mapping[str, float | str] = field(default_factory=dict)
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, value in self.limit.items():
            check(f"limit of {name}", value, float | str)
        if self.names and len(set(self.names)) < max(len(self.names), 2):
            raise ValueError(
                f"Expected objectives: at least two different names. Received: {', '.join(self.names)}"
            )
        _ = self.expression, self.limits

    @functools.cached_property
    def expression(self) -> Expression | None:
        """The expression of the reward."""
        return None if self.reward is None else Expression(self.reward)

    @functools.cached_property
    def limits(self) -> dict[str, float]:
        """The limits as numbers."""
        return {
            name: quantity(value) if isinstance(value, str) else float(value)
            for name, value in self.limit.items()
        }

    def check(self, objective: str, costs: Iterable[str]) -> None:
        """Check that all names are those of the evaluator's reward or of a cost.

        Raises:
            ValueError: If one is not. The message names it.
        """
        known = (objective, *costs)
        for what, names, expected in (
            ("reward", self.expression.names if self.expression else (), known),
            ("limit", self.limits, known[1:]),
            ("objectives", self.names, known),
        ):
            if unknown := [name for name in names if name not in expected]:
                raise ValueError(
                    f"Expected names in {what}: {', '.join(expected) or 'none'}. "
                    f"Received: {', '.join(unknown)}"
                )

    def above(self, costs: Mapping[str, float]) -> str | None:
        """Return which limit a child is above, as a message, or None."""
        for name, limit in self.limits.items():
            if costs.get(name, 0.0) > limit:
                return f"above the limit: {name}={costs[name]:.6g}, at most {limit:.6g}"
        return None

    def unrewarded(self, objective: str, costs: Mapping[str, float]) -> str | None:
        """Return why a child of these costs fails whatever its evaluation gives, as a message, or None.

        Where the expression takes costs that are not among these, nothing is known of it.

        Args:
            objective: Name of the evaluator's reward.
            costs: Costs of the child.
        """
        if self.expression is None or not {objective, *costs}.issuperset(self.expression.names):
            return None
        problem = None
        for value in _ACCURACIES if objective == "accuracy" else _REWARDS:
            try:
                self.reward_of(objective, value, costs)
            except ValueError as error:
                problem = f"without one: {error}"
            else:
                return None
        return problem

    def reward_of(self, objective: str, value: float, costs: Mapping[str, float]) -> float:
        """Return the reward of a child: by the expression, or else the evaluator's.

        Args:
            objective: Name of the evaluator's reward.
            value: Reward by the evaluator.
            costs: Costs of the child.

        Raises:
            ValueError: If the expression has no value there, or one below 0.
        """
        if self.expression is None:
            return value
        reward = self.expression({**costs, objective: value})
        if reward < 0:  # a child that failed would be better
            raise ValueError(
                f"Expected {self.reward} to be at least 0, the reward of a child that fails. "
                f"Received: {reward:g}"
            )
        return reward

    def values(self, objective: str, values: Mapping[str, float]) -> tuple[float, ...]:
        """Return the objectives ``names`` of a child, each the better the greater it is."""
        return tuple(values[name] if name == objective else -values[name] for name in self.names)


def pareto_front(values: np.ndarray) -> np.ndarray:
    """Return which points no other one dominates, as their indices in ascending order.

    A point dominates another if it is as great in all objectives and greater in one. Of equal points
    that no other dominates all are in the front.

    Args:
        values: float (points, objectives), each the better the greater it is.
    """
    front: list[int] = []
    # Lexicographically from the greatest: only earlier points can dominate a later one.
    for index in np.lexsort(-values.T[::-1]):
        point = values[index]
        earlier = values[front]
        if not ((earlier >= point).all(1) & (earlier > point).any(1)).any():
            front.append(int(index))
    return np.sort(np.array(front, int))


def hypervolume(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume that points dominate, down to a reference point.

    Args:
        values: float (points, objectives), each the better the greater it is.
        reference: float (objectives,). Points that are not above it in all objectives add nothing.
    """
    values = values[(values > reference).all(1)]
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(values.max() - reference[0])
    # In slices between one value of the last objective and the next, each of one objective less.
    order = np.argsort(-values[:, -1])
    values = values[order]
    heights = values[:, -1] - np.append(values[1:, -1], reference[-1])
    return float(
        sum(
            height * hypervolume(values[: count + 1, :-1], reference[:-1])
            for count, height in enumerate(heights)
            if height
        )
    )
