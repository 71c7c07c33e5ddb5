"""The results of a search, read from its folder. Nothing is locked or written, so it may be running."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nasnet_zoo.cells import Genotype
from nasnet_zoo.checking import PositiveInt, checked

from .journal import Journal, Record, is_begun
from .search import ranked

JOURNAL, RETRAINED = "journal.sqlite", "retrained.sqlite"

Order = Literal["reward", "number", "parameters"]


class Row(NamedTuple):
    """A child in a table of children.

    Args:
        number: Number of the child, from 0.
        state: "sampled", "started", "finished" or "failed".
        reward: Reward in the search.
        parameters: Number of trainable parameters.
        mult_adds: Number of multiply-adds on one image.
        seconds: Seconds that the training took.
        round: Minibatch in which the child was sampled, from 0.
        same_as: Number of the earlier equal child whose reward it has, or None.
        stopped: Whether its training was stopped early.
        error: Reason why it failed, or None.
        retrained_reward: Reward after retraining, or None.
    """

    number: int
    state: str
    reward: float | None
    parameters: int | None
    mult_adds: int | None
    seconds: float | None
    round: int
    same_as: int | None
    stopped: bool
    error: str | None
    retrained_reward: float | None


def ranked_retrained(children: Sequence[Record], retrained: Sequence[Record]) -> list[Record]:
    """Rank the retrained children if the best child of the search is to be chosen among them.

    That is the case once all of them have a reward, and until the search finds a child that is better
    than those it had found when they were chosen. Rewards of the two trainings are not comparable.

    Args:
        children: Children of the search.
        retrained: Retrained children, with their rewards after retraining.

    Returns:
        The retrained children, best first, or an empty list.
    """
    done = all(record.reward is not None for record in retrained)
    chosen = {record.canonical for record in retrained}
    best = ranked(children)[:1]
    return ranked(retrained) if done and best and best[0].canonical in chosen else []


@dataclass(frozen=True)
class SearchResults:
    """The children of a search.

    Args:
        folder: Folder of the search.
        children: All sampled children, by number.
        retrained: Children that were retrained or are going to be, by number.
    """

    folder: Path
    children: Sequence[Record]
    retrained: Sequence[Record]

    def best(self) -> Record:
        """Return the best child so far, that of ``best.json``.

        Raises:
            ValueError: If no child has finished its training.
        """
        best = ranked_retrained(self.children, self.retrained) or ranked(self.children)
        if not best:
            raise ValueError(f"{self.folder}: expected a search with a trained child. Received: none")
        return best[0]

    def child(self, number: int) -> Record:
        """Return the child with a number.

        Raises:
            ValueError: If there is no such child.
        """
        if number not in self._by_number:
            there = f"0 to {len(self.children) - 1}" if self.children else "none so far"
            raise ValueError(
                f"{self.folder}: expected the number of a child, {there}. Received: {number}"
            )
        return self._by_number[number]

    @functools.cached_property
    def _by_number(self) -> dict[int, Record]:
        return {record.number: record for record in self.children}

    def retrained_child(self, number: int) -> Record | None:
        """Return the child with a number and the result of its retraining, or None before that."""
        done = (r for r in self.retrained if r.number == number and r.reward is not None)
        return next(done, None)

    def result(self, record: Record) -> dict[str, Any]:
        """Return the result of the training that gave a child of the search its reward."""
        first = record if record.same_as is None else self.child(record.same_as)
        return first.result or {}

    def error(self, record: Record) -> str | None:
        """Return the reason why a child of the search failed, or None."""
        return self.result(record).get("error", "diverged") if record.state == "failed" else None

    def genotype(self, record: Record) -> Genotype:
        """Return the genotype of a child.

        Raises:
            ValueError: If it is invalid, for example if its operations are not registered. The message
                names the child.
        """
        try:
            return Genotype.from_dict(record.genotype)
        except ValueError as error:
            raise ValueError(f"{self.folder}: child {record.number}: {error}") from None

    @checked
    def rows(self, order: Order = "reward", top: PositiveInt | None = None) -> list[Row]:
        """Return the children as a table.

        Args:
            order: "reward", best first; "number"; or "parameters", fewest first. Children without the
                value come last.
            top: Maximum number of children. Default: all.
        """
        return [self._row(record) for record in sorted(self.children, key=_KEYS[order])[:top]]

    def _row(self, record: Record) -> Row:
        retrained = self.retrained_child(record.number)
        return Row(
            record.number,
            record.state,
            record.reward,
            record.parameters,
            record.mult_adds,
            record.seconds,
            record.round,
            record.same_as,
            bool(self.result(record).get("stopped")),
            self.error(record),
            retrained.reward if retrained else None,
        )


def _by_reward(record: Record) -> tuple[Any, ...]:
    return record.reward is None, -(record.reward or 0.0), record.number


def _by_parameters(record: Record) -> tuple[Any, ...]:
    return record.parameters is None, record.parameters or 0, record.number


_KEYS = {"reward": _by_reward, "number": lambda r: r.number, "parameters": _by_parameters}


def read_results(folder: str | os.PathLike[str]) -> SearchResults:
    """Read the results of a search, which may be running.

    Args:
        folder: Folder of the search.

    Raises:
        ValueError: If it does not contain a search, or the search is damaged.
    """
    folder = Path(folder)
    if not (folder / JOURNAL).is_file():
        kinds = {folder.is_dir(): "a folder without", not folder.exists(): "no such folder"}
        raise ValueError(
            f"{folder}: expected the folder of a search (with {JOURNAL}). "
            f"Received: {kinds.get(True, 'a file')}"
        )
    return SearchResults(folder, read_children(folder / JOURNAL), read_retrained(folder))


def read_retrained(folder: Path) -> list[Record]:
    """Read the retrained children of a search's folder; an empty list before there are any."""
    path = folder / RETRAINED
    return read_children(path) if path.exists() and is_begun(path) else []


def read_children(path: Path) -> list[Record]:
    """Read the children of a journal, by number.

    Raises:
        ValueError: If the file is not a journal, or the reward and the state of a child do not fit.
    """
    with closing(Journal(path)) as journal:
        return journal.check_children(lambda record: {})


def rewarded(journal: Journal) -> list[Record]:
    """The children of a journal that have a reward.

    Raises:
        ValueError: If none was trained to the end.
    """
    records = [record for record in journal.children() if record.reward is not None]
    if not ranked(records):
        raise ValueError(f"{journal.path}: expected a search with a trained child. Received: none")
    return records


def as_csv(rows: Sequence[Row]) -> str:
    """Format rows as CSV with a header. Missing values are empty cells."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Row._fields, *rows])
    return text.getvalue()


def as_json(rows: Sequence[Row]) -> str:
    """Format rows as a JSON list of objects."""
    return json.dumps([row._asdict() for row in rows], indent=2) + "\n"
