"""Net2WiderNet ([NET]): more channels, the same function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells import BlockLayer, GraphLayer
from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, checked

from .calls import Call, Calls, Copy, weights_of
from .channels import (
    ELEMENTWISE_MERGES,
    MERGES,
    WRITES,
    Index,
    Noise,
    by_group,
    draw_copies,
    keeps_channels,
    outputs_of,
    read,
    refusal,
    write,
)
from .graphs import Filters, filters_of, follow_graph


@checked
def net2wider(
    model: keras.Model,
    layer: str,
    units: PositiveInt,
    *,
    noise: NonNegativeFloat = 0.0,
    seed: Seed | None = None,
) -> keras.Model:
    """Widen a layer of a model, which computes the same afterwards.

    The new channels are copies of random ones, and the layers that read them share the weights of a
    channel among its copies. The copies are followed through the model: through batch norm,
    activations, pooling, flattening, concatenations and depthwise convolutions to the next convolutions
    and dense layers. Layers whose outputs are added to the widened ones are widened too. In grouped
    convolutions every group becomes wider by as much.

    In networks of this package whole cells and stems become wider, by their filters.

    Args:
        model: Functional or sequential model.
        layer: Name of a layer of class Conv2D, SeparableConv2D or Dense, or of a stem, a cell, an
            operation, a layer of a layer-wise network or a block of a DenseNet of tree cells.
        units: Number of its filters or units afterwards, more than before.
        noise: Standard deviation of the noise on the copies' kernels, as a share of the kernel's.
            Without it copies stay equal in training, unless dropout parts them. [P] has 6e-3.
            Default: 0, the same function.
        seed: Seed of the choice of channels and of the noise. Default: another one at each call.

    Returns:
        A new model. ``model`` is not changed.

    Raises:
        ValueError: If there is no such layer, a layer that reads the copies has no rule, or the copies
            reach an output of the model.

    Example::

        wider = net2wider(model, "conv_2", 96)
    """
    calls, generator = Calls(model), np.random.default_rng(seed)
    widened = calls.find(layer).layer
    of_ours = isinstance(widened, GraphLayer)
    channels = filters_of(widened) if of_ours else outputs_of(widened)
    if units <= channels:
        raise ValueError(
            f"Expected units: more than the {channels} of layer {layer!r}. Received: units={units}"
        )
    written: Filters | Index = Filters(channels, units, isinstance(widened, BlockLayer), generator)
    if not of_ours:
        written = draw_copies(channels, units, _blocks(calls, layer, channels, units), generator)
    return calls.rebuilt(follow(calls, {layer: written}, noise=Noise(noise, generator)))


def _blocks(calls: Calls, layer: str, channels: int, units: int) -> int:
    """The number of equal parts of a layer's channels whose copies grouped convolutions keep apart.

    Raises:
        ValueError: If there are not as many channels in each part.
    """
    # Which layers are reached does not depend on the copies: none are made here.
    reached = follow(calls, {layer: np.arange(channels)})
    blocks = math.lcm(*(getattr(copy.layer, "groups", 1) for copy in reached.values()))
    if channels % blocks or units % blocks:
        raise ValueError(
            f"Expected numbers of channels that grouped convolutions can share out, multiples of "
            f"{blocks}. Received: units={units} of layer {layer!r}, which has {channels}"
        )
    return blocks


def follow(
    calls: Calls,
    written: Mapping[str, Index | Filters],
    given: Mapping[int, Index] | None = None,
    noise: Noise | None = None,
) -> dict[str, Copy]:
    """Follow channels through a model.

    Args:
        calls: The calls of the model.
        written: Indices of the outputs of layers that write them, or filters of layers of ours, by the
            layers' names.
        given: Indices of other tensors, by their ids. Default: none.
        noise: Noise on the copies in the layers that write them. Default: none.

    Returns:
        The layers that are others afterwards, by their names.

    Raises:
        ValueError: If a layer has no rule, or an index reaches an output of the model.
    """
    sources = dict(written)
    while True:
        changed, more = _follow_once(calls, sources, given or {}, noise)
        if not more:
            return changed
        sources |= more


def _follow_once(
    calls: Calls,
    sources: Mapping[str, Index | Filters],
    given: Mapping[int, Index],
    noise: Noise | None,
) -> tuple[dict[str, Copy], dict[str, Index]]:
    """Follow channels, up to the first sum of which some terms have other channels.

    Returns:
        The layers that are others, and indices of the layers that write the other terms.
    """
    indices = dict(given)
    changed: dict[str, Copy] = {}
    for call in calls:
        found = [indices.get(id(tensor)) for tensor in call.inputs]
        source = sources.get(call.layer.name)
        if source is None and all(index is None for index in found):
            continue
        if type(call.layer) in ELEMENTWISE_MERGES and (more := _other_terms(calls, call, found)):
            return {}, more
        copy, made = _followed(call, found, source, noise)
        if copy is not None:
            calls.find(call.layer.name)
            changed[call.layer.name] = copy
        pairs = zip(call.outputs, made, strict=True)
        indices |= {id(tensor): index for tensor, index in pairs if index is not None}
    for output in calls.model.outputs:
        if id(output) in indices:
            raise ValueError(
                "Expected channels that other layers take up. Received: some in an output of the "
                f"model, that of {calls.maker(output).layer.name!r}"
            )
    return changed, {}


def _followed(
    call: Call, found: list[Index | None], source: Index | Filters | None, noise: Noise | None
) -> tuple[Copy | None, list[Index | None]]:
    """The layer of a call, if it is another one afterwards, and the indices of what it makes."""
    layer = call.layer
    if isinstance(layer, GraphLayer):
        assert source is None or isinstance(source, Filters)
        return follow_graph(call, found, source, noise)
    if type(layer) in MERGES:
        return None, [MERGES[type(layer)](call, found)]
    weights, made = weights_of(layer), None
    config: dict[str, int] = {}
    for index in found:
        if index is not None:
            weights, made = read(call, weights, index)
    if source is not None:
        assert not isinstance(source, Filters)
        by_group(layer, source, outputs_of(layer))
        weights, config = write(call, weights, source, noise)
        made = source
    return Copy(layer, weights, **config) if weights else None, [made]


def _other_terms(calls: Calls, merge: Call, found: list[Index | None]) -> dict[str, Index]:
    """The layers that write the inputs of a sum that have no index yet, and the index of the others."""
    channels = merge.outputs[0].shape[-1]
    pairs = list(zip(merge.inputs, found, strict=True))
    if any(index is not None and tensor.shape[-1] != channels for tensor, index in pairs):
        raise refusal(merge.layer, ", which spreads a single channel over all")
    index = next(index for index in found if index is not None)
    missing = [t for t, known in pairs if known is None and t.shape[-1] == channels]
    writers: dict[str, Index] = {}
    seen: set[int] = set()
    while missing:
        tensor: Any = missing.pop()
        call = calls.maker(tensor)
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if type(call.layer) in WRITES:
            writers[call.layer.name] = index
        elif keeps_channels(call.layer) or type(call.layer) in ELEMENTWISE_MERGES:
            missing += call.inputs
        else:
            raise ValueError(
                f"Expected inputs of {merge.layer.name!r} that can all be widened. Received: that of "
                f"{call.layer.name!r}, of class {type(call.layer).__name__}"
            )
    return writers
