"""A child that is trained step by step and evaluated between its steps, whatever it is."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from .budget import TrainingBudget
from .evaluator import Evaluator, Result, Trial, share_gpus
from .space import A


class Training(ABC):
    """The training of one child, from its start."""

    #: Further results of the last evaluation, as JSON.
    metrics: Mapping[str, Any] = {}

    @abstractmethod
    def train(self, start: int, stop: int) -> float:
        """Take the steps from ``start`` to below ``stop``; return their mean loss."""

    @abstractmethod
    def reward(self) -> float:
        """Evaluate the child. The reward of one that has diverged is not finite."""

    @abstractmethod
    def variables(self) -> Mapping[str, Any]:
        """All variables that the training goes on from, of TensorFlow or Keras."""

    def state(self) -> dict[str, np.ndarray]:
        """The values of the variables."""
        return {name: np.array(variable) for name, variable in self.variables().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> bool:
        """Return to a state; if it is none of this child, stay at the start and return False."""
        variables = self.variables()
        if any(n not in state or state[n].shape != tuple(v.shape) for n, v in variables.items()):
            return False
        for name, variable in variables.items():
            variable.assign(state[name])
        return True


class TrainedChild(Evaluator[A]):
    """Base class of evaluators that train a child from scratch. Subclasses define `start`.

    The reward of a child is that of its last evaluation, or the best of so many of the last as the
    budget says. A child that pauses goes on as if it had not.

    Args:
        budget: Training of a child.
    """

    def __init__(self, budget: TrainingBudget) -> None:
        self.budget = budget
        self.evaluations = budget.evaluations

    def start(self, trial: Trial) -> Training:
        """Return the training of a child, before its first step.

        Raises:
            ValueError: If the child cannot be trained.
        """
        raise NotImplementedError

    def setup(self) -> None:
        """Share a GPU with the children of other workers, and say nothing of what is traced."""
        # TensorFlow warns of functions that are traced again: here every child is another one.
        tf.get_logger().setLevel("ERROR")
        share_gpus()

    def evaluate(self, trial: Trial) -> Result:
        """Train the child and evaluate it.

        Raises:
            ValueError: See `start`.
        """
        budget, training, before = self.budget, self.start(trial), trial.checkpoint or {}
        curve: list[float] = []
        losses: list[float] = []
        if training.restore(before):
            curve, losses = before["curve"].tolist(), before["losses"].tolist()
        bounds = np.linspace(0, budget.steps, budget.evaluations + 1).round().astype(int).tolist()
        for start, stop in itertools.pairwise(bounds[len(curve) :]):
            losses.append(training.train(start, stop))
            reward = training.reward() if math.isfinite(losses[-1]) else math.nan
            if not math.isfinite(reward):
                return Result.failed("diverged", curve=tuple(curve), metrics={"losses": losses})
            curve.append(reward)
            if trial.pauses(curve) or trial.stops(curve):
                break
        checkpoint = None
        if trial.pauses(curve):
            checkpoint = training.state() | {"curve": np.array(curve), "losses": np.array(losses)}
        return Result(
            max(curve[-budget.best_of :]),
            tuple(curve),
            "stopped" if checkpoint or len(curve) < budget.evaluations else "finished",
            metrics={**training.metrics, "losses": losses},
            checkpoint=checkpoint,
        )
