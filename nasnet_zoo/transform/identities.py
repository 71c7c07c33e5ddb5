"""Layers that compute the identity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from .calls import Calls, Copy, Weights
from .channels import Noise

#: Images on which the ranges of a tensor are measured at a time ([E]).
_BATCH = 64

Pair = tuple[int, int]


def _delta(size: Pair, channels: int) -> np.ndarray:
    """The depthwise kernel of the identity; SAME padding has the smaller half first."""
    kernel = np.zeros((*size, channels, 1))
    kernel[(size[0] - 1) // 2, (size[1] - 1) // 2] = 1
    return kernel


def convolution_kernel(channels: int, size: Pair, groups: int = 1) -> np.ndarray:
    """Return the kernel of a convolution that computes the identity."""
    return _delta(size, 1) * np.tile(np.eye(channels // groups), groups)


def _convolution(channels: int, size: Pair, groups: int) -> Weights:
    return {"kernel": convolution_kernel(channels, size, groups)}


def _depthwise(channels: int, size: Pair, groups: int) -> Weights:
    return {"kernel": _delta(size, channels)}


def _separable(channels: int, size: Pair, groups: int) -> Weights:
    pointwise = np.eye(channels)[None, None]
    return {"depthwise_kernel": _delta(size, channels), "pointwise_kernel": pointwise}


def _dense(channels: int, size: Pair, groups: int) -> Weights:
    return {"kernel": np.eye(channels)}


#: From channels, kernel size and groups to the kernels that compute the identity.
IDENTITIES: dict[type, Callable[[int, Pair, int], Weights]] = {
    layers.Conv2D: _convolution,
    layers.DepthwiseConv2D: _depthwise,
    layers.SeparableConv2D: _separable,
    layers.Dense: _dense,
}


def identity_layer(
    layer: Any,
    channels: int,
    name: str,
    size: Pair,
    shift: np.ndarray | None,
    noise: Noise,
) -> Copy:
    """Make a layer that computes the identity of one that computes something else.

    Args:
        layer: Layer of a class in `IDENTITIES`, from which the other arguments are taken.
        channels: Number of channels.
        name: Name of the new layer.
        size: Kernel size.
        shift: Bias (channels,) of the new layer. Default: zeros if ``layer`` has a bias.
        noise: Noise on the kernels.
    """
    weights = IDENTITIES[type(layer)](channels, size, getattr(layer, "groups", 1))
    weights = {part: noise.on(kernel) for part, kernel in weights.items()}
    arguments: dict[str, Any] = {
        "filters": channels,
        "units": channels,
        "kernel_size": size,
        "strides": (1, 1),
        "padding": "same",
        "dilation_rate": (1, 1),
        "depth_multiplier": 1,
        "use_bias": layer.use_bias or shift is not None,
        "name": name,
    }
    if arguments["use_bias"]:
        weights["bias"] = np.zeros(channels) if shift is None else shift
    known = layer.get_config()
    return Copy(layer, weights, **{key: value for key, value in arguments.items() if key in known})


class Ranges(NamedTuple):
    """Mean, variance and least value of each channel of a tensor."""

    mean: np.ndarray
    variance: np.ndarray
    least: np.ndarray

    @property
    def shift(self) -> np.ndarray:
        """What is subtracted so that ReLU cuts nothing off: the least values that are below 0."""
        return np.minimum(self.least, 0)


def measure(calls: Calls, tensor: Any, images: Any) -> Ranges:
    """Measure a tensor of a model at inference.

    Args:
        calls: The calls of the model.
        tensor: Symbolic tensor of the model.
        images: Images as the model takes them, (images, height, width, channels).

    Returns:
        The means and variances of batches, averaged, and the least value of all.

    Raises:
        ValueError: If there are no images.
    """
    if not len(images):
        raise ValueError("Expected at least one image. Received: none")
    model = keras.Model(calls.model.inputs, tensor)
    found = []
    for batch in np.array_split(np.asarray(images), math.ceil(len(images) / _BATCH)):
        values = keras.ops.convert_to_numpy(model(batch, training=False)).astype(np.float64)
        axes = tuple(range(values.ndim - 1))
        found.append((values.mean(axes), values.var(axes), values.min(axes)))
    mean, variance, least = map(np.stack, zip(*found, strict=True))
    return Ranges(mean.mean(0), variance.mean(0), least.min(0))


def identity_norm(
    layer: Any, channels: int, name: str, ranges: Ranges | None, shift: np.ndarray | None
) -> Copy:
    """Make a batch norm that computes the identity at inference, or subtracts a shift.

    Args:
        layer: Batch norm from which the other arguments are taken.
        channels: Number of channels.
        name: Name of the new layer.
        ranges: Ranges of what it will read, so that it is nearly the same in training. Default: mean 0,
            variance 1.
        shift: What it subtracts (channels,). Default: nothing.
    """
    mean, variance = (np.zeros(channels), np.ones(channels)) if ranges is None else ranges[:2]
    weights = {
        "gamma": np.sqrt(variance + layer.epsilon),
        "beta": mean if shift is None else mean - shift,
        "moving_mean": mean,
        "moving_variance": variance,
    }
    # Keras has batch renormalization since 3.15.
    plain = {"renorm": False} if "renorm" in layer.get_config() else {}
    return Copy(layer, weights, name=name, center=True, scale=True, **plain)
