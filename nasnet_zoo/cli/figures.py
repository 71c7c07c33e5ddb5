"""``--json``: what a command has found, for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

from nasnet_zoo.files import check_writable, plain_json, write_text

#: Standard output, as the path of a `JsonFile`.
STDOUT = "-"


@dataclass(frozen=True)
class JsonFile:
    """Where a command writes its figures.

    Args:
        path: A file named ``*.json``, or `STDOUT`.
    """

    path: str

    def __post_init__(self) -> None:
        # Without a file of its own, --json must not take the model that comes next for one.
        if self.path != STDOUT and not self.path.endswith(".json"):
            raise ValueError(
                "expected the name of a .json file, or none and --json at the end. "
                f"Received: {self.path!r}"
            )

    def check(self, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
        """Check, before work begins, that the file can be written; see `check_writable`."""
        if self.path != STDOUT:
            check_writable(self.path, inputs)

    def write(self, figures: Any) -> None:
        """Write figures. Numbers that JSON does not have, NaN and infinity, become null."""
        text = json.dumps(plain_json("figures", figures))
        finite = json.loads(text, parse_constant=lambda name: None)
        text = json.dumps(finite, indent=2, ensure_ascii=False) + "\n"
        if self.path == STDOUT:
            sys.stdout.write(text)
        else:
            write_text(self.path, text)


def run(command: Callable[[], Any], file: JsonFile | None) -> None:
    """Run a command, and write the figures that it returns to a file, if there is one.

    Where the file is standard output, nothing else is: what the command prints goes to standard error.
    """
    if file is None:
        command()
        return
    file.check()
    with _stdout_on_stderr() if file.path == STDOUT else nullcontext():
        figures = command()
    file.write(figures)


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Write to standard error what is written to standard output, also by native code."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
