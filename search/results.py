"""The results of a search, read from its folder: while it runs too, as nothing is locked or written."""

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
        number: see `Record`, as the others that are not described here.
        state: "sampled", "started", "finished" or "failed".
        reward: in the search.
        parameters: trainable.
        mult_adds: on one image.
        seconds: of the training.
        round: the minibatch, from 0.
        same_as: the number of the earlier child whose reward it has.
        stopped: whether its training was stopped early.
        error: why it failed.
        retrained_reward: of its training anew.
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


def ranked_anew(children: Sequence[Record], retrained: Sequence[Record]) -> list[Record]:
    """The children that were trained anew, best first, if the best one is to be chosen among them.

    It is once all of them have a reward, and until the search finds a child that is better than those
    it had found when they were chosen. Rewards of the two trainings do not compare.

    Args:
        children: of the search.
        retrained: the best of them, with the rewards of their training anew.
    """
    done = all(record.reward is not None for record in retrained)
    chosen = {record.canonical for record in retrained}
    best = ranked(children)[:1]
    return ranked(retrained) if done and best and best[0].canonical in chosen else []


@dataclass(frozen=True)
class SearchResults:
    """The children of a search.

    Args:
        folder: of the search.
        children: all that were sampled, by number.
        retrained: those that were trained anew, or are to be, by number.
    """

    folder: Path
    children: Sequence[Record]
    retrained: Sequence[Record]

    def best(self) -> Record:
        """The best child so far, that of ``best.json``; one of those trained anew, if there are any.

        Raises:
            ValueError: if none was trained to the end.
        """
        best = ranked_anew(self.children, self.retrained) or ranked(self.children)
        if not best:
            raise ValueError(f"{self.folder}: expected a search with a trained child. Received: none")
        return best[0]

    def child(self, number: int) -> Record:
        """The child of a number.

        Raises:
            ValueError: if there is none.
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

    def trained_anew(self, number: int) -> Record | None:
        """The child of a number with what its training anew gave, if that is done."""
        done = (r for r in self.retrained if r.number == number and r.reward is not None)
        return next(done, None)

    def result(self, record: Record) -> dict[str, Any]:
        """What the training gave that a child of the search has its reward from."""
        first = record if record.same_as is None else self.child(record.same_as)
        return first.result or {}

    def error(self, record: Record) -> str | None:
        """Why a child of the search failed; None if it did not."""
        return self.result(record).get("error", "diverged") if record.state == "failed" else None

    def genotype(self, record: Record) -> Genotype:
        """The genotype of a child.

        Raises:
            ValueError: naming the child, if its operations are not registered or it is none.
        """
        try:
            return Genotype.from_dict(record.genotype)
        except ValueError as error:
            raise ValueError(f"{self.folder}: child {record.number}: {error}") from None

    @checked
    def rows(self, order: Order = "reward", top: PositiveInt | None = None) -> list[Row]:
        """The children as a table.

        Args:
            order: by "reward", best first, by "number", or by "parameters", fewest first; children
                that have none come last.
            top: the most children to give. Default: all.
        """
        return [self._row(record) for record in sorted(self.children, key=_KEYS[order])[:top]]

    def _row(self, record: Record) -> Row:
        anew = self.trained_anew(record.number)
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
            anew.reward if anew else None,
        )


def _by_reward(record: Record) -> tuple[Any, ...]:
    return record.reward is None, -(record.reward or 0.0), record.number


def _by_parameters(record: Record) -> tuple[Any, ...]:
    return record.parameters is None, record.parameters or 0, record.number


_KEYS = {"reward": _by_reward, "number": lambda r: r.number, "parameters": _by_parameters}


def read_results(folder: str | os.PathLike[str]) -> SearchResults:
    """Reads the results of a search, which may be running.

    Args:
        folder: the ``out`` of the search.

    Raises:
        ValueError: if it holds no search, or a damaged one.
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
    """The children of a search's folder that were trained anew; none before."""
    path = folder / RETRAINED
    return read_children(path) if path.exists() and is_begun(path) else []


def read_children(path: Path) -> list[Record]:
    """The children of a journal, by number.

    Raises:
        ValueError: if it is none, or naming the child whose reward and state do not fit.
    """
    with closing(Journal(path)) as journal:
        return journal.check_children(lambda record: {})


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header; what there is not is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Row._fields, *rows])
    return text.getvalue()


def as_json(rows: Sequence[Row]) -> str:
    """Rows as a JSON list of objects."""
    return json.dumps([row._asdict() for row in rows], indent=2) + "\n"
