"""Journals that are damaged or were changed by hand: refused in a line that names the file."""

import io
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from evaluators import Function

from nasnet_zoo.search import (
    PPO,
    Journal,
    NASNetSpace,
    RandomSearch,
    RegularizedEvolution,
    Result,
    Serial,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.journal import _checksum
from nasnet_zoo.search.search import evaluate_all, ranked

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=2, operations=("identity", "sep_3x3"), combinations=("add",))
POLICIES = {
    "ppo": lambda: PPO(SPACE, units=4),
    "evolution": lambda: RegularizedEvolution(SPACE, population=4, sample=2),
    "random": lambda: RandomSearch(SPACE),
}


def train(trial):
    names = [name for block in trial.child.normal.blocks for name in block.operations]
    reward = names.count("sep_3x3") / 4
    return Result(reward, (0.1, reward), metrics={"losses": [2.0, float("nan")]})


def search(path, policy="ppo", children=12):
    with closing(Journal(path, {"policy": policy})) as journal:
        made = POLICIES[policy]()
        executor = Serial(Function(train))
        return run_search(made, SPACE, executor, journal, children, Synchronous(4))


@pytest.fixture(scope="module")
def journals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journals")
    for policy in POLICIES:
        search(folder / f"{policy}.sqlite", policy)
    return folder


CHILD = "expected the children as the search wrote them. Received: a changed child"
EDITS = {
    **{
        f"{column} of a child": (
            f"update children set {column} = {value} where number = 3",
            f"{CHILD} 3",
        )
        for column, value in {
            "reward": 0.123,
            "state": "'failed'",
            "curve": "'{'",
            "actions": "'[[['",
            "architecture": "replace(architecture, 'add', 'concat')",
            "seed": "seed - 1",
            "seconds": -1,
            "costs": "'{\"parameters\": 7}'",
            "log_probabilities": "null",
            "same_as": 99,
            "learned": 2,
            "checksum": "checksum + 1",
        }.items()
    },
    "checksum of another kind": ("update children set checksum = 'x' where number = 3", f"{CHILD} 3"),
    "checksum taken away": ("update children set checksum = null where number = 3", f"{CHILD} 3"),
    "a child missing": ("delete from children where number = 5", "not numbered from 0"),
    "children missing": ("delete from children", "3 minibatches, and children of 0"),
    "the last children missing": ("delete from children where number > 7", "and children of 2"),
    "a minibatch missing": ("delete from minibatches where number = 1", "minibatches that are not num"),
    "the last minibatch missing": (
        "delete from minibatches where number = 2",
        "2 minibatches, and children of 3",
    ),
    "metrics changed": ("update minibatches set metrics = 'x' where number = 1", "a minibatch 1 that"),
    "policy missing": ("delete from state", "12 children and no policy"),
    "an array missing": ("delete from state where name = 'policy.00'", "Expected the arrays"),
    "an array that is a text": (
        "update state set array = 'weights' where name = 'policy.00'",
        "a changed policy.00",
    ),
    "an array cut short": (
        "update state set array = substr(array, 1, length(array) - 40) where name = 'policy.random'",
        "a changed policy.random",
    ),
    "table missing": ("drop table state", "one without the table state"),
    "column missing": (
        "alter table children drop column seconds",
        "one with another the table children",
    ),
    "settings missing": ("delete from search", "the settings of the search. Received: None"),
    "settings that are no JSON": ("update search set settings = '{'", "the settings of the search"),
    "other settings": (
        'update search set settings = \'{"policy": "x"}\'',
        "policy='x', which .* Received:",
    ),
    "table of another": ("create table more (x)", "one with another the table more"),
    "a later version": ("pragma user_version = 3", "one of version 3, of a later nasnet-zoo"),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS)
def test_a_journal_that_was_changed_is_refused(journals, tmp_path, edit, message):
    path = tmp_path / "journal.sqlite"
    shutil.copy(journals / "ppo.sqlite", path)
    with closing(sqlite3.connect(path)) as database:
        database.execute(edit)
        database.commit()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as error:
        search(path, children=16)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def _members(state, change):
    members = json.loads(state["policy.members"].tobytes())
    change(members)
    state["policy.members"] = np.frombuffer(json.dumps(members).encode(), np.uint8)


