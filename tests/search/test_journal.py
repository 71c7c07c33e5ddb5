"""Journals that are damaged or were changed by hand: refused in a line that names the file."""

import io
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from nasnet_zoo.search import PPO, RandomSearch, RegularizedEvolution, SearchSpace
from nasnet_zoo.search.child import Trained
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.search import Here, ranked, retrain, run_search

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(blocks=2, operations=("identity", "sep_3x3"), combinations=("add",))
POLICIES = {
    "ppo": lambda: PPO(SPACE, units=4),
    "evolution": lambda: RegularizedEvolution(SPACE, population=4, sample=2),
    "random": lambda: RandomSearch(SPACE),
}


def train(job):
    names = [name for block in job.genotype.normal.blocks for name in block.operations]
    return Trained((0.1, names.count("sep_3x3") / 4), (2.0, 1.0))


def search(path, policy="ppo", children=12):
    with closing(Journal(path, {"policy": policy})) as journal:
        made = POLICIES[policy]()
        return run_search(made, SPACE, Here(train), journal, children, minibatch=4)


@pytest.fixture(scope="module")
def journals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journals")
    for policy in POLICIES:
        search(folder / f"{policy}.sqlite", policy)
    return folder


def _saved(state):
    buffer = io.BytesIO()
    np.savez(buffer, **state)
    return buffer.getvalue()


