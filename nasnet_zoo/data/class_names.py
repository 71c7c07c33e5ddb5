"""Class names in text files."""

from __future__ import annotations

import os

from nasnet_zoo.files import read_text


def read_class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names, in their order, from a text file with one name in each line.

    Raises:
        ValueError: If the file has no lines.
        OSError: If the file cannot be read.
    """
    names = tuple(line for line in read_text(path, "class names").splitlines() if line)
    if not names:
        raise ValueError(f"{path}: expected the name of a class in each line. Received: no lines")
    return names
