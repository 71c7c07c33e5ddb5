"""Read and write files: errors name the file, and every write is atomic.

A file on disk is always complete: either the old one or the new one.
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

PathLike = str | os.PathLike[str]

_LOCK = ".lock"


# === Reading ===


@contextmanager
def reading(path: PathLike, kind: str) -> Iterator[Path]:
    """Reword errors of the operating system inside the block to say which file was expected.

    Args:
        path: File to read.
        kind: Expected content, such as "a genotype".

    Yields:
        The path.

    Raises:
        OSError: If the file cannot be read; an error of the original class.
    """
    path = Path(path)
    try:
        yield path
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"{path}: expected {kind}. Received: {reason}") from None


def read_text(path: PathLike, kind: str = "a text file") -> str:
    """Read a UTF-8 text file.

    Args:
        path: File to read.
        kind: Expected content, used in messages.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not UTF-8.
    """
    with reading(path, kind):
        try:
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path}: expected {kind}. Received: bytes that are no text") from None


def read_json(path: PathLike, kind: str) -> Any:
    """Read a JSON file.

    Args:
        path: File to read.
        kind: Expected content, such as "a genotype".

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not JSON; the message has line and column. NaN and infinity are refused,
            since JSON does not have them.
    """
    return parse_json(read_text(path, f"{kind} in JSON"), f"{path}: expected {kind} in JSON")


def parse_json(text: str, expected: str) -> Any:
    """Parse a JSON text.

    Args:
        text: Text to parse.
        expected: First part of the message of an error.

    Raises:
        ValueError: If the text is not JSON, as for `read_json`.
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


def plain_json(name: str, value: Any) -> Any:
    """Return a value as JSON gives it back: tuples as lists, NumPy's numbers and arrays as Python's.

    Args:
        name: Name of the value for the message.
        value: Value to convert.

    Raises:
        TypeError: If JSON has no such value.
    """

    def convert(part: Any) -> Any:
        if hasattr(part, "tolist"):
            return part.tolist()
        raise TypeError(f"Expected {name}: JSON. Received: {part!r:.100}")

    return json.loads(json.dumps(value, default=convert))


def check_writable(path: PathLike, inputs: Iterable[PathLike] = ()) -> None:
    """Check, before work begins, that a file can be written.

    Args:
        path: File to write.
        inputs: Files that are read and must not be overwritten.

    Raises:
        ValueError: If ``path`` is one of the inputs.
        OSError: If its folder does not exist or is not writable, or if ``path`` is a folder.
    """
    path = Path(path)
    if path.is_file() and any(Path(i).is_file() and path.samefile(i) for i in inputs):
        raise ValueError(f"{path}: expected the name of a file of its own. Received: one that is read")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: expected the name of a file to write. Received: a folder")
    check_parent(path)


def check_parent(path: PathLike) -> None:
    """Check that the parent folder of a file or folder to write exists and is writable.

    Raises:
        OSError: If it does not exist or is not writable.
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
    """Check that a folder is writable, or can be created.

    Raises:
        ValueError: If the folder or one of its parents is a file.
        OSError: If it is not writable.
    """
    path = Path(folder).absolute()
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not there.is_dir():
        found = "a link that leads nowhere" if there.is_symlink() else "a file"
        raise ValueError(f"{folder}: expected a folder. Received: {found}, {there}")
    _check_makes_files(folder, there)


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Write a file atomically: the block writes a temporary file, which then replaces ``path``.

    If the block raises, the temporary file is removed and ``path`` is left unchanged.

    Yields:
        Path of the temporary file, in the folder of ``path``.

    Raises:
        OSError: If the file cannot be written; the message names ``path``.
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
    """Write a folder atomically, as `replacing` does a file; an existing folder is replaced."""
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
    """Reword errors of writing inside the block to name the path that the user asked for.

    Args:
        path: Path that the user asked for.
        temporary: Path that is written instead. Default: ``path``.

    Raises:
        OSError: If writing fails; an error of the original class.
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
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# === Folders of runs ===


@contextmanager
def locked(folder: PathLike) -> Iterator[None]:
    """Lock a folder for one process. The lock ends with the process, even if it is killed.

    Args:
        folder: Folder to lock. Created if it does not exist.

    Raises:
        ValueError: If another process, or another run in this process, holds the lock.
        OSError: If the folder cannot be created or written to.
    """
    from filelock import FileLock, Timeout  # imports asyncio, for which help texts need not wait

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
        # A run that ended before it wrote anything leaves no folder.
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [_LOCK]:
                (folder / _LOCK).unlink()
                for path in missing:
                    path.rmdir()
        lock.release()


def check_ours(folder: PathLike, mark: str, kind: str) -> None:
    """Check that a folder is writable and is new, empty, or the folder of an earlier run.

    Args:
        folder: Folder to write into. It need not exist.
        mark: Name of a file that every run of this kind has in its folder.
        kind: Kind of run for the message, such as "a training run".

    Raises:
        ValueError: If it contains files but not ``mark``, or if it or one of its parents is a file.
        OSError: If it cannot be created or written to.
    """
    folder = Path(folder)
    check_folder(folder)
    others = [p.name for p in folder.iterdir() if p.name != _LOCK] if folder.is_dir() else []
    if others and mark not in others:
        raise ValueError(
            f"{folder}: expected a new or empty folder, or that of {kind} (with {mark}). "
            f"Received: one with {min(others)}"
        )
