"""The settings of a search whose children are trained step by step. Imports no backend."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from nasnet_zoo.checking import PositiveInt, check_fields

from .settings import SearchSettings
from .space import Space
from .stopping import SuccessiveHalving


@dataclass(frozen=True, kw_only=True)
class TrainingBudget:
    """How a child is trained. Subclasses say how it takes a step.

    Args:
        steps: Number of training steps.
        evaluations: Number of evaluations in equal distances, the last one at the end. At most one for
            each step.

    Raises:
        ValueError: If a value is out of range.
    """

    steps: PositiveInt = 300
    evaluations: PositiveInt = 3

    #: Number of last evaluations whose best is the child's reward.
    best_of = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if self.evaluations > self.steps:
            raise ValueError(
                f"Expected evaluations: at most steps={self.steps}. "
                f"Received: evaluations={self.evaluations}"
            )

    def for_retraining(self) -> Self:
        """The same budget with four times the steps, for the best children of a search."""
        return dataclasses.replace(self, steps=4 * self.steps)


@dataclass(frozen=True)
class TrainingSettings(SearchSettings):
    """The settings of a search whose children are trained. Subclasses have defaults of all fields.

    Args:
        space: Space of the children.
        budget: Training of a child.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    space: Space = field(kw_only=True)
    budget: TrainingBudget = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        stopping = self.make_stopping()
        if isinstance(stopping, SuccessiveHalving):
            stopping.rungs(self.budget.evaluations)

    def random_references(self, count: int = 5) -> list[Any]:
        """Return architectures that are drawn uniformly, to compare a search with."""
        rng = np.random.default_rng(self.seed)
        return [self.space.decode(self.space.sample(rng)) for _ in range(count)]
