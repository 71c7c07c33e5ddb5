import numpy as np
import pytest
import tensorflow as tf

from nasnet_zoo.architecture import network_graph
from nasnet_zoo.cells import CIFAR
from nasnet_zoo.search import (
    Budget,
    Journal,
    NASNetSpace,
    RegularizedEvolution,
    Serial,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.images.child import Child, Images
from nasnet_zoo.search.nasnet.sharing import SharedEvaluator, SharedWeights, _cosine

pytestmark = pytest.mark.tensorflow

OPERATIONS = ("identity", "conv_1x1", "conv_3x3")
SPACE = NASNetSpace(2, OPERATIONS, ("add",), cells=1)
BUDGET = Budget(filters=3, stem_filters=3, steps=4, batch_size=8, learning_rate=0.03)
SHAPE = (8, 8, 1)


def batch(seed, count=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *SHAPE)).astype("float32"), rng.integers(0, 3, count, np.int32)


def genotype(*actions):
    return SPACE.genotype(actions)


FIRST = genotype(0, 0, 1, 0, 0, 0, 1, 0, 2, 0)
OTHER = genotype(0, 0, 1, 0, 0, 0, 1, 0, 1, 0)


def test_a_single_child_learns_as_if_it_shared_nothing():
    shared = SharedWeights(SHAPE, 3, BUDGET, seed=5)
    alone = Child(network_graph(BUDGET.architecture(FIRST, 8, 1), 3), SHAPE, CIFAR, seed=5)
    for step in range(3):
        images, labels = batch(step)
        expected = alone.step(tf.constant(images), tf.constant(labels), tf.constant(0.1), BUDGET)
        assert shared.train(FIRST, images, labels, 0.1) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(shared.child(FIRST)[0].weights, alone.weights, rtol=1e-4, atol=1e-6)


def test_children_share_what_they_choose_alike_and_nothing_else():
    shared = SharedWeights(SHAPE, 3, BUDGET)
    _, first = shared.child(FIRST)
    alone = len(shared.weights)
    assert len(first) == alone
    _, other = shared.child(OTHER)
    # They differ in one operation: in five cells, of F, F, 2F, 2F and 4F filters, a 1x1 convolution
    # and its batch norm stand beside a 3x3 one. In a reduction cell the state it reads has as many.
    new = sum(f * f + 2 * f for f in (3, 6, 6, 12, 12))
    assert len(shared.weights) == alone + new
    only_other = np.setdiff1d(other, first)
    assert len(only_other) == new
    before = shared.weights.copy()
    shared.train(OTHER, *batch(0), 0.1)
    changed = np.flatnonzero(shared.weights != before)
    assert set(changed) <= set(other)
    assert set(changed) & set(only_other)
    assert set(changed) & set(first)


def test_a_weight_belongs_to_the_state_it_reads():
    shared = SharedWeights(SHAPE, 3, BUDGET)
    left = genotype(0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
    right = genotype(1, 0, 1, 0, 0, 0, 0, 0, 0, 0)
    places = [shared.child(child)[1] for child in (left, right)]
    assert len(np.setdiff1d(*places)) > 0


def test_a_diverging_step_leaves_the_weights_alone():
    shared = SharedWeights(SHAPE, 3, BUDGET)
    shared.child(FIRST)
    before = shared.weights.copy()
    images, labels = batch(0)
    assert not np.isfinite(shared.train(FIRST, images * np.inf, labels, 0.1))
    np.testing.assert_array_equal(shared.weights, before)


def easy_images():
    """Two classes, one bright and one dark."""
    rng = np.random.default_rng(0)
    parts = []
    for count in (256, 100):
        labels = rng.integers(0, 2, count).astype(np.int32)
        images = rng.normal(0, 0.3, (count, *SHAPE)) + (2 * labels - 1)[:, None, None, None]
        parts += [images.astype(np.float32), labels]
    return Images(*parts, 2)


def search(path, children):
    """A search of four children a minibatch by new objects; its records and weights."""
    space = NASNetSpace(1, ("conv_1x1", "conv_3x3"), ("add",), cells=1)
    shared = SharedWeights(SHAPE, 2, BUDGET)
    policy = RegularizedEvolution(space, population=8, sample=2)
    executor = Serial(SharedEvaluator(space, shared, easy_images(), steps=16))
    with Journal(path, {}) as journal:
        records = run_search(policy, space, executor, journal, children, Synchronous(4), remember=False)
        return records, journal.minibatches(), shared.weights


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return search(tmp_path_factory.mktemp("search") / "journal.sqlite", 12)


def test_weights_and_policy_learn_in_turn(searched):
    records, told, _ = searched
    rewards = np.array([record.reward for record in records]).reshape(3, 4)
    assert rewards[-1].mean() > 0.9
    # What the policy learnt from are the children of all rounds.
    assert told[-1]["population"] == pytest.approx(rewards[1:].mean())
    # A child that comes again is judged again, by other weights.
    versions = {}
    for record in records:
        if record.same_as is None:
            versions.setdefault(record.key, set()).add(record.version)
    assert max(map(len, versions.values())) > 1


def test_a_stopped_search_by_shared_weights_goes_on_as_if_it_was_not(searched, tmp_path):
    whole, _, weights = searched
    search(tmp_path / "parts.sqlite", 4)
    parts, _, weights_of_parts = search(tmp_path / "parts.sqlite", 12)
    assert [(r.actions, r.reward) for r in parts] == [(r.actions, r.reward) for r in whole]
    np.testing.assert_array_equal(weights_of_parts, weights)


def test_a_search_that_was_stopped_within_a_minibatch_uses_the_same_images_again(searched, tmp_path):
    """The images of a minibatch's rewards are drawn when the policy is asked."""

    class Stopped(SharedEvaluator):
        def evaluate(self, trial):
            if trial.number in (5, 6, 7):
                raise KeyboardInterrupt
            return super().evaluate(trial)

    space = NASNetSpace(1, ("conv_1x1", "conv_3x3"), ("add",), cells=1)
    shared = SharedWeights(SHAPE, 2, BUDGET)
    stopped = Serial(Stopped(space, shared, easy_images(), steps=16))
    policy = RegularizedEvolution(space, population=8, sample=2)
    with Journal(tmp_path / "j.sqlite", {}) as journal, pytest.raises(KeyboardInterrupt):
        run_search(policy, space, stopped, journal, 12, Synchronous(4), remember=False)
    (whole, _, weights), (parts, _, weights_of_parts) = searched, search(tmp_path / "j.sqlite", 12)
    assert [(r.actions, r.reward) for r in parts] == [(r.actions, r.reward) for r in whole]
    np.testing.assert_array_equal(weights_of_parts, weights)


def test_the_learning_rate_falls_in_periods_of_10_20_40_minibatches():
    found = [_cosine(minibatches) for minibatches in (0, 5, 10, 20, 30, 50, 70)]
    assert found == pytest.approx([1, 0.51, 1, 0.51, 1, 0.51, 1])
    assert _cosine(10 - 1e-9) == pytest.approx(0.02)
