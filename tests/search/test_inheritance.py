"""Children that begin with the weights of their parents: which weights are kept, and what they are."""

from contextlib import suppress

import numpy as np
import pytest
from evaluators import Climbing, Function, Heir, Number
from safetensors.numpy import load_file

from nasnet_zoo.search import (
    Asynchronous,
    Journal,
    Processes,
    RandomSearch,
    Record,
    RegularizedEvolution,
    Result,
    Serial,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.search import ranked
from nasnet_zoo.search.weights import Weights

pytestmark = pytest.mark.tensorflow

SPACE = Number()


def evolution():
    return RegularizedEvolution(SPACE, population=10, sample=4, seed=3)


def search(folder, note=None, children=60, executor=None, policy=None, scheduler=None, **options):
    folder.mkdir(exist_ok=True)
    executor = executor or (Serial(Heir(note)) if note else Serial(Heir()))
    with executor, Journal(folder / "journal.sqlite", {}) as journal:
        return run_search(
            policy or evolution(),
            SPACE,
            executor,
            journal,
            children,
            scheduler or Synchronous(5),
            **options,
        )


def files(folder):
    return {int(path.stem): path.read_bytes() for path in (folder / "weights").glob("*")}


def plain(records):
    return [vars(record) | {"seconds": None} for record in records]


def check_lines(records):
    """Check that each child began with what its parent had ended with."""
    for record in records:
        if record.same_as is None:
            parent = None if record.parent is None else records[records[record.parent].source]
            before = [] if parent is None else parent.metrics["line"]
            assert record.metrics["line"] == [*before, SPACE.from_json(record.architecture)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nothing happened to: its folder, children and policy."""
    folder, policy = tmp_path_factory.mktemp("whole"), evolution()
    return folder, search(folder, policy=policy), policy


def test_a_child_begins_with_what_its_parent_ended_with(whole):
    _, records, _ = whole
    check_lines(records)
    assert {record.state for record in records} == {"finished"}
    assert max(len(record.metrics.get("line", ())) for record in records) > 4
    # Among the parents are some with the reward of an earlier child, whose weights they stand for. One
    # that equals a child whose weights were gone was evaluated again.
    parents = [records[record.parent] for record in records if record.parent is not None]
    assert any(parent.same_as is not None for parent in parents)
    alone = [record.key for record in records if record.same_as is None]
    assert len(set(alone)) < len(alone)


def test_weights_are_kept_of_what_the_policy_can_name(whole):
    folder, records, policy = whole
    kept = {records[number].source for number in policy.parents()}
    assert set(files(folder)) == kept
    assert len(kept) < len({record.key for record in records}) / 2
    for number in kept:
        arrays = load_file(folder / "weights" / f"{number}.safetensors")
        assert arrays["line"].tolist() == records[number].metrics["line"]
        assert arrays["shaped"].tolist() == [[0.5, 0.5]] * len(arrays["line"])


@pytest.mark.parametrize("scheduler", [Synchronous(5), Asynchronous(5)])
def test_every_executor_brings_them(whole, tmp_path, scheduler):
    records = search(tmp_path, executor=Processes(Heir(), 2), scheduler=scheduler)
    check_lines(records)
    assert {record.state for record in records} == {"finished"}
    if isinstance(scheduler, Synchronous):
        assert plain(records) == plain(whole[1])
        assert files(tmp_path) == files(whole[0])


class Interrupting:
    """Interrupts after so many children."""

    def __init__(self, left):
        self.left = left

    def __call__(self, trial):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("keep", [None, 2])
def test_a_search_that_was_killed_is_the_one_that_was_not(tmp_path, keep):
    expected = search(tmp_path / "whole", keep_weights=keep)
    for every in (1, 7, 18):
        stopped, records = tmp_path / str(every), None
        while records is None:
            with suppress(KeyboardInterrupt):
                records = search(stopped, Interrupting(every), keep_weights=keep)
        assert plain(records) == plain(expected)
        assert files(stopped) == files(tmp_path / "whole")


def test_what_a_kill_leaves_of_files_goes(whole, tmp_path):
    search(tmp_path, children=20)
    before = files(tmp_path)
    for name in ("0", "99", ".123.4"):
        (tmp_path / "weights" / f"{name}.safetensors").write_bytes(b"left over")
    search(tmp_path, children=20)
    assert files(tmp_path) == before


def test_of_so_many_only_the_best_are_kept_and_the_children_of_others_fail(tmp_path):
    most = []

    def note(_):
        most.append(len(files(tmp_path)))

    policy = RegularizedEvolution(SPACE, population=10, sample=2, seed=3)
    records = search(tmp_path, note, policy=policy, keep_weights=3)
    members = [records[number] for number in policy.parents()]
    assert set(files(tmp_path)) == {
        record.number for record in ranked({r.source: records[r.source] for r in members}.values())[:3]
    }
    # Besides the three only parents of the five children under way are kept.
    assert 3 < max(most) <= 3 + 5
    failed = [r for r in records if r.state == "failed" and r.same_as is None]
    assert failed
    for record in failed:
        parent = records[records[record.parent].source]
        assert record.message.startswith(
            f"Expected the weights of its parent, {parent.name}, in weights/{parent.number}.safetensors"
        )
    assert any(r.state == "finished" for r in records[failed[0].number :])


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "of another child": lambda path: path.write_bytes(
        next(other for other in path.parent.glob("*") if other != path).read_bytes()
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_children_of_a_parent_whose_weights_are_gone_fail_and_no_others(tmp_path, damage):
    search(tmp_path, children=30)
    best = max(files(tmp_path), key=lambda number: files_line(tmp_path, number))
    DAMAGES[damage](tmp_path / "weights" / f"{best}.safetensors")
    records = search(tmp_path)
    new = [record for record in records[30:] if record.same_as is None]
    children = [record for record in new if records[record.parent].source == best]
    assert children
    for record in new:
        parent = records[records[record.parent].source]
        orphan = parent.number == best or parent.state == "failed"
        assert record.state == ("failed" if orphan else "finished")
        if orphan:
            assert record.message == (
                f"Expected the weights of its parent, {parent.name}, in weights/"
                f"{parent.number}.safetensors. Received: no such file, or a damaged one"
            )
    assert any(record.state == "finished" for record in new)


def files_line(folder, number):
    return len(load_file(folder / "weights" / f"{number}.safetensors")["line"])


def test_a_damaged_file_is_none_wherever_the_damage_is(tmp_path):
    weights = Weights(tmp_path / "journal.sqlite")
    record = Record(3, (1,), "a key", {}, 0, 5, state="finished", reward=0.5)
    arrays = {"a": np.arange(5, dtype=np.float32), "b": np.array(2), "c": np.zeros((0, 3))}
    assert weights.load(record) is None
    weights.save(record, arrays)
    loaded = weights.load(record)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(loaded[name], array)
    data, rng = weights.path(record).read_bytes(), np.random.default_rng(0)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << rng.integers(8)
        weights.path(record).write_bytes(changed)
        found = weights.load(record)
        # White space of the header can change, and nothing else.
        assert found is None or all(np.array_equal(found[name], arrays[name]) for name in arrays)
    for length in range(len(data)):
        weights.path(record).write_bytes(data[:length])
        assert weights.load(record) is None


def test_where_nobody_inherits_there_are_no_weights_and_no_child_fails(tmp_path):
    records = search(tmp_path, executor=Serial(Climbing()))
    assert any(record.parent is not None for record in records)
    assert {record.state for record in records} == {"finished"}
    assert not (tmp_path / "weights").exists()
    # Nor does what an evaluator returns that is not said to inherit.
    ignored = Function(lambda trial: Result(0.5, weights={"a": np.zeros(3)}))
    search(tmp_path / "ignored", executor=Serial(ignored))
    assert not (tmp_path / "ignored" / "weights").exists()


def test_children_without_parents_begin_without_weights(tmp_path):
    given = []
    records = search(tmp_path, lambda trial: given.append(trial.weights), policy=RandomSearch(SPACE, 1))
    assert set(given) == {None}
    assert {record.state for record in records} == {"finished"}
    assert files(tmp_path) == {}
