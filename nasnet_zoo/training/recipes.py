"""Training recipes as plain data, composed of one dataclass for each subject.

Comments name the source of each value by the tags of docs/references.md.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Interval

from nasnet_zoo.architecture import Network, auxiliary_kernel
from nasnet_zoo.bases import CondenseArchitecture
from nasnet_zoo.cells import RecurrentGenotype
from nasnet_zoo.cells.networks import NetworkGenotype, network_genotype
from nasnet_zoo.cells.primitives import DropPathVersion, KeepProbability
from nasnet_zoo.checking import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    check,
    check_fields,
    checked,
)
from nasnet_zoo.files import read_json, write_text
from nasnet_zoo.presets import find_preset

R = TypeVar("R")

#: Share of a running mean that a step keeps.
Decay = Annotated[float, Interval(ge=0, lt=1)]
#: How a run is divided among devices, see `nasnet_zoo.training.train`.
StrategyName = Literal["mirrored", "multiworker"]


def _used_if(settings: Any, used: bool, condition: str, *names: str) -> None:
    """Raise an error if a field that has no effect is not at its default."""
    for name in names:
        value, default = getattr(settings, name), getattr(type(settings), name)
        if not used and value != default:
            raise ValueError(
                f"Expected {name}={default}, its default, unless {condition}. Received: {name}={value}"
            )


@dataclass(frozen=True)
class ModelSettings:
    """The network to train.

    Args:
        preset: Name in `nasnet_zoo.list_models()`.
        genotype: Genotype of the cells, of a layer-wise preset's layers, or of tree cells. Default: the
            preset's.
        cells: Number of normal cells in a stack, or of tree cells in a stage, N. Default: the preset's.
        filters: Filters of the first stack, F. Default: the preset's.
        stem_filters: Filters of the first convolution. Default: the preset's.
        width: Growth of a DenseNet, k, or alpha of a PyramidNet. Default: the preset's.
        weights: Initial weights, as in `nasnet_zoo.NASNet`. Default: random weights.
        image_size: Height and width of the images in pixels. Default: the preset's.
        bn_momentum: Decay of batch norm's moving statistics, in [0, 1]. Default: the preset's.
        l2: Factor of the sum of squares of all kernels in the loss.
        group_lasso: Factor, in the loss of a CondenseNet, of the sum of the norms of the weights with
            which a group of a 1x1 convolution reads a channel.

    Raises:
        ValueError: If a value is out of range or of another type.
    """

    preset: str
    genotype: NetworkGenotype | None = None
    cells: PositiveInt | None = None
    filters: PositiveInt | None = None
    stem_filters: PositiveInt | None = None
    width: PositiveInt | None = None
    weights: str | None = None
    image_size: PositiveInt | None = None
    bn_momentum: Share | None = None
    l2: NonNegativeFloat = 0.0
    group_lasso: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        _ = self.architecture

    @property
    def architecture(self) -> Network:
        """The preset's architecture with these values."""
        architecture = find_preset(self.preset).architecture
        hyper = architecture.hyperparameters
        assert hyper is not None
        momentum = hyper.bn_momentum if self.bn_momentum is None else self.bn_momentum
        losses = {"l2": self.l2, "group_lasso": self.group_lasso}
        hyper = dataclasses.replace(hyper, bn_momentum=momentum, **losses)
        names = "genotype", "cells", "filters", "stem_filters", "width", "image_size"
        changes = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        unknown = [name for name in changes if not hasattr(architecture, name)]
        if self.group_lasso and not isinstance(architecture, CondenseArchitecture):
            unknown.append("group_lasso")
        if unknown:
            raise ValueError(
                f"Expected no {unknown[0]} with the preset {self.preset}, whose network has none. "
                f"Received: {unknown[0]}={getattr(self, unknown[0])}"
            )
        return architecture.replace(hyperparameters=hyper, **changes)


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer and its learning rate.

    Args:
        learning_rate: Learning rate after the warm-up, above 0.
        kind: "sgd" (with momentum), "rmsprop" (with momentum), or "adamw" (Loshchilov & Hutter, arXiv
            1711.05101), whose epsilon is 1e-8.
        momentum: Momentum of SGD and RMSProp, beta_1 of AdamW, in [0, 1).
        nesterov: Nesterov's momentum; SGD only.
        rho: Decay of the mean square, in [0, 1); RMSProp only.
        epsilon: Constant that is added to the mean square, above 0; RMSProp only.
        beta_2: Decay of the mean square, in [0, 1); AdamW only.
        weight_decay: Factor of ``learning_rate * w``, which each step subtracts from every weight but
            biases and the scales and offsets of batch norm; AdamW only.
        schedule: "cosine", half a period down to 0, or "exponential", steps by ``decay_rate``.
        decay_rate: Factor of a step of the exponential schedule, in (0, 1].
        decay_epochs: Epochs between the steps of the exponential schedule, above 0.
        decay_start: Epochs before the exponential schedule begins.
        warmup_epochs: Epochs in which the learning rate grows linearly from 0, fewer than the epochs
            of the run.
        clip_norm: Largest global norm of the gradients, above 0. Default: unlimited.
        ema: Decay, in [0, 1), of the moving average of the weights that is evaluated and saved.
            Default: no average.

    Raises:
        ValueError: If a value is out of range or of another type, or a field that only another kind
            or schedule uses is not at its default.
    """

    learning_rate: PositiveFloat
    kind: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    momentum: Decay = 0.9
    nesterov: bool = False
    rho: Decay = 0.9
    epsilon: PositiveFloat = 1.0
    beta_2: Decay = 0.999
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["cosine", "exponential"] = "cosine"
    decay_rate: Annotated[float, Interval(gt=0, le=1)] = 0.97
    decay_epochs: PositiveFloat = 2.4
    decay_start: NonNegativeFloat = 0.0
    warmup_epochs: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat | None = None
    ema: Decay | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _used_if(self, self.kind == "sgd", "kind is sgd", "nesterov")
        _used_if(self, self.kind == "rmsprop", "kind is rmsprop", "rho", "epsilon")
        _used_if(self, self.kind == "adamw", "kind is adamw", "beta_2", "weight_decay")
        exponential = self.schedule == "exponential"
        names = "decay_rate", "decay_epochs", "decay_start"
        _used_if(self, exponential, "schedule is exponential", *names)


@dataclass(frozen=True)
class RunSettings:
    """The length of a training run and how its steps are computed.

    Args:
        epochs: Passes over the training images.
        batch_size: Images in a step.
        precision: Keras's dtype policy.
        gradient_checkpointing: Whether cells are computed again in the backward pass, which saves
            memory; see `nasnet_zoo.NASNet`.
        steps_per_execution: Steps in one call of the backend.

    Raises:
        ValueError: If a value is out of range or of another type.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    steps_per_execution: PositiveInt = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class RegularizationSettings:
    """Regularization of a classifier.

    Args:
        label_smoothing: Weight of the uniform distribution in the labels, in [0, 1).
        auxiliary_weight: Weight of the auxiliary head's loss. 0 for no auxiliary head.
        drop_path_keep: Probability of keeping a path at the end of the run in the last cell, in (0, 1];
            see `nasnet_zoo.ScheduledDropPath`. 1 for no drop path.
        drop_path_version: Schedule of drop path, see `nasnet_zoo.ScheduledDropPath`.

    Raises:
        ValueError: If a value is out of range or of another type, or a schedule is set without drop
            path.
    """

    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    auxiliary_weight: NonNegativeFloat = 0.0
    drop_path_keep: KeepProbability = 1.0
    drop_path_version: DropPathVersion = "v3"

    def __post_init__(self) -> None:
        check_fields(self)
        _used_if(self, self.drop_path_keep < 1, "drop_path_keep is below 1", "drop_path_version")


