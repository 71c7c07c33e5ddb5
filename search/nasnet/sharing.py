"""Weight sharing ([ENAS]: Pham et al., arXiv 1802.03268): one set of weights for a space's children.

A child is not trained from scratch but takes its part of the shared weights. These and the policy
are trained in turn, so a whole search costs about as much as a few children do. What is saved is
paid for with the ranking: see ``docs/search-benchmarks.md``. `SharedEvaluator` makes it a search like
others:

    shared = SharedWeights(shape, classes, budget)
    evaluator = SharedEvaluator(space, shared, images, steps=100)
    run_search(PPO(space), space, Serial(evaluator), journal, children=3000, remember=False)

Every step has another child, and tracing one takes longer than several eager steps, so here the
children of `nasnet_zoo.search.images.child` run eagerly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from nasnet_zoo.architecture import network_graph
from nasnet_zoo.cells import CIFAR, Genotype, Graph
from nasnet_zoo.cells.primitives import Shape
from nasnet_zoo.checking import PositiveInt, Seed, checked
from nasnet_zoo.files import parse_json
from nasnet_zoo.search.evaluator import Evaluator, Result, Trial
from nasnet_zoo.search.images.child import Child, FastChild, Images, network_inputs
from nasnet_zoo.search.images.latency import LatencyMeter
from nasnet_zoo.search.policies import Policy, check_state, count_of

from .settings import Budget
from .space import NASNetSpace


class SharedWeights:
    """The weights of all children of a space, in one vector that grows as choices are first made.

    Two children share a weight if it stands at the same node of the network, in the same operation,
    and reads the same states: every choice of an input and an operation owns its weights, as in ENAS.
    So do the 1x1 convolutions that adapt a cell's output, by the blocks that make it up.

    Batch norm uses the statistics of the batch when a child is evaluated too, as in ENAS: moving ones
    would be of a mixture of children.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes.
        budget: Size of the networks, and momentum, weight decay and clipping of their training.
        seed: Seed of the initial weights.
    """

    @checked
    def __init__(
        self, image_shape: Shape, classes: PositiveInt, budget: Budget, seed: Seed = 0
    ) -> None:
        self.image_shape, self.classes, self.budget = image_shape, classes, budget
        self._seed = seed
        self._slots: dict[str, tuple[int, int]] = {}
        self.weights = np.zeros(0, np.float32)
        self.momenta = np.zeros(0, np.float32)

    def child(self, genotype: Genotype) -> tuple[Child, np.ndarray]:
        """A child with its part of the weights, and where in the vector they stand."""
        _, size, channels = self.image_shape
        assert size is not None
        graph = network_graph(self.budget.architecture(genotype, size, channels), self.classes)
        child = Child(graph, self.image_shape, CIFAR, self._seed + len(self.weights))
        first, start, places = child.weights.numpy(), 0, []
        for owner, count in _owners(graph, self.image_shape):
            if owner not in self._slots:
                self._slots[owner] = len(self.weights), len(self.weights) + count
                self.weights = np.append(self.weights, first[start : start + count])
                self.momenta = np.append(self.momenta, np.zeros(count, np.float32))
            places.append(np.arange(*self._slots[owner]))
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
            genotype: Genotype of the child.
            images: float32 (batch, height, width, channels) in [-1, 1].
            labels: int32 (batch,).
            learning_rate: Learning rate of the step.

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

    def state(self) -> dict[str, np.ndarray]:
        """The weights, their momenta, and what owns them, as arrays."""
        owners = np.frombuffer(json.dumps(self._slots).encode(), np.uint8)
        return {"weights": self.weights, "momenta": self.momenta, "owners": owners}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state.

        Raises:
            ValueError: If it is not a state of shared weights.
        """
        slots = parse_json(
            state["owners"].tobytes().decode(errors="replace"), "Expected owners in JSON"
        )
        stop = 0
        for place in slots.values() if isinstance(slots, dict) else [slots]:
            follows = isinstance(place, list) and len(place) == 2 and place[0] == stop
            if not follows or not isinstance(place[1], int) or place[1] < stop:
                raise ValueError(f"Expected owners of one weight after the other. Received: {place}")
            stop = place[1]
        vector = np.zeros(stop, np.float32)
        check_state(state, {"weights": vector, "momenta": vector, "owners": state["owners"]})
        self.weights, self.momenta = state["weights"].copy(), state["momenta"].copy()
        self._slots = {owner: (start, stop) for owner, (start, stop) in slots.items()}


