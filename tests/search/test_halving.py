"""Successive halving: which children go on, and that a pause changes nothing about a child."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from evaluators import Climbing, Function, Number
from hypothesis import given
from hypothesis import strategies as st

from nasnet_zoo.search import (
    Asynchronous,
    Journal,
    Processes,
    RandomSearch,
    Record,
    RegularizedEvolution,
    Result,
    Serial,
    SuccessiveHalving,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.checkpoints import Checkpoints
from nasnet_zoo.search.executors.executor import Outcome
from nasnet_zoo.search.objectives import Objectives
from nasnet_zoo.search.search import Callback, ranked

pytestmark = pytest.mark.tensorflow

SPACE, HALVING = Number(), SuccessiveHalving(factor=2)
RUNGS = (1, 2, 4, 8)


# === The rule ===


def test_rungs_by_hand():
    assert HALVING.rungs(8) == RUNGS
    assert HALVING.rungs(9) == (1, 2, 4, 8, 9)
    assert SuccessiveHalving(4).rungs(4) == (1, 4)
    assert SuccessiveHalving(4).rungs(3) == (1, 3)
    assert SuccessiveHalving(3, first=2).rungs(20) == (2, 6, 18, 20)


def test_who_goes_on_by_hand():
    rewards = {0: (0.1,), 1: (0.5, 0.6), 2: (0.4, 0.9), 3: (0.5,), 4: (0.2,), 5: (0.3,)}
    # Of six on the first rung three are to go on: 1 before 3 of the same reward, and 2.
    assert HALVING.promotable(rewards, {0, 1, 2, 3, 4, 5}) == [3]
    # 3 is on its way: the second rung is next, where 2 leads.
    assert HALVING.promotable(rewards, {0, 1, 2, 4, 5}) == [2]
    assert HALVING.promotable(rewards, {0, 1, 4, 5}) == []
    assert SuccessiveHalving(4).promotable(rewards, {0, 1, 2, 3, 4, 5}) == []
    assert HALVING.promotable({0: (0.5,)}, {0}) == []
    assert HALVING.promotable({}, ()) == []


@given(
    st.dictionaries(
        st.integers(0, 30), st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=3)
    ),
    st.sets(st.integers(0, 30)),
    st.integers(2, 4),
)
def test_who_goes_on_is_what_the_definition_says(rewards, paused, factor):
    paused &= set(rewards)

    def goes_on(number):
        rung = len(rewards[number]) - 1
        rivals = {n: r[rung] for n, r in rewards.items() if len(r) > rung}
        better = sum((-r, n) < (-rivals[number], number) for n, r in rivals.items())
        return better < len(rivals) // factor

    able = [n for n in paused if goes_on(n)]
    lowest = min((len(rewards[n]) for n in able), default=0)
    found = SuccessiveHalving(factor).promotable(rewards, paused)
    assert set(found) == {n for n in able if len(rewards[n]) == lowest}
    assert found == sorted(found, key=lambda n: (-rewards[n][-1], n))


@pytest.mark.parametrize("values", [{"factor": 1}, {"factor": 2.5}, {"first": 0}])
def test_what_is_no_rule_is_refused(values):
    with pytest.raises(ValueError, match=f"Expected {next(iter(values))}: an int of at least"):
        SuccessiveHalving(**values)


# === The search ===


class Told(RegularizedEvolution):
    """Remembers what it was told."""

    def __init__(self, space):
        super().__init__(space, population=20, sample=4, seed=3)
        self.told = []

    def tell(self, minibatch):
        self.told += minibatch
        return super().tell(minibatch)


class Notes:
    """What was evaluated: children and stretches. Interrupts after so many."""

    def __init__(self, left=10**6):
        self.stretches, self.left = [], left

    def __call__(self, number, first, last):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.stretches.append((number, first, last))


def search(folder, notes=None, children=40, scheduler=None, executor=None, policy=None, **options):
    folder.mkdir(exist_ok=True)
    executor = executor or Serial(Climbing(notes or Notes()))
    with Journal(folder / "journal.sqlite", {}) as journal:
        return run_search(
            policy or Told(SPACE),
            SPACE,
            executor,
            journal,
            children,
            scheduler or Synchronous(10),
            stopping=HALVING,
            **options,
        )


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "checkpoints").glob("*")}


def plain(records):
    return [vars(record) | {"seconds": None} for record in records]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search that nothing happened to: its folder, children, stretches and policy."""
    folder, notes, policy = tmp_path_factory.mktemp("whole"), Notes(), Told(SPACE)
    return folder, search(folder, notes, policy=policy), notes, policy


