"""The loop over a training, with one that does nothing but note its steps."""

import math

import numpy as np
import pytest
import tensorflow as tf

from nasnet_zoo.search import Trial
from nasnet_zoo.search.budget import TrainingBudget
from nasnet_zoo.search.trained_child import TrainedChild, Training

pytestmark = pytest.mark.tensorflow


class Counting(Training):
    """Its reward at an evaluation is that of a list; it carries the sum of its steps' numbers."""

    def __init__(self, rewards, loss):
        self.parts, self._rewards, self._loss = [], rewards, loss
        self._sum = tf.Variable(0, dtype=tf.int64)

    def train(self, start, stop):
        self.parts.append((start, stop))
        self._sum.assign_add(sum(range(start, stop)))
        return self._loss

    def reward(self):
        self.metrics = {"sum": int(self._sum)}
        return self._rewards[self.parts[-1][1]]

    def variables(self):
        return {"sum": self._sum}


class CountingChild(TrainedChild):
    def start(self, trial):
        self.training = Counting(*trial.child)
        return self.training


class BestOfTwo(TrainingBudget):
    best_of = 2


BUDGET = TrainingBudget(steps=10, evaluations=4)
REWARDS = {2: 0.2, 5: 0.4, 8: 0.3, 10: 0.2}


def train(rewards=REWARDS, loss=0.5, budget=BUDGET, **trial):
    child = CountingChild(budget)
    return child.evaluate(Trial(0, (rewards, loss), 0, **trial)), child.training.parts


def test_evaluations_come_in_equal_distances_the_last_one_at_the_end():
    result, parts = train()
    assert parts == [(0, 2), (2, 5), (5, 8), (8, 10)]
    assert (result.curve, result.reward, result.status) == ((0.2, 0.4, 0.3, 0.2), 0.2, "finished")
    assert result.metrics == {"sum": 45, "losses": [0.5] * 4}
    assert result.checkpoint is None


def test_the_reward_is_the_best_of_the_last_evaluations():
    assert train(budget=BestOfTwo(steps=10, evaluations=4))[0].reward == 0.3


def test_a_child_stops_below_a_threshold_but_not_at_its_end():
    result, _ = train(thresholds=(0.1, 0.5))
    assert (result.curve, result.reward, result.status) == ((0.2, 0.4), 0.4, "stopped")
    assert result.checkpoint is None
    assert train(thresholds=(0.0, 0.0, 0.0, 1.0))[0].status == "finished"


def test_a_child_that_pauses_goes_on_as_if_it_had_not():
    paused, before = train(pause_at=3)
    assert (paused.status, paused.curve) == ("stopped", (0.2, 0.4, 0.3))
    result, after = train(checkpoint=paused.checkpoint)
    assert before + after == [(0, 2), (2, 5), (5, 8), (8, 10)]
    assert result == train()[0]
    # One that pauses at its end hands out what it has become.
    at_end, _ = train(pause_at=4)
    assert (at_end.status, int(at_end.checkpoint["sum"])) == ("stopped", 45)


def test_a_checkpoint_of_another_child_is_none():
    paused, _ = train(pause_at=3)
    for other in ({"sum": np.zeros(2)}, {"else": np.zeros(())}):
        checkpoint = {"curve": paused.checkpoint["curve"], "losses": np.zeros(3), **other}
        assert train(checkpoint=checkpoint) == train()


@pytest.mark.parametrize("change", [{"loss": math.nan}, {"rewards": REWARDS | {2: math.inf}}], ids=str)
def test_a_child_whose_loss_or_reward_is_not_finite_has_diverged(change):
    result, parts = train(**change)
    assert (result.status, result.message, result.reward) == ("failed", "diverged", 0.0)
    assert (result.curve, parts) == ((), [(0, 2)])
