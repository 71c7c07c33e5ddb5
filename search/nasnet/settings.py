"""The settings of a search for cells, its children's budget among them. Imports no backend."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Interval

from nasnet_zoo.architecture import Architecture
from nasnet_zoo.cells.genotype import Genotype
from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat, PositiveInt, check_fields
from nasnet_zoo.search.settings import SearchSettings

from .space import NASNetSpace


@dataclass(frozen=True)
class Budget:
    """How a child is trained.

    Args:
        cells: Number of normal cells in a stack, N.
        filters: Number of filters of the first cells, F.
        stem_filters: Number of filters of the first convolution.
        steps: Number of training steps.
        batch_size: Number of images in a step.
        learning_rate: Learning rate of the first step, from which a cosine goes down to 0.
        momentum: Nesterov momentum of SGD, in [0, 1).
        l2: Factor of the sum of all squared kernel values, which is added to the loss.
        clip_norm: Largest norm of the gradient.
        evaluations: Number of evaluations in equal distances, the last one at the end. At most one for
            each step.

    Raises:
        ValueError: If a value is out of range.
    """

    cells: PositiveInt = 1
    filters: PositiveInt = 8
    stem_filters: PositiveInt = 16
    steps: PositiveInt = 300
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 0.05
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    l2: NonNegativeFloat = 1e-4
    clip_norm: PositiveFloat = 5.0
    evaluations: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.evaluations > self.steps:
            raise ValueError(
                f"Expected evaluations: at most steps={self.steps}. "
                f"Received: evaluations={self.evaluations}"
            )

    def for_retraining(self) -> Budget:
        """The same budget with four times the steps, for the best children of a search."""
        return dataclasses.replace(self, steps=4 * self.steps)

    def architecture(self, genotype: Genotype, image_size: int, channels: int) -> Architecture:
        """The network of a child."""
        return Architecture(
            genotype,
            self.cells,
            self.filters,
            "cifar",
            self.stem_filters,
            image_size=image_size,
            channels=channels,
        )


@dataclass(frozen=True)
class Settings(SearchSettings):
    """The settings of a search for cells: those of `SearchSettings`, and what cells and images need.

    Args:
        space: Space of the children.
        budget: Training of a child.
        images: Largest number of training images to use, evenly from all classes. Default: all.
        held_out: Share of these images that children are evaluated on and not trained on, in (0, 1).
        image_size: Height and width in pixels that images are resized to, at most 1,024. Default: the
            images' own, 32 for class folders.
        shared_steps: Weight sharing: number of steps that the shared weights are trained for before
            each minibatch. Children are evaluated with these weights. Default: each child is trained
            from scratch.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    space: NASNetSpace = field(default_factory=NASNetSpace)
    budget: Budget = field(default_factory=Budget)
    images: PositiveInt | None = None
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    image_size: Annotated[int, Interval(ge=1, le=1024)] | None = None
    shared_steps: PositiveInt | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shared_steps is not None and self.early_stop_quantile is not None:
            raise ValueError(
                "Expected no early_stop_quantile with shared_steps, as no child is trained that could "
                f"be stopped. Received: early_stop_quantile={self.early_stop_quantile}"
            )
        if self.shared_steps is not None and self.asynchronous:
            raise ValueError(
                "Expected asynchronous=False with shared_steps, whose rewards hold for one minibatch. "
                "Received: asynchronous=True"
            )

    def to_dict(self) -> dict[str, Any]:
        """The settings in one level, such as ``{"seed": 0, "budget.steps": 300}``."""
        flat = super().to_dict()
        for group in ("space", "budget"):
            nested = dataclasses.asdict(flat.pop(group))
            flat |= {f"{group}.{name}": value for name, value in nested.items()}
        return flat