@dataclass(frozen=True)
class AugmentationSettings:
    """Random changes of a classifier's training images.

    Args:
        crop: "none"; "pad", a border of ``pad`` black pixels and a random crop of the image's size;
            "upsample", the same of an image that is ``pad`` pixels larger at each side, without a
            border; or "distorted", a random crop of 5 to 100 % of the area and of aspect ratio 3:4 to
            4:3, resized.
        pad: Width of the border of the "pad" crop in pixels, and half of what "upsample" adds.
        flip: Whether half of the images are mirrored horizontally.
        color: Whether brightness and saturation are varied.
        cutout: Side in pixels of a grey square at a random place of each image. 0 for none.
        mixup: Alpha of mixup (Zhang et al., arXiv 1710.09412): every image and its label are mixed
            with another of the batch, by weights from the Beta distribution (alpha, alpha).
            0 for none.
        rand_augment_layers: Operations of RandAugment (Cubuk et al., arXiv 1909.13719) on each image,
            its N, at most 10. 0 for none.
        rand_augment_magnitude: Common magnitude of these operations, its M, in [0, 10].

    Raises:
        ValueError: If a value is out of range or of another type, or ``pad`` or
            ``rand_augment_magnitude`` is set without the crop or the operations that use it.
    """

    crop: Literal["none", "pad", "upsample", "distorted"] = "none"
    pad: NonNegativeInt = 4
    flip: bool = False
    color: bool = False
    cutout: NonNegativeInt = 0
    mixup: NonNegativeFloat = 0.0
    rand_augment_layers: Annotated[int, Interval(ge=0, le=10)] = 0
    rand_augment_magnitude: Annotated[float, Interval(ge=0, le=10)] = 9.0

    def __post_init__(self) -> None:
        check_fields(self)
        padded = self.crop in ("pad", "upsample")
        _used_if(self, padded, "crop is pad or upsample", "pad")
        layers = self.rand_augment_layers > 0
        _used_if(self, layers, "rand_augment_layers is above 0", "rand_augment_magnitude")

    @property
    def central_crop(self) -> float:
        """Share of the shorter side in the crop that is evaluated, 0.875 for "distorted" ([S])."""
        return 0.875 if self.crop == "distorted" else 1.0


