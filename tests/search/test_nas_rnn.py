"""Policies in the space of recurrent cells, on a reward whose optimum is known."""

import numpy as np
import pytest
from evaluators import Function, experiences

from nasnet_zoo.cells import NASCELL
from nasnet_zoo.search import (
    POLICIES,
    Journal,
    RecurrentSettings,
    RecurrentSpace,
    Result,
    Serial,
    Synchronous,
    run_search,
)

pytestmark = pytest.mark.tensorflow

BEST = np.array(NASCELL.tokens, object)


def evaluated(trial):
    """The share of tokens that are those of the found cell."""
    return Result(float((np.array(trial.child.tokens, object) == BEST).mean()))


def test_the_default_policy_is_the_paper_s_controller():
    settings = RecurrentSettings()
    assert (settings.policy, settings.minibatch) == ("nas", 10)


@pytest.mark.parametrize(
    "name",
    [
        "random",
        "evolution",
        "predictor",
        "optuna:TPESampler",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("nas", "ppo", "reinforce")),
    ],
)
def test_every_policy_searches_recurrent_cells_and_goes_on_after_a_stop(name, tmp_path):
    if name.startswith("optuna"):
        pytest.importorskip("optuna")
    space = RecurrentSpace()
    options = {"evolution": {"population": 4, "sample": 2}}.get(name, {})

    def search(path, *counts):
        for count in counts:
            policy = POLICIES[name](space, seed=1, **options)
            with Journal(path, {"policy": name}) as journal:
                records = run_search(
                    policy, space, Serial(Function(evaluated)), journal, count, Synchronous(4), seed=1
                )
        return records

    whole = search(tmp_path / "whole.sqlite", 12)
    stopped = search(tmp_path / "stopped.sqlite", 8, 12)
    assert [record.actions for record in stopped] == [record.actions for record in whole]
    assert all(space.key(space.decode(record.actions)) == record.key for record in stopped)


@pytest.mark.slow
def test_the_controller_finds_the_optimum_and_beats_random_search():
    """Base 2: 73,728 cells, of which 1,000 are tried; over 20 seeds."""
    space = RecurrentSpace(2)
    found = {"reinforce": [], "random": []}
    for name, best in found.items():
        options = {"learning_rate": 0.01, "entropy_weight": 0.005} if name == "reinforce" else {}
        for seed in range(20):
            hidden = np.array(space.sample(np.random.default_rng([10**6, seed])))
            policy, rewards = POLICIES[name](space, seed=seed, **options), []
            while len(rewards) < 1000:
                proposals = policy.ask(20)
                shares = [(np.array(p.actions) == hidden).mean() for p in proposals]
                policy.tell(experiences(proposals, shares, len(rewards)))
                rewards += shares
            best.append(max(rewards))
    assert np.mean(np.array(found["reinforce"]) == 1) > 0.8
    assert np.mean(found["reinforce"]) > np.mean(found["random"]) + np.std(found["random"])
