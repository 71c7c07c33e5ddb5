"""Children that begin with the weights of the network that they grew from ([E])."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells import CIFAR, ChainGenotype
from nasnet_zoo.search.evaluator import Trial
from nasnet_zoo.search.images.child import Child, FastChild, Images, ImageTraining, network_inputs
from nasnet_zoo.search.images.exported import keras_model
from nasnet_zoo.search.images.latency import LatencyMeter
from nasnet_zoo.transform import grow

from .settings import EASBudget

#: Training images by which new batch norms are measured ([E]).
_MEASURED = 64


def vectors(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the weights of a model of a chain as a `Child` has them, each kind in one vector."""
    kinds = {"weights": model.trainable_weights, "statistics": model.non_trainable_weights}
    return {kind: np.concatenate([np.ravel(w) for w in some]) for kind, some in kinds.items()}


class GrownChild(FastChild):
    """Trains a child that begins with the weights of a network that it grew from.

    Args:
        images: Images to train and to evaluate on.
        budget: Training of a child.
        base: The network that children grow from.
        weights: Its weights, see `vectors`.
        latency: Meter of the children's latency. Default: it is not measured.
    """

    budget: EASBudget

    def __init__(
        self,
        images: Images,
        budget: EASBudget,
        base: ChainGenotype,
        weights: Mapping[str, np.ndarray],
        latency: LatencyMeter | None = None,
    ) -> None:
        super().__init__(images, budget, latency)
        self.base, self.weights = base, weights

    def prepare(self, architecture: ChainGenotype) -> Any:
        """Return the graph of a child, and its genotype."""
        return super().prepare(architecture), architecture

    def start(self, trial: Trial) -> ImageTraining:
        """Return the training of a child.

        Raises:
            ValueError: If the images are too small for the network, or it cannot grow from the base.
        """
        graph, genotype = trial.child
        shape = self.images.train_images.shape[1:]
        graph.check_sizes([shape])
        child = Child(graph, shape, CIFAR, trial.seed)
        if trial.checkpoint is None:
            for name, vector in vectors(self.grown(genotype, trial.seed)).items():
                child.variables()[name].assign(vector)
        return ImageTraining(child, self.images, self.budget, trial.seed)

    def grown(self, genotype: ChainGenotype, seed: int) -> keras.Model:
        """Return the model of a child before its training."""
        return grow(
            keras_model(self.architecture(self.base), self.images.classes, self.weights),
            genotype,
            images=network_inputs(self.images.train_images[:_MEASURED]),
            wider_noise=self.budget.wider_noise,
            deeper_noise=self.budget.deeper_noise,
            seed=seed,
        )