EDITS = {
    "reward out of range": ("update children set reward = 7 where number = 3", "child 3: .* reward"),
    "another reward": ("update children set reward = 0.123 where number = 3", "child 3: .*0.123"),
    "reward that is a text": (
        "update children set reward = 'best' where number = 3",
        "child 3: .*'best'",
    ),
    "reward that is no number": (
        "update children set reward = 9e999 where number = 3",
        "child 3: .*inf",
    ),
    "reward taken away": ("update children set reward = null where number = 3", "child 3: .*finished"),
    "state changed": ("update children set state = 'failed' where number = 0", "child 0: .*failed"),
    "result that is no JSON": ("update children set result = '{' where number = 0", "child 0: "),
    "result of another kind": (
        "update children set result = '[1]' where number = 0",
        "child 0: Expected result: dict or none",
    ),
    "result without rewards": (
        "update children set result = '{}' where number = 0",
        "child 0: .*rewards",
    ),
    "tokens out of range": (
        "update children set tokens = replace(tokens, '[', '[99') where number = 5",
        "child 5: Expected 20 ints",
    ),
    "other tokens": (
        "update children set tokens = (select tokens from children where number = 0) where number = 5",
        "child 5: Expected canonical",
    ),
    "tokens of a wrong type": ("update children set tokens = '7' where number = 5", "child 5: "),
    "tokens nested too deeply": (
        f"update children set tokens = '{'[' * 100_000}' where number = 5",
        "child 5: ",
    ),
    "another genotype": (
        "update children set genotype = replace(genotype, 'sep_3x3', 'conv_1x1') where number in "
        "(select number from children where genotype like '%sep_3x3%' limit 1)",
        "child .*: Expected genotype",
    ),
    "another seed": ("update children set seed = seed - 1 where number = 5", "child 5: Expected seed"),
    "seconds that are negative": (
        "update children set seconds = -1 where number = 5",
        "Expected seconds",
    ),
    "parameters that are a text": (
        "update children set parameters = 'many' where number = 5",
        "child 5: Expected parameters: an int",
    ),
    "the reward of a child that is not there": (
        "update children set same_as = 99 where number = 5",
        "child 5: Expected same_as",
    ),
    "a child missing": ("delete from children where number = 5", "not numbered from 0"),
    "children missing": ("delete from children", "a policy after 3 minibatches, and children of 0"),
    "a minibatch missing": ("delete from children where round = 2", "children of 2"),
    "minibatch of another number": ("update children set round = 9 where number = 11", "minibatches"),
    "policy of the future": ("update policy set rounds = 99", "a policy after 99 minibatches"),
    "policy of the past": ("update policy set rounds = 1", "a policy after 1 minibatches"),
    "rounds that are a text": ("update policy set rounds = 'x'", "Expected rounds: an int"),
    "policy missing": ("delete from policy", "12 children and no policy"),
    "state that is a text": ("update policy set state = 'weights'", "the arrays of the policy's state"),
    "state that is empty": ("update policy set state = x''", "the arrays of the policy's state"),
    "state cut short": (
        "update policy set state = substr(state, 1, length(state) - 40)",
        "the arrays of the policy's state",
    ),
    "told that is no JSON": ("update rounds set told = 'x'", "the figures of a minibatch"),
    "told missing": ("delete from rounds where number = 1", "figures of 2"),
    "table missing": ("drop table policy", "one without the table policy"),
    "column missing": (
        "alter table children drop column seconds",
        "one with another the table children",
    ),
    "settings missing": ("delete from run", "the settings of the search. Received: None"),
    "settings that are no JSON": ("update run set settings = '{'", "the settings of the search"),
    "other settings": (
        'update run set settings = \'{"policy": "x"}\'',
        "policy='x', which .* Received:",
    ),
    "table of another": ("create table more (x)", "one with another the table more"),
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


STATES = {
    "an array missing": ("ppo", lambda state: state.pop("random"), "Expected the arrays"),
    "an array more": ("ppo", lambda state: state.update(more=np.zeros(1)), "Expected the arrays"),
    "another shape": ("ppo", lambda state: state.update({"00": np.zeros(3, "f4")}), "Expected 00"),
    "another type": ("ppo", lambda state: state.update({"00": np.zeros(4)}), "float32 .*float64"),
    "no number": ("ppo", lambda state: state["00"].fill(np.nan), "Expected 00: finite numbers"),
    "infinite": ("ppo", lambda state: state.update(baseline=np.array(np.inf)), "Expected baseline"),
    "negative count": ("random", lambda state: state["asked"].fill(-1), "Expected asked"),
    "too many members": ("evolution", lambda state: state["told"].fill(3), "Expected tokens"),
    "tokens out of range": ("evolution", lambda state: state["tokens"].fill(50), "Expected 20 ints"),
    "rewards of NaN": ("evolution", lambda state: state["rewards"].fill(np.nan), "Expected rewards"),
    "of another policy": (
        "random",
        lambda state: state.update(told=np.array(1)),
        "Expected the arrays",
    ),
}


@pytest.mark.parametrize(("policy", "edit", "message"), STATES.values(), ids=STATES)
def test_a_state_that_is_not_the_policys_is_refused(journals, tmp_path, policy, edit, message):
    path = tmp_path / "journal.sqlite"
    shutil.copy(journals / f"{policy}.sqlite", path)
    with closing(Journal(path, {"policy": policy})) as journal:
        rounds, state = journal.policy()
        edit(state)
        journal.save_policy(rounds, state)
    with pytest.raises(ValueError, match=f"^{path}: the policy's state: .*{message}"):
        search(path, policy, children=16)


class Pickled:
    """Would be told when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_a_pickle_is_not_executed(journals, tmp_path):
    path = tmp_path / "journal.sqlite"
    shutil.copy(journals / "random.sqlite", path)
    with closing(sqlite3.connect(path)) as database:
        state = _saved({"asked": np.array([Pickled()], object)})
        database.execute("update policy set state = ?", (state,))
        database.commit()
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        search(path, "random", children=16)


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
            keys = ("number", "tokens", "genotype", "seed", "reward", "same_as")
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
        again = retrain(best[:2], SPACE, Here(train), journal)
    with closing(sqlite3.connect(path)) as database:
        database.execute("update children set seed = 1 where number = ?", (again[0].number,))
        database.commit()
    with (
        closing(Journal(path, {})) as journal,
        pytest.raises(ValueError, match=f"^{path}: child {again[0].number}: Expected seed"),
    ):
        retrain(best[:3], SPACE, Here(train), journal)


def test_a_seed_as_large_as_can_be(tmp_path):
    with closing(Journal(tmp_path / "j.sqlite", {})) as journal:
        policy = RandomSearch(SPACE, seed=2**32 - 1)
        records = run_search(policy, SPACE, Here(train), journal, 2, seed=2**32 - 1)
    assert len({record.seed for record in records}) == 2
