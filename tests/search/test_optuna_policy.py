"""Samplers of Optuna as policies."""

import sys

import numpy as np
import pytest
from evaluators import Function, experiences

from nasnet_zoo.search import (
    POLICIES,
    Asynchronous,
    Experience,
    Journal,
    NASNetSpace,
    OptunaPolicy,
    Result,
    SearchSettings,
    Serial,
    Space,
    run_search,
)
from nasnet_zoo.search.objectives import Objectives

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=2, operations=("identity", "sep_3x3", "max_3x3"), cells=1)
OPTIONS = {
    "TPESampler": {"n_startup_trials": 5},
    "GPSampler": {"n_startup_trials": 5},
    "NSGAIISampler": {"population_size": 6},
    "NSGAIIISampler": {"population_size": 6},
}
SAMPLERS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "GPSampler" else name for name in OPTIONS
]


def make(sampler, objectives=1, seed=3):
    if sampler == "GPSampler":
        pytest.importorskip("torch")
    return OptunaPolicy(SPACE, sampler, seed, objectives, OPTIONS[sampler])


def reward(proposal):
    return float(np.mean(np.array(proposal.actions) == 1))


def told(number, proposal):
    """A child of two objectives; every fifth one failed."""
    objectives = (reward(proposal), -float(sum(proposal.actions))) if number % 5 else ()
    return Experience(number, proposal, reward(proposal), objectives)


def equal(state, other):
    return {k: v.tobytes() for k, v in state.items()} == {k: v.tobytes() for k, v in other.items()}


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_restored_policy_goes_on_alike(sampler, objectives):
    """Also when children are told late, in another order than that in which they were drawn."""
    policies, under_way, asked = [make(sampler, objectives)], [], 0
    for step in range(7):
        if step in (3, 5):
            policies = [policies[0], make(sampler, objectives)]
            policies[1].restore(policies[0].state())
        proposals = policies[0].ask(4)
        assert all(policy.ask(4) == proposals for policy in policies[1:])
        under_way += enumerate(proposals, asked)
        asked += 4
        batch = under_way[1::2] if step % 2 else under_way[:3]
        under_way = [child for child in under_way if child not in batch]
        for policy in policies:
            policy.tell([told(*child) for child in batch])
        assert all(equal(policy.state(), policies[0].state()) for policy in policies)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_learn(sampler):
    policy, rewards = make(sampler), []
    for number in range(0, 100, 5):
        proposals = policy.ask(5)
        rewards += map(reward, proposals)
        policy.tell(experiences(proposals, rewards[number:], number))
    # A random child has a mean of 0.48.
    assert np.mean(rewards[-25:]) > np.mean(rewards[:25]) + 0.1


def test_other_seeds_draw_other_children():
    first, second = (make("TPESampler", seed=seed).ask(5) for seed in (0, 1))
    assert first != second


def test_running_children_are_known_to_the_sampler():
    """Of children that are drawn together, each knows those before it."""
    policy = make("TPESampler")
    proposals = policy.ask(20)
    policy.tell(experiences(proposals, map(reward, proposals)))
    policy.ask(3)
    states = [trial.state for trial in policy._study.get_trials()]
    assert states == [optuna.trial.TrialState.COMPLETE] * 20 + [optuna.trial.TrialState.RUNNING] * 3
    assert policy._sampler.keywords["constant_liar"] is True


def test_what_failed_of_several_objectives_is_a_failed_trial():
    policy = make("NSGAIISampler", 2)
    minibatch = [told(number, proposal) for number, proposal in enumerate(policy.ask(6))]
    policy.tell(minibatch)
    trials = policy._study.get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", *["COMPLETE"] * 4, "FAIL"]
    values = [tuple(trial.values) for trial in trials[1:5]]
    assert values == [child.objectives for child in minibatch[1:5]]


def test_only_steps_with_a_choice_are_parameters():
    policy = OptunaPolicy(NASNetSpace(blocks=1, combinations=("add",), cells=1))
    (proposal,) = policy.ask(1)
    assert len(policy._study.trials[0].params) == 4
    assert proposal.actions[4] == 0
    policy.space.check(proposal.actions)


def test_state_is_written_in_blocks(monkeypatch):
    """What does not change any more is the same array, which a journal does not write again."""
    monkeypatch.setattr("nasnet_zoo.search.blocks._ROWS", 4)
    policy = make("NSGAIISampler")
    proposals = policy.ask(10)
    policy.tell(experiences(proposals[:9], range(9)))
    before = policy.state()
    policy.tell(experiences(proposals[9:], [0], 9))
    after = policy.state()
    names = [f"trials {block:06}" for block in range(3)]
    assert [before[name] is after[name] for name in names] == [True, True, False]
    assert not any(after[name].flags.writeable for name in names)
    again = make("NSGAIISampler")
    again.restore(after)
    assert equal(again.state(), after)