def test_children_climb_as_the_rule_says_and_no_stretch_is_trained_twice(whole):
    folder, records, notes, policy = whole
    alone = [record for record in records if record.same_as is None]
    assert len(alone) < len(records) == 40
    stretches = defaultdict(list)
    for number, first, last in notes.stretches:
        stretches[number].append((first, last))
    by_key = {record.key: SPACE.from_json(record.architecture) for record in alone}
    assert len(by_key) == len(alone)
    for record in alone:
        curve = Climbing.curve(by_key[record.key])
        assert record.curve == curve[: len(record.curve)]
        assert record.reward == record.curve[-1]
        assert record.state == ("finished" if len(record.curve) == 8 else "stopped")
        ends = [0, *RUNGS[: RUNGS.index(len(record.curve)) + 1]]
        assert stretches[record.number] == list(itertools.pairwise(ends))
    # After every minibatch half of each rung went on, rung by rung.
    expected, known, after = {}, [], []
    for version in range(4):
        known += [r for r in alone if r.version == version]
        for rung, next_rung in itertools.pairwise(RUNGS):
            on = [r.number for r in known if expected.get(r.number, 1) >= rung]
            value = {r.number: Climbing.curve(by_key[r.key])[rung - 1] for r in known}
            for number in sorted(on, key=lambda n: (-value[n], n))[: len(on) // 2]:
                expected[number] = max(expected.get(number, 1), next_rung)
        after.append(dict(expected))
    assert {r.number: len(r.curve) for r in alone} == {
        r.number: expected.get(r.number, 1) for r in alone
    }
    assert 0 < len(ranked(records)) < len(alone) / 2
    # The policy learns from every child once, where it was before the next ones were drawn; equal
    # children have the reward that the first had when they were drawn.
    assert [experience.number for experience in policy.told] == list(range(40))
    for record, experience in zip(records, policy.told, strict=True):
        first = record if record.same_as is None else records[record.same_as]
        drawn = record.version - (record.same_as is not None)
        reached = after[drawn].get(first.number, 1) if drawn >= first.version else 1
        assert experience.reward == Climbing.curve(by_key[record.key])[reached - 1]
        if record.same_as is not None:
            assert record.reward == experience.reward
            assert record.state == ("finished" if reached == 8 else "stopped")
    paused = {f"{r.number}.{len(r.curve)}.npz" for r in alone if r.state == "stopped"}
    assert set(files(folder)) == paused


def test_a_search_that_was_killed_anywhere_is_the_one_that_was_not(whole, tmp_path):
    folder, records, notes, _ = whole
    for killed_after in range(1, len(notes.stretches), 3):
        parts = tmp_path / str(killed_after)
        first, again = Notes(killed_after), Notes()
        with pytest.raises(KeyboardInterrupt):
            search(parts, first)
        assert plain(search(parts, again)) == plain(records)
        assert first.stretches + again.stretches == notes.stretches
        assert files(parts).keys() == files(folder).keys()
        with Journal(parts / "journal.sqlite") as one, Journal(folder / "journal.sqlite") as other:
            state, expected = one.state(), other.state()
        assert state.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(state[name], array)


def test_a_search_that_is_done_does_nothing_and_goes_on_to_more_children(whole, tmp_path):
    _, records, notes, _ = whole
    search(tmp_path, Notes(), children=20)
    again = Notes()
    search(tmp_path, again, children=20)
    assert again.stretches == []
    assert plain(search(tmp_path, again)) == plain(records)
    assert again.stretches == [s for s in notes.stretches if s in set(again.stretches)]


def test_what_a_kill_leaves_of_files_goes(tmp_path):
    search(tmp_path, children=20)
    before = files(tmp_path)
    for name in ("0.8.npz", "99.1.npz", ".123.0.2.npz"):
        (tmp_path / "checkpoints" / name).write_bytes(b"left over")
    search(tmp_path, children=20)
    assert files(tmp_path) == before


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "text": lambda path: path.write_text("a text"),
    "of another child": lambda path: path.write_bytes(max(path.parent.glob("*")).read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_child_without_a_whole_checkpoint_is_trained_from_the_start(whole, tmp_path, damage):
    _, records, notes, _ = whole
    with pytest.raises(KeyboardInterrupt):  # when two of the first rung have gone on
        search(tmp_path, Notes(12))
    paths = sorted((tmp_path / "checkpoints").glob("*"))
    for path in paths[:-1]:
        DAMAGES[damage](path)
    again = Notes()
    assert plain(search(tmp_path, again)) == plain(records)
    numbers = {int(path.name.split(".")[0]) for path in paths[:-1]}
    twice = [(n, last) for n, first, last in again.stretches if n in numbers and not first]
    assert twice
    assert all((n, last) in {(n, last) for n, _, last in notes.stretches} for n, last in twice)


def test_a_damaged_file_is_none_wherever_the_damage_is(tmp_path):
    checkpoints = Checkpoints(tmp_path / "journal.sqlite")
    record = Record(3, (1,), "a key", {}, 0, 5, state="stopped", reward=0.5, curve=(0.5,))
    arrays = {"weights": np.arange(5, dtype=np.float32), "owner": np.array(2)}
    assert checkpoints.load(record) is None
    checkpoints.save(record, arrays)
    data, rng = checkpoints.path(record).read_bytes(), np.random.default_rng(0)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << rng.integers(8)
        checkpoints.path(record).write_bytes(changed)
        assert checkpoints.load(record) is None
    for length in range(len(data)):
        checkpoints.path(record).write_bytes(data[:length])
        assert checkpoints.load(record) is None
    checkpoints.path(record).write_bytes(data)
    loaded = checkpoints.load(record)
    assert loaded.keys() == arrays.keys()
    assert all((loaded[name] == array).all() for name, array in arrays.items())
    other = Record(3, (1,), "another key", {}, 0, 5, state="stopped", reward=0.5, curve=(0.5,))
    assert checkpoints.load(other) is None


class Several(Serial):
    """Evaluates several children at a time, which finish in an order of its own."""

    def __init__(self, evaluator, capacity, seed):
        super().__init__(evaluator)
        self.capacity, self._trials, self._rng = capacity, [], np.random.default_rng(seed)

    def submit(self, trial):
        assert len(self._trials) < self.capacity
        self._trials.append(trial)

    def completed(self):
        self._trial = self._trials.pop(self._rng.integers(len(self._trials)))
        return super().completed()


@pytest.mark.parametrize("capacity", [1, 4])
@pytest.mark.parametrize("left", [10**6, 17])
def test_an_asynchronous_search_trains_no_stretch_twice_and_leaves_none_out(tmp_path, capacity, left):
    notes, stretches, done = Notes(left), [], False
    while not done:
        try:
            executor = Several(Climbing(notes), capacity, seed=left)
            records = search(tmp_path, scheduler=Asynchronous(8), executor=executor)
            done = True
        except KeyboardInterrupt:
            pass
        stretches, notes = [*stretches, *notes.stretches], Notes(left)
    alone = {record.number: record for record in records if record.same_as is None}
    assert {record.state for record in records} == {"stopped", "finished"}
    assert all(record.learned is not None for record in records)
    assert max(Counter(stretches).values()) == 1
    last = Counter(len(record.curve) for record in alone.values())
    for record in alone.values():
        ends = [0, *RUNGS[: RUNGS.index(len(record.curve)) + 1]]
        assert {s for s in stretches if s[0] == record.number} == {
            (record.number, *pair) for pair in itertools.pairwise(ends)
        }
    # Nothing is left that could go on.
    climbed = {n: [r.curve[k - 1] for k in RUNGS if k <= len(r.curve)] for n, r in alone.items()}
    paused = {n for n, r in alone.items() if r.state == "stopped"}
    assert HALVING.promotable(climbed, paused) == []
    assert last[8] >= 1
    assert sum(last.values()) == len(alone)


def test_at_the_end_the_best_goes_on_until_one_has_finished(tmp_path):
    policy = RandomSearch(SPACE, seed=1)
    records = search(tmp_path, children=3, policy=policy, scheduler=Synchronous(3))
    best, other, _ = sorted(records, key=lambda record: -record.curve[0])
    assert (best.state, len(best.curve)) == ("finished", 8)
    assert {len(record.curve) for record in records if record is not best} == {1}
    assert ranked(records) == [best]
    # Nobody else does if that one fails, but the next.
    evaluator = Climbing()

    def evaluate(trial):
        if trial.pause_at == 4 and trial.number == best.number:
            raise ValueError("too deep")
        return Climbing.evaluate(evaluator, trial)

    broken = Function(evaluate)
    broken.evaluations = 8
    policy = RandomSearch(SPACE, seed=1)
    records = search(tmp_path / "fails", children=3, policy=policy, executor=Serial(broken))
    failed = records[best.number]
    assert (failed.state, failed.message, failed.reward) == ("failed", "too deep", 0.0)
    assert failed.curve == best.curve[:2]
    assert [record.number for record in ranked(records)] == [other.number]


def test_a_child_that_fails_on_its_way_keeps_its_place_and_its_equals_fail(tmp_path):
    evaluator = Climbing()

    def evaluate(trial):
        if trial.pause_at is None:
            raise ValueError("too deep")
        return Climbing.evaluate(evaluator, trial)

    broken = Function(evaluate)
    broken.evaluations = 8
    records = search(tmp_path, executor=Serial(broken))
    failed = [r for r in records if r.state == "failed" and r.same_as is None]
    assert failed
    assert {len(r.curve) for r in failed} == {4}
    assert not ranked(records)
    assert all(r.reward == 0.0 for r in records if r.state == "failed")
    names = {path.split(".")[0] for path in files(tmp_path)}
    assert names == {str(r.number) for r in records if r.same_as is None and r.state == "stopped"}


class Losing(Serial):
    """Loses the worker of every trial once, and of one child always on its way to the second rung."""

    def __init__(self, evaluator, always):
        super().__init__(evaluator)
        self.trials, self._always = [], always

    def completed(self):
        trial = self._trial
        first = (trial.number, trial.pause_at) not in {(t.number, t.pause_at) for t in self.trials}
        self.trials.append(trial)
        if first or (trial.number == self._always and trial.pause_at == 2):
            return [Outcome(trial.number, Result(0.0, status="lost", message="gone"), 0.0)]
        return super().completed()


def test_a_child_whose_worker_is_lost_is_tried_again_from_its_checkpoint(whole, tmp_path):
    _, records, _, _ = whole
    lost = next(r.number for r in records if r.state == "finished")
    executor = Losing(Climbing(), lost)
    found = search(tmp_path, executor=executor)
    for trial in executor.trials:
        assert (trial.checkpoint is None) == (trial.pause_at == 1)
    record = found[lost]
    assert (record.state, record.reward, record.message) == ("lost", 0.0, "gone (3 tries)")
    assert record.curve == records[lost].curve[:1]
    assert not [name for name in files(tmp_path) if name.startswith(f"{lost}.")]
    assert len(ranked(found)) >= 1


def test_the_reward_that_an_expression_gives_decides(tmp_path):
    objectives = Objectives("accuracy - size + 9", names=("accuracy", "size"))
    policy = Told(SPACE)
    records = search(tmp_path, policy=policy, objectives=objectives, children=60)
    alone = [record for record in records if record.same_as is None]

    def size(record):
        return SPACE.from_json(record.architecture) % 10

    for record in alone:
        assert record.reward == record.curve[-1] - size(record) + 9
        assert record.metrics["accuracy"] == record.curve[-1]
    on = [size(record) for record in alone if len(record.curve) > 1]
    assert np.mean(on) < np.mean([size(r) for r in alone if len(r.curve) == 1]) - 3
    assert {len(records[experience.number].curve) for experience in policy.told} >= {1, 2, 8}
    for record, experience in zip(records, policy.told, strict=True):
        first = record if record.same_as is None else records[record.same_as]
        accuracy, cost = experience.objectives
        assert cost == -size(record)
        assert accuracy in [first.curve[k - 1] for k in RUNGS if k <= len(first.curve)]
        if record.same_as is None:
            assert experience.reward == accuracy - size(record) + 9


def test_callbacks_see_every_child_once_and_each_promotion(tmp_path):
    class Seen(Callback):
        rewarded_, promoted_ = (), ()

        def rewarded(self, record):
            self.rewarded_ += (record.number,)
            assert len(record.curve) <= 1

        def promoted(self, record):
            self.promoted_ += ((record.number, len(record.curve)),)

    seen = Seen()
    records = search(tmp_path, callbacks=[seen])
    assert sorted(seen.rewarded_) == list(range(40))
    expected = [
        (record.number, rung)
        for record in records
        for rung in RUNGS[1:]
        if record.same_as is None and rung <= len(record.curve)
    ]
    assert sorted(seen.promoted_) == expected


def test_what_cannot_pause_is_refused_before_the_first_child(tmp_path):
    executor = Serial(Function(lambda trial: Result(0.5)))
    with pytest.raises(ValueError, match="Expected an evaluator whose children can pause, .*cannot"):
        search(tmp_path, executor=executor)
    short = Climbing()
    short.evaluations = 1
    with pytest.raises(ValueError, match="halving to begin below the 1 evaluations .* halving_first=1"):
        search(tmp_path, executor=Serial(short))
    with pytest.raises(ValueError, match="Expected remember=True with successive halving"):
        search(tmp_path, remember=False)


def test_checkpoints_go_through_processes(whole, tmp_path):
    _, records, _, _ = whole
    with Processes(Climbing(), 2) as executor:
        assert plain(search(tmp_path, executor=executor)) == plain(records)
