"""What children inherit: the weights of those that may be parents, a file of each."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import replacing

from .journal import Record


class Weights:
    """The weights of a search's children.

    Child 17 has the file ``17.safetensors``. One that is missing, damaged or another child's is none.

    Args:
        journal: Path of the search's journal. The files are in the folder ``weights`` beside it.

    Raises:
        ImportError: If safetensors is not installed.
    """

    def __init__(self, journal: str | os.PathLike[str]) -> None:
        self.folder = Path(journal).with_name("weights")
        self._safetensors = import_extra("safetensors.numpy", "inheritance")
        self._error = import_extra("safetensors", "inheritance").SafetensorError

    def path(self, record: Record) -> Path:
        """The path of the weights of a child."""
        return self.folder / f"{record.number}.safetensors"

    def save(self, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the weights of a child.

        Raises:
            OSError: If they cannot be written.
        """
        self.folder.mkdir(exist_ok=True)
        ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        with replacing(self.path(record)) as temporary:
            temporary.write_bytes(self._safetensors.save(ordered, _about(record, ordered)))

    def load(self, record: Record) -> dict[str, np.ndarray] | None:
        """Read the weights of a child; None if there are none."""
        try:
            with self._safetensors.safe_open(self.path(record), framework="numpy") as file:
                about, names = file.metadata(), file.keys()
                arrays = {name: file.get_tensor(name) for name in names}
        except (OSError, self._error):
            return None
        return arrays if about == _about(record, arrays) else None

    def keep(self, records: Iterable[Record]) -> None:
        """Remove the weights of all other children."""
        kept = set(map(self.path, records))
        for path in self.folder.glob("*.safetensors"):
            if path not in kept:
                path.unlink(missing_ok=True)


def _about(record: Record, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What a file says of itself in one line, as the order of several is no promise."""
    found = 0
    for name, array in sorted(arrays.items()):
        found = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(array.tobytes(), found)
    return {"weights": f"of {record.key} with the seed {record.seed}, checksum {found:08x}"}
