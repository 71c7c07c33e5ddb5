"""The settings of a search for layer-wise networks. Imports no backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nasnet_zoo.architecture import LayerwiseArchitecture
from nasnet_zoo.cells.layerwise import LayerwiseGenotype
from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat, PositiveInt
from nasnet_zoo.search.images.settings import ChildBudget, ImageSettings

from .layerwise_space import LayerwiseSpace


@dataclass(frozen=True, kw_only=True)
class LayerwiseBudget(ChildBudget):
    """How a child of layers is trained, by default as in [Z] section 4.1 but for the number of steps.

    Args:
        schedule: Learning rate after the first step's: "steps", a tenth after half of the steps and a
            hundredth after three quarters; or "cosine", down to 0.
        best_of: Number of the last evaluations the best of which is the child's accuracy. At most
            ``evaluations``.

    Raises:
        ValueError: If a value is out of range.
    """

    learning_rate: PositiveFloat = 0.1
    l2: NonNegativeFloat = 5e-5  # a weight decay of 1e-4 in the gradient
    evaluations: PositiveInt = 10
    schedule: Literal["steps", "cosine"] = "steps"
    best_of: PositiveInt = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.best_of > self.evaluations:
            raise ValueError(
                f"Expected best_of: at most evaluations={self.evaluations}. "
                f"Received: best_of={self.best_of}"
            )

    def architecture(
        self, genotype: LayerwiseGenotype, image_size: int, channels: int
    ) -> LayerwiseArchitecture:
        """The network of a child."""
        return LayerwiseArchitecture(genotype, image_size, channels=channels)


@dataclass(frozen=True)
class LayerwiseSettings(ImageSettings):
    """The settings of a search for layer-wise networks, by default those of [Z] section 4.1.

    Args:
        space: Space of the children.
        budget: Training of a child.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    policy: str = "nas"
    reward: str | None = "accuracy ** 3"
    minibatch: PositiveInt = 8

    space: LayerwiseSpace = field(default_factory=LayerwiseSpace)
    budget: LayerwiseBudget = field(default_factory=LayerwiseBudget)
