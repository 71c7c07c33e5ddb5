"""What paused children go on from: a file of arrays for each."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from nasnet_zoo.files import replacing

from .journal import Record

# Name of the text in a file that says whose it is.
_OWNER = "owner"
_ARRAY = "array."
# Bytes of the checksum after the archive, whose own ones leave its directory out.
_LENGTH = 4


class Checkpoints:
    """The checkpoints of a search's paused children.

    Child 17 after 2 evaluations has the file ``17.2.npz``. A file that is missing, damaged or another
    child's is none: the child is then trained from the start.

    Args:
        journal: Path of the search's journal. The files are in the folder ``checkpoints`` beside it.
    """

    def __init__(self, journal: str | os.PathLike[str]) -> None:
        self.folder = Path(journal).with_name("checkpoints")

    def path(self, record: Record) -> Path:
        """The path of the checkpoint of a child after its curve."""
        return self.folder / f"{record.number}.{len(record.curve)}.npz"

    def save(self, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the checkpoint of a child after its curve.

        Raises:
            OSError: If it cannot be written.
        """
        self.folder.mkdir(exist_ok=True)
        named = {_ARRAY + name: array for name, array in arrays.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **{_OWNER: np.array(_owner(record))}, **named)  # type: ignore[arg-type]
        data = buffer.getvalue()
        with replacing(self.path(record)) as temporary:
            temporary.write_bytes(data + _checksum(data))

    def load(self, record: Record) -> dict[str, np.ndarray] | None:
        """Read the checkpoint of a child after its curve; None if there is none."""
        try:
            found = self.path(record).read_bytes()
        except OSError:
            return None
        data, checksum = found[:-_LENGTH], found[-_LENGTH:]
        if not data or checksum != _checksum(data):
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if file[_OWNER].item() != _owner(record):
                return None
            return {n.removeprefix(_ARRAY): file[n] for n in file.files if n != _OWNER}

    def remove(self, record: Record) -> None:
        """Remove the checkpoint of a child after its curve, if there is one."""
        self.path(record).unlink(missing_ok=True)

    def sweep(self, paused: Iterable[Record]) -> None:
        """Remove what a search that was killed left beside the checkpoints of its paused children."""
        kept = set(map(self.path, paused))
        for path in self.folder.glob("*.npz"):
            if path not in kept:
                path.unlink(missing_ok=True)


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_LENGTH, "big")


def _owner(record: Record) -> str:
    return f"{record.key} of the seed {record.seed} after {len(record.curve)} evaluations"
