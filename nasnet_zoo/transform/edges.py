"""Identities in a model, and the edges that take their places ([P] section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from nasnet_zoo.checking import NonNegativeFloat, Seed, checked

from .calls import Calls, Copy, in_order
from .channels import Noise
from .identities import IDENTITIES, identity_layer, identity_norm, measure

#: Edges by the names of [P]'s cells.
Edge = Literal["conv1", "conv3", "sep3", "sep5", "sep7", "avg3", "max3"]

_EDGES: dict[str, Callable[[int, str], keras.Layer]] = {
    "conv1": lambda channels, name: layers.Conv2D(channels, 1, padding="same", name=name),
    "conv3": lambda channels, name: layers.Conv2D(channels, 3, padding="same", name=name),
    "sep3": lambda channels, name: layers.SeparableConv2D(channels, 3, padding="same", name=name),
    "sep5": lambda channels, name: layers.SeparableConv2D(channels, 5, padding="same", name=name),
    "sep7": lambda channels, name: layers.SeparableConv2D(channels, 7, padding="same", name=name),
    "avg3": lambda channels, name: layers.AveragePooling2D(3, 1, "same", name=name),
    "max3": lambda channels, name: layers.MaxPooling2D(3, 1, "same", name=name),
}


@checked
def insert_identity(model: keras.Model, layer: str) -> keras.Model:
    """Insert an identity behind a layer, for other transformations to replace.

    Args:
        model: Functional or sequential model.
        layer: Name of a layer of one output.

    Returns:
        A new model that computes the same. The identity behind ``conv`` is named ``conv_identity``.

    Raises:
        ValueError: If there is no such layer.
    """
    calls = Calls(model)
    kept = Copy(calls.find(layer).layer)
    identity = layers.Identity(name=calls.new_name(f"{layer}_identity"))
    return calls.rebuilt({layer: lambda *args, **kwargs: identity(kept(*args, **kwargs))})


@checked
def replace_identity(
    model: keras.Model,
    layer: str,
    edge: Edge,
    *,
    images: Any = None,
    noise: NonNegativeFloat = 0.0,
    seed: Seed | None = None,
) -> keras.Model:
    """Replace an identity by a convolution that computes it, or by a pooling.

    A pooling cannot compute the identity: `distill` trains the model towards what it computed before.

    Args:
        model: Functional or sequential model.
        layer: Name of a layer of class Identity whose input are images.
        edge: "conv1" or "conv3" (convolution), "sep3", "sep5" or "sep7" (separable convolution),
            "avg3" or "max3" (pooling).
        images: Sample images. With them a convolution comes after batch norm and ReLU, as in [P], which
            keep values that are not below those of the images. Default: none, the convolution alone.
        noise: Standard deviation of the noise on the kernels, as a share of the kernels'. [P] has 6e-3.
            Default: 0, the same function.
        seed: Seed of the noise. Default: another one at each call.

    Returns:
        A new model, whose edge has the identity's name.

    Raises:
        ValueError: If there is no such layer.
    """
    calls = Calls(model)
    call = calls.find(layer)
    tensor = call.outputs[0]
    if type(call.layer) is not layers.Identity or len(tensor.shape) != 4:
        raise ValueError(
            "Expected an Identity of images (batch, height, width, channels). Received: "
            f"{layer!r} of class {type(call.layer).__name__} and shape {tuple(tensor.shape)}"
        )
    channels = tensor.shape[-1]
    new = _EDGES[edge](channels, layer)
    if type(new) not in IDENTITIES:
        return calls.rebuilt({layer: new})
    before: list[Callable[[Any], Any]] = []
    shift = None
    if images is not None:
        ranges = measure(calls, tensor, images)
        shift = ranges.shift
        norm = layers.BatchNormalization()
        before = [
            identity_norm(norm, channels, calls.new_name(f"{layer}_norm"), ranges, shift),
            layers.ReLU(name=calls.new_name(f"{layer}_relu")),
        ]
    drawn = Noise(noise, np.random.default_rng(seed))
    core = identity_layer(new, channels, layer, new.kernel_size, shift, drawn)
    return calls.rebuilt({layer: lambda x: in_order([*before, core], x)})
