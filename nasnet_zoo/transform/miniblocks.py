"""Deeper dense blocks: a miniblock is copied right behind itself ([E])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from nasnet_zoo.cells import BlockLayer
from nasnet_zoo.checking import Seed, checked

from .blocks import copied_block
from .calls import Call, Calls, Copy, Weights, in_order, weights_of
from .channels import WRITES, Index, by_group, check_layout, keeps_channels, read, refusal, write
from .wider import follow


@checked
def copy_miniblock(model: keras.Model, layer: str, *, seed: Seed | None = None) -> keras.Model:
    """Copy a miniblock of a dense block right behind itself.

    The miniblock is the layers between what a Concatenate reads first and second: in DenseNet-BC batch
    norm, ReLU, 1x1 convolution, batch norm, ReLU, 3x3 convolution. The copy reads the channels of the
    first one too, with weights of zero. Its outputs are copies of random ones of the first, and the
    layers that read them share the weights of a channel among its copies.

    Args:
        model: Functional model.
        layer: Name of the Concatenate, or of a miniblock of a DenseNet of this package.
        seed: Seed of the choice of channels. Default: another one at each call.

    Returns:
        A new model that computes the same.

    Raises:
        ValueError: If there is no such layer, or no such miniblock before it.
    """
    calls, generator = Calls(model), np.random.default_rng(seed)
    join = calls.find(layer)
    if isinstance(join.layer, BlockLayer):
        return copied_block(calls, join, generator)
    row = _miniblock(calls, join)
    start, width = (tensor.shape[-1] for tensor in join.inputs)
    drawn = generator.integers(width, size=width)
    total = np.arange(start + width)
    changed = follow(calls, {}, {id(join.outputs[0]): np.append(total, start + drawn)})
    kept, second = Copy(join.layer), Copy(join.layer, name=calls.new_name(f"{layer}_copy"))
    copies = _copies(calls, row, width, drawn)

    def grown(inputs: Any) -> Any:
        first = kept(inputs)
        return second([first, in_order(copies, first)])

    return calls.rebuilt({**changed, layer: grown})


def _miniblock(calls: Calls, join: Call) -> list[Call]:
    """The layers between the first and the second input of a concatenation.

    Raises:
        ValueError: If they do not stand in a row, or none of them mixes channels.
    """
    row: list[Call] = []
    if type(join.layer) is layers.Concatenate and len(join.inputs) == 2:
        check_layout(join)
        first, tensor = join.inputs
        while tensor is not first and len(calls.maker(tensor).inputs) == 1:
            row.insert(0, calls.maker(tensor))
            tensor = row[0].inputs[0]
        if tensor is first and any(type(call.layer) in WRITES for call in row):
            return row
    raise ValueError(
        "Expected a Concatenate of a tensor and of what a row of layers with a convolution makes of "
        f"it. Received: {join.layer.name!r} of class {type(join.layer).__name__}"
    )


def _copies(calls: Calls, row: Sequence[Call], more: int, drawn: Index) -> list[Copy]:
    """Copy a miniblock.

    Args:
        calls: The calls of the model.
        row: The miniblock.
        more: Number of channels that the copy reads beyond those of the miniblock, to no effect.
        drawn: Index of its outputs.
    """
    mixing = [call for call in row if type(call.layer) in WRITES]
    copies: list[Copy] = []
    blind, index = True, None
    for call in row:
        weights = weights_of(call.layer)
        config: dict[str, int] = {}
        if blind:
            weights = _blind(call, weights, more)
            blind = call is not mixing[0]
        if call is mixing[-1]:
            by_group(call.layer, drawn, len(drawn))
            weights, config = write(call, weights, drawn)
            index = drawn
        elif index is not None:
            weights, index = read(call, weights, index)
        name = calls.new_name(f"{call.layer.name}_copy")
        copies.append(Copy(call.layer, weights, name=name, **config))
    return copies


#: The weights of batch norm that are 0 for channels of which nothing is made; the others are 1 ([E]).
_ZERO = ("beta", "moving_mean", "renorm_mean")


def _blind(call: Call, weights: Weights, more: int) -> Weights:
    """The weights of a layer that reads more channels, of which its convolution makes nothing."""
    layer = call.layer

    def rows(name: str, count: int) -> np.ndarray:
        kernel = weights[name]
        return np.append(kernel, np.zeros((*kernel.shape[:-2], count, kernel.shape[-1])), axis=-2)

    if type(layer) is layers.BatchNormalization:
        check_layout(call)
        return {name: np.append(w, [float(name not in _ZERO)] * more) for name, w in weights.items()}
    if type(layer) in (layers.Conv2D, layers.Dense) and getattr(layer, "groups", 1) == 1:
        return {**weights, "kernel": rows("kernel", more)}
    if type(layer) is layers.SeparableConv2D:
        depthwise, pointwise = rows("depthwise_kernel", more), more * layer.depth_multiplier
        return {
            **weights,
            "depthwise_kernel": depthwise,
            "pointwise_kernel": rows("pointwise_kernel", pointwise),
        }
    if weights or not keeps_channels(layer):
        raise refusal(layer, ", before the first convolution of a miniblock")
    return weights
