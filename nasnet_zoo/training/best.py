"""Early stopping and the best weights by the accuracy on held-out images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from .checkpoint import named


class BestRound(keras.callbacks.Callback):
    """Callback that keeps the best round of `fit` and stops training early.

    Args:
        model: Model compiled for classification, its optimizer built.
        keep_weights: Whether to keep the weights of the best round as they were evaluated.
        patience: Rounds in a row without a higher accuracy after which training stops. None: no early
            stopping.
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
        """Accuracy on the held-out images after the best round."""
        return float(self._accuracy)

    @property
    def round(self) -> int:
        """Index of the best round, from 0; the first of several equal ones."""
        return int(self._round)

    @property
    def state(self) -> dict[str, keras.Variable]:
        """Variables for a checkpoint, by name."""
        return {"best/accuracy": self._accuracy, "best/round": self._round, **self._weights}

    def stops_after(self, rounds: int) -> bool:
        """Whether training stops after this number of rounds."""
        return self._patience is not None and rounds - 1 - self.round >= self._patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the round if its accuracy is the highest."""
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
        """Assign the weights of the best round to the model, if they were kept."""
        for kept, weight in self._pairs():
            weight.assign(kept)

    def _pairs(self) -> Iterator[tuple[keras.Variable, keras.Variable]]:
        weights = named("best/model", self._trained.weights)
        return ((kept, weights[name]) for name, kept in self._weights.items())


def accuracy_name(model: keras.Model) -> str:
    """Name of the accuracy in a classifier's logs, with or without an auxiliary head."""
    return "accuracy" if len(model.output_names) == 1 else "predictions_accuracy"


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Replace the weights by their moving averages inside the block, if the optimizer has them."""
    variables = model.trainable_variables
    kept = [np.array(variable) for variable in variables]
    model.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
