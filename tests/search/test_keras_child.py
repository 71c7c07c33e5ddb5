import math
import os
import subprocess
import sys
from typing import ClassVar

import keras
import numpy as np
import pytest

from nasnet_zoo.search import (
    PPO,
    Journal,
    KerasChild,
    Processes,
    RandomSearch,
    SequenceSpace,
    Serial,
    Step,
    Trial,
    run_search,
)

UNITS = (1, 8, 16)


class Widths(SequenceSpace[dict]):
    steps = (Step("units", len(UNITS)), Step("units", len(UNITS)))

    def decode(self, actions):
        return {"units": [UNITS[action] for action in self.check(actions)]}


class Note(keras.layers.Layer):
    """Notes the types of what it computes with."""

    seen: ClassVar = set()

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        y = x * self.scale
        self.seen.add((keras.backend.standardize_dtype(y.dtype), self.variable_dtype))
        return y


class Perceptron(KerasChild[dict]):
    learning_rate = 0.02

    def build(self, architecture):
        if 1 in architecture["units"]:
            raise ValueError("Expected more than one unit.\nReceived: 1")
        hidden = [keras.layers.Dense(units, "relu") for units in architecture["units"]]
        model = keras.Sequential([*hidden, Note(), keras.layers.Dense(2, dtype="float32")])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(self.learning_rate, 0.9), loss, metrics=["accuracy"])
        return model


def data():
    x = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int32)
    return (x[:300], y[:300]), (x[300:], y[300:])


def child(**arguments):
    return Perceptron(*data(), **{"epochs": 3, **arguments})


def trial(*, seed=0, thresholds=(), units=(16, 16), **pause):
    return Trial(0, {"units": list(units)}, seed, thresholds, **pause)


def test_learns():
    result = child(epochs=25).evaluate(trial())
    assert result.status == "finished"
    assert len(result.curve) == 25
    assert result.reward == result.curve[-1] == result.metrics["val_accuracy"]
    assert result.curve[0] < 0.75 < 0.85 < result.reward


def test_steps_and_metric():
    few = child(steps_per_epoch=1, epochs=1, metric="loss", batch_size=300).evaluate(trial())
    assert few.reward == pytest.approx(few.metrics["loss"])
    more = child(epochs=1, metric="loss").evaluate(trial())
    assert few.reward == pytest.approx(math.log(2), abs=0.2)
    assert more.reward != few.reward
    with pytest.raises(TypeError, match="Expected metric: one of .*val_accuracy.* Received: val_acc"):
        child(metric="val_acc").evaluate(trial())


def test_stops_below_a_threshold():
    whole = child(epochs=4).evaluate(trial())
    stopped = child(epochs=4).evaluate(trial(thresholds=(0.0, 1.1)))
    assert (stopped.status, stopped.curve) == ("stopped", whole.curve[:2])
    assert stopped.reward == whole.curve[1]
    last = child(epochs=2).evaluate(trial(thresholds=(0.0, 1.1)))
    assert (last.status, last.curve) == ("finished", whole.curve[:2])


def test_pauses_and_goes_on():
    evaluator = child(epochs=6)
    assert evaluator.evaluations == 6
    paused = evaluator.evaluate(trial(pause_at=3))
    assert (paused.status, len(paused.curve)) == ("stopped", 3)
    assert paused.curve == child(epochs=3).evaluate(trial()).curve
    rest = evaluator.evaluate(trial(checkpoint=paused.checkpoint))
    assert (rest.status, len(rest.curve), rest.checkpoint) == ("finished", 6, None)
    assert rest.curve[:3] == paused.curve
    assert rest.reward == rest.curve[-1] == rest.metrics["val_accuracy"]
    again = evaluator.evaluate(trial(checkpoint=paused.checkpoint))
    assert again == rest
    with pytest.raises(ValueError, match="Expected a checkpoint with the .* Received: one of another"):
        evaluator.evaluate(trial(checkpoint=paused.checkpoint, units=(8, 8)))


def test_goes_on_from_all_variables():
    """Where a step takes all examples, their order tells nothing."""
    evaluator = child(epochs=12, batch_size=300)
    whole, paused = evaluator.evaluate(trial()), evaluator.evaluate(trial(pause_at=5))
    rest = evaluator.evaluate(trial(checkpoint=paused.checkpoint))
    assert rest.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-5)
    assert whole.metrics["loss"] < 0.99 * paused.metrics["loss"]
    # Without the momenta, which come last, it is another training.
    last = str(max(int(name) for name in paused.checkpoint if name != "curve"))
    changed = paused.checkpoint | {last: 0 * paused.checkpoint[last] + 9}
    other = evaluator.evaluate(trial(checkpoint=changed))
    assert other.metrics["loss"] != pytest.approx(whole.metrics["loss"], rel=1e-5)


def test_equal_seeds_have_equal_results():
    first, other, again = (child().evaluate(trial(seed=seed)) for seed in (1, 2, 1))
    assert first == again
    assert first.metrics["loss"] != other.metrics["loss"]


@pytest.mark.parametrize(
    ("precision", "computed"),
    [("float32", "float32"), ("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")],
)
def test_precision(precision, computed):
    Note.seen.clear()
    result = child(precision=precision).evaluate(trial())
    assert result.status == "finished"
    assert Note.seen == {(computed, "float32")}
    assert keras.config.dtype_policy().name == "float32"


def test_a_child_that_diverges_fails():
    evaluator = child(epochs=3)
    evaluator.learning_rate = 1e20
    result = evaluator.evaluate(trial())
    assert (result.status, result.reward, result.message) == ("failed", 0.0, "diverged")
    assert len(result.curve) < 3
    assert not math.isfinite(result.metrics["loss"])


def searched(executor, policy, path=":memory:"):
    with executor, Journal(path, {}) as journal:
        return run_search(policy, policy.space, executor, journal, children=6)


@pytest.mark.tensorflow
def test_searched_serially_and_in_processes():
    serial = searched(Serial(child()), PPO(Widths()))
    states = {record.number: record.state for record in serial}
    for record in serial:
        failed = 1 in record.architecture["units"]
        assert states[record.number] == ("failed" if failed else "finished")
        assert record.message == ("Expected more than one unit. Received: 1" if failed else None)
    assert len(set(states.values())) == 2
    processes = searched(Processes(child(), 1), PPO(Widths()))
    for one, other in zip(serial, processes, strict=True):
        assert (one.actions, one.state) == (other.actions, other.state)
        assert one.reward == pytest.approx(other.reward, abs=0.02)


def test_searched_by_any_backend():
    records = searched(Serial(child()), RandomSearch(Widths()))
    assert {record.state for record in records} == {"finished", "failed"}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_other_backends(backend):
    pytest.importorskip(backend)
    if keras.backend.backend() == backend:
        pytest.skip("runs on it")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    command += ["-k", "not other_backends"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    assert " passed" in found.stdout
    assert "skipped" in found.stdout
