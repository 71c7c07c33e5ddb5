"""What the genotypes of all spaces share: checks whose errors name the place, and JSON files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from nasnet_zoo.files import parse_json, read_text, write_text

G = TypeVar("G")

# What XML, and so a picture, cannot hold; and line breaks, as a name is one line.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def expect(condition: bool, place: str, expected: str, received: Any) -> None:
    """Raise a `ValueError` that starts with ``place`` unless a condition holds."""
    if not condition:
        text = repr(received)
        shown = text if len(text) <= 200 else f"{text[:200]} ..."
        raise ValueError(f"{place}: expected {expected}. Received: {shown}")


def expect_name(name: Any) -> None:
    """Raise a `ValueError` unless a value can be the name of a genotype."""
    fits = isinstance(name, str) and not _CONTROL.search(name)
    expect(fits, "name", "a string without control characters", name)


def is_int(value: Any) -> bool:
    """Whether a value is an int and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_keys(data: Any, place: str, required: Sequence[str], optional: Sequence[str]) -> None:
    """Raise a `ValueError` unless data is a dict with the required keys and no unknown ones."""
    expect(isinstance(data, dict), place, "an object", data)
    for key in required:
        expect(key in data, place, f"the key {key!r}", sorted(data))
    unknown = sorted(set(data) - {*required, *optional})
    expect(not unknown, place, f"only the keys {[*required, *optional]}", unknown)


class JsonData:
    """A genotype that JSON can hold. Subclasses define `to_dict` and `from_dict`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as JSON-compatible lists and dicts."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build a genotype from the dict of `to_dict`.

        Raises:
            ValueError: If the data is invalid. The message names the place.
        """
        raise NotImplementedError

    def to_json(self) -> str:
        """Return the genotype as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build a genotype from the JSON text of `to_json`.

        Raises:
            ValueError: If the text is not JSON (with line and column), or is not a genotype (with the
                place of the error).
        """
        return cls.from_dict(parse_json(text, "genotype: expected JSON"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the genotype as JSON. An existing file is replaced atomically."""
        write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a genotype from a JSON file.

        Raises:
            ValueError: If the file is not a genotype. The message names the file and the place.
            OSError: If the file cannot be read.
        """
        return load_genotype(path, cls.from_dict)


def load_genotype(path: str | os.PathLike[str], from_dict: Callable[[Any], G]) -> G:
    """Read a genotype from a JSON file.

    Args:
        path: Path of the file.
        from_dict: Function that builds the genotype from the data in the file.

    Raises:
        ValueError: If the file is not a genotype. The message names the file and the place.
        OSError: If the file cannot be read.
    """
    text = read_text(path, "a genotype in JSON")
    try:
        return from_dict(parse_json(text, "genotype: expected JSON"))
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
