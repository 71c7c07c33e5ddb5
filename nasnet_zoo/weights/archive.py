"""Opens ``.keras`` archives, and refuses those that would unpack to more than their own size."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from nasnet_zoo.files import reading


@contextmanager
def open_archive(
    path: str | os.PathLike[str], kind: str = "a .keras archive"
) -> Iterator[zipfile.ZipFile]:
    """Open a ``.keras`` archive for reading.

    Keras stores its files uncompressed. A compressed one could unpack to any size.

    Args:
        path: Path of the archive.
        kind: Expected content, for error messages. Default: "a .keras archive".

    Raises:
        ValueError: If the file is no such archive, or turns out to be damaged while it is read.
        OSError: If the file cannot be read.
    """
    expected = f"{path}: expected {kind}"
    try:
        with reading(path, kind):
            archive = zipfile.ZipFile(path)
        with archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                    raise ValueError(
                        f"{expected} as Keras stores it. Received: one with {member.filename} "
                        "compressed or encrypted"
                    )
            if sum(member.file_size for member in archive.infolist()) > os.path.getsize(path):
                raise ValueError(f"{expected}. Received: sizes in it that are beyond its own")
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f"{expected}. Received: {error}") from None