@dataclass(frozen=True)
class EvaluationSettings:
    """Held-out images and early stopping.

    Args:
        held_out: Share of the training images of each class to hold out, in [0, 1). Every epoch is
            then evaluated on these, and the test images are evaluated once at the end. With 0,
            every epoch is evaluated on the test images.
        keep: "last" saves the weights after the last epoch, "best" those after the evaluation with the
            highest accuracy on the held-out images.
        patience: Evaluations in a row without a higher accuracy on the held-out images after which
            training stops. Default: train for all epochs.

    Raises:
        ValueError: If a value is out of range or of another type, or ``keep`` or ``patience`` is set
            without held-out images.
    """

    held_out: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    keep: Literal["last", "best"] = "last"
    patience: PositiveInt | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _used_if(self, self.held_out > 0, "held_out is above 0", "keep", "patience")


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Args:
        model: The network.
        optimizer: The optimizer and its learning rate.
        run: The length of the run and how its steps are computed.
        regularization: Label smoothing, the auxiliary head and drop path. Default: none.
        augmentation: Random changes of the training images. Default: none.
        evaluation: Held-out images and the epoch that is saved. Default: no held-out images, the last
            epoch.

    Raises:
        ValueError: If the parts do not fit each other.

    Example::

        recipe = changed(RECIPES["cifar10"], model={"cells": 2}, run={"epochs": 30})
    """

    model: ModelSettings
    optimizer: OptimizerSettings
    run: RunSettings
    regularization: RegularizationSettings = RegularizationSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    def __post_init__(self) -> None:
        check_fields(self)
        check_warmup(self.optimizer, self.run)
        if self.augmentation.mixup and self.run.batch_size == 1:
            raise ValueError(
                "Expected run.batch_size: at least 2 with augmentation.mixup. "
                f"Received: run.batch_size=1, augmentation.mixup={self.augmentation.mixup}"
            )
        if self.regularization.auxiliary_weight:
            auxiliary_kernel(self.model.architecture)

    @checked
    def with_batch_size(self, batch_size: PositiveInt) -> Recipe:
        """Copy the recipe with another batch size and a proportional learning rate."""
        rate = self.optimizer.learning_rate * batch_size / self.run.batch_size
        return changed(self, run={"batch_size": batch_size}, optimizer={"learning_rate": rate})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load_recipe` reads."""
        write_text(path, json.dumps(to_dict(self), indent=2) + "\n")