STATES = {
    "an array more": ("ppo", lambda state: state.update({"policy.more": np.zeros(1)}), "the arrays"),
    "another shape": (
        "ppo",
        lambda state: state.update({"policy.00": np.zeros(3, "f4")}),
        "Expected 00",
    ),
    "another type": (
        "ppo",
        lambda state: state.update({"policy.00": np.zeros(4)}),
        "float32 .*float64",
    ),
    "no number": ("ppo", lambda state: state["policy.00"].fill(np.nan), "Expected 00: finite numbers"),
    "infinite": (
        "ppo",
        lambda state: state.update({"policy.baseline": np.array(np.inf)}),
        "Expected baseline",
    ),
    "negative count": ("random", lambda state: state["policy.asked"].fill(-1), "Expected asked"),
    "another version": (
        "random",
        lambda state: state["policy.version"].fill(99),
        "a policy after 3 minibatches. Received: one after 99",
    ),
    "too few members": ("evolution", lambda state: state["policy.told"].fill(3), "Expected 3 members"),
    "no members": (
        "evolution",
        lambda state: state.update({"policy.members": np.frombuffer(b"{", np.uint8)}),
        "Expected members in JSON",
    ),
    "actions out of range": (
        "evolution",
        lambda state: _members(state, lambda members: members[0][1].__setitem__(0, 50)),
        "Expected 20 ints",
    ),
    "rewards that are texts": (
        "evolution",
        lambda state: _members(state, lambda members: members[0].__setitem__(2, "best")),
        "Expected member's reward",
    ),
    "of another policy": (
        "random",
        lambda state: state.update({"policy.told": np.array(1)}),
        "Expected the arrays",
    ),
}


@pytest.mark.parametrize(("policy", "edit", "message"), STATES.values(), ids=STATES)
def test_a_state_that_is_not_the_policys_is_refused(journals, tmp_path, policy, edit, message):
    path = tmp_path / "journal.sqlite"
    shutil.copy(journals / f"{policy}.sqlite", path)
    with closing(Journal(path, {"policy": policy})) as journal:
        state = journal.state()
        edit(state)
        journal.commit_ask([], state)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        search(path, policy, children=16)


