"""Converts weights of other libraries to ``.weights.h5`` files."""

from __future__ import annotations

import math
import os
from pathlib import Path

import keras

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.files import replacing
from nasnet_zoo.models import create_model
from nasnet_zoo.presets import find_preset
from nasnet_zoo.weights import Background, Report, load_weights

_SUFFIX = ".weights.h5"


@checked
def convert(
    source: str,
    model: str,
    out: str | os.PathLike[str],
    *,
    classes: PositiveInt | None = None,
    background: Background = "drop",
    include_top: bool = True,
    auxiliary_head: bool = False,
) -> Report:
    """Convert weights to a ``.weights.h5`` file, which is written whole or not at all.

    Args:
        source: Weights to read, as in `load_weights`.
        model: One of `list_models()`.
        out: File to write.
        classes: Number of classes. Default: that of the model's data set, and one more to keep a
            background class.
        background: As in `load_weights`. Default: "drop".
        include_top: Whether to write a classifier. Default: True.
        auxiliary_head: Whether to write an auxiliary head. Default: False.

    Returns:
        The report of `load_weights`.

    Raises:
        ValueError: If the weights do not fit the model, or an argument is out of range.
        OSError: If a file cannot be read, fetched or written.
    """
    out = Path(out)
    if not out.name.endswith(_SUFFIX):
        raise ValueError(f"Expected an output file named *{_SUFFIX}. Received: {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"Expected the output's folder to exist. Received: {out}")
    if classes is None:
        classes = find_preset(model).classes + (background == "keep")
    built = create_model(model, classes=classes, include_top=include_top, auxiliary_head=auxiliary_head)
    report = load_weights(built, source, background)
    with replacing(out) as temporary:
        _make_room(temporary, built)
        built.save_weights(temporary)
    return report


def _make_room(path: Path, model: keras.Model) -> None:
    """Fill the disk with as much as a file of the model's weights needs, at most.

    HDF5 does not survive a disk that fills up while it writes: the process crashes later on.
    """
    # A header of HDF5's takes less than 4 KiB a weight.
    size = sum(4 * math.prod(weight.shape) + 4096 for weight in model.weights)
    with path.open("wb") as file:
        for _ in range(0, size, 2**20):
            file.write(bytes(2**20))
