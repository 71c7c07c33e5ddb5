"""ScheduledDropPath ([N] section 3.2 and appendix): drop path that grows during training."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from nasnet_zoo.checking import NonNegativeInt, PositiveInt, Seed, checked

from .primitives import DropPathVersion, KeepProbability, replica


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class ScheduledDropPath(keras.layers.Layer):
    """Drops whole paths of single samples, more often later in training and deeper in the network.

    A path is kept with probability ``keep = 1 - time * depth * (1 - keep_final)`` and then divided
    by ``keep``, so its expectation is unchanged. ``time`` is ``min(step / total_steps, 1)`` and
    ``depth`` is ``(cell + 1) / cells``. At inference the layer is the identity.

    The training step is a weight of the layer that counts the calls with ``training=True``: it
    needs no callback, works alike in every Keras backend, and is saved and restored with the model.
    `DropPathSchedule` sets ``total_steps`` when the length of a `fit` is known only as it begins.

    Args:
        keep_final: Probability of keeping a path at the end of training in the last cell, in (0, 1].
        total_steps: Number of training steps over which the schedule grows, at least 1.
        cell: Index of the cell that the paths belong to, from 0. Default: 0.
        cells: Number of cells in the network. Default: 1.
        version: ``"v3"`` is the released schedule. ``"v1"`` fixes ``depth`` to 1, ``"v2"`` fixes
            ``time`` to 1 and ``"constant"`` both: the plain drop path that the paper compares with.
            ``"batch"`` is the constant one with one draw for all samples of a batch, as in [P].
        seed: Seed of the random draws.

    Call arguments:
        inputs: Float tensor (batch, ...). The output has the same shape.
        training: Whether paths are dropped.

    Raises:
        ValueError: If an argument is out of range.

    Example::

        x = ScheduledDropPath(keep_final=0.6, total_steps=10_000, cell=3, cells=20)(x)
    """

    @checked
    def __init__(
        self,
        keep_final: KeepProbability,
        total_steps: PositiveInt,
        cell: NonNegativeInt = 0,
        cells: PositiveInt = 1,
        version: DropPathVersion = "v3",
        seed: Seed | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if cell >= cells:
            raise ValueError(f"Expected cell below cells. Received: {cell=}, {cells=}")
        self.keep_final = keep_final
        self.cell = cell
        self.cells = cells
        self.version = version
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        counter = {"shape": (), "dtype": "int32", "trainable": False}
        self.step = self.add_weight(name="step", initializer="zeros", **counter)
        self.total_steps = self.add_weight(
            name="total_steps", initializer=keras.initializers.Constant(total_steps), **counter
        )
        self.built = True

    def keep_probability(self) -> Any:
        """Return the probability of keeping a path at the current step, a float32 scalar."""
        time = ops.cast(self.step, "float32") / ops.cast(self.total_steps, "float32")
        time = ops.minimum(time, 1.0) if self.version in ("v1", "v3") else 1.0
        depth = (self.cell + 1) / self.cells if self.version in ("v2", "v3") else 1.0
        return 1.0 - time * depth * (1.0 - self.keep_final)

    def multipliers(self, batch: Any, paths: int) -> Any:
        """Advance the step and draw 0 or ``1 / keep`` for each path and sample: (paths, batch).

        With one draw for all samples it is (paths, 1).
        """
        keep = self.keep_probability()
        self.step.assign(self.step + 1)
        # Those of the whole batch, of which a replica takes its part.
        index, replicas = replica()
        samples = 1 if self.version == "batch" else batch * replicas
        draws = keras.random.uniform((paths, samples), dtype="float32", seed=self.seed_generator)
        if replicas > 1 and self.version != "batch":
            draws = draws[:, index * batch : (index + 1) * batch]
        return ops.floor(keep + draws) / keep

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        if not training:
            return inputs
        multipliers = self.multipliers(ops.shape(inputs)[0], 1)[0]
        return inputs * per_sample(multipliers, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "keep_final": self.keep_final,
            "total_steps": int(self.total_steps),
            "cell": self.cell,
            "cells": self.cells,
            "version": self.version,
            "seed": self.seed,
        }


def per_sample(multipliers: Any, x: Any) -> Any:
    """Reshape (batch,) multipliers so that they scale the samples of ``x``, in its dtype."""
    return ops.cast(ops.reshape(multipliers, (-1,) + (1,) * (len(x.shape) - 1)), x.dtype)


class DropPathSchedule(keras.callbacks.Callback):
    """Sets ``total_steps`` of every `ScheduledDropPath` of a model when `fit` begins.

    Args:
        total_steps: Number of training steps of the whole schedule. Default: epochs times steps per
            epoch of the `fit` that runs the callback.

    Raises:
        ValueError: If the length of the `fit` is unknown and ``total_steps`` is not given.
    """

    @checked
    def __init__(self, total_steps: PositiveInt | None = None) -> None:
        super().__init__()
        self.total_steps = total_steps

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        total = self.total_steps
        if total is None:
            epochs, steps = self.params.get("epochs"), self.params.get("steps")
            if not epochs or not steps:
                raise ValueError(
                    "DropPathSchedule expected total_steps, since fit does not know its number of "
                    f"steps. Received: epochs={epochs}, steps={steps}"
                )
            total = epochs * steps
        for layer in self.model._flatten_layers():
            if isinstance(layer, ScheduledDropPath):
                layer.total_steps.assign(total)
