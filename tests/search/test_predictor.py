import numpy as np
import pytest
from evaluators import Digit, Function, experiences

from nasnet_zoo.search import (
    Experience,
    Journal,
    NASNetSpace,
    Predictor,
    Proposal,
    RandomSearch,
    Result,
    SearchSettings,
    Serial,
    Space,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.predictor import _distances, normal_scores, predict

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=2, operations=("identity", "sep_3x3", "max_3x3"), cells=1)
BEST = np.array(SPACE.canonical(SPACE.sample(np.random.default_rng(0))))


def reward(proposal):
    return float(np.mean(SPACE.canonical(proposal.actions) == BEST))


class Subsets(Space):
    """The subsets of 8 things, of any size: actions of different lengths."""

    def sample(self, rng):
        return tuple(map(int, np.flatnonzero(rng.random(8) < 0.5)))

    def mutate(self, actions, rng):
        return tuple(sorted(set(actions) ^ {int(rng.integers(8))}))

    def decode(self, actions):
        return {"things": list(actions)}

    def traits(self, actions):
        return actions


def told(policy, children, minibatch, reward):
    """The actions of children that a policy proposes and is told the rewards of."""
    found = []
    while len(found) < children:
        proposals = policy.ask(minibatch)
        policy.tell(experiences(proposals, map(reward, proposals), len(found)))
        found += [proposal.actions for proposal in proposals]
    return found


def equal(state, other):
    return {k: v.tobytes() for k, v in state.items()} == {k: v.tobytes() for k, v in other.items()}


# === The ensemble ===


def test_a_prediction_by_hand(monkeypatch):
    """Of one child, as far from the first as the second is: the equations of a Gaussian process."""
    monkeypatch.setattr("nasnet_zoo.search.predictor._LENGTHS", (0.5,))
    near, far = np.exp(-0.2 / 0.5), np.exp(-0.6 / 0.5)
    distances = np.array([[0, 0.6, 0.2], [0.6, 0, 0.6], [0.2, 0.6, 0]])
    mean, deviation = predict(distances, np.array([1.0, -1.0]))
    # The inverse of [[1.1, far], [far, 1.1]] is [[1.1, -far], [-far, 1.1]] / (1.21 - far ** 2).
    determinant = 1.21 - far**2
    weights = np.array([1.1 * near - far * far, 1.1 * far - far * near]) / determinant
    assert mean == pytest.approx([weights[0] - weights[1]])
    assert deviation == pytest.approx([np.sqrt(1 - weights[0] * near - weights[1] * far)])


@pytest.mark.parametrize("length", [0.25, 1.0])
def test_members_count_by_their_evidence(monkeypatch, length):
    """Of scores that one member would draw, the ensemble predicts what that member does."""
    rng = np.random.default_rng(1)
    places = rng.random((80, 2)) * 2
    distances = ((places[:, None] - places[None]) ** 2).sum(-1)
    drawn = np.linalg.cholesky(np.exp(-distances / length) + 0.1 * np.eye(80)) @ rng.normal(size=80)
    mean, _ = predict(distances, drawn[:60])
    apart = {}
    for member in (0.25, 0.5, 1.0):
        monkeypatch.setattr("nasnet_zoo.search.predictor._LENGTHS", (member,))
        apart[member] = np.abs(predict(distances, drawn[:60])[0] - mean).sum()
    assert min(apart, key=apart.get) == length


def test_scores_are_of_the_order_alone():
    scores = normal_scores(np.array([0.2, 0.9, -5.0, 0.9]))
    assert scores[1] == scores[3] > scores[0] > scores[2] == -normal_scores(np.arange(4.0))[3]
    assert np.mean(normal_scores(np.random.default_rng(0).random(1000)) ** 2) == pytest.approx(
        1, abs=0.01
    )


def test_distances_count_what_only_one_of_two_has():
    distances = _distances([(1, 2), (2, 3, 4), (), (2, 3, 4)])
    assert (6 * distances).tolist() == [[0, 3, 2, 3], [3, 0, 3, 0], [2, 3, 0, 3], [3, 0, 3, 0]]


def test_equal_cells_have_the_same_traits():
    swapped = (1, 0, 2, 1, 0, *[0] * 5)
    assert list(SPACE.traits((0, 1, 1, 2, 0, *[0] * 5))) == list(SPACE.traits(swapped))
    # Ten actions, and all of them a choice.
    assert len(list(SPACE.traits(swapped))) == 10
    assert len(list(NASNetSpace(blocks=1, combinations=("add",), cells=1).traits((0,) * 5))) == 4


# === The policy ===


@pytest.mark.parametrize("space", [SPACE, Subsets()], ids=["cells", "subsets"])
def test_it_finds_what_random_search_does_not(space):
    score = reward if space is SPACE else lambda proposal: 8 - len(set(proposal.actions) ^ {0, 3, 5})
    best = {Predictor: 0.0, RandomSearch: 0.0}
    for seed in range(3):
        for policy in best:
            children = told(policy(space, seed), 40, 10, score)
            best[policy] += max(score(Proposal(actions, 0)) for actions in children)
    assert best[Predictor] > best[RandomSearch]


