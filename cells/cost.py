"""Cost of a graph: parameters and multiply-adds, counted from its primitives."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    """

    parameters: int
    statistics: int
    mult_adds: int


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
    return Cost(parameters, statistics, mult_adds)
