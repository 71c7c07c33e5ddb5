import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from nasnet_zoo.search import NASNetSpace, SequenceController

pytestmark = pytest.mark.tensorflow

TINY = NASNetSpace(blocks=1, operations=("identity", "sep_3x3", "max_3x3"), combinations=("add",))
SMALL = NASNetSpace(blocks=3, operations=("identity", "sep_3x3"), cells=1)


def test_log_probabilities_of_given_children_are_those_at_sampling():
    controller = SequenceController(NASNetSpace(), seed=1)
    drawn = controller.sample(tf.constant(20))
    again = controller.predict(drawn.actions)
    np.testing.assert_allclose(again.log_probabilities, drawn.log_probabilities, atol=1e-5)
    np.testing.assert_allclose(again.entropies, drawn.entropies, atol=1e-5)
    np.testing.assert_array_equal(again.actions, drawn.actions)


def test_probabilities_over_a_tiny_space_sum_to_one():
    controller = SequenceController(TINY, units=8, initial=1.5)
    every = np.array(list(itertools.product(*map(range, TINY.choices))), np.int32)
    assert len(every) == TINY.size
    logs = controller.predict(tf.constant(every)).log_probabilities.numpy().sum(-1)
    assert np.exp(logs).sum() == pytest.approx(1.0, abs=1e-5)
    assert np.exp(logs).max() > 2 / TINY.size  # far from uniform, so the sum says something


def test_children_are_drawn_as_often_as_predicted():
    controller = SequenceController(TINY, units=8, initial=1.5)
    drawn = controller.sample(tf.constant(20_000)).actions.numpy()
    children, counts = np.unique(drawn, axis=0, return_counts=True)
    logs = controller.predict(tf.constant(children)).log_probabilities.numpy().sum(-1)
    expected = 20_000 * np.exp(logs)
    # A Poisson count is within five standard deviations, but for one in a million.
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected) + 5)


@given(st.integers(0, 2**16), st.floats(0.1, 20))
@examples(8)
def test_only_what_exists_is_drawn_and_entropy_is_bounded(seed, initial):
    controller = SequenceController(SMALL, units=8, initial=initial, seed=seed)
    drawn = controller.sample(tf.constant(200))
    assert np.all(drawn.actions.numpy() < SMALL.choices)
    most = np.log(SMALL.choices)
    entropies = drawn.entropies.numpy()
    assert np.all(entropies >= -1e-5)
    assert np.all(entropies <= most + 1e-5)
    assert np.all(np.isfinite(drawn.log_probabilities))


def test_a_controller_at_rest_is_uniform():
    controller = SequenceController(NASNetSpace(), initial=0.0)
    drawn = controller.sample(tf.constant(3))
    expected = np.broadcast_to(np.log(NASNetSpace().choices), (3, 50))
    np.testing.assert_allclose(drawn.entropies, expected, atol=1e-5)
    np.testing.assert_allclose(drawn.log_probabilities, -expected, atol=1e-5)


def test_gradients_are_the_numerical_ones():
    controller = SequenceController(SMALL, units=5, initial=0.8)
    tokens = controller.sample(tf.constant(4)).actions

    def value():
        found = controller.predict(tokens)
        return tf.reduce_sum(found.log_probabilities) + 0.3 * tf.reduce_sum(found.entropies)

    with tf.GradientTape() as tape:
        total = value()
    gradients = tape.gradient(total, [weight.value for weight in controller.weights])
    rng = np.random.default_rng(0)
    for weight, gradient in zip(controller.weights, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.all(np.isfinite(gradient))
        direction = rng.normal(size=weight.shape).astype("float32")
        before, step = np.array(weight), 1e-2
        ends = []
        for sign in (1, -1):
            weight.assign(before + sign * step * direction)
            ends.append(float(value()))
        weight.assign(before)
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=2e-2, abs=5e-3)


def test_neighbouring_seeds_draw_other_children():
    space = NASNetSpace(2, ("identity", "sep_3x3", "conv_3x3", "max_3x3"), ("add",))
    # Of 40 draws and 40 others some two are the same once in 50,000 times.
    assert space.size > 80e6
    drawn = []
    for seed in range(3):
        controller = SequenceController(space, seed=seed)
        drawn.append(set(map(bytes, controller.sample(tf.constant(40)).actions.numpy())))
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(drawn, 2))


def test_each_function_is_traced_once():
    controller = SequenceController(SMALL, units=8)
    for batch in (20, 20, 20):
        controller.predict(controller.sample(tf.constant(batch)).actions)
    assert controller.sample.experimental_get_tracing_count() == 1
    assert controller.predict.experimental_get_tracing_count() == 1
