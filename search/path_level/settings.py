"""The settings of a search for tree cells that grow from a layer. Imports no backend."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tyro.conf import arg

from nasnet_zoo.bases import Base, TreeArchitecture
from nasnet_zoo.cells import CONV_3X3, GROUPED_CONV_3X3, TreeGenotype
from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat, PositiveInt
from nasnet_zoo.search.images.settings import ChildBudget, GrownSettings

from .space import TreeCellSpace


@dataclass(frozen=True, kw_only=True)
class TreeBudget(ChildBudget):
    """How a network of a tree cell is trained.

    Args:
        base: Network that the cell is in.
        cells: Number of cells in each of its three stages, N.
        width: Channels that a layer of a DenseNet adds, or by how many more channels the last cell of a
            PyramidNet has than its first convolution.
        groups: Groups of grouped convolutions.
        noise: Standard deviation of the noise on the kernels that cells begin with, as a share of
            these kernels' standard deviation, which parts the copies of a layer.
        distillation: Children that are trained towards the logits of the base before their training:
            "inexact", those that do not compute what the base does whatever their noise is, "all" or
            "none".
        distillation_steps: Steps of this training, SGD with learning rate 0.02 in a cosine.

    Raises:
        ValueError: If a value is out of range.
    """

    learning_rate: PositiveFloat = 0.035
    l2: NonNegativeFloat = 5e-5  # a weight decay of 1e-4 in the gradient
    base: Base = "densenet"
    cells: PositiveInt = 2
    width: PositiveInt = 16
    groups: PositiveInt = 2
    noise: NonNegativeFloat = 6e-3
    distillation: Literal["inexact", "all", "none"] = "inexact"
    distillation_steps: PositiveInt = 50

    def architecture(self, genotype: TreeGenotype, image_size: int, channels: int) -> TreeArchitecture:
        """The network of a cell."""
        sizes = self.cells, self.width, self.groups
        return TreeArchitecture(genotype, self.base, *sizes, image_size=image_size, channels=channels)


@dataclass(frozen=True, kw_only=True)
class PathLevelBudget(TreeBudget):
    """How a child is trained, by default as in [P] but for the steps; arguments as in `TreeBudget`."""

    base: Annotated[Base, arg(aliases=("--base",))] = "densenet"

    def for_retraining(self) -> TreeBudget:  # type: ignore[override]
        """The same budget with four times the steps; its base is no other option ``--base``."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return TreeBudget(**{**values, "steps": 4 * self.steps})


@dataclass(frozen=True)
class PathLevelSettings(GrownSettings):
    """The settings of a search for tree cells that grow from a layer, by default those of [P].

    Args:
        space: Space of the children, and the layer that they grow from.
        budget: Training of a child, and the base network.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    policy: str = "path-level"

    space: TreeCellSpace = field(default_factory=TreeCellSpace)
    budget: PathLevelBudget = field(default_factory=PathLevelBudget)

    @property
    def start(self) -> TreeGenotype:
        """The genotype of the base."""
        return CONV_3X3 if self.space.base == "conv3" else GROUPED_CONV_3X3

    def make_child(self, images: Any, latency: Any = None, file: Any = None) -> Any:
        """The evaluator of a search; for the arguments see `GrownChild`."""
        from .child import GrownTree

        return GrownTree(images, self, latency, file)
