"""The journal of a search: every child and the policy's state, in one SQLite file."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nasnet_zoo.checking import (
    NonNegativeFloat,
    NonNegativeInt,
    Seed,
    Share,
    check,
    check_fields,
)

_SCHEMA = """
create table run (id integer primary key check (id = 0), settings text not null);
create table children (
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
create index by_canonical on children (canonical);
create table rounds (number integer primary key, told text not null);
create table policy (
    id integer primary key check (id = 0), rounds integer not null, state blob not null
);
"""


@dataclass(frozen=True)
class Record:
    """A child in the journal.

    Args:
        number: Number from 0, in the order of sampling.
        round: Minibatch in which it was sampled, from 0.
        tokens: Sampled tokens.
        canonical: Canonical tokens, see `SearchSpace.canonical`.
        genotype: Genotype as a dict.
        log_probability: Natural log-probability of the tokens when sampled; None under evolution.
        seed: Seed of its training.
        state: "sampled", "started", "finished" or "failed".
        reward: None until it is finished or failed.
        result: Further results of its training: rewards and losses by evaluation, or the error.
        parameters: Number of trainable parameters.
        mult_adds: Number of multiply-adds on one image.
        seconds: Seconds that its training took; 0 if it has the reward of an earlier child.
        same_as: Number of the earlier child whose reward it has, or None.
    """

    number: NonNegativeInt
    round: NonNegativeInt
    tokens: tuple[NonNegativeInt, ...]
    canonical: tuple[NonNegativeInt, ...]
    genotype: dict[str, Any]
    log_probability: float | None
    seed: Seed
    state: Literal["sampled", "started", "finished", "failed"] = "sampled"
    reward: Share | None = None
    result: dict[str, Any] | None = None
    parameters: NonNegativeInt | None = None
    mult_adds: NonNegativeInt | None = None
    seconds: NonNegativeFloat | None = None
    same_as: NonNegativeInt | None = None

    @property
    def worker_died(self) -> bool:
        """Whether it failed since the process that trained it died."""
        return bool((self.result or {}).get("worker_died"))


class Journal:
    """A journal file, created if it does not exist.

    Data is on disk when a method that writes it returns, so that a killed search can continue.

    Args:
        path: Path of the file.
        settings: Settings of the search, as JSON. Default: open an existing journal, whose search may
            be running, to read only.

    Raises:
        ValueError: If the file is not a journal, is damaged, has other settings, or does not exist and
            ``settings`` is not given.
        OSError: If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> None:
        self.path = path
        if settings is None and not os.path.exists(path):
            raise self._error("no such file")
        name = os.fspath(path) if settings is not None else _to_read(path)
        with self._reading():
            self._database = sqlite3.connect(name, isolation_level=None, uri=settings is None)
        try:
            self._open(settings)
        except BaseException:
            # Or it leaves its write-ahead log.
            self.close()
            raise

    def _open(self, settings: Mapping[str, Any] | None) -> None:
        with self._reading():
            if settings is not None:
                self._database.execute("pragma journal_mode = wal")
            found = _schema(self._database)
            if settings is not None and not found:
                self._begin(json.dumps(settings, sort_keys=True))
                found = _schema(self._database)
            self._check_file(found)
            ((text,),) = self._database.execute("select settings from run").fetchall() or [(None,)]
        #: What the search was begun with.
        self.settings: dict[str, Any] = self._parsed(text, "the settings of the search")
        if settings is not None:
            check_settings(self.path, self.settings, json.loads(json.dumps(settings)))

    def _begin(self, settings: str) -> None:
        """Create the tables, all or none."""
        with self._transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._database.execute(statement)
            self._database.execute("insert into run values (0, ?)", (settings,))

    def _check_file(self, found: Mapping[str, str]) -> None:
        with closing(sqlite3.connect(":memory:")) as new:
            new.executescript(_SCHEMA)
            expected = _schema(new)
        if not found:
            raise self._error("an empty one")
        for name in {**expected, **found}:
            if found.get(name) != expected.get(name):
                kind = "without" if name not in found else "with another"
                raise self._error(f"one {kind} {name}")
        ((damage,),) = self._database.execute("pragma integrity_check(1)").fetchall()
        if damage != "ok":
            raise self._error(f"a damaged file, {damage}")

    def _error(self, received: str, expected: str = "the journal of a search") -> ValueError:
        return ValueError(f"{self.path}: expected {expected}. Received: {received}")

    def _parsed(self, text: Any, expected: str) -> dict[str, Any]:
        """The object that a JSON text of the journal holds; losses may be NaN or infinite."""
        try:
            found = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._error(f"{text!r:.100}", expected)
        return found

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Name the file in errors of the database."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._error(str(error)) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("begin immediate")
            yield
            self._database.execute("commit")
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path}: expected to write the journal. Received: {error}") from error
        finally:
            if self._database.in_transaction:
                self._database.execute("rollback")

    # === Children ===

    def add(self, children: list[Record]) -> None:
        """Record sampled children, all or none."""
        with self._transaction():
            places = ", ".join("?" * len(Record.__dataclass_fields__))
            self._database.executemany(f"insert into children values ({places})", map(_row, children))

    def start(self, number: int) -> None:
        """Record that a child's training begins."""
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
        """Record a child's reward."""
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
        return self._records() if round is None else self._records("where round = ?", round)

    def child(self, number: int) -> Record:
        """The child of a number that is in the journal."""
        return self._records("where number = ?", number)[0]

    def rewarded(self, canonical: tuple[int, ...]) -> Record | None:
        """The first child of this canonical form that has a reward, whose worker did not die of it."""
        where = "where canonical = ? and reward is not null and same_as is null"
        records = self._records(where, json.dumps(canonical))
        return next((record for record in records if not record.worker_died), None)

    def _records(self, where: str = "", *values: Any) -> list[Record]:
        with self._reading():
            query = f"select * from children {where} order by number"
            rows = self._database.execute(query, values).fetchall()
        records = []
        for row in rows:
            try:
                record = _record(row)
                check_fields(record)
            except ValueError as error:
                raise ValueError(f"{self.path}: child {row[0]!r:.20}: {error}") from None
            records.append(record)
        return records

    # === The policy ===

    def save_policy(
        self, rounds: int, state: Mapping[str, np.ndarray], told: Mapping[str, float] | None = None
    ) -> None:
        """Record the policy's state after so many rounds, and its metrics of the last of them."""
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
        with self._reading():
            row = self._database.execute("select rounds, state from policy").fetchone()
        if row is None:
            return None
        rounds, blob = row
        try:
            check("rounds", rounds, NonNegativeInt)
            if not isinstance(blob, bytes) or not blob.startswith(b"PK"):
                raise ValueError(f"{blob!r:.100}")
            with np.load(io.BytesIO(blob), allow_pickle=False) as file:
                return rounds, {name: file[name] for name in file.files}
        except _NO_ARRAYS as error:
            raise self._error(str(error), "the arrays of the policy's state") from None

    def told(self) -> list[dict[str, float]]:
        """What the policy told of each round that is done, such as its entropy."""
        with self._reading():
            rows = self._database.execute("select told from rounds order by number").fetchall()
        return [self._parsed(told, "the figures of a minibatch") for (told,) in rows]

    # === Going on ===

    def check_children(self, derived: Callable[[Record], Mapping[str, Any]]) -> list[Record]:
        """Check every child and return all.

        Args:
            derived: Function that returns the fields which follow from a child's number and tokens. It
                raises a `ValueError` for invalid tokens.

        Raises:
            ValueError: If a child is wrong. The message names the child and the reason.
        """
        by_number: dict[int, Record] = {}
        for record in self._records():
            by_number[record.number] = record
            try:
                _check_reward(record, by_number)
                for name, value in derived(record).items():
                    if getattr(record, name) != value:
                        received = f"{getattr(record, name)!r:.100}"
                        raise ValueError(f"Expected {name} as it follows. Received: {received}")
            except (TypeError, ValueError) as error:
                raise ValueError(f"{self.path}: child {record.number}: {error}") from None
        return list(by_number.values())

    def check_rounds(self, records: Sequence[Record]) -> None:
        """Check that children and the policy's state are those of one search.

        Raises:
            ValueError: If they do not fit. The message says what does not fit.
        """
        saved = self.policy()
        if saved is None:
            if records:
                raise self._error(f"{len(records)} children and no policy")
            return
        done, _ = saved
        with self._reading():
            numbers = [number for (number,) in self._database.execute("select number from rounds")]
        if sorted(numbers) != list(range(done)) or len(self.told()) != done:
            raise self._error(f"a policy after {done} minibatches, and figures of {len(numbers)}")
        rounds = [record.round for record in records]
        last = rounds[-1] if rounds else -1
        if [record.number for record in records] != list(range(len(records))):
            raise self._error("children that are not numbered from 0")
        if rounds != sorted(rounds) or set(rounds) != set(range(last + 1)):
            raise self._error("children whose minibatches do not follow each other")
        if last not in (done - 1, done):
            raise self._error(f"a policy after {done} minibatches, and children of {last + 1}")
        if any(record.reward is None and record.round < done for record in records):
            raise self._error("a policy that has learned from children without a reward")


