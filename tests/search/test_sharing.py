import numpy as np
import pytest
import tensorflow as tf

from nasnet_zoo.cells import CIFAR
from nasnet_zoo.network import network_graph
from nasnet_zoo.search import RegularizedEvolution, SearchSpace
from nasnet_zoo.search.child import Budget, Child, Images
from nasnet_zoo.search.sharing import SharedWeights, search_shared

pytestmark = pytest.mark.tensorflow

OPERATIONS = ("identity", "conv_1x1", "conv_3x3")
SPACE = SearchSpace(2, OPERATIONS, ("add",), cells=1)
BUDGET = Budget(filters=3, stem_filters=3, steps=4, batch_size=8, learning_rate=0.1)
SHAPE = (8, 8, 1)


def batch(seed, count=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *SHAPE)).astype("float32"), rng.integers(0, 3, count, np.int32)


def genotype(*tokens):
    return SPACE.genotype(tokens)


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


def test_weights_and_policy_learn_in_turn():
    space = SearchSpace(1, ("conv_3x3",), ("add",), cells=1)
    rng = np.random.default_rng(0)
    parts = []
    for count in (256, 100):
        labels = rng.integers(0, 2, count).astype(np.int32)
        images = rng.normal(0, 0.3, (count, *SHAPE)) + (2 * labels - 1)[:, None, None, None]
        parts += [images.astype(np.float32), labels]
    shared, seen = SharedWeights(SHAPE, 2, BUDGET), []
    policy = RegularizedEvolution(space, population=8, sample=2)
    search_shared(
        policy, space, shared, Images(*parts, 2), 2, 8, 4, watch=lambda *told: seen.append(told)
    )
    assert [number for number, _, _ in seen] == [0, 1]
    assert [len(rewards) for _, rewards, _ in seen] == [4, 4]
    assert seen[-1][1].mean() > 0.9
    # What the policy learnt from are the children of both rounds.
    mean = np.mean([rewards for _, rewards, _ in seen])
    assert seen[-1][2]["population"] == pytest.approx(mean)
