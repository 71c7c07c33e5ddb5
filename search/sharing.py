"""Weight sharing (ENAS; Pham et al., arXiv 1802.03268): one set of weights for all children of a space.

A child is not trained from scratch but takes its part of the shared weights. These and the policy
are trained in turn, so a whole search costs about as much as a few children do. What is saved is
paid for with the ranking: see ``docs/search-benchmarks.md``.

Every step has another child, and tracing one takes longer than several eager steps, so here the
children of `nasnet_zoo.search.child` run eagerly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.cells import CIFAR, Genotype, Graph
from nasnet_zoo.cells.primitives import Shape
from nasnet_zoo.network import network_graph

from .child import Budget, Child, Images
from .policies import Policy
from .space import SearchSpace


class SharedWeights:
    """The weights of all children of a space, in one vector that grows as choices are first made.

    Two children share a weight if it stands at the same node of the network, in the same operation,
    and reads the same states: every choice of an input and an operation owns its weights, as in ENAS.
    So do the 1x1 convolutions that adapt a cell's output, by the blocks that make it up.

    Batch norm uses the statistics of the batch when a child is judged too, as in ENAS: moving ones
    would be of a mixture of children.

    Args:
        image_shape: (height, width, channels).
        classes: of the images.
        budget: the size of the networks, and momentum, weight decay and clipping of their training.
        seed: of the initial weights.
    """

    def __init__(self, image_shape: Shape, classes: int, budget: Budget, seed: int = 0) -> None:
        self.image_shape, self.classes, self.budget = image_shape, classes, budget
        self._seed = seed
        self._slots: dict[Any, np.ndarray] = {}
        self.weights = np.zeros(0, np.float32)
        self.momenta = np.zeros(0, np.float32)

    def child(self, genotype: Genotype) -> tuple[Child, np.ndarray]:
        """A child with its part of the weights, and where in the vector they stand."""
        _, size, channels = self.image_shape
        assert size is not None
        graph = network_graph(self.budget.architecture(genotype, size, channels), self.classes)
        child = Child(graph, self.image_shape, CIFAR, self._seed + len(self.weights))
        first, start, places = child.weights.numpy(), 0, []
        for key, count in _owners(graph, self.image_shape):
            if key not in self._slots:
                self._slots[key] = np.arange(len(self.weights), len(self.weights) + count)
                self.weights = np.append(self.weights, first[start : start + count])
                self.momenta = np.append(self.momenta, np.zeros(count, np.float32))
            places.append(self._slots[key])
            start += count
        place = np.concatenate(places)
        child.weights.assign(self.weights[place])
        child.momenta.assign(self.momenta[place])
        return child, place

    def train(
        self, genotype: Genotype, images: np.ndarray, labels: np.ndarray, learning_rate: float
    ) -> float:
        """One step of SGD on a child's part of the weights.

        Args:
            genotype: of the child.
            images: float32 (batch, height, width, channels) in [-1, 1].
            labels: int32 (batch,).
            learning_rate: of the step.

        Returns:
            The loss before it. If it is not finite the weights are left as they were.
        """
        child, place = self.child(genotype)
        rate = tf.constant(learning_rate, tf.float32)
        loss = float(child.step(tf.constant(images), tf.constant(labels), rate, self.budget))
        weights = child.weights.numpy()
        if math.isfinite(loss) and np.isfinite(weights).all():
            self.weights[place], self.momenta[place] = weights, child.momenta.numpy()
        return loss

    def reward(self, genotype: Genotype, images: np.ndarray, labels: np.ndarray) -> float:
        """The accuracy of a child, in [0, 1], on images as for `train`, taken as one batch."""
        child, _ = self.child(genotype)
        logits, _ = child.logits(tf.constant(images), True)
        return float(np.mean(np.argmax(logits.numpy(), -1) == labels))


def _owners(graph: Graph, image_shape: Shape) -> Iterator[tuple[Any, int]]:
    """What each trainable weight belongs to, and how many values it has, in the graph's order."""
    joined = {
        node.name: node.inputs for node in graph.nodes if node.merge == "concat" and not node.primitives
    }
    for node, position, primitive, shape in graph.steps([image_shape]):
        sources = tuple(source for name in node.inputs for source in joined.get(name, (name,)))
        for weight in primitive.weights(shape[2], node.filters):
            if weight.trainable:
                key = (node.name, sources, node.primitives, position, weight)
                yield key, math.prod(weight.shape)


def search_shared(
    policy: Policy,
    space: SearchSpace,
    shared: SharedWeights,
    images: Images,
    rounds: int,
    steps: int,
    minibatch: int = 20,
    seed: int = 0,
    watch: Callable[[int, np.ndarray, Mapping[str, float]], None] = lambda *_: None,
) -> None:
    """Trains shared weights and a policy in turn (ENAS, section 2.2).

    Args:
        policy: draws the children. `RandomSearch` trains the shared weights on all alike.
        space: that they are of.
        shared: their weights.
        images: to train the weights on and, held out, the policy.
        rounds: how often both are trained.
        steps: of the shared weights in a round, each with a child and a batch of its own; the learning
            rate of the budget falls to 0 over all of them in a cosine.
        minibatch: children in a round that the policy learns from, all judged on one batch of at most
            500 held-out images.
        seed: of the batches.
        watch: is called with the number of the round, the rewards, and what the policy told.
    """
    rng = np.random.default_rng(seed)
    budget = shared.budget
    for number in range(rounds):
        for step, tokens in enumerate(policy.ask(steps), number * steps):
            rate = budget.learning_rate * 0.5 * (1 + math.cos(math.pi * step / (rounds * steps)))
            chosen = rng.integers(len(images.train_labels), size=budget.batch_size)
            batch = images.train_images[chosen], images.train_labels[chosen]
            shared.train(space.genotype(space.canonical(tokens)), *batch, rate)
        children = policy.ask(minibatch)
        judged = rng.permutation(len(images.held_out_labels))[:500]
        batch = images.held_out_images[judged], images.held_out_labels[judged]
        genotypes = [space.genotype(space.canonical(tokens)) for tokens in children]
        rewards = np.array([shared.reward(genotype, *batch) for genotype in genotypes])
        watch(number, rewards, policy.tell(children, rewards))