def check_warmup(optimizer: OptimizerSettings, run: RunSettings) -> None:
    """Check that the warm-up ends before the run.

    Raises:
        ValueError: If the warm-up does not end before the run.
    """
    if optimizer.warmup_epochs >= run.epochs:
        raise ValueError(
            "Expected optimizer.warmup_epochs below run.epochs. Received: "
            f"optimizer.warmup_epochs={optimizer.warmup_epochs}, run.epochs={run.epochs}"
        )


def changed(recipe: R, **changes: Any) -> R:
    """Copy a recipe with other values of some fields.

    Args:
        recipe: `Recipe`, or another dataclass of dataclasses.
        **changes: By name of a part, a dict of its changed fields, or a new part.
    """
    values = {
        name: dataclasses.replace(getattr(recipe, name), **value)
        if isinstance(value, Mapping)
        else value
        for name, value in changes.items()
    }
    return dataclasses.replace(recipe, **values)  # type: ignore[type-var]


def flat(recipe: Any) -> dict[str, Any]:
    """The fields of a recipe's parts by their paths, such as ``optimizer.momentum``."""
    values: dict[str, Any] = {}
    for name, part in vars(recipe).items():
        fields = vars(part) if dataclasses.is_dataclass(part) else {}
        values |= {f"{name}.{field}": value for field, value in fields.items()} or {name: part}
    return values


def to_dict(recipe: Any) -> Any:
    """Convert a recipe, or a part of one, to plain data for JSON."""
    if hasattr(recipe, "to_dict"):  # a genotype
        return recipe.to_dict()
    if not dataclasses.is_dataclass(recipe):
        return recipe
    return {name: to_dict(value) for name, value in vars(recipe).items()}


# How the genotypes of other recipes than those of networks are read.
_GENOTYPES: dict[Any, Any] = {RecurrentGenotype | None: RecurrentGenotype.from_dict}


