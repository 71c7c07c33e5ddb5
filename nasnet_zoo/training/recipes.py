"""Training recipes: plain data, each line with its source.

[S] are the release notes and configurations of TF-Slim's NASNet, [N] is the paper (appendix A.3 and
section 4), [C] is DeVries & Taylor, arXiv 1708.04552 (cutout), [F] is Kornblith, Shlens & Le, arXiv
1805.08974, section 3.2 and appendix A (fine-tuning).
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, Literal

from annotated_types import Interval

from nasnet_zoo.architecture import Architecture, auxiliary_kernel
from nasnet_zoo.cells import Genotype
from nasnet_zoo.cells.drop_path import DropPathVersion, KeepProbability
from nasnet_zoo.checking import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    check_fields,
    checked,
)
from nasnet_zoo.files import read_json, write_text
from nasnet_zoo.models import find_preset

#: What is left of a running mean after a step.
Decay = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Args:
        model: a name from `nasnet_zoo.list_models()`.
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: the highest one, after the warm-up; above 0.
        genotype: cells to build the network of, instead of the model's; its dict will do.
        cells: N, instead of the model's.
        filters: F, instead of the model's.
        stem_filters: of the first convolution, instead of the model's.
        weights: what the network starts from, as in `nasnet_zoo.NASNet`; None for random weights.
        image_size: height and width in pixels. Default: the model's.
        bn_momentum: decay of batch norm's moving statistics, in [0, 1], instead of the model's.
        optimizer: "sgd" (with momentum), "rmsprop" (with momentum), or "adamw" (Loshchilov & Hutter,
            arXiv 1711.05101), whose epsilon is 1e-8.
        momentum: of SGD and RMSProp; AdamW's beta_1. In [0, 1).
        nesterov: whether SGD looks ahead.
        rho: RMSProp's decay, in [0, 1).
        epsilon: RMSProp's, above 0.
        beta_2: AdamW's decay of the mean square, in [0, 1).
        weight_decay: AdamW's: each step takes ``learning_rate * weight_decay * w`` from every weight
            but biases and the scales and offsets of batch norm. 0 for the other optimizers.
        schedule: "cosine", half a period down to 0, or "exponential", steps by ``decay_rate``.
        decay_rate: factor of the exponential schedule, in (0, 1].
        decay_epochs: epochs between its steps, above 0.
        warmup_epochs: epochs in which the learning rate grows linearly from 0; fewer than ``epochs``.
        clip_norm: the largest global norm of the gradients, above 0, or None.
        l2: the sum of ``l2 * w**2`` over all kernels is added to the loss.
        label_smoothing: share of a label spread over all classes, in [0, 1).
        auxiliary_weight: of the auxiliary head's loss; 0 for no auxiliary head.
        drop_path_keep: see `nasnet_zoo.ScheduledDropPath`; 1 for none.
        drop_path_version: see `nasnet_zoo.ScheduledDropPath`.
        ema: decay, in [0, 1), of the moving average of the weights that is evaluated and saved, or
            None.
        crop: "none"; "pad", ``pad`` pixels of black around the image, then a random crop of its
            size; or "distorted", a random part of 5 to 100 % of the area, 3:4 to 4:3, resized.
        pad: pixels of the "pad" crop.
        flip: whether half of the images are mirrored.
        color: whether brightness and saturation are varied.
        cutout: side in pixels of a grey square put somewhere on each image; 0 for none.
        mixup: alpha of mixup (Zhang et al., arXiv 1710.09412): every image and its label are mixed with
            another of the batch, in shares drawn from the Beta distribution (alpha, alpha); 0 for none.
        rand_augment_layers: operations of RandAugment (Cubuk et al., arXiv 1909.13719) on each image,
            its N, at most 10; 0 for none.
        rand_augment_magnitude: their common magnitude, its M, in [0, 10].
        held_out: share of the training images of each class, in [0, 1), that is not trained on. Every
            epoch is then evaluated on these, and the test images are for one evaluation at the end.
        keep: "last", the weights after the last epoch are saved, or "best", those after the evaluation
            with the highest accuracy on the held-out images.
        patience: evaluations in a row without a higher accuracy on the held-out images after which
            training stops; None to train for all epochs.
        precision: Keras's dtype policy.
        gradient_checkpointing: see `nasnet_zoo.NASNet`.
        steps_per_execution: training steps in one call of the backend.

    Raises:
        ValueError: naming the field, if a value is out of range.
    """

    model: str
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    genotype: Genotype | None = None
    cells: PositiveInt | None = None
    filters: PositiveInt | None = None
    stem_filters: PositiveInt | None = None
    weights: str | None = None
    image_size: PositiveInt | None = None
    bn_momentum: Share | None = None
    optimizer: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    momentum: Decay = 0.9
    nesterov: bool = False
    rho: Decay = 0.9
    epsilon: PositiveFloat = 1.0
    beta_2: Decay = 0.999
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["cosine", "exponential"] = "cosine"
    decay_rate: Annotated[float, Interval(gt=0, le=1)] = 0.97
    decay_epochs: PositiveFloat = 2.4
    warmup_epochs: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat | None = None
    l2: NonNegativeFloat = 0.0
    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    auxiliary_weight: NonNegativeFloat = 0.0
    drop_path_keep: KeepProbability = 1.0
    drop_path_version: DropPathVersion = "v3"
    ema: Decay | None = None
    crop: Literal["none", "pad", "distorted"] = "none"
    pad: NonNegativeInt = 4
    flip: bool = False
    color: bool = False
    cutout: NonNegativeInt = 0
    mixup: NonNegativeFloat = 0.0
    rand_augment_layers: Annotated[int, Interval(ge=0, le=10)] = 0
    rand_augment_magnitude: Annotated[float, Interval(ge=0, le=10)] = 9.0
    held_out: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    keep: Literal["last", "best"] = "last"
    patience: PositiveInt | None = None
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    steps_per_execution: PositiveInt = 1

    def __post_init__(self) -> None:
        if isinstance(self.genotype, dict):
            object.__setattr__(self, "genotype", Genotype.from_dict(self.genotype))
        check_fields(self)
        find_preset(self.model)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"Expected warmup_epochs below epochs. Received: warmup_epochs={self.warmup_epochs}, "
                f"epochs={self.epochs}"
            )
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(
                "Expected weight_decay=0 with another optimizer than adamw, see l2. "
                f"Received: weight_decay={self.weight_decay}, optimizer={self.optimizer!r}"
            )
        if self.mixup and self.batch_size == 1:
            raise ValueError(
                "Expected a batch_size of at least 2 with mixup. "
                f"Received: batch_size=1, mixup={self.mixup}"
            )
        if not self.held_out and (self.keep == "best" or self.patience is not None):
            raise ValueError(
                "Expected held_out above 0 with keep='best' or patience: no epoch is chosen on the "
                f"test images. Received: held_out=0, keep={self.keep!r}, patience={self.patience}"
            )
        architecture = self.architecture
        if self.auxiliary_weight:
            auxiliary_kernel(architecture)

    @property
    def architecture(self) -> Architecture:
        """The network to train."""
        architecture = find_preset(self.model).architecture
        changes: dict[str, Any] = {
            "genotype": self.genotype,
            "cells": self.cells,
            "filters": self.filters,
            "stem_filters": self.stem_filters,
            "image_size": self.image_size,
        }
        hyper = architecture.hyperparameters
        assert hyper is not None
        momentum = hyper.bn_momentum if self.bn_momentum is None else self.bn_momentum
        changes["hyperparameters"] = dataclasses.replace(hyper, l2=self.l2, bn_momentum=momentum)
        return dataclasses.replace(
            architecture, **{name: value for name, value in changes.items() if value is not None}
        )

    @property
    def central_crop(self) -> float:
        """Share of an image's shorter side that is tested on ([S] after distorted crops)."""
        return 0.875 if self.crop == "distorted" else 1.0

    @checked
    def with_batch_size(self, batch_size: PositiveInt) -> Recipe:
        """The recipe for another batch size, its learning rate scaled in proportion."""
        rate = self.learning_rate * batch_size / self.batch_size
        return dataclasses.replace(self, batch_size=batch_size, learning_rate=rate)

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        genotype = self.genotype and self.genotype.to_dict()
        return {**dataclasses.asdict(self), "genotype": genotype}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file that `load_recipe` reads."""
        write_text(path, json.dumps(self.to_dict(), indent=2) + "\n")


def load_recipe(name: str | os.PathLike[str]) -> Recipe:
    """A recipe by its name, or from a JSON file.

    Raises:
        ValueError: if there is no such recipe, or the file does not hold one.
        OSError: if the file cannot be read.
    """
    name = os.fspath(name)
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".json"):
        raise ValueError(f"Expected {', '.join(RECIPES)} or a .json file. Received: {name!r}")
    found, expected = read_json(name, "a recipe"), f"{name}: expected a recipe in JSON."
    if not isinstance(found, dict):
        raise ValueError(f"{expected} Received: no object with fields")
    known = {field.name: field for field in dataclasses.fields(Recipe)}
    missing = [n for n, field in known.items() if field.default is MISSING and n not in found]
    unknown = sorted(found.keys() - known.keys())
    if missing or unknown:
        fault = f"one without {missing[0]}" if missing else f"one with the unknown field {unknown[0]!r}"
        raise ValueError(f"{expected} Received: {fault}")
    try:
        return Recipe(**found)
    except ValueError as error:
        raise ValueError(f"{expected} {error}") from None


_CIFAR = Recipe(
    model="nasnet_a_6_768_cifar",
    epochs=600,  # [S] 937,500 steps of 32 out of 50,000 images
    batch_size=32,  # [S]
    learning_rate=0.025,  # [S]
    momentum=0.9,  # [S]
    schedule="cosine",  # [S] one period
    clip_norm=5.0,  # [S]
    l2=0.5 * 5e-4,  # [S] 5e-4, where TF's l2_loss is half the sum of squares
    auxiliary_weight=0.4,  # [S]
    drop_path_keep=0.6,  # [S]
    crop="pad",  # [N] A.3
    pad=4,  # [N] A.3
    flip=True,  # [N] A.3
)

_MOBILE = Recipe(
    model="nasnet_mobile",
    epochs=312,  # [S] 250,000 steps of 1,600 out of 1,281,167 images
    batch_size=1600,  # [S] 50 replicas of 32
    learning_rate=2.0,  # [S] 0.04 for each replica
    optimizer="rmsprop",  # [S]
    momentum=0.9,  # [S]
    rho=0.9,  # [S]
    epsilon=1.0,  # [S]
    schedule="exponential",  # [S]
    decay_rate=0.97,  # [S]
    decay_epochs=2.4,  # [S]
    clip_norm=10.0,  # [S]
    l2=0.5 * 4e-5,  # [S] 4e-5, halved as above
    label_smoothing=0.1,  # [S]
    auxiliary_weight=0.4,  # [S]
    ema=0.9999,  # [S]
    crop="distorted",  # [S] Inception's preprocessing
    flip=True,  # [S]
    color=True,  # [S]
)

#: The recipes by name.
RECIPES: dict[str, Recipe] = {
    "cifar10": _CIFAR,
    "cifar10_cutout": dataclasses.replace(_CIFAR, cutout=16),  # [N] table 1, [C]
    "imagenet_mobile": _MOBILE,
    "imagenet_large": dataclasses.replace(
        _MOBILE,
        model="nasnet_large",
        batch_size=1600,  # [S] 100 replicas of 16
        learning_rate=1.5,  # [S] 0.015 for each replica
        l2=0.5 * 5e-5,  # [S] 5e-5, halved as above
        drop_path_keep=0.7,  # [S]
    ),
    "finetune": Recipe(
        model="nasnet_mobile",
        weights="imagenet",
        epochs=20,  # [F] 20,000 steps of 256, which is 20 epochs of 256,000 images
        batch_size=256,  # [F]
        learning_rate=0.01,  # [F] the middle of the grid 0.0001 .. 0.1
        momentum=0.9,  # [F]
        nesterov=True,  # [F]
        schedule="cosine",  # [F]
        l2=0.5 * 4e-5,  # [S] as in training from scratch
        crop="distorted",  # [F]
        flip=True,  # [F]
    ),
    # The CIFAR recipe cut down to some two hours on two CPU cores, for 28x28 grey images: so few
    # epochs need no regularisation but mirroring.
    "fashion_mnist": dataclasses.replace(
        _CIFAR,
        model="nasnet_a_1_384_fashion_mnist",
        bn_momentum=0.99,
        epochs=10,
        warmup_epochs=0.2,
        learning_rate=0.05,
        nesterov=True,
        l2=0.5 * 1e-4,
        auxiliary_weight=0.0,
        drop_path_keep=1.0,
        crop="none",
    ),
    # For the tests: a minute on two cores.
    "digits": dataclasses.replace(
        _CIFAR,
        cells=1,
        filters=8,
        stem_filters=8,
        image_size=16,
        epochs=6,
        learning_rate=0.05,
        l2=0.5 * 1e-4,
        auxiliary_weight=0.0,
        drop_path_keep=0.9,
        pad=2,
        flip=False,
    ),
}
