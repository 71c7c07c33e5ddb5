"""Writing files in one step: what is on disk is always a whole file, the old one or the new."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary name beside ``path``, which becomes ``path`` when the block ends.

    If the block raises, the temporary file is removed and ``path`` is left as it was.

    Raises:
        OSError: if the file cannot be renamed.
    """
    path = Path(path)
    # The suffix is kept: some writers choose their format by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """As `replacing`, for a folder; one that stands there goes when the new one is whole."""
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    replaced = path.with_name(f".{os.getpid()}.old.{path.name}")
    try:
        yield temporary
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a UTF-8 text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
