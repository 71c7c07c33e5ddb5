"""The settings of a search for cells, its children's budget among them. Imports no backend."""

from __future__ import annotations

from dataclasses import dataclass, field

from nasnet_zoo.architecture import Architecture
from nasnet_zoo.cells.genotype import Genotype
from nasnet_zoo.checking import PositiveInt
from nasnet_zoo.search.images.settings import ChildBudget, ImageSettings

from .space import NASNetSpace


@dataclass(frozen=True, kw_only=True)
class Budget(ChildBudget):
    """How a child of cells is trained: its learning rate goes down to 0 in a cosine.

    Args:
        cells: Number of normal cells in a stack, N.
        filters: Number of filters of the first cells, F.
        stem_filters: Number of filters of the first convolution.

    Raises:
        ValueError: If a value is out of range.
    """

    cells: PositiveInt = 1
    filters: PositiveInt = 8
    stem_filters: PositiveInt = 16

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
class Settings(ImageSettings):
    """The settings of a search for cells.

    Args:
        space: Space of the children.
        budget: Training of a child.
        shared_steps: Weight sharing: number of steps that the shared weights are trained for before
            each minibatch. Children are evaluated with these weights. Default: each child is trained
            from scratch.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    space: NASNetSpace = field(default_factory=NASNetSpace)
    budget: Budget = field(default_factory=Budget)
    shared_steps: PositiveInt | None = None

    def __post_init__(self) -> None:
        for name in ("early_stop_quantile", "halving_factor"):
            if self.shared_steps is not None and getattr(self, name) is not None:
                raise ValueError(
                    f"Expected no {name} with shared_steps, as no child is trained that could be "
                    f"stopped. Received: {name}={getattr(self, name)}"
                )
        super().__post_init__()
        if self.shared_steps is not None and self.asynchronous:
            raise ValueError(
                "Expected asynchronous=False with shared_steps, whose rewards hold for one minibatch. "
                "Received: asynchronous=True"
            )
