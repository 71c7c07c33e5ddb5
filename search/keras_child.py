"""An ordinary Keras model as a child: for spaces that have no faster evaluator."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np

from nasnet_zoo.checking import PositiveInt, checked

from .evaluator import Evaluator, Result, Trial, share_gpus
from .space import A


class KerasChild(Evaluator[A]):
    """Base class of evaluators that train a Keras model from scratch with ``fit``.

    Subclasses define `build`. A child runs on the Keras backend of its worker, which the environment
    variable ``KERAS_BACKEND`` chooses. It is evaluated after every epoch, and stops there if its reward
    is below the threshold of the search's early stopping. It fails if its loss or a metric is no finite
    number. Its weights are not kept, unless it pauses: it then goes on from all variables of the model
    and the optimizer, but examples come in another order than to a child that never paused.

    Example::

        class Perceptron(KerasChild[dict]):
            def build(self, architecture):
                units = keras.layers.Dense(architecture["units"], "relu")
                model = keras.Sequential([units, keras.layers.Dense(10, "softmax")])
                model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
                return model

        evaluator = Perceptron((images, labels), (held_out_images, held_out_labels), epochs=5)

    Args:
        training: Inputs and targets to train on.
        validation: Inputs and targets to evaluate on.
        epochs: Number of epochs.
        batch_size: Number of examples in a step.
        steps_per_epoch: Number of steps of an epoch. Default: as many as there are batches.
        metric: The reward, by its name in the logs of ``fit``. More has to be better; see `reward`.
        precision: Data types of the layers, by the name of their policy: "mixed_float16" and
            "mixed_bfloat16" compute in 16 bits and keep float32 weights.

    Raises:
        ValueError: If an argument is out of range.
    """

    @checked
    def __init__(
        self,
        training: tuple[Any, Any],
        validation: tuple[Any, Any],
        epochs: PositiveInt = 1,
        batch_size: PositiveInt = 32,
        steps_per_epoch: PositiveInt | None = None,
        metric: str = "val_accuracy",
        precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32",
    ) -> None:
        self.training, self.validation = training, validation
        self.epochs, self.batch_size, self.steps_per_epoch = epochs, batch_size, steps_per_epoch
        self.metric, self.precision = metric, precision
        self.evaluations = epochs

    def build(self, architecture: A) -> keras.Model:
        """Return a new, compiled model.

        Raises:
            ValueError: If there is no such model. The child has failed then.
        """
        raise NotImplementedError

    def reward(self, logs: Mapping[str, float]) -> float:
        """Return the reward after an epoch. Default: the metric.

        Args:
            logs: Loss and metrics of the epoch, those of the validation as "val_loss" and so on.

        Raises:
            TypeError: If there is no such metric.
        """
        if self.metric not in logs:
            raise TypeError(f"Expected metric: one of {', '.join(logs)}. Received: {self.metric}")
        return logs[self.metric]

    def setup(self) -> None:
        """Let the worker take no more of a GPU than its children need."""
        if keras.backend.backend() == "tensorflow":
            share_gpus()
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

    def evaluate(self, trial: Trial) -> Result:
        """Train the model of a child; return its last reward."""
        before = keras.config.dtype_policy()
        watch = _Watch(self, trial)
        done = len(watch.curve)
        # After a pause the same seed would shuffle as in the first epoch.
        keras.utils.set_random_seed((trial.seed + done) % 2**32)
        keras.config.set_dtype_policy(self.precision)
        try:
            model = self.build(trial.child)
            if trial.checkpoint is not None:
                self._restore(model, trial.checkpoint)
            model.fit(
                *self.training,
                batch_size=self.batch_size,
                initial_epoch=done,
                epochs=trial.pause_at or self.epochs,
                steps_per_epoch=self.steps_per_epoch,
                validation_data=self.validation,
                validation_batch_size=self.batch_size,
                callbacks=[watch],
                verbose=0,
            )
            checkpoint = _state(model, watch.curve) if trial.pauses(watch.curve) else None
        finally:
            keras.config.set_dtype_policy(before)
            _clear()
        if watch.diverged:
            return Result.failed("diverged", curve=watch.curve, metrics=watch.logs)
        stopped = len(watch.curve) < self.epochs
        status: Literal["stopped", "finished"] = "stopped" if stopped else "finished"
        curve = tuple(watch.curve)
        return Result(curve[-1], curve, status, metrics=watch.logs, checkpoint=checkpoint)

    def _restore(self, model: keras.Model, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Return to a state; a model has all its variables once it has seen an example."""
        model(keras.tree.map_structure(lambda values: values[:1], self.training[0]))
        model.optimizer.build(model.trainable_variables)
        for place, variable in _variables(model).items():
            if place not in checkpoint or checkpoint[place].shape != tuple(variable.shape):
                raise ValueError(
                    f"Expected a checkpoint with the {variable.path} of the model. "
                    "Received: one of another model"
                )
            variable.assign(checkpoint[place])


def _variables(model: keras.Model) -> dict[str, Any]:
    """The variables of a model and of its optimizer, by their place."""
    variables = [*model.variables, *model.optimizer.variables]
    return {str(place): variable for place, variable in enumerate(variables)}


def _state(model: keras.Model, curve: list[float]) -> dict[str, np.ndarray]:
    """All that the training goes on from, as arrays."""
    arrays = {p: keras.ops.convert_to_numpy(variable) for p, variable in _variables(model).items()}
    return arrays | {"curve": np.array(curve)}


class _Watch(keras.callbacks.Callback):
    """The rewards after each epoch; ends the training of a child that stops or diverges."""

    def __init__(self, child: KerasChild, trial: Trial) -> None:
        super().__init__()
        self._child, self._trial = child, trial
        self.curve: list[float] = (trial.checkpoint or {}).get("curve", np.empty(0)).tolist()
        self.logs: dict[str, float] = {}
        self.diverged = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.logs = {name: float(value) for name, value in (logs or {}).items()}
        reward = self._child.reward(self.logs)
        self.diverged = not all(map(math.isfinite, (reward, *self.logs.values())))
        if not self.diverged:
            self.curve.append(reward)
        if self.diverged or self._trial.stops(self.curve):
            self.model.stop_training = True


def _clear() -> None:
    """Free what Keras and its backend keep of a model."""
    keras.utils.clear_session()
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
    if keras.backend.backend() == "torch":
        import torch

        torch.cuda.empty_cache()
