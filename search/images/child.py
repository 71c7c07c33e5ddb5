"""The fast child: a network's graph of primitives on one flat weight vector, trained from scratch.

A Keras model per child spends more time on being built and traced than on training. Here the same
graph (`nasnet_zoo.architecture.network_graph`) and the same primitives become one TensorFlow function:
all weights lie in one vector, so that weight decay, clipping and the optimizer's update are an
operation each, and a whole part of the training is one call.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.architecture import Network, architecture_cost, network_graph
from nasnet_zoo.cells import CIFAR, Graph, Hyperparameters
from nasnet_zoo.cells.layers import run_graph
from nasnet_zoo.cells.primitives import Shape, Weight
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.search.evaluator import Trial
from nasnet_zoo.search.trained_child import TrainedChild, Training

from .latency import LatencyMeter
from .settings import ChildBudget

# Held-out images that are looked at together: few, as they take memory that training does not.
_BATCH = 50


class Child:
    """A network that is trained by plain operations.

    Args:
        graph: Graph from images to logits.
        image_shape: (height, width, channels).
        hyper: Constants of batch norm and the scale of initial kernels.
        seed: Seed of the initial weights.
    """

    def __init__(self, graph: Graph, image_shape: Shape, hyper: Hyperparameters, seed: int = 0) -> None:
        self.graph, self.hyper = graph, hyper
        self.owned = [
            primitive.weights(shape[2], node.filters)
            for node, _, primitive, shape in graph.steps([image_shape])
        ]
        rng = np.random.default_rng(seed)
        specs = [weight for owned in self.owned for weight in owned]
        self._trainable = [weight for weight in specs if weight.trainable]
        self._statistics = [weight for weight in specs if not weight.trainable]
        first = [_initial(weight, hyper, rng) for weight in specs]
        self.weights = tf.Variable(_flat(first, specs, True))
        self.statistics = tf.Variable(_flat(first, specs, False))
        self.momenta = tf.Variable(tf.zeros_like(self.weights))
        kernels = [np.full(w.shape, w.role == "kernel", np.float32).ravel() for w in self._trainable]
        self._kernels = tf.constant(np.concatenate(kernels))

    def variables(self) -> dict[str, tf.Variable]:
        """All that the training goes on from, a vector each."""
        names = ("weights", "momenta", "statistics")
        return {name: getattr(self, name) for name in names}

    # Written for Python, not for AutoGraph, which takes its time with every call in it.
    @tf.autograph.experimental.do_not_convert
    def logits(
        self, images: tf.Tensor, training: bool, weights: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits (batch, classes), and in training the new statistics as one vector."""
        weights = self.weights.value() if weights is None else weights
        trainable = iter(_parts(weights, self._trainable))
        statistics = iter(_parts(self.statistics.value(), self._statistics))
        owned = [
            [next(trainable if weight.trainable else statistics) for weight in weights]
            for weights in self.owned
        ]
        (outputs, updates) = run_graph(self.graph, [images], owned, training, self.hyper)
        return tf.squeeze(outputs[0], [1, 2]), tf.concat(updates, 0) if updates else self.statistics

    @tf.autograph.experimental.do_not_convert
    def step(
        self,
        images: tf.Tensor,
        targets: tf.Tensor,
        learning_rate: tf.Tensor,
        budget: ChildBudget,
    ) -> tf.Tensor:
        """One step of SGD; the loss before it.

        Args:
            images: Batch of images.
            targets: Labels (batch,), or the logits (batch, classes) that those of the child should be.
            learning_rate: Learning rate of the step.
            budget: Training of the child.
        """
        weights = self.weights.value()
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, statistics = self.logits(images, True, weights)
            if targets.dtype.is_floating:
                losses = tf.math.squared_difference(targets, logits)
            else:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(losses)
        gradient = tape.gradient(loss, weights) + 2 * budget.l2 * self._kernels * weights
        gradient = tf.clip_by_norm(gradient, budget.clip_norm)
        momenta = budget.momentum * self.momenta - learning_rate * gradient
        self.momenta.assign(momenta)
        self.weights.assign_add(budget.momentum * momenta - learning_rate * gradient)
        self.statistics.assign(statistics)
        return loss


