"""Checkpoints of a training run: everything the next step depends on, in one file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells.files import replacing


class NotFiniteError(ArithmeticError):
    """The loss or a weight became infinite or no number."""


def _state(model: keras.Model) -> list[keras.Variable]:
    """The weights, statistics, drop path's steps, random states, and the optimizer's variables."""
    return [*model.variables, *model.optimizer.variables]


def save_checkpoint(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a compiled model's whole training state in one step.

    Raises:
        NotFiniteError: if a value is infinite or no number; what was there before is kept.
    """
    state = {f"{k:05}": np.asarray(variable) for k, variable in enumerate(_state(model))}
    for variable, values in zip(_state(model), state.values(), strict=True):
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise NotFiniteError(f"{variable.path} is not finite")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **state)  # type: ignore[arg-type]


def restore_checkpoint(model: keras.Model, path: str | os.PathLike[str]) -> int:
    """Restores what `save_checkpoint` wrote into a model compiled alike.

    Returns:
        The number of training steps taken.

    Raises:
        ValueError: if the file is broken, or another model's.
    """
    variables = _state(model)
    try:
        with np.load(path, allow_pickle=False) as file:
            state = [file[name] for name in sorted(file.files)]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: expected a checkpoint. Received: {error}") from None
    expected = [tuple(variable.shape) for variable in variables]
    received = [values.shape for values in state]
    if expected != received:
        raise ValueError(
            f"{path}: expected the checkpoint of this model, with {len(expected)} variables. "
            f"Received: {len(received)}, or of other shapes"
        )
    for variable, values in zip(variables, state, strict=True):
        variable.assign(values)
    return int(model.optimizer.iterations)


class Checkpoint(keras.callbacks.Callback):
    """Saves the training state after every epoch of `fit`, and stops when the loss is not finite.

    Args:
        path: of the checkpoint.

    Raises:
        NotFiniteError: in `fit`, when the loss or a weight is infinite or no number. The last good
            checkpoint is kept.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the loss."""
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            step = int(self.model.optimizer.iterations)
            raise NotFiniteError(f"the loss is {loss} at step {step}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves."""
        save_checkpoint(self.model, self._path)
