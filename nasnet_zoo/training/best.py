"""The round of training whose accuracy on held-out images is the highest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from .checkpoint import named


class BestRound(keras.callbacks.Callback):
    """Remembers the best round of `fit`, and stops it when no round is better for a while.

    Args:
        model: Compiled for classification, its optimizer built.
        keep_weights: Whether to remember the weights of that round, as they were evaluated.
        patience: Rounds in a row without a higher accuracy after which training stops. None for no
            such limit.
    """

    def __init__(self, model: keras.Model, keep_weights: bool, patience: int | None) -> None:
        super().__init__()
        self._trained, self._patience = model, patience
        self._accuracy = keras.Variable(-1.0, trainable=False)
        self._round = keras.Variable(0, dtype="int32", trainable=False)
        kept = named("best/model", model.weights) if keep_weights else {}
        self._weights = {
            name: keras.Variable(np.asarray(weight), dtype=weight.dtype, trainable=False)
            for name, weight in kept.items()
        }

    @property
    def accuracy(self) -> float:
        """On the held-out images, after the best round."""
        return float(self._accuracy)

    @property
    def round(self) -> int:
        """The number of the best round, from 0; the first of several that are equal."""
        return int(self._round)

    @property
    def state(self) -> dict[str, keras.Variable]:
        """What a checkpoint holds, by name."""
        return {"best/accuracy": self._accuracy, "best/round": self._round, **self._weights}

    def stops_after(self, rounds: int) -> bool:
        """Whether training ends when this number of rounds is done."""
        return self._patience is not None and rounds - 1 - self.round >= self._patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares."""
        accuracy = (logs or {})[f"val_{accuracy_name(self._trained)}"]
        if accuracy > self.accuracy:
            self._accuracy.assign(accuracy)
            self._round.assign(epoch)
            with averaged(self._trained):
                for kept, weight in self._pairs():
                    kept.assign(weight)
        if self.stops_after(epoch + 1):
            self._trained.stop_training = True

    def restore(self) -> None:
        """Gives the model the weights of the best round, where they are remembered."""
        for kept, weight in self._pairs():
            weight.assign(kept)

    def _pairs(self) -> Iterator[tuple[keras.Variable, keras.Variable]]:
        weights = named("best/model", self._trained.weights)
        return ((kept, weights[name]) for name, kept in self._weights.items())


def accuracy_name(model: keras.Model) -> str:
    """The name of the accuracy in the logs of a classifier, with or without an auxiliary head."""
    return "accuracy" if len(model.output_names) == 1 else "predictions_accuracy"


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Puts the moving averages of the weights, where the optimizer keeps any, in their place."""
    variables = model.trainable_variables
    kept = [np.array(variable) for variable in variables]
    model.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
