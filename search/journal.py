"""The journal of a search: every child and the policy's state, in one SQLite file."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

_SCHEMA = """
create table if not exists run (id integer primary key check (id = 0), settings text not null);
create table if not exists children (
    number integer primary key,
    round integer not null,
    tokens text not null,
    canonical text not null,
    genotype text not null,
    log_probability real,
    seed integer not null,
    state text not null check (state in ('sampled', 'started', 'finished', 'failed')),
    reward real,
    result text,
    parameters integer,
    mult_adds integer,
    seconds real,
    same_as integer references children (number)
);
create index if not exists by_canonical on children (canonical);
create table if not exists rounds (number integer primary key, told text not null);
create table if not exists policy (
    id integer primary key check (id = 0), rounds integer not null, state blob not null
);
"""


@dataclass(frozen=True)
class Record:
    """A child in the journal.

    Args:
        number: from 0, in the order of sampling.
        round: in which minibatch it was sampled, from 0.
        tokens: as they were sampled.
        canonical: see `SearchSpace.canonical`.
        genotype: its dict.
        log_probability: of its tokens when they were sampled, natural; None under evolution.
        seed: of its training.
        state: "sampled", "started", "finished" or "failed".
        reward: None until it is finished or failed.
        result: what else its training gave: rewards and losses by part, or the error.
        parameters: trainable.
        mult_adds: on one image.
        seconds: its training took; 0 where the reward is an earlier child's.
        same_as: the number of the earlier child whose reward it has, or None.
    """

    number: int
    round: int
    tokens: tuple[int, ...]
    canonical: tuple[int, ...]
    genotype: dict[str, Any]
    log_probability: float | None
    seed: int
    state: str = "sampled"
    reward: float | None = None
    result: dict[str, Any] | None = None
    parameters: int | None = None
    mult_adds: int | None = None
    seconds: float | None = None
    same_as: int | None = None


class Journal:
    """A journal file, made if it is not there.

    What a method wrote is on disk when it returns, so a search killed at any moment finds it.

    Args:
        path: of the file.
        settings: of the search, as JSON holds them. Default: those that it was begun with.

    Raises:
        ValueError: if the file is none, was begun with other settings, or is not there and there are
            no settings to begin it with.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> None:
        if settings is None and not os.path.exists(path):
            raise ValueError(f"{path}: expected the journal of a search. Received: no such file")
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            self._database.execute("pragma journal_mode = wal")
            self._database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: expected the journal of a search. Received: {error}") from None
        if settings is not None:
            text = json.dumps(settings, sort_keys=True)
            with self._transaction():
                self._database.execute("insert or ignore into run values (0, ?)", (text,))
        begun = self._database.execute("select settings from run").fetchone()
        if begun is None:
            raise ValueError(f"{path}: expected the journal of a search. Received: an empty one")
        #: What the search was begun with.
        self.settings: dict[str, Any] = json.loads(begun[0])
        if settings is not None and begun[0] != text:
            before = self.settings
            changed = [key for key in settings if before.get(key) != json.loads(text)[key]]
            name = changed[0] if changed else "settings"
            raise ValueError(
                f"{path}: expected the search that was begun there, with {name}={before.get(name)!r}. "
                f"Received: {name}={settings.get(name)!r}"
            )

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._database.execute("rollback")
            raise
        self._database.execute("commit")

    # === Children ===

    def add(self, children: list[Record]) -> None:
        """Notes sampled children, all or none."""
        with self._transaction():
            places = ", ".join("?" * len(Record.__dataclass_fields__))
            self._database.executemany(f"insert into children values ({places})", map(_row, children))

    def start(self, number: int) -> None:
        """Notes that a child's training begins."""
        with self._transaction():
            self._database.execute("update children set state = 'started' where number = ?", (number,))

    def finish(
        self,
        number: int,
        reward: float,
        result: Mapping[str, Any],
        seconds: float,
        failed: bool = False,
        same_as: int | None = None,
    ) -> None:
        """Notes a child's reward."""
        state = "failed" if failed else "finished"
        values = (state, reward, json.dumps(result), seconds, same_as, number)
        with self._transaction():
            self._database.execute(
                "update children set state = ?, reward = ?, result = ?, seconds = ?, same_as = ? "
                "where number = ?",
                values,
            )

    def children(self, round: int | None = None) -> list[Record]:  # noqa: A002
        """All children, or those of a round, by number."""
        where, values = ("", ()) if round is None else (" where round = ?", (round,))
        rows = self._database.execute(f"select * from children{where} order by number", values)
        return [_record(row) for row in rows]

    def child(self, number: int) -> Record:
        """The child of a number that is in the journal."""
        row = self._database.execute("select * from children where number = ?", (number,)).fetchone()
        return _record(row)

    def rewarded(self, canonical: tuple[int, ...]) -> Record | None:
        """The first child of this canonical form that has a reward, whose worker did not die of it."""
        row = self._database.execute(
            "select * from children where canonical = ? and reward is not null and same_as is null "
            "and json_extract(result, '$.worker_died') is null order by number limit 1",
            (json.dumps(canonical),),
        ).fetchone()
        return row and _record(row)

    # === The policy ===

    def save_policy(
        self, rounds: int, state: Mapping[str, np.ndarray], told: Mapping[str, float] | None = None
    ) -> None:
        """Notes the policy's state after so many rounds, and what it told of the last of them."""
        buffer = io.BytesIO()
        np.savez(buffer, **state)  # type: ignore[arg-type]
        with self._transaction():
            if told is not None:
                self._database.execute(
                    "insert or replace into rounds values (?, ?)", (rounds - 1, json.dumps(told))
                )
            self._database.execute(
                "insert or replace into policy values (0, ?, ?)", (rounds, buffer.getvalue())
            )

    def policy(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """The rounds done and the policy's state after them; None before the first is done."""
        row = self._database.execute("select rounds, state from policy").fetchone()
        if row is None:
            return None
        with np.load(io.BytesIO(row[1]), allow_pickle=False) as file:
            return row[0], {name: file[name] for name in file.files}

    def told(self) -> list[dict[str, float]]:
        """What the policy told of each round that is done, such as its entropy."""
        rows = self._database.execute("select told from rounds order by number")
        return [json.loads(told) for (told,) in rows]


_JSON = ("tokens", "canonical", "genotype", "result")


def _row(record: Record) -> list[Any]:
    return [
        json.dumps(value) if name in _JSON and value is not None else value
        for name, value in vars(record).items()
    ]


def _record(row: tuple[Any, ...]) -> Record:
    fields = dict(zip(Record.__dataclass_fields__, row, strict=True))
    for name in _JSON:
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    for name in ("tokens", "canonical"):
        fields[name] = tuple(fields[name])
    return Record(**fields)
