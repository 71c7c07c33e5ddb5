"""Checkpoints of a training run: the whole training state in one file."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from nasnet_zoo.files import reading, replacing

_ROUNDS = "rounds"


class NotFiniteError(ArithmeticError):
    """The loss or a weight is infinite or NaN."""


def save_checkpoint(
    model: keras.Model,
    path: str | os.PathLike[str],
    rounds: int,
    more: Mapping[str, keras.Variable] = MappingProxyType({}),
) -> None:
    """Write the whole training state of a compiled model atomically.

    An earlier checkpoint is kept if an error is raised.

    Args:
        model: Compiled model, its optimizer built.
        path: Path of the checkpoint.
        rounds: Number of completed rounds of training.
        more: Variables of the run beside those of the model and the optimizer, by name.

    Raises:
        NotFiniteError: If a value is infinite or NaN.
        OSError: If the file cannot be written.
    """
    state = {key: np.asarray(variable) for key, variable in _state(model, more).items()}
    for key, values in state.items():
        if not _finite(values):
            raise NotFiniteError(f"{key} is not finite")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **{_ROUNDS: np.asarray(rounds)}, **state)  # type: ignore[arg-type]


def restore_checkpoint(
    model: keras.Model,
    path: str | os.PathLike[str],
    more: Mapping[str, keras.Variable] = MappingProxyType({}),
) -> int:
    """Restore a checkpoint of `save_checkpoint`. Variables change only if the whole checkpoint fits.

    Args:
        model: Model that is compiled as the saved one was.
        path: Path of the checkpoint.
        more: Variables as in `save_checkpoint`.

    Returns:
        Number of completed rounds of training.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is broken or does not fit the model. The message names the variable.
    """
    variables, found = _state(model, more), _read(path)
    rounds = found.pop(_ROUNDS, None)
    if rounds is None or rounds.shape or rounds.dtype.kind != "i" or rounds < 0:
        raise _unfit(path, f"{_ROUNDS} {rounds}")
    for what, keys in (
        ("none of", variables.keys() - found.keys()),
        ("an unknown", found.keys() - variables.keys()),
    ):
        if keys:
            others = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise _unfit(path, f"{what} {min(keys)}{others}")
    for key, variable in variables.items():
        values, dtype = found[key], np.asarray(variable).dtype
        if values.shape != tuple(variable.shape) or values.dtype != dtype:
            raise _unfit(
                path,
                f"{key} of {values.dtype} {values.shape} instead of {dtype} {tuple(variable.shape)}",
            )
        if not _finite(values):
            raise _unfit(path, f"{key} that is not finite")
        if key.endswith("bn_variance") and values.min(initial=0) < 0:
            raise _unfit(path, f"{key} that is negative")
    for key, variable in variables.items():
        variable.assign(found[key])
    return int(rounds)


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    with reading(path, "a checkpoint"), open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        # zipfile and NumPy raise errors of many kinds on broken archives.
        except Exception as error:
            raise ValueError(f"{path}: expected a checkpoint. Received: {error}") from None


def _unfit(path: str | os.PathLike[str], received: str) -> ValueError:
    return ValueError(f"{path}: expected the checkpoint of this model. Received: one with {received}")


def _finite(values: np.ndarray) -> bool:
    return not np.issubdtype(values.dtype, np.floating) or bool(np.isfinite(values).all())


def _state(model: keras.Model, more: Mapping[str, keras.Variable]) -> dict[str, keras.Variable]:
    """Variables of the model and the optimizer and further ones, by name."""
    optimizer = named("optimizer", model.optimizer.variables)
    return {**named("model", model.variables), **optimizer, **more}


def named(owner: str, variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables by their paths, without the numbers that Keras counts within a process."""
    named: dict[str, keras.Variable] = {}
    counts: Counter[str] = Counter()
    for variable in variables:
        first, *rest = variable.path.split("/")
        if owner == "optimizer" or first.startswith("seed_generator"):
            first = re.sub(r"_\d+$", "", first)
        path = "/".join((owner, first, *rest))
        # The paths of random states are not unique without their numbers.
        named[f"{path}#{counts[path]}" if counts[path] else path] = variable
        counts[path] += 1
    return named


class Checkpoint(keras.callbacks.Callback):
    """Callback that saves the training state after every epoch and stops if the loss is not finite.

    Args:
        path: Path of the checkpoint.
        more: Variables as in `save_checkpoint`.

    Raises:
        NotFiniteError: In `fit`, if the loss or a weight is infinite or NaN. The last good checkpoint
            is kept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        more: Mapping[str, keras.Variable] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self._path, self._more = Path(path), more

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the loss."""
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            step = int(self.model.optimizer.iterations)
            raise NotFiniteError(
                f"Expected a finite loss: lower the learning rate. Received: {loss} at step {step}"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save."""
        save_checkpoint(self.model, self._path, epoch + 1, self._more)
