"""Learned group convolutions: what they drop, what is left of them, and their losses."""

import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.cells import CIFAR, BlockLayer, CondenseLayer, Hyperparameters
from nasnet_zoo.cells.primitives import Conv, LearnedGroupConv, SelectChannels, Shuffle


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_groups_drop_the_channels_of_least_weight():
    conv = LearnedGroupConv(6, groups=2, condense=2)
    kernel = draw(1, 1, 4, 6)
    mask = conv.masked(kernel, np.ones((4, 2), "float32"), 1)
    for group in (0, 1):
        sums = np.abs(kernel[0, 0, :, [group, group + 2, group + 4]]).sum(0)
        assert list(np.flatnonzero(mask[:, group] == 0)) == [sums.argmin()]
    # A channel that was dropped stays so, whatever its weights become.
    more = conv.masked(kernel + 9 * (1 - mask[None, None, :, :1]), mask, 2)
    assert (more <= mask).all()
    assert (more.sum(0) == 2).all()
    np.testing.assert_array_equal(conv.masked(kernel, more, 2), more)


def test_what_is_left_is_an_index_a_grouped_convolution_and_a_shuffle():
    conv = LearnedGroupConv(12, groups=3, condense=2)
    kernel, x = draw(1, 1, 10, 12), draw(2, 4, 3, 10)
    mask = np.ones((10, 3), "float32")
    assert conv.condensed(kernel, mask) is None
    mask = conv.masked(kernel, mask, 5)
    expected, _ = conv(x, (kernel, mask), False, CIFAR)
    index, small = conv.condensed(kernel, mask)
    assert (index.shape, small.shape) == ((15,), (1, 1, 5, 12))
    y, _ = SelectChannels(15)(x, (index.astype("float32"),), False, CIFAR)
    y, _ = Conv(1, filters=12, groups=3)(y, (small,), False, CIFAR)
    y, _ = Shuffle(3)(y, (), False, CIFAR)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(Shuffle(2)(x, (), False, CIFAR)[0][..., :4], x[..., [0, 5, 1, 6]])


def test_what_is_left_costs_its_share():
    conv = LearnedGroupConv(12, groups=3, condense=2)
    assert conv.mult_adds((4, 3, 10), 0) == 4 * 3 * 5 * 12
    assert Conv(1, filters=12, groups=3).mult_adds((4, 3, 15), 0) == 4 * 3 * 5 * 12
    for channels, filters in ((9, 12), (10, 11)):
        with pytest.raises(ValueError, match=f"Received: {channels=}, {filters=}"):
            LearnedGroupConv(filters, 3, 2).weights(channels, 0)


def test_the_group_lasso_is_a_sum_of_norms_until_all_is_dropped():
    block = CondenseLayer(zoo.GROUPED_CONV_3X3.root, 4, groups=2, learned_groups=2, condense=4)
    hyper = Hyperparameters(l2=0.01, group_lasso=0.5)
    layer = BlockLayer(block, hyperparameters=hyper)
    layer.build((None, 4, 4, 8))
    kernel, mask = (
        w for w in layer.weights if w.path.endswith(("bottleneck-2-kernel", "bottleneck-2-mask"))
    )
    values = draw(*kernel.shape)
    kernel.assign(values)
    mask.assign((np.arange(8) < 4)[:, None] * np.ones((8, 2), "float32"))
    norms = [np.linalg.norm(values[0, 0, c, g::2]) for c in range(4) for g in (0, 1)]
    expected = 0.5 * (sum(norms) + 8 * 1e-3) + 0.01 * np.square(values).sum()
    assert np.isclose(np.asarray(kernel.regularizer(kernel)), expected, rtol=1e-5)
    mask.assign((np.arange(8) < 2)[:, None] * np.ones((8, 2), "float32"))
    assert np.isclose(np.asarray(kernel.regularizer(kernel)), 0.01 * np.square(values).sum(), rtol=1e-5)
