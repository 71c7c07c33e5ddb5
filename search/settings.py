"""The settings of a search, its children's budget among them. Imports no backend."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from nasnet_zoo.architecture import Architecture
from nasnet_zoo.cells.genotype import Genotype
from nasnet_zoo.checking import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seed,
    check,
    check_fields,
)

from .space import SearchSpace

if TYPE_CHECKING:
    from .policies import Policy


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
class Settings:
    """The settings of a search, of which a folder holds one.

    Args:
        policy: Policy that samples the children.
        options: Arguments of the policy, such as ``learning_rate``. Default: the policy's own.
        space: Space of the children.
        budget: Training of a child.
        minibatch: Number of children that the policy learns from together.
        images: Largest number of training images to use, evenly from all classes. Default: all.
        held_out: Share of these images that children are evaluated on and not trained on, in (0, 1).
        image_size: Height and width in pixels that images are resized to, at most 1,024. Default: the
            images' own, 32 for class folders.
        early_stop_quantile: Quantile of `QuantileStopping`, in (0, 1): a child stops early if its
            reward at an evaluation is below this quantile of earlier children's. Default: no child
            stops early.
        shared_steps: Weight sharing: number of steps that the shared weights are trained for before
            each minibatch. Children are evaluated with these weights. Default: each child is trained
            from scratch.
        seed: Seed of all random draws.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    policy: Literal["ppo", "reinforce", "random", "evolution"] = "ppo"
    options: Mapping[str, float] = field(default_factory=dict)
    space: SearchSpace = field(default_factory=SearchSpace)
    budget: Budget = field(default_factory=Budget)
    minibatch: PositiveInt = 20
    images: PositiveInt | None = None
    held_out: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    image_size: Annotated[int, Interval(ge=1, le=1024)] | None = None
    early_stop_quantile: Annotated[float, Interval(gt=0, lt=1)] | None = None
    shared_steps: PositiveInt | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name, value in self.options.items():
            check(name, value, int | float)
        if self.shared_steps is not None and self.early_stop_quantile is not None:
            raise ValueError(
                "Expected no early_stop_quantile with shared_steps, as no child is trained that could "
                f"be stopped. Received: early_stop_quantile={self.early_stop_quantile}"
            )

    def make_policy(self) -> Policy:
        """A new policy.

        Raises:
            ValueError: If the policy has no such option, or an option is out of range.
        """
        from .policies import POLICIES

        known = set(inspect.signature(POLICIES[self.policy]).parameters) - {"space", "seed"}
        unknown = sorted(set(self.options) - known)
        if unknown:
            raise ValueError(
                f"Expected options of the policy {self.policy}: {', '.join(sorted(known)) or 'none'}. "
                f"Received: {', '.join(unknown)}"
            )
        return POLICIES[self.policy](self.space, seed=self.seed, **self.options)

    def to_dict(self) -> dict[str, Any]:
        """The settings in one level, such as ``{"seed": 0, "budget.steps": 300}``."""
        nested = dataclasses.asdict(self)
        flat = {name: value for name, value in nested.items() if not isinstance(value, dict)}
        for group in ("options", "space", "budget"):
            flat |= {f"{group}.{name}": value for name, value in nested[group].items()}
        return flat
