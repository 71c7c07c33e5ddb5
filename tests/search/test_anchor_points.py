"""The controller of layer-wise networks: anchor points, two layers, samples of several lengths."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from evaluators import Function, experiences
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples
from test_layerwise_space import spaces

from nasnet_zoo.search import (
    POLICIES,
    PPO,
    Journal,
    Reinforce,
    Result,
    SequenceController,
    Serial,
    run_search,
)
from nasnet_zoo.search.controller import AnchorPoints
from nasnet_zoo.search.nas.layerwise_space import LayerwiseSpace
from nasnet_zoo.search.policies import nas_policy
from nasnet_zoo.search.schedulers import Asynchronous, Synchronous
from nasnet_zoo.search.space import SequenceSpace, Step

pytestmark = pytest.mark.tensorflow

TINY = LayerwiseSpace(3, heights=(1,), widths=(3,), filters=(4, 8))
GROWING = LayerwiseSpace(
    1, grow_to=3, grow_by=1, grow_every=5, heights=(1,), widths=(1, 3), filters=(4,)
)


def controller(space, **arguments):
    return SequenceController(space, **{"units": 7, "initial": 1.0, "layers": 2, **arguments})


def test_a_controller_at_rest_is_uniform():
    made = controller(LayerwiseSpace(15), initial=0.0, layers=1)
    drawn = made.sample(tf.constant(3))
    assert drawn.actions.shape == (3, 150)
    expected = np.full(3, -195 * math.log(2))
    np.testing.assert_allclose(drawn.log_probabilities.numpy().sum(-1), expected, rtol=1e-5)
    np.testing.assert_allclose(drawn.entropies.numpy().sum(-1), -expected, rtol=1e-5)


def test_anchor_points_worked_by_hand():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 4))
    previous, current, vector, none = (
        keras.Variable(v, dtype="float32") for part in values for v in part
    )
    head = AnchorPoints(previous, current, vector, none)
    earlier, hidden = rng.normal(size=(3, 2, 4)), rng.normal(size=(1, 2, 4))
    logits = head.logits(tf.constant(earlier, tf.float32), tf.constant(hidden, tf.float32)).numpy()
    chosen = np.array([[1, 0], [0, 0], [1, 0]])
    found = head.predictions(tf.constant(chosen), tf.constant(logits))
    for j, child in itertools.product(range(3), range(2)):
        mixed = np.tanh(earlier[j, child] @ values[0][0] + hidden[0, child] @ values[0][1])
        p = 1 / (1 + np.exp(-(values[1][0] * mixed).sum()))
        assert 1 / (1 + np.exp(-logits[j, child])) == pytest.approx(p, abs=1e-5)
        log = np.log(p if chosen[j, child] else 1 - p)
        assert float(found.log_probabilities[child, j]) == pytest.approx(log, abs=1e-5)
        entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
        assert float(found.entropies[child, j]) == pytest.approx(entropy, abs=1e-5)
    read = head.read(tf.constant(chosen), tf.constant(earlier, tf.float32), tf.zeros((2, 4)))
    np.testing.assert_allclose(read[0], (earlier[0, 0] + earlier[2, 0]) / 2, rtol=1e-5)
    np.testing.assert_allclose(read[1], values[1][1], rtol=1e-5)


@examples(3)
@given(space=spaces(), seed=st.integers(0, 2**16), layers=st.integers(1, 2))
def test_log_probabilities_of_given_children_are_those_at_sampling(space, seed, layers):
    made = controller(space, seed=seed, layers=layers)
    for length in space.lengths[:2]:
        drawn = made.sample(tf.constant(9), length)
        for actions in drawn.actions.numpy():
            space.check(actions)
        again = made.predict(drawn.actions, length)
        np.testing.assert_array_equal(again.actions, drawn.actions)
        np.testing.assert_allclose(again.log_probabilities, drawn.log_probabilities, atol=2e-5)
        np.testing.assert_allclose(again.entropies, drawn.entropies, atol=2e-5)


def test_probabilities_over_a_tiny_space_sum_to_one_and_are_how_often_children_are_drawn():
    made = controller(TINY, initial=1.2)
    every = np.array(list(itertools.product(*map(range, TINY.choices))), np.int32)
    logs = made.predict(tf.constant(every)).log_probabilities.numpy().sum(-1)
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-5)
    assert np.exp(logs).max() > 2 / len(every)
    drawn = made.sample(tf.constant(20_000)).actions.numpy()
    expected = dict(zip(map(bytes, every), 20_000 * np.exp(logs), strict=True))
    children, counts = np.unique(drawn, axis=0, return_counts=True)
    for child, count in zip(children, counts, strict=True):
        assert abs(count - expected[bytes(child)]) < 5 * expected[bytes(child)] ** 0.5 + 5


def test_gradients_are_the_numerical_ones():
    made = controller(LayerwiseSpace(3, strides=(1, 2)), units=5, initial=0.8)
    tokens = made.sample(tf.constant(4)).actions

    def value():
        found = made.predict(tokens)
        return tf.reduce_sum(found.log_probabilities) + 0.3 * tf.reduce_sum(found.entropies)

    with tf.GradientTape() as tape:
        total = value()
    gradients = tape.gradient(total, [weight.value for weight in made.weights])
    rng = np.random.default_rng(0)
    for weight, gradient in zip(made.weights, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient).numpy()
        direction = rng.normal(size=weight.shape).astype("float32")
        before, step, ends = np.array(weight), 1e-2, []
        for sign in (1, -1):
            weight.assign(before + sign * step * direction)
            ends.append(float(value()))
        weight.assign(before)
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=3e-2, abs=1e-2)


def test_a_shorter_child_is_predicted_beside_a_longer_one_as_alone():
    made = controller(GROWING)
    lengths = GROWING.lengths
    drawn = [made.sample(tf.constant(2), length).actions.numpy() for length in lengths]
    table = np.full((6, lengths[-1]), -1, np.int32)
    for k, (actions, length) in enumerate(zip(drawn, lengths, strict=True)):
        table[2 * k : 2 * k + 2, :length] = actions
    together = made.predict(tf.constant(table), lengths[-1])
    for k, (actions, length) in enumerate(zip(drawn, lengths, strict=True)):
        alone = made.predict(tf.constant(actions), length)
        rows = slice(2 * k, 2 * k + 2)
        for one, all_ in zip(alone[1:], together[1:], strict=True):
            np.testing.assert_allclose(all_[rows, :length], one, atol=1e-5)
            assert not np.any(all_[rows, length:])


def test_the_preset_is_the_paper_s_controller():
    policy = nas_policy(LayerwiseSpace(2))
    made = policy.controller
    assert (made.layers, made.units) == (2, 35)
    assert float(policy.optimizer.learning_rate) == pytest.approx(0.0006)
    assert policy.entropy_weight == 0
    values = np.concatenate([np.array(weight).ravel() for weight in made.weights])
    assert 0.0795 < np.abs(values).max() <= 0.08
    assert isinstance(policy, Reinforce)


def test_samples_grow_with_the_number_of_children_drawn():
    policy = nas_policy(GROWING)
    depths = [[len(GROWING.decode(p.actions).layers) for p in policy.ask(4)] for _ in range(4)]
    assert depths == [[1, 1, 1, 1], [1, 2, 2, 2], [2, 2, 3, 3], [3, 3, 3, 3]]


@pytest.mark.parametrize("name", ["nas", pytest.param("ppo", marks=pytest.mark.slow)])
def test_a_restored_policy_goes_on_alike_where_samples_grow(name):
    policy, other = (POLICIES[name](GROWING, seed=3, units=8) for _ in range(2))
    for _ in range(2):
        proposals = policy.ask(4)
        policy.tell(experiences(proposals, np.linspace(0, 1, 4)))
    other.restore(policy.state())
    for _ in range(2):
        proposals = policy.ask(4)
        assert other.ask(4) == proposals
        told = experiences(proposals, np.linspace(0, 1, 4))
        assert policy.tell(told) == other.tell(told)


# === REINFORCE on a toy ===


class Arms(SequenceSpace):
    """One step, two arms."""

    steps = (Step("arm", 2),)

    def decode(self, actions):
        return {"arm": self.check(actions)[0]}


def test_an_update_is_the_closed_form():
    """The gradient by the softmax's bias is the mean of (R - b) (one-hot of the arm - p)."""
    policy = Reinforce(Arms(), entropy_weight=0.0, baseline_weight=1.0, initial=0.5)
    policy.optimizer = keras.optimizers.SGD(1.0)
    policy.optimizer.build(policy.controller.weights)
    bias = policy.controller.head.bias
    proposals = policy.ask(8)
    policy.tell(experiences(proposals, [0.5] * 8))  # R = b: no gradient
    np.testing.assert_array_equal(bias, Reinforce(Arms(), initial=0.5).controller.head.bias)
    proposals, before = policy.ask(8), np.array(bias)
    arms = np.array([proposal.actions[0] for proposal in proposals])
    rewards = np.where(arms, 1.0, 0.2)
    p = np.exp(policy.controller.predict(tf.constant([[0], [1]])).log_probabilities.numpy()[:, 0])
    assert 0 < arms.sum() < 8
    policy.tell(experiences(proposals, rewards))
    expected = ((rewards - 0.5)[:, None] * (np.eye(2)[arms] - p)).mean(0)
    np.testing.assert_allclose(np.array(bias)[0] - before[0], expected, atol=1e-6)


