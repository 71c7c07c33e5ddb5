"""Learning rate schedules."""

from __future__ import annotations

from typing import Any, Self

import keras
from keras import ops

from nasnet_zoo.checking import PositiveInt, checked

from .recipes import OptimizerSettings


class _Delayed(keras.optimizers.schedules.LearningRateSchedule):
    """Base class of schedules that another one follows after some steps."""

    @checked
    def __init__(
        self, after: keras.optimizers.schedules.LearningRateSchedule, steps: PositiveInt
    ) -> None:
        super().__init__()
        self.after, self.steps = after, steps

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"after": keras.saving.serialize_keras_object(self.after), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Create the schedule from its config."""
        return cls(keras.saving.deserialize_keras_object(config["after"]), config["steps"])


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class WarmUp(_Delayed):
    """Linear warm-up of the learning rate from 0, followed by another schedule.

    Args:
        after: Schedule that follows; its steps are counted from the end of the warm-up.
        steps: Number of steps of the warm-up, at least 1.
    """

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step."""
        step = ops.cast(step, "float32")
        grown = self.after(0) * step / self.steps
        later = self.after(ops.maximum(step - self.steps, 0.0))
        return ops.where(step < self.steps, grown, later)


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class Held(_Delayed):
    """The first learning rate of a schedule, held for some steps before the schedule begins.

    Args:
        after: Schedule that follows; its steps are counted from then on.
        steps: Number of steps, at least 1.
    """

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step."""
        return self.after(ops.maximum(ops.cast(step, "float32") - self.steps, 0.0))


def learning_rate(
    settings: OptimizerSettings, epochs: int, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Create the learning rate schedule of a run, with its warm-up."""
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    after: keras.optimizers.schedules.LearningRateSchedule
    if settings.schedule == "cosine":
        steps = epochs * steps_per_epoch - warmup
        after = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
        return WarmUp(after, warmup) if warmup else after
    after = keras.optimizers.schedules.ExponentialDecay(
        settings.learning_rate,
        max(1, round(settings.decay_epochs * steps_per_epoch)),
        settings.decay_rate,
        staircase=True,
    )
    if start := round(settings.decay_start * steps_per_epoch):
        after = Held(after, start)
    return WarmUp(after, warmup) if warmup else after
