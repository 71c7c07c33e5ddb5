"""Runs malformed inputs and judges what comes of them."""

from __future__ import annotations

import filecmp
import io
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from malformed_cases import Case, models, namespace
from malformed_files import GOOD, PLAIN, make_malformed, make_plain, make_trained

_CLEAR = re.compile(r"[Ee]xpected .*Received: \S")
#: Words of other libraries and of the insides of ours.
_FOREIGN = re.compile(
    r"defect of nasnet-zoo|Traceback|\[Errno|\[Op:|\{\{node|object at 0x|codec can't|Expecting value"
    r"|/\.\d+\.|takes \d+ positional|unexpected keyword|invalid literal|string to float"
)
_LONGEST = 800
_ERRORS = (ValueError, TypeError, OSError, ImportError, ArithmeticError)


class OutOfTime(BaseException):
    """A case took longer than it may."""


class Runner:
    """Runs cases in a folder of files, which are to be the same after each.

    Args:
        folder: empty, for the files.
        limit: seconds that a case may take.
        plain: whether only files that take no training to make are there.
    """

    def __init__(self, folder: Path, limit: int = 60, plain: bool = False) -> None:
        self._good, self._work, self._limit = folder / "pristine", folder / "work", limit
        self._good.mkdir()
        with _within(self._good):
            make_plain(self._good)
            if not plain:
                make_trained(self._good)
            make_malformed(self._good, PLAIN if plain else tuple(GOOD))
        self._copy()
        with _within(self._work):
            self._names = namespace() if plain else namespace() | models()

    def _copy(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.copytree(self._good, self._work, symlinks=True)

    def faults(self, case: Case) -> list[str]:
        """What is wrong with the outcome of a case and what it told; nothing if it is clear."""
        with _within(self._work), _captured() as lines, _alarm(self._limit):
            faults, told = _outcome(lambda: self._run(case))
        told = told if case.is_call else lines
        faults += _line_faults(told)
        if changed := sorted(_changes(self._good, self._work)):
            faults.append(f"changed: {', '.join(changed[:4])}")
            self._copy()
        return faults and [*faults, *told[:4]]

    def _run(self, case: Case) -> None:
        if case.is_call:
            eval(case.words[0], self._names)
        else:
            _command(case.words)


def _command(words: tuple[str, ...]) -> None:
    from nasnet_zoo.cli import main

    if main(words):
        raise RefusedError


class RefusedError(ValueError):
    """A command that ended with another status than 0."""


def _outcome(call: Callable[[], Any]) -> tuple[list[str], list[str]]:
    """The faults of a call, and the lines of its error."""
    try:
        call()
    except _ERRORS as error:
        return [], str(error).splitlines()
    except OutOfTime as error:
        return [str(error)], []
    except BaseException as error:
        return [f"raised {type(error).__name__}"], str(error).splitlines()
    return ["accepted"], []


def _line_faults(lines: list[str]) -> list[str]:
    if len(lines) != 1:
        return [f"{len(lines)} lines"]
    found = [] if _CLEAR.search(lines[0]) else ["does not say what was expected"]
    found += [f"says {match[0]!r}" for match in _FOREIGN.finditer(lines[0])]
    return found + (["is too long"] if len(lines[0]) > _LONGEST else [])


def _changes(good: Path, work: Path) -> Iterator[str]:
    """Names of files that are new, gone or have another content."""
    before, after = _entries(good), _entries(work)
    yield from before.keys() ^ after.keys()
    for name in before.keys() & after.keys():
        kind, link, size, _ = before[name]
        same = (kind, link, size) == after[name][:3]
        if same and before[name] != after[name]:
            same = filecmp.cmp(good / name, work / name, shallow=False)
        if not same:
            yield name


def _entries(folder: Path) -> dict[str, tuple[str, str, int, int]]:
    """Of everything in a folder: kind, target of a link, size and time of change."""
    found = {}
    waiting = [os.fspath(folder)]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            link = os.readlink(entry.path) if entry.is_symlink() else ""
            kind = "link" if link else "folder" if entry.is_dir() else "file"
            if kind == "folder":
                waiting.append(entry.path)
            told = entry.stat(follow_symlinks=False)
            size, changed = (told.st_size, told.st_mtime_ns) if kind == "file" else (0, 0)
            found[os.path.relpath(entry.path, folder)] = (kind, link, size, changed)
    return found


@contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Takes what is written to standard output and error; the list has the lines of the latter then."""
    streams = sys.stdout, sys.stderr
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        for stream in streams:
            stream.flush()
        for number, file in ((1, out), (2, err)):
            os.dup2(file.fileno(), number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
        lines: list[str] = []
        try:
            yield lines
        finally:
            sys.stdout, sys.stderr = streams
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            err.seek(0)
            text = err.read().decode(errors="replace")
            lines += [line for line in text.splitlines() if line.strip()]


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise OutOfTime(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
