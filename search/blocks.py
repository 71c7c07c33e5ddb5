"""Rows of JSON as arrays of a policy's state."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from nasnet_zoo.checking import check
from nasnet_zoo.files import parse_json

Row = TypeVar("Row")
# Number of rows in an array.
_ROWS = 256


class Blocks:
    """Rows in blocks, each an array of its own.

    A block whose rows have not changed is the same array as before, which a journal does not write
    again: a commit takes as long after 20,000 children as after 200.

    Args:
        name: Name of the rows, with which those of the arrays begin.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._arrays: dict[int, np.ndarray] = {}

    def changed(self, row: int) -> None:
        """Note that a row is new or has changed."""
        self._arrays.pop(row // _ROWS, None)

    def arrays(self, rows: Sequence[Row], to_json: Callable[[Row], Any]) -> dict[str, np.ndarray]:
        """Return the arrays of all rows.

        Args:
            rows: The rows.
            to_json: Function from a row to what JSON can hold.
        """
        for block, first in enumerate(range(0, len(rows), _ROWS)):
            if block not in self._arrays:
                self._arrays[block] = packed([to_json(row) for row in rows[first : first + _ROWS]])
        return {f"{self.name} {block:06}": self._arrays[block] for block in sorted(self._arrays)}

    def names(self, state: Mapping[str, np.ndarray]) -> list[str]:
        """Return the names of the arrays in a state, in the order of their rows."""
        return sorted(name for name in state if name.startswith(f"{self.name} "))

    def read(self, state: Mapping[str, np.ndarray]) -> list[Any]:
        """Return the rows of a state.

        Raises:
            ValueError: If the arrays do not hold rows.
        """
        rows: list[Any] = []
        for name in self.names(state):
            block = unpacked(state[name], name)
            check(name, block, list)
            rows += block
        return rows


def packed(value: Any) -> np.ndarray:
    """Return a value as JSON, in an array that cannot change."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def unpacked(array: np.ndarray, name: str) -> Any:
    """Return the value of `packed`.

    Raises:
        ValueError: If the array does not hold JSON.
    """
    return parse_json(array.tobytes().decode(errors="replace"), f"Expected {name} in JSON")
