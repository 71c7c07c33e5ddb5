"""Trained CondenseNets become what is left of them ([CN] section 3): the same function."""

from __future__ import annotations

import keras
import numpy as np

from nasnet_zoo.cells import BlockLayer, CondenseHead, CondenseLayer
from nasnet_zoo.checking import checked

from .calls import Calls, Copy, Weights, weights_of
from .channels import Index
from .wider import follow


@checked
def condense(model: keras.Model) -> keras.Model:
    """Replace learned group convolutions by an index of channels and a grouped convolution.

    The classifier keeps the inputs that it has not dropped.

    Args:
        model: CondenseNet that was trained to the end with `nasnet_zoo.training.Condensing`.

    Returns:
        A new model that computes the same.

    Raises:
        ValueError: If the model has no learned group convolutions, or groups that still read more
            channels than at the end.
    """
    calls = Calls(model)
    condensed: dict[str, Copy] = {}
    kept: dict[int, Index] = {}
    for call in calls:
        layer = call.layer
        block = layer.block if isinstance(layer, BlockLayer) else None
        if isinstance(block, CondenseLayer) and not block.condensed:
            weights = _layer(layer, block)
        elif isinstance(block, CondenseHead) and not block.condensed:
            weights, kept[id(call.outputs[0])] = _head(layer)
        else:
            continue
        new = {**block.to_dict(), "condensed": True}
        condensed[layer.name] = Copy(layer, weights, block=new)
    if not condensed:
        raise ValueError(f"Expected a CondenseNet before it is condensed. Received: {model.name!r}")
    return calls.rebuilt({**follow(calls, {}, kept), **condensed})


def _layer(layer: BlockLayer, block: CondenseLayer) -> Weights:
    """The weights of a layer of a CondenseNet afterwards."""
    weights = weights_of(layer)
    kernel, mask = (weights.pop(f"bottleneck-2-{name}") for name in ("kernel", "mask"))
    found = block.learned.condensed(kernel, mask)
    if found is None:
        raise _too_many(layer, int(mask.sum(0).max()), len(mask) // block.condense)
    index, kernel = found
    return {**weights, "bottleneck-2-index": index, "bottleneck-3-kernel": kernel}


def _head(layer: BlockLayer) -> tuple[Weights, Index]:
    """The weights of the head afterwards, and the index of its output."""
    weights = weights_of(layer)
    mask = weights.pop("sequence-2-mask")
    index = np.flatnonzero(mask)
    if len(index) != len(mask) // 2:
        raise _too_many(layer, len(index), len(mask) // 2)
    return {**weights, "sequence-2-index": index}, index


def _too_many(layer: BlockLayer, found: int, expected: int) -> ValueError:
    return ValueError(
        f"Expected a CondenseNet at the end of its training, whose {layer.name} reads {expected} "
        f"channels in a group. Received: {found}"
    )
