import json
import math

import numpy as np
import pytest

from nasnet_zoo.search import (
    Evaluator,
    Journal,
    RandomSearch,
    Result,
    SequenceSpace,
    Serial,
    Step,
    run_search,
)

pytestmark = pytest.mark.tensorflow


class Numbers(SequenceSpace[dict]):
    """Architectures and results in NumPy's types, as users return them."""

    steps = (Step("a", 3), Step("b", 4))

    def decode(self, actions):
        a, b = np.array(self.check(actions))
        return {"a": a, "both": (a, b)}


class InNumPy(Evaluator[dict]):
    def cost(self, architecture):
        return {"sum": np.sum(architecture["both"])}

    def evaluate(self, trial):
        reward = np.float32(trial.child["a"] / 7)
        return Result(reward, np.array([0, reward]), metrics={"all": np.arange(2), "one": reward})


def test_the_journal_keeps_numbers_of_numpy(tmp_path):
    path, space = tmp_path / "journal.sqlite", Numbers()
    for children in (3, 6):
        with Journal(path, {}) as journal:
            run_search(RandomSearch(space), space, Serial(InNumPy()), journal, children)
    with Journal(path) as journal:
        journal.check()
        records = journal.children()
    assert len(records) == 6
    for record in records:
        a, b = record.actions
        assert record.architecture == {"a": a, "both": [a, b]}
        assert record.costs == {"sum": a + b}
        assert record.reward == pytest.approx(a / 7)
        assert record.curve == (0, record.reward)
        assert record.metrics == {"all": [0, 1], "one": record.reward}
        assert json.loads(record.key) == record.architecture


@pytest.mark.parametrize("reward", [np.float64(0.5), np.float32(0.5), np.array(0.5), 1])
def test_rewards_are_floats(reward):
    assert type(Result(reward).reward) is float
    assert type(Result(0.0, [reward]).curve[0]) is float


def test_results_that_are_none():
    with pytest.raises(ValueError, match="Expected a finite reward. Received: nan"):
        Result(math.nan)
    with pytest.raises(ValueError, match="Expected curve: a list, each a finite number"):
        Result(0.0, (math.inf,))
    with pytest.raises(TypeError):
        Result(None)
    with pytest.raises(TypeError, match="Expected metrics: JSON. Received: {1}"):
        Result(0.0, metrics={"seen": {1}})
