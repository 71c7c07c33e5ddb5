"""Cost of a graph: parameters, multiply-adds and memory, counted from its primitives."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from .graph import Graph
from .primitives import Shape


@dataclass(frozen=True)
class Cost:
    """Costs of one image's forward pass.

    Args:
        parameters: Number of trainable parameters, batch norm's scale and offset included.
        statistics: Number of moving means and variances of batch norm.
        mult_adds: Number of multiply-adds of convolutions and dense layers.
        activation_memory: Bytes of the float32 values that are held at once, at most, when the nodes
            run in order: a value from the merge or the primitive that makes it to the last one that
            reads it, an output of the graph to the end. Both the input and the output of what runs
            are held; a runtime that fuses primitives, or computes in place, needs less.
    """

    parameters: int
    statistics: int
    mult_adds: int
    activation_memory: int


def graph_cost(graph: Graph, shapes: Sequence[Shape]) -> Cost:
    """Count the cost of a graph.

    Args:
        graph: Graph of primitives.
        shapes: (height, width, channels) of each input.

    Raises:
        ValueError: If a size is None.
    """
    parameters = statistics = mult_adds = 0
    for node, _, primitive, shape in graph.steps(shapes):
        for weight in primitive.weights(shape[2], node.filters):
            if weight.trainable:
                parameters += math.prod(weight.shape)
            else:
                statistics += math.prod(weight.shape)
        mult_adds += primitive.mult_adds(shape, node.filters)
    return Cost(parameters, statistics, mult_adds, 4 * _most_values(graph, shapes))


def _most_values(graph: Graph, shapes: Sequence[Shape]) -> int:
    """The greatest number of values that are held at once."""
    known = dict(zip(graph.inputs, shapes, strict=True))
    sizes: dict[Hashable, int] = {name: _size(shape) for name, shape in known.items()}
    # What each merge and each primitive reads and makes.
    steps: list[tuple[Sequence[Hashable], Hashable]] = []
    for node in graph.nodes:
        shape = node.merged_shape(known)
        made = [shape] if node.merge or not node.primitives else []
        for primitive in node.primitives:
            shape = primitive.output_shape(shape, node.filters)
            made.append(shape)
        known[node.name] = shape
        names = [*((node.name, k) for k in range(len(made) - 1)), node.name]
        sizes |= zip(names, map(_size, made), strict=True)
        steps += zip([node.inputs, *((name,) for name in names[:-1])], names, strict=True)
    last = {name: k for k, (reads, _) in enumerate(steps) for name in reads}
    last |= dict.fromkeys(graph.outputs, len(steps))
    held = most = sum(sizes[name] for name in graph.inputs if name in last)
    for k, (reads, makes) in enumerate(steps):
        held += sizes[makes]
        most = max(most, held)
        held -= sum(sizes[name] for name in {*reads, makes} if last.get(name, k) == k)
    return most


def _size(shape: Shape) -> int:
    height, width, channels = shape
    if height is None or width is None:
        raise ValueError(f"Costs need a fixed image size. Received: shape={shape}")
    return height * width * channels
