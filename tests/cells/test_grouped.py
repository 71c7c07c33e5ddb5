"""Grouped convolutions against Keras's, and what follows from them."""

import keras
import numpy as np
import pytest
from keras import ops

from nasnet_zoo.cells import CIFAR, SequenceLayer, graph_cost
from nasnet_zoo.cells.graph import sequence_graph
from nasnet_zoo.cells.primitives import Conv


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), ((1, 5), (2, 1), 1), (3, 1, 2), (1, 1, 1)]
)
def test_a_grouped_convolution_is_that_of_keras(kernel, stride, dilation):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 8, 6)).astype("float32")
    conv = Conv(kernel, stride, dilation, filters=12, groups=3)
    (weight,) = conv.weights(6, 0)
    values = rng.normal(size=weight.shape).astype("float32")
    peer = keras.layers.Conv2D(
        12, kernel, stride, "same", dilation_rate=dilation, groups=3, use_bias=False
    )
    peer.build(x.shape)
    assert peer.kernel.shape == weight.shape
    peer.kernel.assign(values)
    for training in (False, True):
        y, _ = conv(ops.convert_to_tensor(x), (ops.convert_to_tensor(values),), training, CIFAR)
        np.testing.assert_allclose(y, peer(x), atol=1e-4)
    assert y.shape[1:] == conv.output_shape(x.shape[1:], 0)


def test_each_group_reads_its_own_channels():
    conv = Conv(3, filters=4, groups=2)
    (weight,) = conv.weights(6, 0)
    kernel = np.random.default_rng(1).normal(size=weight.shape)
    x = np.random.default_rng(2).normal(size=(1, 5, 5, 6))
    changed = x.copy()
    changed[..., 3:] += 1
    before, after = (np.asarray(conv(x, (kernel,), False, CIFAR)[0]) for x in (x, changed))
    np.testing.assert_array_equal(before[..., :2], after[..., :2])
    assert np.abs(before - after)[..., 2:].min(axis=(0, 1, 2)).max() > 0


def test_groups_divide_weights_and_mult_adds():
    whole, grouped = (
        graph_cost(sequence_graph((Conv(3, 2, filters=16, groups=groups),), 0), [(9, 8, 24)])
        for groups in (1, 4)
    )
    assert whole.parameters == 9 * 24 * 16 == 4 * grouped.parameters
    assert whole.mult_adds == 5 * 4 * whole.parameters == 4 * grouped.mult_adds


@pytest.mark.parametrize(("channels", "filters"), [(6, 8), (8, 6)])
def test_groups_that_do_not_divide_are_refused(channels, filters):
    with pytest.raises(ValueError, match=r"that 4 groups divide. Received: channels=\d, filters=\d"):
        Conv(3, filters=filters, groups=4).weights(channels, 0)


class Grouped(SequenceLayer):
    def primitives(self):
        return (Conv(3, filters=64, groups=4),)


def test_initial_kernels_have_the_variance_of_their_group_s_outputs():
    layer = Grouped(hyperparameters=CIFAR)
    layer.build((None, None, None, 256))
    (kernel,) = layer.weights
    assert kernel.shape == (3, 3, 64, 64)
    # 9 * 16 outputs of each input; 36,864 draws.
    np.testing.assert_allclose(np.std(np.asarray(kernel)), np.sqrt(2 / (9 * 16)), rtol=0.02)
