"""Policies in the space of recurrent cells, on a reward whose optimum is known."""

import numpy as np
import pytest
from evaluators import Function

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
