"""Opens HDF5 files of weights, alone or in a ``.keras`` archive.

Nothing outside the file is read: neither links nor storage in other files are followed. Nothing of
an archive but its weights is opened.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import ml_dtypes
import numpy as np

from nasnet_zoo.files import parse_json, reading

from .archive import open_archive

_MEMBER = "model.weights.h5"
_CONFIG = "config.json"


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file, or the one inside a ``.keras`` archive, for reading.

    Raises:
        ValueError: If it is neither an HDF5 file nor an archive with one, or is damaged.
        OSError: If it cannot be read.
    """
    with reading(path, "a file of weights") as named:
        named.open("rb").close()
    archive = os.fspath(path).endswith(".keras")
    content = io.BytesIO(_unpacked(path)) if archive else path
    with _damaged(path):
        file = h5py.File(content, "r")
    with file:
        yield file


@contextmanager
def _damaged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of many classes that h5py raises into one that names the file."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a whole HDF5 file. Received: {error}") from None


def _unpacked(path: str | os.PathLike[str]) -> bytes:
    """Read the HDF5 file of weights in a ``.keras`` archive."""
    with open_archive(path) as archive:
        try:
            return archive.read(_MEMBER)
        except KeyError:
            raise ValueError(
                f"{path}: expected a .keras archive with {_MEMBER}. Received: one without"
            ) from None


def datasets(file: h5py.File, path: str | os.PathLike[str]) -> dict[str, h5py.Dataset]:
    """Return every data set of a file by its path in it.

    Args:
        file: Result of `open_hdf5`.
        path: Path of the file, for error messages.

    Raises:
        ValueError: If a data set keeps its values in another file, or the file is damaged.
    """
    found: dict[str, h5py.Dataset] = {}
    elsewhere: list[str] = []

    # Unlike indexing, a visit follows neither soft nor external links.
    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item
            if item.external or item.is_virtual:
                elsewhere.append(name)

    with _damaged(path):
        file.visititems(visit)
    if elsewhere:
        raise ValueError(
            f"{path}: expected all weights inside the file. "
            f"Received: {elsewhere[0]}, which is stored in another file"
        )
    return found


def read(data: h5py.Dataset, path: str | os.PathLike[str]) -> np.ndarray:
    """Read the values of a data set.

    Args:
        data: Data set to read.
        path: Path of the file, for error messages.

    Raises:
        ValueError: If the data set holds no floating-point numbers, or is damaged.
    """
    with _damaged(path):
        # HDF5 has no bfloat16: Keras stores its bytes and notes the type.
        if data.attrs.get("dtype") == "bfloat16" and data.dtype.itemsize == 2:
            return data[()].view(ml_dtypes.bfloat16)
        # Elements of a type of variable length could take any memory.
        number = data.dtype.kind == "f"
        value = data[()] if number else np.empty(())
    if not number:
        raise ValueError(
            f"{path}: expected floating-point numbers. Received: {data.name} of type {data.dtype}"
        )
    return value


def note(data: h5py.Dataset, name: str, path: str | os.PathLike[str]) -> str:
    """Read a text attribute of a data set's group; "" if there is none.

    Raises:
        ValueError: If the file is damaged.
    """
    with _damaged(path):
        value = data.parent.attrs.get(name)
    return value if isinstance(value, str) else ""


def check_archive(path: str | os.PathLike[str], kind: str) -> None:
    """Check a ``.keras`` archive before Keras loads it.

    Args:
        path: Path of the archive.
        kind: Expected content, for error messages.

    Raises:
        ValueError: If its config is no JSON object, or its weights are no numbers.
    """
    with open_archive(path, kind) as archive:
        if _CONFIG not in archive.namelist():
            raise ValueError(f"{path}: expected {kind} with {_CONFIG}. Received: a file without")
        config = archive.read(_CONFIG).decode(errors="replace")
    if not isinstance(parse_json(config, f"{path}: expected {kind} with {_CONFIG} in JSON"), dict):
        raise ValueError(f"{path}: expected {kind} with an object in {_CONFIG}. Received: none")
    with open_hdf5(path) as file:
        for data in datasets(file, path).values():
            if data.dtype.kind not in "fiub" and data.attrs.get("dtype") != "bfloat16":
                raise ValueError(
                    f"{path}: expected {kind} with weights that are numbers. "
                    f"Received: {data.name} of type {data.dtype}"
                )
