"""The journal of a search: every child and the policy's state, in one SQLite file.

A commit is atomic: children that are asked for or told stand in it with the state of the policy
that belongs to them. While a search runs nothing reads the whole journal.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from nasnet_zoo.checking import NonNegativeFloat, NonNegativeInt, Seed, check_fields

#: Version of the tables, SQLite's ``user_version``. Journals of version 1 can be read.
SCHEMA_VERSION = 2
_SCHEMA = """
create table search (id integer primary key check (id = 0), settings text not null);
create table children (
    number integer primary key,
    actions text not null,
    key text not null,
    architecture text not null,
    version integer not null,
    seed integer not null,
    parent integer,
    log_probabilities text,
    costs text not null,
    state text not null check (state in ('asked', 'finished', 'stopped', 'failed', 'lost')),
    reward real,
    curve text not null,
    metrics text not null,
    message text,
    seconds real,
    same_as integer references children (number),
    learned integer,
    checksum integer
);
create index by_learned on children (learned);
create table minibatches (number integer primary key, metrics text not null, checksum integer);
create table state (name text primary key, array blob not null, checksum integer);
"""
# What a journal of version 1 looks like in the tables of this version.
_VERSION_1 = """
create temp view search as select id, settings from main.run;
create temp view children as select
    number, tokens as actions, canonical as key, genotype as architecture, round as version, seed,
    null as parent, null as log_probabilities,
    json_object('parameters', parameters, 'mult_adds', mult_adds) as costs,
    case
        when state in ('sampled', 'started') then 'asked'
        when part(result, 'worker_died') = 'true' then 'lost'
        when state = 'finished' and part(result, 'stopped') = 'true' then 'stopped'
        else state
    end as state,
    reward, coalesce(part(result, 'rewards'), '[]') as curve,
    '{"losses": ' || coalesce(part(result, 'losses'), '[]') || '}' as metrics,
    coalesce(
        part(result, 'error') ->> '$', case when state = 'failed' then 'diverged' end
    ) as message,
    seconds, same_as, case when round in (select number from main.rounds) then round end as learned,
    null as checksum
from main.children;
create temp view minibatches as select number, told as metrics, null as checksum from main.rounds;
"""


@dataclass(frozen=True)
class Record:
    """A child in the journal.

    Args:
        number: Number from 0, in the order of sampling.
        actions: Sampled actions.
        key: Key of the architecture, see `Space.key`.
        architecture: The architecture as JSON.
        version: Number of minibatches that the policy had learned from when it drew the child.
        seed: Seed of its evaluation.
        parent: Number of the child that it is a mutation of, or begins with the weights of; or None.
        log_probabilities: Natural log-probability of each draw, or None.
        costs: Costs that are known before its evaluation, such as its parameters.
        state: "asked" until it has a reward; then the status of its `Result`.
        reward: None until it has been evaluated.
        curve: Reward at each evaluation of its training.
        metrics: Further results.
        message: Reason why it failed or was lost, or None.
        seconds: Seconds that its evaluation took; 0 if it has the reward of an earlier child.
        same_as: Number of the earlier child whose reward it has, or None.
        learned: Number of the minibatch with which the policy has learned from it, or None before.
    """

    number: NonNegativeInt
    actions: tuple[int, ...]
    key: str
    architecture: dict[str, Any]
    version: NonNegativeInt
    seed: Seed
    parent: NonNegativeInt | None = None
    log_probabilities: tuple[float, ...] | None = None
    costs: dict[str, Any] = field(default_factory=dict)
    state: Literal["asked", "finished", "stopped", "failed", "lost"] = "asked"
    reward: float | None = None
    curve: tuple[float, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    message: str | None = None
    seconds: NonNegativeFloat | None = None
    same_as: NonNegativeInt | None = None
    learned: NonNegativeInt | None = None

    @property
    def name(self) -> str:
        """Name of the child, such as "child 17"."""
        return f"child {self.number}"

    @property
    def source(self) -> int:
        """Number of the child that was evaluated: this one, or the earlier one whose reward it has."""
        return self.number if self.same_as is None else self.same_as

    @property
    def named_architecture(self) -> dict[str, Any]:
        """The architecture as JSON with the child's name, as in ``best.json``."""
        return {"name": self.name, **self.architecture}

    def objectives(self, objective: str) -> dict[str, float]:
        """The evaluator's reward by its name, and the costs, of a child that was evaluated itself.

        Args:
            objective: Name of the evaluator's reward, which the metrics hold where an expression of it
                is the reward.
        """
        return {objective: self.metrics.get(objective, self.reward), **self.costs}

    @property
    def has_curve(self) -> bool:
        """Whether it was evaluated itself, to the end or until it was stopped."""
        return self.same_as is None and self.state in ("finished", "stopped")


