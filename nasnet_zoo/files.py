"""Reading and writing files: errors that name the file, and writes in one step.

What is on disk is always a whole file, the old one or the new.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

PathLike = str | os.PathLike[str]

_LOCK = ".lock"


# === Reading ===


@contextmanager
def reading(path: PathLike, kind: str) -> Iterator[Path]:
    """Gives the path of a file to read; errors of the operating system then say what was expected.

    Args:
        path: of the file.
        kind: what it should hold, such as "a genotype".

    Raises:
        OSError: of the same class, if the file cannot be read.
    """
    path = Path(path)
    try:
        yield path
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"{path}: expected {kind}. Received: {reason}") from None


def read_text(path: PathLike, kind: str = "a text file") -> str:
    """The text of a UTF-8 file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not UTF-8.
    """
    with reading(path, kind):
        try:
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path}: expected {kind}. Received: bytes that are no text") from None


def read_json(path: PathLike, kind: str) -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        kind: what it should hold, such as "a genotype".

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not JSON, with the place; also for NaN and infinity, which JSON lacks.
    """
    return parse_json(read_text(path, f"{kind} in JSON"), f"{path}: expected {kind} in JSON")


def parse_json(text: str, expected: str) -> Any:
    """What a JSON text holds.

    Args:
        text: to parse.
        expected: begins the message of an error.

    Raises:
        ValueError: as `read_json`.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"the number {constant}")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        found = f"no JSON at line {error.lineno}, column {error.colno}" if text.strip() else "nothing"
        raise ValueError(f"{expected}. Received: {found}") from None
    except RecursionError:
        raise ValueError(f"{expected}. Received: lists nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{expected}. Received: {error}") from None


# === Writing ===


def check_writable(path: PathLike, inputs: Iterable[PathLike] = ()) -> None:
    """Checks, before work begins, that a file can be written.

    Args:
        path: of the file.
        inputs: that are read, and must not be written over.

    Raises:
        ValueError: if it is an input.
        OSError: if its folder is missing or cannot be written to, or the path is a folder.
    """
    path = Path(path)
    if path.is_file() and any(Path(i).is_file() and path.samefile(i) for i in inputs):
        raise ValueError(f"{path}: expected the name of a file of its own. Received: one that is read")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected the name of a file to write. Received: a folder")
    check_parent(path)


def check_parent(path: PathLike) -> None:
    """Checks that the folder in which a file or folder is to be written is there and can be written to.

    Raises:
        OSError: if not.
    """
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: expected a file in an existing folder. Received: no {folder}")
    _check_makes_files(path, folder)


def _check_makes_files(path: PathLike, folder: Path) -> None:
    try:
        # Permissions do not tell: a file system may be read-only, or make no files.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(
            f"{path}: expected a folder that can be written to. Received: {folder}: {reason}"
        ) from None


def check_folder(folder: PathLike) -> None:
    """Checks that a folder, which need not exist, can be made and written to.

    Raises:
        ValueError: if it or a folder above is a file.
        OSError: if not.
    """
    path = Path(folder).absolute()
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not there.is_dir():
        found = "a link that leads nowhere" if there.is_symlink() else "a file"
        raise ValueError(f"{folder}: expected a folder. Received: {found}, {there}")
    _check_makes_files(folder, there)


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Gives a temporary name beside ``path``, which becomes ``path`` when the block ends.

    If the block raises, the temporary file is removed and ``path`` is left as it was.

    Raises:
        OSError: naming ``path``, if the file cannot be written.
    """
    path = Path(path)
    check_writable(path)
    # The suffix is kept: some writers choose their format by it.
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with writing(path, temporary):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: PathLike) -> Iterator[Path]:
    """As `replacing`, for a folder; one that stands there goes when the new one is whole."""
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    replaced = path.with_name(f".{os.getpid()}.old.{path.name}")
    try:
        with writing(path, temporary):
            yield temporary
            if path.exists():
                path.rename(replaced)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def writing(path: PathLike, temporary: PathLike | None = None) -> Iterator[None]:
    """Makes errors in writing name the path that was asked for.

    Args:
        path: that was asked for.
        temporary: what is written in its stead. Default: the path itself.

    Raises:
        OSError: of the same class.
    """
    temporary = path if temporary is None else temporary
    try:
        yield
    except OSError as error:
        of_another = error.filename and not str(error.filename).startswith(str(temporary))
        if of_another or error.strerror is None:
            raise
        message = f"{path}: expected to write it. Received: {error.strerror.lower()}"
        raise type(error)(message) from error


def write_text(path: PathLike, text: str) -> None:
    """Writes a UTF-8 text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# === Folders of runs ===


@contextmanager
def locked(folder: PathLike) -> Iterator[None]:
    """Holds a folder for one process; the lock goes with the process, however it ends.

    Args:
        folder: made if it is not there.

    Raises:
        ValueError: if another process, or another run of this one, holds it.
        OSError: if the folder cannot be made or written to.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"{folder}: expected a folder in which nothing else runs. Received: one that another "
                "run holds"
            ) from None
    try:
        yield
    finally:
        # What ended before it wrote anything leaves nothing.
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [_LOCK]:
                (folder / _LOCK).unlink()
                for path in missing:
                    path.rmdir()
        lock.release()


def check_ours(folder: PathLike, mark: str, kind: str) -> None:
    """Checks that a folder is new, empty, or that of an earlier run, and that it can be written to.

    Args:
        folder: to write into; need not exist.
        mark: name of the file that every run of this kind has in its folder.
        kind: of the run, such as "a training run".

    Raises:
        ValueError: if it holds files and not the mark, or it or a folder above is a file.
        OSError: if it cannot be made or written to.
    """
    folder = Path(folder)
    check_folder(folder)
    others = [p.name for p in folder.iterdir() if p.name != _LOCK] if folder.is_dir() else []
    if others and mark not in others:
        raise ValueError(
            f"{folder}: expected a new or empty folder, or that of {kind} (with {mark}). "
            f"Received: one with {min(others)}"
        )