DAMAGED = {
    "a text that is no JSON": ({"trials 000000": b"[["}, "Expected trials 000000 in JSON.* Received"),
    "other JSON": ({"trials 000000": b"3"}, "Expected trials 000000: list. Received"),
    "a trial of another space": ({"trials 000000": b"[[[1], [0.5], {}]]"}, "Expected 10 ints"),
    "no values": ({"trials 000000": b"[[[0,0,0,0,0,0,0,0,0,0], 1, {}]]"}, "Expected trial's values"),
    "another study": ({"study": b"[]"}, "Expected study: dict. Received"),
    "negative count": ({"asked": np.array(-1)}, "Expected asked: an int of at least 0. Received: -1"),
    "another array": ({"members": b""}, "Expected the arrays asked, version, study, trials 000000. "),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_state_is_refused(name):
    policy = make("TPESampler")
    policy.tell(experiences(policy.ask(3), range(3)))
    before = policy.state()
    changes, message = DAMAGED[name]
    changes = {
        part: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        for part, value in changes.items()
    }
    with pytest.raises(ValueError, match=message):
        policy.restore({**before, **changes})
    assert equal(policy.state(), before)


class Counted(Function):
    """Rewards and a cost of cells; ends the search after some children."""

    objective = "accuracy"

    def __init__(self, end=None):
        super().__init__(self.evaluated, lambda cell: {"blocks": len(str(cell)) % 7 + 1})
        self.end = end

    def evaluated(self, trial):
        if trial.number == self.end:
            raise KeyboardInterrupt
        names = [name for block in trial.child.normal.blocks for name in block.operations]
        if names.count("identity") == 4:
            raise ValueError("all of it identity")
        return Result(names.count("sep_3x3") / 4)


def search(path, sampler, end=None, scheduler=None):
    objectives = Objectives(names=("accuracy", "blocks"))
    with Journal(path, {}) as journal:
        policy = make(sampler, 2)
        more = {"scheduler": scheduler} if scheduler else {}
        run_search(policy, SPACE, Serial(Counted(end)), journal, 50, objectives=objectives, **more)
        records = [{**vars(record), "seconds": None} for record in journal.children()]
        return records, {name: array.tobytes() for name, array in journal.state().items()}


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler"])
def test_a_search_that_was_stopped_goes_on_alike(tmp_path, sampler):
    expected = search(tmp_path / "whole.sqlite", sampler)
    # Of the first children, of the last ones, and between two of them.
    for end in (3, 20, 33):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "stopped.sqlite", sampler, end)
    assert search(tmp_path / "stopped.sqlite", sampler) == expected
    assert {record["state"] for record in expected[0]} == {"finished", "failed"}


def test_an_asynchronous_search(tmp_path):
    records, _ = search(tmp_path / "search.sqlite", "TPESampler", scheduler=Asynchronous(3))
    assert {record["learned"] for record in records} == set(range(17))


# === Settings and options ===


def test_every_policy_has_a_name():
    own = {"ppo", "reinforce", "nas", "path-level", "eas", "random", "evolution", "predictor"}
    assert set(POLICIES) == own | {f"optuna:{sampler}" for sampler in OPTIONS}
    for name in OPTIONS:
        assert issubclass(getattr(optuna.samplers, name), optuna.samplers.BaseSampler)


def test_settings_make_a_policy_of_several_objectives():
    options = {"n_startup_trials": 20, "multivariate": "true"}
    settings = SearchSettings("optuna:TPESampler", options, objectives=("accuracy", "latency"), seed=4)
    policy = settings.make_policy(SPACE)
    assert policy.objectives == 2
    assert policy._sampler.keywords == {
        "n_startup_trials": 20,
        "multivariate": True,
        "constant_liar": True,
    }


REFUSED = {
    "no policy": ({"policy": "sgd"}, "Expected policy: one of ppo, .*NSGAIIISampler. Received"),
    "no sampler": ({"policy": "optuna:Grid"}, "Expected policy: .*Received: policy=optuna:Grid"),
    "one objective": (
        {"policy": "ppo", "objectives": ("accuracy", "latency")},
        "Expected a policy of several objectives: optuna:TPESampler, .*, optuna:NSGAIIISampler. "
        "Received: policy=ppo, objectives=accuracy, latency",
    ),
    "no option": ({"options": {"speed": 1}}, "Expected options of TPESampler: .*n_startup.*: speed"),
    "its seed": ({"options": {"seed": 1}}, "Expected options of TPESampler: .*Received: seed"),
    "an object": ({"options": {"gamma": 1}}, "Expected options of TPESampler: .*Received: gamma"),
    "no int": ({"options": {"n_startup_trials": 0.5}}, "Expected n_startup_trials: an int. Received"),
    "no bool": ({"options": {"multivariate": "yes"}}, "Expected multivariate: true or false"),
    "out of range": (
        {"policy": "optuna:NSGAIISampler", "options": {"population_size": 1}},
        "`population_size` must be greater",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_are_refused(name):
    changes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refused:
        SearchSettings(**{"policy": "optuna:TPESampler", **changes}).make_policy(SPACE)
    assert "\n" not in str(refused.value)


def test_policies_of_a_users_own_are_made_by_name(monkeypatch):
    class First:
        def __init__(self, space, seed=0, objectives=1, speed=1):
            self.made = (space, seed, objectives, speed)

    monkeypatch.setitem(POLICIES, "first", First)
    made = SearchSettings("first", {"speed": 3}, objectives=("accuracy", "latency"), seed=2)
    assert made.make_policy(SPACE).made == (SPACE, 2, 2, 3)
    with pytest.raises(ValueError, match="Expected options of the policy first: speed. Received: sped"):
        SearchSettings("first", {"sped": 3}).make_policy(SPACE)


class Own(Space):
    """A space without steps."""


@pytest.mark.parametrize("policy", ["ppo", "reinforce", "optuna:TPESampler"])
def test_a_space_without_steps_is_refused(policy):
    with pytest.raises(ValueError, match="Expected space: SequenceSpace. Received: space="):
        SearchSettings(policy).make_policy(Own())


@pytest.mark.parametrize("missing", ["optuna", "torch"])
def test_what_is_not_installed_is_said_in_a_line(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=f"Expected '{missing}', of the extra '{missing}' of"):
        SearchSettings("optuna:GPSampler").make_policy(SPACE)


def test_optuna_is_quiet(capfd, recwarn):
    policy = OptunaPolicy(SPACE, "TPESampler", options={"group": True, "multivariate": True})
    policy.tell(experiences(policy.ask(12), range(12)))
    policy.ask(2)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