def check_settings(
    path: str | os.PathLike[str], begun: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Check that a search goes on with the settings that it was begun with.

    Args:
        path: Path of the file that holds ``begun``, for the message.
        begun: Settings that the search was begun with.
        settings: Settings to continue with.

    Raises:
        ValueError: If a setting differs. The message names the first one.
    """
    for name in {**settings, **begun}:
        if begun.get(name) != settings.get(name):
            raise ValueError(
                f"{path}: expected {name}={begun.get(name)!r}, which the search in this folder has. "
                f"Received: {name}={settings.get(name)!r}"
            )


def is_begun(path: str | os.PathLike[str]) -> bool:
    """Whether a file is more than the journal of a search that was killed before it made its tables."""
    try:
        with closing(sqlite3.connect(_to_read(path), uri=True)) as database:
            return bool(_schema(database))
    except sqlite3.DatabaseError:
        return True


def _to_read(path: str | os.PathLike[str]) -> str:
    """The address of a journal that SQLite then only reads."""
    # A search that runs, or was killed, has a log beside its journal. Without one SQLite would make an
    # empty log and leave it there, but for a file that is declared not to change.
    mode = "mode=ro" if os.path.exists(f"{path}-wal") else "immutable=1"
    return f"{Path(path).absolute().as_uri()}?{mode}"


def _schema(database: sqlite3.Connection) -> dict[str, str]:
    """Tables, indices and the like by name, as they were defined."""
    rows = database.execute("select name, type, sql from sqlite_schema where name not like 'sqlite_%'")
    return {f"the {kind} {name}": sql for name, kind, sql in rows}


def _check_reward(record: Record, earlier: Mapping[int, Record]) -> None:
    """Check that state, reward and result of a child agree."""
    done = record.state in ("finished", "failed")
    if done != (record.reward is not None):
        raise ValueError(f"Expected a reward if it is done. Received: {record.state}, {record.reward}")
    if not done:
        return
    if record.same_as is not None:
        first = earlier.get(record.same_as)
        if first is None or first is record or first.canonical != record.canonical:
            raise ValueError(f"Expected same_as: an equal child. Received: {record.same_as}")
        expected, state = first.reward, first.state
    else:
        result = record.result if isinstance(record.result, dict) else {}
        curve, state = result.get("rewards"), record.state
        check("rewards", curve, tuple[Share, ...])
        expected = curve[-1] if curve and record.state == "finished" else 0.0
    if (record.reward, record.state) != (expected, state):
        raise ValueError(
            f"Expected reward={expected}, {state}. Received: {record.reward}, {record.state}"
        )


# Raised by a file of arrays that is damaged.
_NO_ARRAYS = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
_JSON = ("tokens", "canonical", "genotype", "result")


def _row(record: Record) -> list[Any]:
    return [
        json.dumps(value) if name in _JSON and value is not None else value
        for name, value in vars(record).items()
    ]


def _record(row: tuple[Any, ...]) -> Record:
    fields = dict(zip(Record.__dataclass_fields__, row, strict=True))
    for name in _JSON:
        text = fields[name]
        try:
            fields[name] = None if text is None else json.loads(text)
        except (TypeError, ValueError, RecursionError):
            raise ValueError(f"Expected {name} in JSON. Received: {text!r:.60}") from None
    for name in ("tokens", "canonical"):
        if not isinstance(fields[name], list):
            raise ValueError(f"Expected {name}: a list. Received: {fields[name]!r:.60}")
        fields[name] = tuple(fields[name])
    return Record(**fields)
