"""The results of a search, read from its folder. Nothing is locked or written, so it may be running."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.files import write_text

from .journal import Journal, Record, is_begun
from .search import Ranked, ranked

JOURNAL, RETRAINED = "journal.sqlite", "retrained.sqlite"
REFERENCES, FRONT = "references.sqlite", "front.sqlite"


def ranked_retrained(children: Sequence[Ranked], retrained: Sequence[Record]) -> list[Record]:
    """Rank the retrained children if the best child of the search is to be chosen among them.

    That is the case once all of them have a reward, and until the search finds a child that is better
    than those it had found when they were chosen. Rewards of the two trainings are not comparable.

    Args:
        children: Children of the search, or their outlines.
        retrained: Retrained children, with their rewards after retraining.

    Returns:
        The retrained children, best first, or an empty list.
    """
    done = all(record.reward is not None for record in retrained)
    chosen = {record.key for record in retrained}
    best = ranked(children)[:1]
    return ranked(retrained) if done and best and best[0].key in chosen else []


@dataclass(frozen=True)
class SearchResults:
    """The children of a search.

    Args:
        folder: Folder of the search.
        settings: Settings of the search.
        children: All sampled children, by number.
        retrained: Children that were retrained or are going to be, by number.
    """

    folder: Path
    settings: Mapping[str, Any]
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

    def evaluated(self, record: Record) -> Record:
        """Return the child that was evaluated to give a child its reward: itself or an equal one."""
        return record if record.same_as is None else self.child(record.same_as)

    @functools.cached_property
    def _costs(self) -> list[str]:
        return list(dict.fromkeys(name for record in self.children for name in record.costs))

    @functools.cached_property
    def columns(self) -> list[str]:
        """The columns of `rows`: a cost has one of its own."""
        after = ("seconds", "version", "parent", "same_as", "retrained_reward", "message")
        return ["number", "state", "reward", *self.metrics, *self._costs, *after]

    @functools.cached_property
    def metrics(self) -> list[str]:
        """The metrics that are numbers, such as the accuracy where the reward is an expression."""
        found = (item for record in self.children for item in record.metrics.items())
        names = dict.fromkeys(name for name, value in found if isinstance(value, float | int))
        return [name for name in names if name not in (*Record.__dataclass_fields__, *self._costs)]

    @checked
    def rows(self, order: str = "reward", top: PositiveInt | None = None) -> list[dict[str, Any]]:
        """Return the children as a table.

        Args:
            order: "reward", best first; "number"; or the name of a cost, least first. Children
                without the value come last.
            top: Maximum number of children. Default: all.

        Returns:
            By child: number, state, reward, each metric that is a number (such as the accuracy where
            the reward is an expression), each cost, seconds, version (number of minibatches that the
            policy had learned from when it drew the child), parent, same_as (number of the earlier
            equal child whose reward it has), retrained_reward and message (reason why it failed).

        Raises:
            ValueError: If no child has such a cost.
        """
        orders = ("reward", "number", *self._costs)
        if order not in orders:
            raise ValueError(f"Expected sort: one of {', '.join(orders)}. Received: {order}")
        rows = [self.row(record) for record in self.children]
        if order == "reward":
            rows.sort(key=lambda row: (row["reward"] is None, -(row["reward"] or 0.0)))
        elif order != "number":
            rows.sort(key=lambda row: (row[order] is None, row[order] or 0.0))
        return rows[:top]

    def row(self, record: Record) -> dict[str, Any]:
        """Return a child as a row of `rows`."""
        retrained = self.retrained_child(record.number)
        values = {
            **vars(record),
            **{name: self.evaluated(record).metrics.get(name) for name in self.metrics},
            **record.costs,
            "retrained_reward": retrained.reward if retrained else None,
            "message": self.evaluated(record).message,
        }
        return {name: values.get(name) for name in self.columns}


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
    with closing(Journal(folder / JOURNAL)) as journal:
        return SearchResults(folder, journal.settings, journal.children(), read_retrained(folder))


def read_retrained(folder: Path) -> list[Record]:
    """Read the retrained children of a search's folder; an empty list before there are any."""
    return read_children(folder / RETRAINED)


def read_children(path: Path) -> list[Record]:
    """Read the children of a journal; an empty list before there are any."""
    if not path.exists() or not is_begun(path):
        return []
    with closing(Journal(path)) as journal:
        return journal.children()


def exported_files(folder: Path) -> dict[int, str]:
    """The files of the children on the Pareto front by number, as paths in the folder of a search."""
    exported = read_children(folder / FRONT)
    return {record.number: record.metrics["file"] for record in exported if "file" in record.metrics}


def rewarded(journal: Journal) -> list[Record]:
    """The children of a journal that have a reward.

    Raises:
        ValueError: If none was trained to the end.
    """
    records = [record for record in journal.children() if record.reward is not None]
    if not ranked(records):
        raise ValueError(f"{journal.path}: expected a search with a trained child. Received: none")
    return records


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows as CSV with a header. Missing values are empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


#: Formats of `export_children`.
Format = Literal["csv", "jsonl"]


def export_children(journal: Journal, path: str | os.PathLike[str], kind: Format) -> None:
    """Write all that a journal holds of its children to a file.

    Args:
        journal: Journal of the search.
        path: Path of the file; an existing file is replaced atomically.
        kind: "csv", with lists and objects as JSON in their cells, or "jsonl", an object a line.
    """
    rows = [vars(record) for record in journal.children()]
    if kind == "jsonl":
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        return
    cells = [
        {name: json.dumps(v) if isinstance(v, tuple | dict) else v for name, v in row.items()}
        for row in rows
    ]
    write_text(path, as_csv(list(Record.__dataclass_fields__), cells))