@pytest.mark.parametrize("space", [SPACE, Subsets()], ids=["cells", "subsets"])
def test_a_restored_policy_goes_on_alike(space):
    """Also when children are told late, in another order than that in which they were drawn."""
    policies, under_way, asked = [Predictor(space, 3, 5, 60)], [], 0
    for step in range(9):
        if step in (2, 6):
            policies = [policies[0], Predictor(space, 3, 5, 60)]
            policies[1].restore(policies[0].state())
        proposals = policies[0].ask(4)
        assert all(policy.ask(4) == proposals for policy in policies[1:])
        under_way += enumerate(proposals, asked)
        asked += 4
        batch = under_way[1::2] if step % 2 else under_way[:3]
        under_way = [child for child in under_way if child not in batch]
        for policy in policies:
            policy.tell([Experience(*child, float(np.sum(child[1].actions))) for child in batch])
        assert all(equal(policy.state(), policies[0].state()) for policy in policies)


def test_no_child_is_proposed_twice_as_long_as_there_are_others():
    children = told(Predictor(Digit(), startup=3), 15, 3, lambda proposal: proposal.actions[0])
    assert sorted(children[:10]) == [(digit,) for digit in range(10)]
    assert len(children) == 15


def test_equal_cells_are_one_child():
    children = told(Predictor(SPACE, candidates=50), 100, 10, reward)
    assert len({SPACE.canonical(actions) for actions in children}) == 100


def test_mutants_name_their_parents():
    policy = Predictor(SPACE, candidates=50)
    proposals = policy.ask(20)
    policy.tell(experiences(proposals, map(reward, proposals)))
    best = sorted(range(20), key=lambda k: -reward(proposals[k]))[:5]
    mutants = [proposal for proposal in policy.ask(20) if proposal.parent is not None]
    assert mutants
    for mutant in mutants:
        assert mutant.parent in best
        changed = np.array(mutant.actions) != proposals[mutant.parent].actions
        assert 1 <= changed.sum() <= 2


def test_only_the_order_of_rewards_counts():
    policies = [Predictor(SPACE, seed=1, candidates=50) for _ in range(2)]
    for first in range(0, 40, 10):
        proposals = policies[0].ask(10)
        assert policies[1].ask(10) == proposals
        rewards = np.array([reward(proposal) for proposal in proposals])
        policies[0].tell(experiences(proposals, rewards, first))
        policies[1].tell(experiences(proposals, np.exp(20 * rewards) - 7, first))


def test_of_many_children_the_best_and_the_latest_are_learned(monkeypatch):
    monkeypatch.setattr("nasnet_zoo.search.predictor._LEARNED", 10)
    found = []
    monkeypatch.setattr(
        "nasnet_zoo.search.predictor.predict",
        lambda distances, scores: found.append(scores) or predict(distances, scores),
    )
    told(Predictor(SPACE, candidates=50), 40, 10, reward)
    assert [len(scores) for scores in found] == [10, *[pytest.approx(9, abs=1)] * 2]


DAMAGED = {
    "no JSON": ({"children 000000": b"[["}, "Expected children 000000 in JSON.* Received"),
    "no child": ({"children 000000": b"[3]"}, "Expected child: 2 values"),
    "another space": ({"children 000000": b"[[[1], 1],[[1], 1],[[1], 1]]"}, "Expected 10 ints"),
    "a reward that was not told": (
        {"told 000000": b"[0, 1]"},
        "Expected told: the 3 children with",
    ),
    "a number that is none": ({"told 000000": b"[0, 1, []]"}, "Expected told: a list, each an int"),
    "a negative count": ({"asked": np.array(-1)}, "Expected asked: an int of at least 0. Received: -1"),
    "another array": ({"members": b""}, "Expected the arrays asked, version, children 000000, told"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_state_is_refused(name):
    policy = Predictor(SPACE)
    told(policy, 3, 3, reward)
    before = policy.state()
    changes, message = DAMAGED[name]
    changes = {
        part: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        for part, value in changes.items()
    }
    with pytest.raises(ValueError, match=message):
        policy.restore({**before, **changes})
    assert equal(policy.state(), before)


def search(path, end=None):
    def evaluate(trial):
        if trial.number == end:
            raise KeyboardInterrupt
        names = [name for block in trial.child.normal.blocks for name in block.operations]
        if names.count("identity") == 4:
            raise ValueError("all of it identity")
        return Result(names.count("sep_3x3") / 4)

    with Journal(path, {}) as journal:
        policy = SearchSettings("predictor", {"startup": 6, "candidates": 60}).make_policy(SPACE)
        run_search(policy, SPACE, Serial(Function(evaluate)), journal, 24, Synchronous(4))
        records = [{**vars(record), "seconds": None} for record in journal.children()]
        return records, {name: array.tobytes() for name, array in journal.state().items()}


def test_a_search_that_was_stopped_goes_on_alike(tmp_path):
    expected = search(tmp_path / "whole.sqlite")
    for end in (2, 8, 17):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "stopped.sqlite", end)
    assert search(tmp_path / "stopped.sqlite") == expected


@pytest.mark.parametrize("options", [{"startup": 0}, {"candidates": 0}, {"exploration": -1}])
def test_options_that_are_refused(options):
    with pytest.raises(ValueError, match=f"Expected {next(iter(options))}: "):
        SearchSettings("predictor", options).make_policy(SPACE)