class Pickled:
    """Would be told when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_a_pickle_is_not_executed(journals, tmp_path):
    path = tmp_path / "journal.sqlite"
    shutil.copy(journals / "random.sqlite", path)
    buffer = io.BytesIO()
    np.save(buffer, np.array([Pickled()], object))
    with closing(sqlite3.connect(path)) as database:
        row = ("policy.asked", buffer.getvalue(), _checksum("policy.asked", buffer.getvalue()))
        database.execute("insert or replace into state values (?, ?, ?)", row)
        database.commit()
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        search(path, "random", children=16)


@pytest.mark.parametrize("edit", ["seed = seed + 1", "key = '[0]'"])
def test_a_child_of_another_search_is_refused(journals, tmp_path, edit):
    """A child that the policy has not learned from has to follow from its actions."""
    path = tmp_path / "journal.sqlite"
    shutil.copy(journals / "random.sqlite", path)
    with closing(Journal(path, {"policy": "random"})) as journal:
        record = journal.children()[-1]
        column = edit.split()[0]
        changed = {"seed": record.seed + 1, "key": "[0]"}[column]
        again = replace(
            record, number=12, learned=None, state="asked", reward=None, **{column: changed}
        )
        journal.commit_ask([again])
    with pytest.raises(ValueError, match=f"^{path}: child 12: Expected {column} as it follows"):
        search(path, "random", children=16)


def test_only_arrays_that_have_changed_are_written(journals, tmp_path):
    path = tmp_path / "journal.sqlite"
    shutil.copy(journals / "ppo.sqlite", path)
    with closing(sqlite3.connect(path)) as database:
        before = dict(database.execute("select name, rowid from state"))
    with closing(Journal(path, {"policy": "ppo"})) as journal:
        policy = POLICIES["ppo"]()
        prefix = "policy."
        policy.restore({n.removeprefix(prefix): array for n, array in journal.state().items()})
        policy.ask(4)
        journal.commit_ask([], {prefix + name: array for name, array in policy.state().items()})
    with closing(sqlite3.connect(path)) as database:
        after = dict(database.execute("select name, rowid from state"))
    # A row that is written again is another one.
    assert {name for name in before if before[name] != after[name]} == {"policy.random"}


def test_an_array_that_was_changed_in_place_is_written(tmp_path):
    array = np.zeros(3)
    with closing(Journal(tmp_path / "j.sqlite", {})) as journal:
        journal.commit_ask([], {"evaluator.weights": array})
        array[1] = 7
        journal.commit_ask([], {"evaluator.weights": array})
        np.testing.assert_array_equal(journal.state()["evaluator.weights"], [0, 7, 0])


def test_what_is_asked_and_what_is_told_stand_with_the_state_that_belongs_to_them(tmp_path):
    """A commit that fails half-way leaves nothing."""
    path = tmp_path / "journal.sqlite"
    records = search(path, "random", children=4)
    with closing(Journal(path, {"policy": "random"})) as journal:
        new, state = replace(records[0], number=4), {"policy.asked": np.array([None], object)}
        with pytest.raises(ValueError, match="Object arrays"):
            journal.commit_ask([new], state)
        with pytest.raises(ValueError, match="Object arrays"):
            journal.commit_tell([replace(records[0], reward=1.0, learned=1)], state, {})
        assert journal.children() == records
        assert len(journal.minibatches()) == 1
    assert search(path, "random", children=8)[:4] == records


VERSION_1 = """
create table run (id integer primary key check (id = 0), settings text not null);
create table children (
    number integer primary key, round integer not null, tokens text not null, canonical text not null,
    genotype text not null, log_probability real, seed integer not null,
    state text not null check (state in ('sampled', 'started', 'finished', 'failed')),
    reward real, result text, parameters integer, mult_adds integer, seconds real,
    same_as integer references children (number)
);
create index by_canonical on children (canonical);
create table rounds (number integer primary key, told text not null);
create table policy (
    id integer primary key check (id = 0), rounds integer not null, state blob not null
);
insert into run values (0, '{"policy": "ppo", "seed": 3}');
insert into rounds values (0, '{"entropy": 7.5}');
insert into children values
    (0, 0, '[1, 0]', '[0, 1]', '{"name": "child 0"}', -2.5, 7, 'finished', 0.75,
     '{"rewards": [0.5, 0.75], "losses": [2.0, NaN], "stopped": false}', 1234, 5678, 2.5, null),
    (1, 0, '[0, 1]', '[0, 1]', '{"name": "child 1"}', -2.5, 7, 'finished', 0.75, '{}', 12, 56, 0, 0),
    (2, 0, '[1, 1]', '[1, 1]', '{"name": "child 2"}', null, 8, 'finished', 0.25,
     '{"rewards": [0.25], "losses": [2.0], "stopped": true}', 1, 1, 1.5, null),
    (3, 1, '[1, 2]', '[1, 2]', '{"name": "child 3"}', null, 9, 'failed', 0.0,
     '{"rewards": [], "losses": [], "error": "its worker died", "worker_died": true}', 1, 1, 0, null),
    (4, 1, '[1, 3]', '[1, 3]', '{"name": "child 4"}', null, 9, 'failed', 0.0,
     '{"rewards": [], "losses": [9.0], "stopped": false}', 1, 1, 0, null),
    (5, 1, '[1, 4]', '[1, 4]', '{"name": "child 5"}', null, 9, 'started', null, null, 1, 1, null, null);
