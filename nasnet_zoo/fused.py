"""TensorFlow's fused batch norm for training, imported where TensorFlow is Keras's backend.

Keras has no such operation. Its own batch norm in training is some forty operations in the graph of
a training step; the kernel is two, forward and backward.
"""

from __future__ import annotations

import tensorflow as tf

from nasnet_zoo.cells.primitives import BATCH_NORM_KERNELS, Tensor, normalise_batch


def fused_batch_norm(
    x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm by the statistics of the batch: the output, their mean and unbiased variance.

    The kernel computes in float32; doubles take Keras's operations.

    Args:
        x: float32 or float64 tensor (batch, height, width, channels).
        scale: (channels,).
        offset: (channels,).
        epsilon: added to the variance.
    """
    if x.dtype != tf.float32:
        return normalise_batch(x, scale, offset, epsilon)
    nothing = tf.constant([], tf.float32)
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=nothing, variance=nothing, epsilon=epsilon
    )
    return y, mean, variance


BATCH_NORM_KERNELS["tensorflow"] = fused_batch_norm
