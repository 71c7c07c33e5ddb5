"""Loads saved models and checks what is in them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import keras
import numpy as np

from nasnet_zoo.files import reading
from nasnet_zoo.weights.hdf5 import check_archive

#: Longest part of an error of Keras that a message repeats, in characters.
_REASON = 400


def load_model(path: str | os.PathLike[str], kind: str = "a Keras model") -> keras.Model:
    """Load a ``.keras`` file.

    Args:
        path: Path of the file.
        kind: Expected content, for error messages. Default: "a Keras model".

    Raises:
        ValueError: If the file is no such file, lacks weights, or has weights that are no numbers, are
            not finite or are negative variances.
        OSError: If the file cannot be read.
    """
    name = os.fspath(path)
    with reading(name, kind), open(name, "rb"):
        pass
    if not name.endswith(".keras"):
        raise ValueError(f"{name}: expected {kind}, a .keras file. Received: {Path(name).name!r}")
    check_archive(name, kind)
    with warnings.catch_warnings(record=True) as noted:
        try:
            model = keras.saving.load_model(name, compile=False, safe_mode=True)
        # Keras raises many kinds of error on files that it cannot read.
        except Exception as error:
            reason = " ".join(str(error).split())
            reason = f"{reason[:_REASON]}..." if len(reason) > _REASON else reason
            raise ValueError(f"{name}: expected {kind}. Received: {reason}") from None
    if not isinstance(model, keras.Model):
        raise ValueError(f"{name}: expected {kind}. Received: a {type(model).__name__}")
    for warning in noted:
        # Keras keeps the initial weights of what a file lacks.
        if "Skipping nested container" in str(warning.message):
            raise ValueError(
                f"{name}: expected {kind} with all its weights. Received: one that lacks some"
            )
        warnings.warn(warning.message, stacklevel=2)
    for variable in model.variables:
        values = np.asarray(variable)
        if (
            not np.issubdtype(values.dtype, np.integer)
            and not np.isfinite(values.astype(np.float32)).all()
        ):
            raise ValueError(f"{name}: expected finite weights. Received: {variable.path} that is not")
        if variable.name.endswith("variance") and values.min(initial=0) < 0:
            raise ValueError(
                f"{name}: expected variances of at least 0. Received: {variable.path} below 0"
            )
    return model