def _initial(weight: Weight, hyper: Hyperparameters, rng: np.random.Generator) -> np.ndarray:
    if weight.initial is None:
        draws = rng.normal(size=weight.shape)
        while (far := np.abs(draws) > 2).any():
            draws[far] = rng.normal(size=far.sum())
        return (draws * hyper.kernel_stddev(weight.shape)).astype(np.float32)
    return np.full(weight.shape, weight.initial, np.float32)


def _flat(values: list[np.ndarray], specs: list[Weight], trainable: bool) -> np.ndarray:
    pairs = zip(values, specs, strict=True)
    empty = np.zeros(0, np.float32)  # a network of poolings has no statistics
    return np.concatenate([empty, *(v.ravel() for v, w in pairs if w.trainable == trainable)])


def _parts(vector: tf.Tensor, specs: list[Weight]) -> list[tf.Tensor]:
    parts = tf.split(vector, [math.prod(weight.shape) for weight in specs]) if specs else []
    # Most weights are vectors already, and every operation of the graph takes time to be traced.
    return [
        part if len(weight.shape) == 1 else tf.reshape(part, weight.shape)
        for part, weight in zip(parts, specs, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Images:
    """Images that children are trained and evaluated on, with int32 labels.

    They are uint8 pixels, or float32 in [-1, 1]: resized images, whose pixels are no integers. Logits
    (images, classes) in the place of the training labels are what those of a child should be.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    held_out_images: np.ndarray
    held_out_labels: np.ndarray
    classes: int


@functools.cache
def _pixels() -> np.ndarray:
    """What a network reads for each value of a pixel: a compiled division would round otherwise."""
    with tf.init_scope():
        return normalize(np.arange(256, dtype=np.uint8)).numpy()


def network_inputs(images: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """What a network reads of images: float32 in [-1, 1]."""
    if images.dtype != np.uint8:
        return images
    if isinstance(images, np.ndarray):
        return _pixels()[images]
    return tf.gather(tf.constant(_pixels()), tf.cast(images, tf.int32))


class FastChild(TrainedChild[Any]):
    """Trains a child from scratch; its reward is its accuracy on the held-out images.

    It is sent to workers as a graph of primitives, plain data, so a worker needs to know nothing of the
    registries of operations.

    Args:
        images: Images to train and to evaluate on.
        budget: Training of a child.
        latency: Meter of the children's latency. Default: it is not measured.
    """

    objective = "accuracy"
    budget: ChildBudget

    def __init__(
        self, images: Images, budget: ChildBudget, latency: LatencyMeter | None = None
    ) -> None:
        super().__init__(budget)
        self.images, self.latency = images, latency

    def architecture(self, genotype: Any) -> Network:
        """The network of a child."""
        _, size, _, channels = self.images.train_images.shape
        return self.budget.architecture(genotype, size, channels)

    def prepare(self, architecture: Any) -> Graph:
        """Return the network of a child, from images to logits."""
        return network_graph(self.architecture(architecture), self.images.classes)

    def cost(self, architecture: Any) -> dict[str, float]:
        """Return trainable parameters, multiply-adds and bytes of activations on one image."""
        cost = architecture_cost(self.architecture(architecture), self.images.classes)
        names = ("parameters", "mult_adds", "activation_memory")
        return {name: getattr(cost, name) for name in names}

    def measure(self, architecture: Any) -> dict[str, float]:
        """Return the latency, if it is measured; see `LatencyMeter.measure`."""
        return {} if self.latency is None else self.latency.measure(architecture)

    def state(self) -> dict[str, np.ndarray]:
        """Return the state of the meter, if there is one."""
        return {} if self.latency is None else self.latency.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state."""
        if self.latency is not None:
            self.latency.restore(state)

    def start(self, trial: Trial) -> ImageTraining:
        """Return the training of a child.

        Raises:
            ValueError: If the images are too small for the network.
        """
        graph, shape = trial.child, self.images.train_images.shape[1:]
        graph.check_sizes([shape])
        child = Child(graph, shape, CIFAR, trial.seed)
        return ImageTraining(child, self.images, self.budget, trial.seed)


#: By the name of a schedule, the learning rate after a share of the steps, as a share of the first one.
SCHEDULES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "cosine": lambda done: 0.5 * (1.0 + tf.cos(math.pi * done)),
    "steps": lambda done: tf.where(done < 0.5, 1.0, tf.where(done < 0.75, 0.1, 0.01)),
}


class ImageTraining(Training):
    """The training of one child. Each of its functions is traced once: that takes seconds.

    Without AutoGraph, which wraps errors of a child in its own.

    Args:
        child: The child.
        images: Images to train and to evaluate on.
        budget: The training.
        seed: Seed of the order of the images.
    """

    def __init__(self, child: Child, images: Images, budget: ChildBudget, seed: int) -> None:
        self.child, self._budget = child, budget
        rng, count = np.random.default_rng(seed), len(images.train_labels)
        epochs = -(-budget.steps * budget.batch_size // count)
        order = np.concatenate([rng.permutation(count) for _ in range(epochs)])
        shape = budget.steps, budget.batch_size
        self._batches = order[: math.prod(shape)].reshape(shape)
        # Parts of other lengths, and the last held-out images, are no reason to trace again.
        batches = tf.TensorSpec((None, budget.batch_size), tf.int32)
        first = tf.TensorSpec((), tf.int32)
        self._train = tf.function(self._trained, input_signature=(batches, first), autograph=False)
        some = tf.TensorSpec((None, *images.held_out_images.shape[1:]), tf.float32)
        self._name = tf.function(self._named, input_signature=(some,), autograph=False)
        self._images = tf.constant(images.train_images)
        self._labels = tf.constant(images.train_labels)
        self._held_out = images.held_out_images, images.held_out_labels

    def variables(self) -> dict[str, tf.Variable]:
        """Those of the child."""
        return self.child.variables()

    def train(self, start: int, stop: int) -> float:
        """Take the steps from ``start`` to below ``stop``; return their mean loss."""
        steps = tf.constant(self._batches[start:stop], tf.int32)
        return float(self._train(steps, tf.constant(start, tf.int32)))

    def _trained(self, batches: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """Take the steps of ``batches`` (steps, images), ``first`` the number of the first one."""
        steps = tf.shape(batches)[0]

        def step(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            done = tf.cast(first + k, tf.float32) / self._budget.steps
            rate = self._budget.learning_rate * SCHEDULES[self._budget.schedule](done)
            pixels, labels = tf.gather(self._images, batches[k]), tf.gather(self._labels, batches[k])
            loss = self.child.step(network_inputs(pixels), labels, rate, self._budget)
            return k + 1, total + loss

        _, total = tf.while_loop(lambda k, _: k < steps, step, (0, 0.0))
        return total / tf.cast(steps, tf.float32)

    def reward(self) -> float:
        """Return the accuracy on the held-out images; NaN if a weight or statistic is not finite."""
        vectors = self.child.weights, self.child.statistics
        if not all(np.isfinite(vector).all() for vector in vectors):
            return math.nan
        images, labels = self._held_out
        named = [
            self._name(tf.constant(network_inputs(images[start : start + _BATCH]))).numpy()
            for start in range(0, len(labels), _BATCH)
        ]
        return float(np.mean(np.concatenate(named) == labels))

    def _named(self, images: tf.Tensor) -> tf.Tensor:
        return tf.argmax(self.child.logits(images, False)[0], -1)