def _owners(graph: Graph, image_shape: Shape) -> Iterator[tuple[str, int]]:
    """What each trainable weight belongs to, and how many values it has, in the graph's order."""
    joined = {
        node.name: node.inputs for node in graph.nodes if node.merge == "concat" and not node.primitives
    }
    for node, position, primitive, shape in graph.steps([image_shape]):
        sources = tuple(source for name in node.inputs for source in joined.get(name, (name,)))
        for weight in primitive.weights(shape[2], node.filters):
            if weight.trainable:
                owner = (node.name, sources, node.primitives, position, weight)
                yield repr(owner), math.prod(weight.shape)


class SharedEvaluator(Evaluator[Genotype]):
    """Evaluates children with shared weights, which are trained before each minibatch (section 2.2).

    Before the policy is asked for a minibatch, the shared weights are trained with other children
    of the policy, one for each step. Rewards hold for their minibatch only: ``remember=False``. The
    weights are in the process of the search, so children are evaluated there.

    Args:
        space: Search space.
        shared: Shared weights.
        images: Images to train the weights on and, held out, the policy.
        steps: Steps of the shared weights before each minibatch, each with its own child and batch.
            The learning rate falls from the budget's to a fiftieth in a cosine, over 10 minibatches,
            then 20, 40 and so on ([ENAS] section 3.2: from 0.05 to 0.001).
        evaluation_images: Maximum number of held-out images in an evaluation, as one batch.
        seed: Seed of the batches.
        latency: Meter of the children's latency. Default: it is not measured.
    """

    serial_only = True
    objective = "accuracy"

    @checked
    def __init__(
        self,
        space: NASNetSpace,
        shared: SharedWeights,
        images: Images,
        steps: PositiveInt,
        evaluation_images: PositiveInt = 500,
        seed: Seed = 0,
        latency: LatencyMeter | None = None,
    ) -> None:
        self.space, self.shared = space, shared
        self._fast = FastChild(images, shared.budget, latency)
        self._images, self._steps = images, steps
        self._evaluation_images, self._seed = evaluation_images, seed
        self._minibatches = 0
        self._batch = np.zeros(0, np.int64)

    def before_ask(self, policy: Policy) -> None:
        """Train the shared weights with children of the policy; draw the images of the rewards."""
        rng = np.random.default_rng([self._seed, self._minibatches])
        images, budget = self._images, self.shared.budget
        for step, proposal in enumerate(policy.ask(self._steps)):
            rate = budget.learning_rate * _cosine(self._minibatches + step / self._steps)
            chosen = rng.integers(len(images.train_labels), size=budget.batch_size)
            batch = network_inputs(images.train_images[chosen]), images.train_labels[chosen]
            self.shared.train(self.space.decode(proposal.actions), *batch, rate)
        self._batch = rng.permutation(len(images.held_out_labels))[: self._evaluation_images]
        self._minibatches += 1

    def cost(self, architecture: Genotype) -> dict[str, float]:
        """Return the costs of `FastChild`."""
        return self._fast.cost(architecture)

    def measure(self, architecture: Genotype) -> dict[str, float]:
        """Return the latency, if it is measured; see `LatencyMeter.measure`."""
        return self._fast.measure(architecture)

    def evaluate(self, trial: Trial) -> Result:
        """Return the accuracy of a child with its part of the shared weights."""
        images = network_inputs(self._images.held_out_images[self._batch])
        reward = self.shared.reward(trial.child, images, self._images.held_out_labels[self._batch])
        return Result(reward, (reward,))

    def state(self) -> dict[str, np.ndarray]:
        """The shared weights, the number of minibatches, the images of the rewards, the meter."""
        minibatches = np.array(self._minibatches)
        own = {"minibatches": minibatches, "batch": self._batch}
        return {**self.shared.state(), **own, **self._fast.state()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state."""
        fast = {name: array for name, array in state.items() if name in self._fast.state()}
        others = {"minibatches", "batch", *fast}
        weights = {name: array for name, array in state.items() if name not in others}
        if not {"owners", "minibatches", "batch"} <= state.keys():
            raise ValueError(f"Expected arrays of shared weights. Received: {', '.join(state)}")
        batch, images = state["batch"], len(self._images.held_out_labels)
        if not np.issubdtype(batch.dtype, np.integer) or ((batch < 0) | (batch >= images)).any():
            raise ValueError(f"Expected a batch of images from 0 to {images - 1}. Received: others")
        self._minibatches = count_of(state["minibatches"], "minibatches")
        self.shared.restore(weights)
        self._fast.restore(fast)
        self._batch = batch


def _cosine(minibatches: float, period: float = 10.0) -> float:
    """From 1 down to 1/50 within a period, each twice as long as the one before ([ENAS])."""
    while minibatches >= period:
        minibatches, period = minibatches - period, 2.0 * period
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * minibatches / period))
