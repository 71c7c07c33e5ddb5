"""Children that begin with the weights of the network that they grew from ([E])."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasnet_zoo.cells import ChainGenotype
from nasnet_zoo.search.images.child import network_inputs
from nasnet_zoo.search.images.exported import keras_model
from nasnet_zoo.search.images.grown import GrownChild, Vectors, vectors
from nasnet_zoo.transform import grow

if TYPE_CHECKING:
    from .settings import EASBudget

#: Training images by which new batch norms are measured ([E]).
_MEASURED = 64


class GrownChain(GrownChild):
    """Trains a child that a plain network or a DenseNet grew into; arguments as in `GrownChild`."""

    budget: EASBudget

    def first(self, genotype: ChainGenotype, base: Vectors, seed: int) -> Vectors:
        """Return the weights with which a child computes what its base does, up to the noise."""
        model = grow(
            keras_model(self.architecture(self.base), self.images.classes, base),
            genotype,
            images=network_inputs(self.images.train_images[:_MEASURED]),
            wider_noise=self.budget.wider_noise,
            deeper_noise=self.budget.deeper_noise,
            seed=seed,
        )
        return vectors(model)