class Outline(NamedTuple):
    """The few fields of a child that a search remembers of all its children; see `Record`."""

    number: int
    key: str
    state: str
    reward: float | None
    same_as: int | None
    learned: int | None

    @classmethod
    def of(cls, record: Record) -> Outline:
        """The outline of a record."""
        return cls(*(getattr(record, name) for name in cls._fields))


class Journal:
    """A journal file, created if it does not exist.

    Data is on disk when a method that writes it returns, so that a killed search can continue.

    Args:
        path: Path of the file.
        settings: Settings of the search, as JSON. Default: open an existing journal, whose search may
            be running, to read only.

    Raises:
        ValueError: If the file is not a journal, is damaged, has other settings, or does not exist and
            ``settings`` is not given; or if a search of a journal of version 1 is to be continued.
        OSError: If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> None:
        self.path = path
        if settings is None and not os.path.exists(path):
            raise self._error("no such file")
        name = os.fspath(path) if settings is not None else _to_read(path)
        with self._reading():
            self._database = sqlite3.connect(name, isolation_level=None, uri=settings is None)
        self._written: dict[str, tuple[np.ndarray, int]] = {}
        try:
            self._open(settings)
        except BaseException:
            # Or it leaves its write-ahead log.
            self.close()
            raise

    def _open(self, settings: Mapping[str, Any] | None) -> None:
        with self._reading():
            found = _schema(self._database)
            ((version,),) = self._database.execute("pragma user_version")
            if version == 0 and "the table run" in found:
                self._open_version_1(settings)
            elif settings is not None:
                self._database.execute("pragma journal_mode = wal")
                if not found:
                    self._begin(json.dumps(settings, sort_keys=True))
                    version, found = SCHEMA_VERSION, _schema(self._database)
                self._check_file(version, found)
            else:
                self._check_file(version, found)
            ((text,),) = self._database.execute("select settings from search").fetchall() or [(None,)]
        #: What the search was begun with.
        self.settings: dict[str, Any] = self._parsed(text, "the settings of the search")
        if settings is not None:
            check_settings(self.path, self.settings, json.loads(json.dumps(settings)))

    def _open_version_1(self, settings: Mapping[str, Any] | None) -> None:
        if settings is not None:
            raise self._error(
                "a journal of version 1, which can be read but not continued",
                f"the journal of a search of version {SCHEMA_VERSION}",
            )
        self._database.create_function("part", 2, _part)
        self._database.executescript(_VERSION_1)

    def _begin(self, settings: str) -> None:
        """Create the tables, all or none."""
        with self._transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._database.execute(statement)
            self._database.execute("insert into search values (0, ?)", (settings,))
            self._database.execute(f"pragma user_version = {SCHEMA_VERSION}")

    def _check_file(self, version: int, found: Mapping[str, str]) -> None:
        if not found:
            raise self._error("an empty one")
        if version > SCHEMA_VERSION:
            raise self._error(f"one of version {version}, of a later nasnet-zoo")
        with closing(sqlite3.connect(":memory:")) as new:
            new.executescript(_SCHEMA)
            expected = _schema(new)
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

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    # === Writing ===

    def commit_ask(
        self, records: Sequence[Record], state: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Record new children and the state after they were asked for, all or nothing."""
        with self._transaction():
            self._insert(records)
            self._write_state(state or {})

    def commit_results(self, records: Sequence[Record]) -> None:
        """Record the results of children."""
        with self._transaction():
            self._insert(records)

    def commit_tell(
        self,
        records: Sequence[Record],
        state: Mapping[str, np.ndarray],
        metrics: Mapping[str, float],
    ) -> None:
        """Record that the policy has learned from children, its metrics and the state after that.

        Args:
            records: The children, with the number of the minibatch in ``learned``.
            state: State after that.
            metrics: Metrics of the policy.
        """
        text = json.dumps(metrics)
        with self._transaction():
            self._insert(records)
            number = records[0].learned
            row = (number, text, _checksum(number, text))
            self._database.execute("insert into minibatches values (?, ?, ?)", row)
            self._write_state(state)

    def _insert(self, records: Sequence[Record]) -> None:
        places = ", ".join("?" * (len(_COLUMNS) + 1))
        rows = map(_row, records)
        self._database.executemany(f"insert or replace into children values ({places})", rows)

    def _write_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Write the arrays that have changed since they were written."""
        for name, array in state.items():
            written, before = self._written.get(name, (None, None))
            if array is written and not array.flags.writeable:
                continue
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            blob = buffer.getvalue()
            checksum = _checksum(name, blob)
            if checksum != before:
                row = (name, blob, checksum)
                self._database.execute("insert or replace into state values (?, ?, ?)", row)
            self._written[name] = array, checksum

    # === Reading ===

    def children(self) -> list[Record]:
        """All children, by number."""
        return self._records()

    def child(self, number: int) -> Record:
        """The child of a number that is in the journal."""
        return self._records("where number = ?", number)[0]

    def untold(self) -> list[Record]:
        """The children that the policy has not learned from, by number."""
        return self._records("where learned is null")

    def learned(self) -> list[Record]:
        """The children that the policy has learned from, by number."""
        return self._records("where learned is not null")

    def minibatches(self) -> list[dict[str, float]]:
        """The policy's metrics of each minibatch that it has learned from, such as its entropy."""
        with self._reading():
            rows = self._database.execute("select * from minibatches order by number").fetchall()
        if [number for number, *_ in rows] != list(range(len(rows))):
            raise self._error("minibatches that are not numbered from 0")
        for number, text, checksum in rows:
            if checksum is not None and checksum != _checksum(number, text):
                raise self._error(f"a minibatch {number} that was changed")
        return [self._parsed(text, "the metrics of a minibatch") for _, text, _ in rows]

    def state(self) -> dict[str, np.ndarray]:
        """The state that was committed last; empty before the first commit."""
        with self._reading():
            rows = self._database.execute("select name, array, checksum from state").fetchall()
        found = {}
        for name, blob, checksum in rows:
            try:
                if checksum != _checksum(name, blob):
                    raise ValueError(f"a changed {name}")
                found[name] = np.load(io.BytesIO(blob), allow_pickle=False)
            except (ValueError, OSError, EOFError, TypeError) as error:
                raise self._error(str(error), "the arrays of the policy's state") from None
            self._written[name] = found[name], checksum
        return found

    def _records(self, where: str = "", *values: Any) -> list[Record]:
        with self._reading():
            query = f"select * from children {where} order by number"
            rows = self._database.execute(query, values).fetchall()
        records = []
        for row in rows:
            if row[-1] is not None:
                self._check_row(row)
            try:
                records.append(_record(row))
            except ValueError as error:
                raise ValueError(f"{self.path}: child {row[0]!r:.20}: {error}") from None
        return records

    def check(self) -> list[Outline]:
        """Check that all rows are as they were written, and those of one search.

        Returns:
            The outlines of all children, by number.

        Raises:
            ValueError: If they are not. The message says what does not fit.
        """
        outlines = list(self.outlines())
        if [outline.number for outline in outlines] != list(range(len(outlines))):
            raise self._error("children that are not numbered from 0")
        minibatches = len(self.minibatches())
        learned = {outline.learned for outline in outlines} - {None}
        if learned != set(range(minibatches)):
            raise self._error(f"{minibatches} minibatches, and children of {len(learned)}")
        if outlines and not self.state():
            raise self._error(f"{len(outlines)} children and no policy")
        return outlines

    def outlines(self) -> Iterator[Outline]:
        """The outlines of all children, by number: what there is room for in memory, of any search."""
        places = [_COLUMNS.index(name) for name in Outline._fields]
        with self._reading():
            for row in self._database.execute("select * from children order by number"):
                self._check_row(row)
                yield Outline(*(row[place] for place in places))

    def _check_row(self, row: tuple[Any, ...]) -> None:
        *values, checksum = row
        if checksum != _checksum(*values):
            raise self._changed(row[0])

    def _changed(self, number: Any) -> ValueError:
        return self._error(f"a changed child {number!r:.20}", "the children as the search wrote them")


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


