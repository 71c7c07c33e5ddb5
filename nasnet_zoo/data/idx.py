"""IDX files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import ImageData


def load_idx(folder: str | os.PathLike[str]) -> ImageData:
    """Read the four IDX files of a data set, compressed by gzip or not.

    Args:
        folder: Folder of ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same for
            ``t10k`` (or ``test``), each with or without ``.gz``. ``.idx`` may stand for ``-idx``.

    Raises:
        ValueError: If a file is missing, broken or truncated, or does not fit the others. The message
            names the file.
    """
    folder = Path(folder)
    arrays = []
    for part in ("train", "test"):
        for kind in ("images", "labels"):
            path = _idx_file(folder, part, kind)
            if path is None:
                raise ValueError(
                    f"{folder}: expected an IDX file with the {kind} to {part}. Received: none"
                )
            arrays.append(_read_idx(path, kind))
    train_images, train_labels, test_images, test_labels = arrays
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"{folder}: expected images of one size. "
            f"Received: {train_images.shape[1:]} to train, {test_images.shape[1:]} to test"
        )
    classes = int(max(train_labels.max(initial=0), test_labels.max(initial=0))) + 1
    names = tuple(str(label) for label in range(classes))
    found = len(train_labels) + len(test_labels)
    return ImageData(train_images, train_labels, test_images, test_labels, names, folder.name, found)


def has_idx_files(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the training images of an IDX data set."""
    return _idx_file(Path(folder), "train", "images") is not None


def _idx_file(folder: Path, part: str, kind: str) -> Path | None:
    dimensions = 3 if kind == "images" else 1
    for prefix in ("train",) if part == "train" else ("t10k", "test"):
        for joint in "-.":
            for suffix in ("", ".gz"):
                path = folder / f"{prefix}-{kind}{joint}idx{dimensions}-ubyte{suffix}"
                if path.is_file():
                    return path
    return None


def _read_idx(path: Path, kind: str) -> np.ndarray:
    """The (images, height, width, 1) uint8 images or the int64 labels of an IDX file."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            values = _idx_values(stream, path, dimensions=3 if kind == "images" else 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: expected a readable file. Received: {error}") from None
    return values[..., None] if kind == "images" else values.astype(np.int64)


def _idx_values(stream: Any, path: Path, dimensions: int) -> np.ndarray:
    length = 4 + 4 * dimensions
    header = stream.read(length)
    magic = bytes((0, 0, 8, dimensions))
    if header[:4] != magic:
        raise ValueError(
            f"{path}: expected an IDX file of bytes with {dimensions} dimensions, which begins with "
            f"{magic.hex()}. Received: {header[:4].hex() or 'an empty file'}"
        )
    if len(header) < length:
        raise ValueError(f"{path}: expected a header of {length} bytes. Received: {len(header)}")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    values = bytearray()
    # In chunks: the header may claim more bytes than the file has.
    while len(values) <= size and (part := stream.read(min(size + 1 - len(values), 2**20))):
        values += part
    if len(values) != size:
        more = "more" if len(values) > size else len(values)
        raise ValueError(f"{path}: expected {size} bytes after the header {shape}. Received: {more}")
    return np.frombuffer(values, np.uint8).reshape(shape)