def from_dict(kind: type[R], data: Any, path: str = "") -> R:
    """Convert plain data of JSON to a recipe. Fields with defaults may be missing.

    Args:
        kind: Class of the recipe, or of one of its parts.
        data: Output of `to_dict`.
        path: Path of the part in the recipe, ending with a dot. Default: the recipe itself.

    Raises:
        ValueError: If a field is missing, unknown, out of range or of another type. The message has its
            path.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    expected = f"Expected {path[:-1] or 'a recipe'}: an object of {', '.join(hints)}."
    if not isinstance(data, dict):
        raise ValueError(f"{expected} Received: {data!r:.200}")
    unknown = [name for name in data if name not in hints]
    if unknown:
        raise ValueError(f"{expected} Received: one with {unknown[0]!r}")
    values = {}
    for name in hints:
        if name not in data and hasattr(kind, name):  # it has a default
            continue
        value = data.get(name)
        if dataclasses.is_dataclass(hints[name]):
            value = from_dict(hints[name], value, f"{path}{name}.")
        elif name == "genotype" and isinstance(value, dict):
            value = _GENOTYPES.get(hints[name], network_genotype)(value)
        check(path + name, value, hints[name])
        values[name] = value
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{path[:-1]}: {error}" if path else str(error)) from None


def load_recipe(name: str | os.PathLike[str]) -> Recipe:
    """Find a recipe by its name, or load it from a JSON file.

    Raises:
        ValueError: If there is no such recipe, or the file is not a valid recipe.
        OSError: If the file cannot be read.
    """
    name = os.fspath(name)
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".json"):
        raise ValueError(f"Expected {', '.join(RECIPES)} or a .json file. Received: {name!r}")
    data = read_json(name, "a recipe")
    try:
        return from_dict(Recipe, data)
    except ValueError as error:
        raise ValueError(f"{name}: expected a recipe in JSON. {error}") from None


_CIFAR = Recipe(
    ModelSettings(
        preset="nasnet_a_6_768_cifar",
        l2=0.5 * 5e-4,  # [S] 5e-4, where TF's l2_loss is half the sum of squares
    ),
    OptimizerSettings(
        learning_rate=0.025,  # [S]
        momentum=0.9,  # [S]
        schedule="cosine",  # [S] one period
        clip_norm=5.0,  # [S]
    ),
    RunSettings(
        epochs=600,  # [S] 937,500 steps of 32 out of 50,000 images
        batch_size=32,  # [S]
    ),
    RegularizationSettings(
        auxiliary_weight=0.4,  # [S]
        drop_path_keep=0.6,  # [S]
    ),
    AugmentationSettings(
        crop="pad",  # [N] A.3
        pad=4,  # [N] A.3
        flip=True,  # [N] A.3
    ),
)

_MOBILE = Recipe(
    ModelSettings(
        preset="nasnet_mobile",
        l2=0.5 * 4e-5,  # [S] 4e-5, halved as above
    ),
    OptimizerSettings(
        learning_rate=2.0,  # [S] 0.04 for each replica
        kind="rmsprop",  # [S]
        momentum=0.9,  # [S]
        rho=0.9,  # [S]
        epsilon=1.0,  # [S]
        schedule="exponential",  # [S]
        decay_rate=0.97,  # [S]
        decay_epochs=2.4,  # [S]
        clip_norm=10.0,  # [S]
        ema=0.9999,  # [S]
    ),
    RunSettings(
        epochs=312,  # [S] 250,000 steps of 1,600 out of 1,281,167 images
        batch_size=1600,  # [S] 50 replicas of 32
    ),
    RegularizationSettings(
        label_smoothing=0.1,  # [S]
        auxiliary_weight=0.4,  # [S]
    ),
    AugmentationSettings(
        crop="distorted",  # [S] Inception's preprocessing
        flip=True,  # [S]
        color=True,  # [S]
    ),
)

_TREES = Recipe(
    ModelSettings(
        preset="treecell_a_pyramidnet_18_84_cifar",
        l2=0.5 * 1e-4,  # [P] 1e-4 times the weight in its gradient
    ),
    OptimizerSettings(
        learning_rate=0.1,  # [P]
        momentum=0.9,  # [P]
        nesterov=True,  # [P]
        schedule="cosine",  # [P]
    ),
    RunSettings(
        epochs=300,  # [P]
        batch_size=64,  # [P]
    ),
    augmentation=AugmentationSettings(
        crop="pad",  # [P]
        pad=4,  # [P]
        flip=True,  # [P]
    ),
)

#: The recipes by name.
RECIPES: dict[str, Recipe] = {
    "cifar10": _CIFAR,
    "cifar10_cutout": changed(_CIFAR, augmentation={"cutout": 16}),  # [N] table 1, [C]
    "treecell_cifar10": _TREES,
    "treecell_cifar10_cutout": changed(
        _TREES,
        run={"epochs": 600},  # [P]
        regularization={"drop_path_keep": 0.9, "drop_path_version": "batch"},  # [P]
        augmentation={"cutout": 16},  # [P]
    ),
    "treecell_imagenet": Recipe(
        ModelSettings(
            preset="treecell_b_condensenet_mobile",
            l2=0.5 * 1e-4,  # [P]
            group_lasso=1e-5,  # [P]
        ),
        OptimizerSettings(
            learning_rate=0.1,  # [P]
            momentum=0.9,  # [P]
            nesterov=True,  # [P]
            schedule="cosine",  # [P]
        ),
        RunSettings(
            epochs=120,  # [P]
            batch_size=128,  # [P]
        ),
        augmentation=AugmentationSettings(
            crop="distorted",  # [P] torchvision's random sized crops, which follow Inception's
            flip=True,  # [P]
        ),
    ),
    "imagenet_mobile": _MOBILE,
    "imagenet_large": changed(
        _MOBILE,
        model={"preset": "nasnet_large", "l2": 0.5 * 5e-5},  # [S] 5e-5, halved as above
        optimizer={"learning_rate": 1.5},  # [S] 0.015 for each replica
        run={"batch_size": 1600},  # [S] 100 replicas of 16
        regularization={"drop_path_keep": 0.7},  # [S]
    ),
    "nas_v1_cifar": Recipe(
        ModelSettings(
            preset="nas_v1_cifar",
            l2=0.5 * 1e-4,  # [Z] 4.1: a weight decay of 1e-4, here of kernels alone
        ),
        OptimizerSettings(
            learning_rate=0.1,  # [Z] 4.1
            momentum=0.9,  # [Z] 4.1
            nesterov=True,  # [Z] 4.1
            # [H] 4.2, whose training [Z] takes over: a tenth after 50 and after 75 % of the epochs
            schedule="exponential",
            decay_rate=0.1,
            decay_epochs=75,
            decay_start=75,
        ),
        RunSettings(
            epochs=300,  # [H] 4.2
            batch_size=64,  # [H] 4.2
        ),
        augmentation=AugmentationSettings(
            crop="upsample",  # [Z] 4.1, which does not say how much: 40 pixels
            flip=True,  # [Z] 4.1
        ),
    ),
    "finetune": Recipe(
        ModelSettings(
            preset="nasnet_mobile",
            weights="imagenet",
            l2=0.5 * 4e-5,  # [S] as in training from scratch
        ),
        OptimizerSettings(
            learning_rate=0.01,  # [F] the middle of the grid 0.0001 .. 0.1
            momentum=0.9,  # [F]
            nesterov=True,  # [F]
            schedule="cosine",  # [F]
        ),
        RunSettings(
            epochs=20,  # [F] 20,000 steps of 256, which is 20 epochs of 256,000 images
            batch_size=256,  # [F]
        ),
        augmentation=AugmentationSettings(
            crop="distorted",  # [F]
            flip=True,  # [F]
        ),
    ),
    # The CIFAR recipe reduced to about two hours on two CPU cores, for 28x28 grey images. So few
    # epochs need no regularization but mirroring.
    "fashion_mnist": changed(
        _CIFAR,
        model={"preset": "nasnet_a_1_384_fashion_mnist", "bn_momentum": 0.99, "l2": 0.5 * 1e-4},
        optimizer={"learning_rate": 0.05, "nesterov": True, "warmup_epochs": 0.2},
        run={"epochs": 10},
        regularization=RegularizationSettings(),
        augmentation={"crop": "none"},
    ),
    # For the tests: a minute on two CPU cores.
    "digits": changed(
        _CIFAR,
        model={"cells": 1, "filters": 8, "stem_filters": 8, "image_size": 16, "l2": 0.5 * 1e-4},
        optimizer={"learning_rate": 0.05},
        run={"epochs": 6},
        regularization={"auxiliary_weight": 0.0, "drop_path_keep": 0.9},
        augmentation={"pad": 2, "flip": False},
    ),
}
