"""Channels inside a layer that computes a graph of primitives: a stem, a cell, a layer, a block."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasnet_zoo.cells import BlockLayer, Cell, GraphLayer, NASLayer, Operation
from nasnet_zoo.cells.graph import Graph, Node
from nasnet_zoo.cells.primitives import (
    BatchNorm,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    InstanceNorm,
    Pool,
    Primitive,
    Relu,
    Shape,
    Shift,
    TakeChannels,
)
from nasnet_zoo.network import Stem

from .calls import Call, Copy, Weights, weights_of
from .channels import (
    Index,
    Noise,
    Rule,
    draw_copies,
    groups_apart,
    joined,
    keep,
    read_convolution,
    read_per_channel,
    refusal,
)


def _depthwise(call: Call, weights: Weights, index: Index) -> tuple[Weights, Index]:
    return {"depthwise_kernel": weights["depthwise_kernel"][..., index, :]}, index


_READS: dict[type, Rule] = {
    Conv: read_convolution,
    Dense: read_convolution,
    Depthwise: _depthwise,
    **dict.fromkeys((BatchNorm, InstanceNorm), read_per_channel),
    **dict.fromkeys((Relu, Pool, Shift, GlobalAveragePool), keep),
}


def filters_of(layer: GraphLayer) -> int:
    """Return the number of filters of a layer.

    Raises:
        ValueError: If it has no such number.
    """
    match layer:
        case Cell() | Operation():
            return layer.filters
        case Stem():
            return layer.stem_filters
        case NASLayer() if layer.layer.filters:
            return layer.layer.filters
        case BlockLayer() if hasattr(layer.block, "filters"):
            return layer.block.filters
    raise refusal(layer, ", which has no filters")


def _with_filters(layer: GraphLayer, filters: int) -> dict[str, Any]:
    """The arguments of a layer with other filters."""
    match layer:
        case Stem():
            return {"stem_filters": filters}
        case NASLayer():
            return {"layer": {**layer.layer.to_dict(), "filters": filters}}
        case BlockLayer():
            return {"block": {**layer.block.to_dict(), "filters": filters}}
    return {"filters": filters}


@dataclasses.dataclass
class Filters:
    """More filters of a layer.

    Halves are copied apart: of all filters, since the halves of a factorized reduction are; in a tree
    those of halves too, by which nodes share out channels and convolutions group them.

    Args:
        before: Number of filters.
        after: Number of filters afterwards.
        tree: Whether the layer is of tree cells.
        generator: Random number generator.
    """

    before: int
    after: int
    tree: bool
    generator: np.random.Generator

    def __post_init__(self) -> None:
        self._drawn: dict[tuple[int, int], Index] = {}

    def __call__(self, channels: int, units: int) -> Index:
        """Return the index of channels, one for all that become more alike."""
        key = channels, units
        if key not in self._drawn:
            apart = self.tree or key == (self.before, self.after)
            self._drawn[key] = (self._halves if apart and channels > 1 else self._whole)(
                channels, units
            )
        return self._drawn[key]

    def _halves(self, channels: int, units: int) -> Index:
        # The first half is the larger one in a tree, the smaller one in a factorized reduction.
        half, wider = ((n + self.tree) // 2 for n in (channels, units))
        return np.append(self(half, wider), half + self(channels - half, units - wider))

    def _whole(self, channels: int, units: int) -> Index:
        return draw_copies(channels, units, 1, self.generator)


def follow_graph(
    call: Call, found: Sequence[Index | None], filters: Filters | None, noise: Noise | None
) -> tuple[Copy, list[Index | None]]:
    """Follow channels through the graph of a layer.

    Args:
        call: Call of the layer.
        found: Indices of its inputs.
        filters: Its filters afterwards. Default: as before.
        noise: Noise on copies. Default: none.

    Returns:
        The layer afterwards, and the indices of its outputs.

    Raises:
        ValueError: If a primitive has no rule, or the layer would have other parts.
    """
    layer = call.layer
    config = _with_filters(layer, filters.after) if filters else {}
    channels = [tensor.shape[-1] for tensor in call.inputs]
    more = [n if index is None else len(index) for n, index in zip(channels, found, strict=True)]
    new: Graph = type(layer).from_config({**layer.get_config(), **config}).make_graph(more)
    old: Graph = layer.graph
    if [_parts(node) for node in old.nodes] != [_parts(node) for node in new.nodes]:
        raise refusal(layer, ", which would have other parts")
    walk = _Walk(layer, filters, noise)
    states = dict(zip(old.inputs, found, strict=True))
    before = old.shapes([(None, None, n) for n in channels])
    after = new.shapes([(None, None, n) for n in more])
    for node, twin in zip(old.nodes, new.nodes, strict=True):
        index = walk.merge(node, states, before)
        states[node.name] = walk.through(
            node, twin, node.merged_shape(before), twin.merged_shape(after), index
        )
    return Copy(layer, walk.weights, **config), [states[name] for name in old.outputs]


def _parts(node: Node) -> tuple[Any, ...]:
    """What of a node does not depend on numbers of channels."""
    return node.name, node.inputs, node.merge, [type(primitive) for primitive in node.primitives]


class _Walk:
    """Follows channels from node to node, and changes the weights of a layer.

    The arguments are those of `follow_graph`.
    """

    def __init__(self, layer: GraphLayer, filters: Filters | None, noise: Noise | None) -> None:
        self.layer, self.filters, self.noise = layer, filters, noise
        self.weights = weights_of(layer)

    def merge(
        self, node: Node, states: Mapping[str, Index | None], shapes: Mapping[str, Shape]
    ) -> Index | None:
        """Return the index of what a node reads."""
        found = [states[name] for name in node.inputs]
        if all(index is None for index in found):
            return None
        channels = [shapes[name][2] for name in node.inputs]
        whole = [np.arange(n) if k is None else k for k, n in zip(found, channels, strict=True)]
        adds = node.merge in ("add", "average")
        if adds and any(not np.array_equal(whole[0], index) for index in whole):
            raise refusal(self.layer, f", which adds states with different copies in {node.name}")
        return whole[0] if adds or node.merge is None else joined(whole, channels)

    def through(
        self, node: Node, twin: Node, shape: Shape, wider: Shape, index: Index | None
    ) -> Index | None:
        """Return the index of what a node makes of a state of an index.

        Args:
            node: The node.
            twin: The node afterwards.
            shape: Shape of the state.
            wider: Its shape afterwards.
            index: Its index.
        """
        for position, primitive in enumerate(node.primitives):
            named = primitive.weights(shape[2], node.filters)
            names = {weight.name: f"{node.name}-{position}-{weight.name}" for weight in named}
            own = {short: self.weights[name] for short, name in names.items()}
            after = twin.primitives[position]
            if isinstance(primitive, TakeChannels) and isinstance(after, TakeChannels):
                index = self._taken(primitive, after, index)
            elif index is not None:
                self._check_groups(primitive, index, shape[2])
                own, index = self._rule(primitive)(Call(primitive, (), ()), own, index)
            shape = primitive.output_shape(shape, node.filters)
            wider = after.output_shape(wider, twin.filters)
            if index is None and wider[2] != shape[2]:
                index = self._drawn(primitive, shape[2], wider[2])
                own = self._written(own, index)
            self.weights |= {names[short]: values for short, values in own.items()}
        return index

    def _rule(self, primitive: Primitive) -> Rule:
        rule = _READS.get(type(primitive))
        if rule is None:
            raise refusal(self.layer, f", in which is a {type(primitive).__name__}")
        return rule

    def _taken(self, before: TakeChannels, after: TakeChannels, index: Index | None) -> Index | None:
        """The index of some of the channels."""
        if index is None:
            return None
        part = index[after.start : after.stop]
        if set(part) != set(range(before.start, before.stop)):
            raise refusal(self.layer, ", whose parts would have channels of each other")
        return part - before.start

    def _check_groups(self, primitive: Primitive, index: Index, channels: int) -> None:
        groups = primitive.groups if isinstance(primitive, Conv) else 1
        if not groups_apart(index, channels, groups):
            raise refusal(self.layer, f", whose {groups} groups would have channels of each other")

    def _drawn(self, primitive: Primitive, channels: int, units: int) -> Index:
        """The index of what a primitive makes, one that has filters."""
        if self.filters is None or not isinstance(primitive, Conv):
            raise refusal(self.layer, ", which would make other channels")
        index = self.filters(channels, units)
        self._check_groups(primitive, index, channels)
        return index

    def _written(self, weights: Weights, index: Index) -> Weights:
        """The weights of a convolution with outputs of an index."""
        written = {name: values[..., index] for name, values in weights.items()}
        if self.noise:
            written["kernel"] = self.noise.on_copies(written["kernel"], index)
        return written
