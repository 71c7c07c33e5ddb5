"""A bar with the time left, for loops that may take long."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def showing_progress(shown: bool = True) -> Iterator[None]:
    """Let `track` show its bars inside the block, or not. The command line shows them.

    Args:
        shown: Whether bars are shown. Default: true.
    """
    before = _SHOWN.set(shown)
    try:
        yield
    finally:
        _SHOWN.reset(before)


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Iterate, with a bar on standard error if that is a terminal and `showing_progress`.

    Args:
        items: Items of the loop.
        title: What is done, such as "evaluate".
        total: Number of items. Default: their length, if they have one.

    Yields:
        The items.
    """
    if not (_SHOWN.get() and sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(
        *columns,
        console=Console(stderr=True),
        auto_refresh=False,  # no thread runs beside what is measured
        transient=True,
        # Lines that are printed meanwhile stand above the bar; what is piped stays in its pipe.
        redirect_stdout=sys.stdout.isatty(),
    ) as progress:
        yield from progress.track(items, total, description=title)