"""


def test_a_journal_of_version_1_is_read_but_not_continued(tmp_path):
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(VERSION_1)
    before = path.read_bytes()
    with closing(Journal(path)) as journal:
        first, equal, stopped, lost, diverged, asked = journal.children()
        assert journal.minibatches() == [{"entropy": 7.5}]
        assert journal.settings == {"policy": "ppo", "seed": 3}
    assert (first.actions, first.key, first.seed, first.seconds) == ((1, 0), "[0, 1]", 7, 2.5)
    assert first.metrics["losses"][0] == 2.0
    assert (first.reward, first.curve, first.state, first.learned) == (0.75, (0.5, 0.75), "finished", 0)
    assert np.isnan(first.metrics["losses"][1])
    assert first.costs == {"parameters": 1234, "mult_adds": 5678}
    assert (equal.same_as, equal.reward) == (0, 0.75)
    assert [r.state for r in (stopped, lost, diverged, asked)] == ["stopped", "lost", "failed", "asked"]
    assert [r.version for r in (stopped, lost, asked)] == [0, 1, 1]
    assert lost.message == "its worker died"
    assert (diverged.message, asked.reward, asked.learned) == ("diverged", None, None)
    with pytest.raises(ValueError, match=f"^{path}: .* of version 1, which can be read but not contin"):
        search(path)
    assert path.read_bytes() == before


def test_bits_that_flipped_in_the_file_are_noticed_or_change_nothing(journals, tmp_path):
    expected = search(journals / "ppo.sqlite")
    good = (journals / "ppo.sqlite").read_bytes()
    path = tmp_path / "journal.sqlite"
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(good), size=60):
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(good[:place] + bytes([good[place] ^ 16]) + good[place + 1 :])
        found, told = None, ""
        try:
            found = search(path)
        except ValueError as error:
            told = str(error)
            refused += 1
        if found is None:
            assert told.startswith(f"{path}: ")
        else:
            # Seconds, figures and log-probabilities are told, and nothing follows from them.
            keys = ("number", "actions", "architecture", "seed", "reward", "same_as")
            for one, other in zip(found, expected, strict=True):
                assert [getattr(one, key) for key in keys] == [getattr(other, key) for key in keys]
    assert refused > 10


@pytest.mark.parametrize("size", [0, 100, 5000, -100])
def test_a_journal_that_was_cut_short_is_refused(journals, tmp_path, size):
    path = tmp_path / "journal.sqlite"
    good = (journals / "ppo.sqlite").read_bytes()
    path.write_bytes(good[:size])
    with pytest.raises(ValueError, match=f"^{path}: expected .* Received: "):
        search(path) if size else Journal(path)
    assert path.read_bytes() == good[:size]


def test_retrained_children_are_those_of_the_search(journals, tmp_path):
    best = ranked(search(journals / "ppo.sqlite"))
    path = tmp_path / "retrained.sqlite"
    with closing(Journal(path, {})) as journal:
        again = evaluate_all(best[:2], SPACE, Serial(Function(train)), journal)
    with closing(sqlite3.connect(path)) as database:
        database.execute("update children set seed = 1 where number = ?", (again[0].number,))
        database.commit()
    with (
        closing(Journal(path, {})) as journal,
        pytest.raises(ValueError, match=f"^{path}: .* a changed child {again[0].number}"),
    ):
        evaluate_all(best[:3], SPACE, Serial(Function(train)), journal)
    other = tmp_path / "other.sqlite"
    with closing(Journal(other, {})) as journal:
        evaluate_all(best[:1], SPACE, Serial(Function(train)), journal)
        swapped = [replace(best[1], number=best[0].number)]
        with pytest.raises(ValueError, match=f"^{other}: child {best[0].number}: .* Received: another"):
            evaluate_all(swapped, SPACE, Serial(Function(train)), journal)


def test_a_seed_as_large_as_can_be(tmp_path):
    with closing(Journal(tmp_path / "j.sqlite", {})) as journal:
        policy = RandomSearch(SPACE, seed=2**32 - 1)
        executor = Serial(Function(train))
        records = run_search(policy, SPACE, executor, journal, 2, seed=2**32 - 1)
    assert len({record.seed for record in records}) == 2
