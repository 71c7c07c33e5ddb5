"""Opens HDF5 files of weights: no link and no storage outside the file is followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import h5py


@contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """The file, open for reading.

    Raises:
        ValueError: if it is not an HDF5 file, or a damaged one.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"Expected an HDF5 file. Received: {path} ({error})") from None
    with file:
        yield file


def datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Every data set below a group by its path from there.

    Raises:
        ValueError: if a data set keeps its values in another file.
    """
    found: dict[str, h5py.Dataset] = {}

    # Unlike indexing, a visit follows neither soft nor external links.
    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ValueError(
                    f"Expected all weights inside {group.file.filename}. "
                    f"Received: {path}, which is stored in another file"
                )
            found[path] = item

    group.visititems(visit)
    return found
