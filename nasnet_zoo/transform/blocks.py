"""Blocks of networks that are chains, put behind others: identities, and copies of miniblocks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells import CONV_3X3, DenseLayer
from nasnet_zoo.cells.base_blocks import ConvBlock

from .calls import Call, Calls, Copy, Weights, in_order, weights_of
from .channels import Index, Noise, refusal
from .identities import convolution_kernel, measure
from .wider import follow


def deeper_block(
    calls: Calls, call: Call, kernel_size: int | None, images: Any, noise: Noise
) -> keras.Model:
    """Put a convolution, batch norm and ReLU that compute the identity behind others.

    The arguments are those of `net2deeper`.

    Raises:
        ValueError: If the layer is no such block.
    """
    layer, block = call.layer, call.layer.block
    if not isinstance(block, ConvBlock):
        raise refusal(layer, ", which is not convolution, batch norm, ReLU")
    channels, size = block.filters, kernel_size or block.kernel
    mean, variance = np.zeros(channels), np.ones(channels)
    if images is not None:
        mean, variance, _ = measure(calls, call.outputs[0], images)
    values = (
        noise.on(convolution_kernel(channels, (size, size))),
        *(np.sqrt(variance + layer.hyperparameters.bn_epsilon), mean, mean, variance),
    )
    names = [weight.name for weight in layer.weights]
    identity = Copy(
        layer,
        dict(zip(names, values, strict=True)),
        name=calls.new_name(f"{layer.name}_deeper"),
        block=ConvBlock(channels, size).to_dict(),
    )
    kept = Copy(layer)
    return calls.rebuilt({layer.name: lambda inputs: in_order([kept, identity], inputs)})


def copied_block(calls: Calls, call: Call, generator: np.random.Generator) -> keras.Model:
    """Copy a miniblock of a DenseNet right behind itself, see `copy_miniblock`.

    Raises:
        ValueError: If the layer is no such block.
    """
    layer, block = call.layer, call.layer.block
    # Not those of a CondenseNet, which are dense layers too.
    if type(block) is not DenseLayer or block.tree != CONV_3X3.root:
        raise refusal(layer, ", which is no miniblock of convolutions")
    before, width = call.inputs[0].shape[-1], block.filters
    drawn = generator.integers(width, size=width)
    index = np.append(np.arange(before + width), before + drawn)
    changed = follow(calls, {}, {id(call.outputs[0]): index})
    name = calls.new_name(f"{layer.name}_copy")
    copy = Copy(layer, _blind(weights_of(layer), width, drawn), name=name)
    kept = Copy(layer)
    return calls.rebuilt({**changed, layer.name: lambda inputs: in_order([kept, copy], inputs)})


def _blind(weights: Weights, more: int, drawn: Index) -> Weights:
    """The weights of a miniblock that makes outputs of an index, and reads more channels in vain."""
    found = dict(weights)
    *_, last = (name for name in weights if name.endswith("kernel"))
    found[last] = weights[last][..., drawn]
    for name, values in weights.items():
        if not name.startswith("bottleneck-"):
            continue
        if values.ndim > 1:
            found[name] = np.append(values, np.zeros((1, 1, more, values.shape[-1])), axis=-2)
        else:
            # Batch norm changes nothing of the new channels ([E]).
            fill = float(name.endswith(("scale", "variance")))
            found[name] = np.append(values, np.full(more, fill))
    return found
