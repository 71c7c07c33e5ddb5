"""Children of tree cells that begin with the weights of the layer that they grew from ([P] 3.1)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.architecture import network_graph
from nasnet_zoo.cells import CIFAR, Graph, PathNode, TreeGenotype
from nasnet_zoo.cells.graph import Node
from nasnet_zoo.cells.primitives import Conv, Depthwise, Primitive, Shape, TakeChannels, Weight
from nasnet_zoo.cells.tree import segments
from nasnet_zoo.search.evaluator import Trial
from nasnet_zoo.search.images.child import Child, ImageTraining, network_inputs
from nasnet_zoo.search.images.grown import GrownChild, Vectors
from nasnet_zoo.transform.identities import convolution_kernel

if TYPE_CHECKING:
    from .settings import PathLevelBudget

Arrays = list[np.ndarray]

#: Training images by which children are distilled ([P]: 1,000 validation images).
_DISTILLED = 1000
_BATCH = 50
#: How they are distilled, and not trained ([P]).
_DISTILLATION: Mapping[str, Any] = {
    "batch_size": 100,
    "learning_rate": 0.02,
    "momentum": 0.0,
    "l2": 0.0,
    "evaluations": 1,
}


def exact(genotype: TreeGenotype) -> bool:
    """Whether a child computes what its base does before it is trained."""
    root = genotype.root
    return root.merge == "add" or all(_passes_on(child) for _, child in root.edges)


def _passes_on(node: PathNode | None) -> bool:
    """Whether what is below an edge passes on what it reads."""
    if node is None:
        return True
    edges = (edge == "identity" and _passes_on(child) for edge, child in node.edges)
    return node.merge != "add" and all(edges)


class GrownTree(GrownChild):
    """Trains a network whose cells grew from a convolution; arguments as in `GrownChild`.

    - Edges of the root have the weights of the base's layer: all outputs, or their part of those that
      are concatenated. Where they are added, kernels are divided by their number.
    - Edges below are convolutions that pass on what is above 0, and poolings.
    - Where branches are added at the root, ``e + BN(N(e))``, the scale of BN is 0: the child computes
      what the base does, and learns what else its branches are good for.
    - Another child does not, if it has more than identities below the root. It is trained first
      towards the logits of the base on the first 1,000 training images.
    """

    budget: PathLevelBudget

    def prepare(self, architecture: TreeGenotype) -> Any:
        """Return the graph of a child, its genotype, and weights and logits of the base.

        The logits are None for a child that is not distilled.
        """
        distilled = {"all": True, "inexact": not exact(architecture), "none": False}
        prepared = super().prepare(architecture)
        return *prepared, self._logits if distilled[self.budget.distillation] else None

    def start(self, trial: Trial) -> ImageTraining:
        """Return the training of a child; for errors see `GrownChild`."""
        *child, logits = trial.child
        training = super().start(trial._replace(child=child))
        if trial.checkpoint is None and logits is not None:
            self._distil(training.child, logits, trial.seed)
        return training

    @functools.cached_property
    def _logits(self) -> np.ndarray:
        """The logits of the base on the images by which children are distilled."""
        assert self._weights is not None
        child = Child(self._graph(self.base), self._shape, CIFAR)
        for name, vector in self._weights.items():
            child.variables()[name].assign(vector)
        images = network_inputs(self.images.train_images[:_DISTILLED])
        parts = np.array_split(images, -(-len(images) // _BATCH))
        return np.concatenate([child.logits(part, False)[0] for part in parts])

    def _distil(self, child: Child, logits: np.ndarray, seed: int) -> None:
        """Train a child towards the logits of the base."""
        part = self.images.train_images[: len(logits)]
        images = dataclasses.replace(self.images, train_images=part, train_labels=logits)
        steps = self.budget.distillation_steps
        budget = dataclasses.replace(self.budget, steps=steps, **_DISTILLATION)
        ImageTraining(child, images, budget, seed).train(0, steps)
        child.momenta.assign(tf.zeros_like(child.momenta))

    def first(self, genotype: TreeGenotype, base: Vectors, seed: int) -> Vectors:
        """Return the weights that a child begins with."""
        found = dict(_named(self._graph(self.base), self._shape, base))
        rng = np.random.default_rng(seed)
        arrays: list[tuple[Weight, np.ndarray]] = []
        for node, steps in _nodes(self._graph(genotype), self._shape):
            kind, *path = node.name.rpartition("/")[2].split("_")
            for position, (primitive, shape, specs) in enumerate(steps):
                if kind == "norm":
                    made = [np.full(w.shape, w.initial if w.role != "scale" else 0.0) for w in specs]
                elif kind == "edge":
                    above = steps[0][1][2]
                    taken = position - isinstance(steps[0][0], TakeChannels)
                    layer = f"{node.name.rpartition('/')[0]}/edge_0"
                    given = found[layer][taken] if len(path) == 1 and taken >= 0 else None
                    edge = _Edge(genotype.root, tuple(map(int, path)), above)
                    made = edge.weights(primitive, shape, specs, given)
                    made = [self._noisy(w, array, rng) for w, array in zip(specs, made, strict=True)]
                else:
                    made = found[node.name][position]
                arrays += zip(specs, made, strict=True)
        return {
            kind: np.concatenate([a.ravel() for w, a in arrays if w.trainable == trainable])
            for kind, trainable in (("weights", True), ("statistics", False))
        }

    def _graph(self, genotype: TreeGenotype) -> Graph:
        return network_graph(self.architecture(genotype), self.images.classes)

    @property
    def _shape(self) -> Shape:
        return self.images.train_images.shape[1:]

    def _noisy(self, weight: Weight, array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if weight.role != "kernel":
            return array
        return array + self.budget.noise * array.std() * rng.normal(size=array.shape)


class _Edge:
    """An edge of a cell, whose part of a layer its weights are.

    Args:
        root: Root of the cell.
        path: Numbers of the branches that lead to the edge.
        channels: Channels of what the node above the edge reads.
    """

    def __init__(self, root: PathNode, path: tuple[int, ...], channels: int) -> None:
        node = root
        for k in path[:-1]:
            child = node.edges[k][1]
            assert child is not None
            node = child
        self.channels, self.number, self.parts = channels, path[-1], len(node.edges)
        self.splits, self.joins = node.allocation == "split", node.merge == "concat"
        self.share = 1 / self.parts if node.merge == "add" else 1.0

    def weights(
        self, primitive: Primitive, shape: Shape, specs: tuple[Weight, ...], given: Arrays | None
    ) -> Arrays:
        """Return the weights of a step, those that are given or of the identity, cut to its part."""
        if isinstance(primitive, Conv):
            whole = given[0] if given else convolution_kernel(self.channels, _size(specs[0]))
            read = (
                slice(None) if primitive.groups > 1 or given else self._part(self.channels, self.splits)
            )
            kernel = whole[:, :, read, self._part(whole.shape[-1], self.joins)]
            return [kernel * self.share]
        if isinstance(primitive, Depthwise):
            delta = convolution_kernel(1, _size(specs[0]))
            return [np.broadcast_to(delta, specs[0].shape)]
        if given:
            part = self._part(self.channels, self.splits)
            return [array[part] for array in given]
        return [np.full(weight.shape, weight.initial) for weight in specs]

    def _part(self, channels: int, parted: bool) -> slice:
        """The channels of this edge."""
        if not parted:
            return slice(None)
        lengths = segments(channels, self.parts)
        start = sum(lengths[: self.number])
        return slice(start, start + lengths[self.number])


def _size(weight: Weight) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]


Step = tuple[Primitive, Shape, tuple[Weight, ...]]


def _nodes(graph: Graph, shape: Shape) -> Iterator[tuple[Node, list[Step]]]:
    """The nodes of a graph that have steps, and their steps."""
    for node, steps in itertools.groupby(graph.steps([shape]), key=lambda step: step[0]):
        yield node, [(p, s, p.weights(s[2], node.filters)) for _, _, p, s in steps]


def _named(graph: Graph, shape: Shape, vectors: Vectors) -> Iterator[tuple[str, list[Arrays]]]:
    """The names of the nodes of a graph, and the weights of their steps."""
    places = {True: 0, False: 0}

    def taken(weight: Weight) -> np.ndarray:
        start = places[weight.trainable]
        places[weight.trainable] += math.prod(weight.shape)
        vector: Any = vectors["weights" if weight.trainable else "statistics"]
        return vector[start : places[weight.trainable]].reshape(weight.shape)

    for node, steps in _nodes(graph, shape):
        yield node.name, [[taken(weight) for weight in specs] for _, _, specs in steps]
