"""The settings of a search for networks that grow from one. Imports no backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nasnet_zoo.cells.chain import ChainGenotype
from nasnet_zoo.chains import ChainArchitecture
from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat
from nasnet_zoo.search.images.settings import ChildBudget, GrownSettings

from .space import EASSpace


@dataclass(frozen=True, kw_only=True)
class EASBudget(ChildBudget):
    """How a child that grew from a network is trained, by default as in [E] but for the steps.

    Args:
        wider_noise: Noise on the copies of channels of layers that become wider, see
            `nasnet_zoo.transform.net2wider`.
        deeper_noise: Noise on new layers, see `nasnet_zoo.transform.net2deeper`.

    Raises:
        ValueError: If a value is out of range.
    """

    learning_rate: PositiveFloat = 0.02
    l2: NonNegativeFloat = 5e-5  # a weight decay of 1e-4 in the gradient
    wider_noise: NonNegativeFloat = 1e-2
    deeper_noise: NonNegativeFloat = 1e-3

    def architecture(
        self, genotype: ChainGenotype, image_size: int, channels: int
    ) -> ChainArchitecture:
        """The network of a child."""
        return ChainArchitecture(genotype, image_size, channels=channels)


@dataclass(frozen=True)
class EASSettings(GrownSettings):
    """The settings of a search for networks that grow from one, by default those of [E].

    Args:
        space: Space of the children, and their base.
        budget: Training of a child.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    policy: str = "eas"

    space: EASSpace = field(default_factory=EASSpace)
    budget: EASBudget = field(default_factory=EASBudget)

    @property
    def start(self) -> ChainGenotype:
        """The genotype of the base."""
        return self.space.start

    def make_child(self, images: Any, latency: Any = None, file: Any = None) -> Any:
        """The evaluator of a search; for the arguments see `GrownChild`."""
        from .child import GrownChain

        return GrownChain(images, self, latency, file)