# === Searches ===


def reward(genotype):
    """How many layers have 8 filters and read all layers before them."""
    layers = genotype.layers
    whole = [layer.inputs == tuple(range(1, k + 1)) for k, layer in enumerate(layers)]
    return (
        float(np.mean([(layer.filters == 8) + w for layer, w in zip(layers, whole, strict=True)])) / 2
    )


def evaluated(trial):
    return Result(reward(trial.child))


CHEAP = ("random", "evolution", "predictor", "optuna:TPESampler")
TRACED = [("nas", TINY), ("ppo", TINY), ("nas", GROWING)]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["synchronous", "asynchronous"])
@pytest.mark.parametrize(
    ("name", "space"),
    [
        *((name, TINY) for name in CHEAP),
        *((name, GROWING) for name in CHEAP[:3]),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in TRACED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_policy_searches_and_goes_on_after_a_stop(name, space, asynchronous, tmp_path):
    if name.startswith("optuna"):
        pytest.importorskip("optuna")
    options = {"evolution": {"population": 4, "sample": 2}}.get(name, {})
    scheduler = (Asynchronous if asynchronous else Synchronous)(4)

    def search(path, *counts):
        for count in counts:
            policy = POLICIES[name](space, seed=1, **options)
            with Journal(path, {"policy": name}) as journal:
                records = run_search(
                    policy, space, Serial(Function(evaluated)), journal, count, scheduler, seed=1
                )
        return records

    whole = search(tmp_path / "whole.sqlite", 16)
    stopped = search(tmp_path / "stopped.sqlite", 8, 16)
    assert len(whole) == len(stopped) == 16
    if not asynchronous:
        assert [r.actions for r in stopped] == [r.actions for r in whole]
    for record in stopped:
        if name in ("nas", "ppo"):
            assert len(record.log_probabilities) == len(record.actions)
        assert space.key(space.decode(record.actions)) == record.key


def test_samplers_of_optuna_refuse_children_of_several_lengths():
    pytest.importorskip("optuna")
    with pytest.raises(ValueError, match="Expected a space of one length .* Received: lengths of 3, 7"):
        POLICIES["optuna:TPESampler"](GROWING, options={})


@pytest.mark.parametrize(
    ("make", "correction"),
    [
        (Reinforce, "ratio"),
        *(
            pytest.param(make, correction, marks=pytest.mark.slow)
            for make, correction in [(Reinforce, "naive"), (PPO, "ratio"), (PPO, "decoupled")]
        ),
    ],
)
def test_children_of_earlier_versions_and_lengths_are_learned_from(make, correction):
    policy = make(GROWING, units=8, correction=correction, learning_rate=0.05)
    old = policy.ask(4)
    policy.tell(experiences(policy.ask(4), np.linspace(0, 1, 4), first=4))
    new = policy.ask(4)
    assert len({len(proposal.actions) for proposal in old + new}) > 1
    metrics = policy.tell(experiences(old + new, np.linspace(0, 1, 8)))
    assert metrics["lag"] == 0.5
    assert all(np.isfinite(np.array(weight)).all() for weight in policy.controller.weights)