def _checksum(*values: Any) -> int:
    """Checksum of the values of a row."""
    found = 0
    for value in values:
        found = zlib.crc32(value if isinstance(value, bytes) else repr(value).encode(), found)
    return found


def _part(text: str | None, name: str) -> str | None:
    """A part of a JSON text as JSON, or None. SQLite's own function does not know NaN."""
    found = json.loads(text or "{}").get(name)
    return None if found is None else json.dumps(found)


_COLUMNS = tuple(Record.__dataclass_fields__)
_JSON = ("actions", "architecture", "log_probabilities", "costs", "curve", "metrics")
_TUPLES = ("actions", "log_probabilities", "curve")


def _row(record: Record) -> list[Any]:
    values = [
        json.dumps(value) if name in _JSON and value is not None else value
        for name, value in vars(record).items()
    ]
    return [*values, _checksum(*values)]


def _record(row: tuple[Any, ...]) -> Record:
    *values, checksum = row
    fields = dict(zip(_COLUMNS, values, strict=True))
    for name in _JSON:
        text = fields[name]
        try:
            fields[name] = None if text is None else json.loads(text)
        except (TypeError, ValueError, RecursionError):
            raise ValueError(f"Expected {name} in JSON. Received: {text!r:.60}") from None
        if name in _TUPLES and isinstance(fields[name], list):
            fields[name] = tuple(fields[name])
    record = Record(**fields)
    if checksum is None:
        check_fields(record)
    return record
