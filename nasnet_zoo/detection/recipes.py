"""Recipes for detectors ([N] section 4.2, [D])."""

from __future__ import annotations

from dataclasses import dataclass

from nasnet_zoo.checking import check, check_fields
from nasnet_zoo.training.recipes import (
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    changed,
    check_warmup,
)

from .ranges import AnchorSize, Count, CropSize, Filters, ImageSize


@dataclass(frozen=True)
class DetectorSettings:
    """Region proposals and box head of a `FasterRCNN`.

    Args:
        anchor_size: Base size of the anchors in pixels. Anchors have a quarter, a half, once and
            twice this size.
        rpn_filters: Filters of the region proposal network's convolution.
        candidates: Proposals of an image before non-maximum suppression.
        proposals: Proposals of an image after non-maximum suppression.
        box_samples: Proposals of an image that are sampled for the losses.
        crop_size: Height and width of the feature crop of a proposal.
        train_batch_norm: Whether batch norm uses and updates the statistics of the batch.

    Raises:
        ValueError: If a value is out of range or of another type.
    """

    anchor_size: AnchorSize = 256.0
    rpn_filters: Filters = 512
    candidates: Count = 1000
    proposals: Count = 300
    box_samples: Count = 64
    crop_size: CropSize = 17
    train_batch_norm: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class DetectionRecipe:
    """How a `FasterRCNN` is trained.

    Args:
        model: The network. Images are fitted into squares of its ``image_size``, 16 to 4096 pixels.
        optimizer: The optimizer and its learning rate.
        run: The length of the run and how its steps are computed.
        detector: Region proposals and box head.
        flip: Whether half of the images are mirrored.

    Raises:
        ValueError: If a value is out of range, or the parts do not fit each other.
    """

    model: ModelSettings
    optimizer: OptimizerSettings
    run: RunSettings
    detector: DetectorSettings = DetectorSettings()
    flip: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check("model.image_size", self.model.image_size, ImageSize | None)
        check_warmup(self.optimizer, self.run)


_MOBILE = DetectionRecipe(
    ModelSettings(
        preset="nasnet_mobile",
        weights="imagenet",
        image_size=600,  # [N] table 4
    ),
    OptimizerSettings(
        learning_rate=3e-4,  # [D]
        momentum=0.9,  # [D]
        schedule="cosine",  # [D] divides the rate by 10 twice, in the last quarter
        clip_norm=10.0,  # [D]
    ),
    RunSettings(
        epochs=10,  # [D] 1.2 million steps of 1 out of 118,287 images
        batch_size=1,  # [D]
    ),
    flip=True,  # [D]
)

#: The recipes by name.
DETECTION_RECIPES: dict[str, DetectionRecipe] = {
    "coco_mobile": _MOBILE,
    "coco_large": changed(
        _MOBILE,
        model={"preset": "nasnet_large", "image_size": 1200},  # [D]; 800 as well in [N] table 4
        run={"gradient_checkpointing": True},
    ),
    # From random weights, for canvases of 256 pixels with digits, on two CPU cores.
    "pasted": DetectionRecipe(
        ModelSettings(
            "nasnet_mobile", cells=1, filters=16, stem_filters=16, image_size=256, bn_momentum=0.99
        ),
        OptimizerSettings(0.02, momentum=0.9, warmup_epochs=0.5, clip_norm=10.0),
        RunSettings(epochs=4, batch_size=4),
        DetectorSettings(
            anchor_size=64.0,
            rpn_filters=64,
            candidates=300,
            proposals=50,
            box_samples=24,
            crop_size=9,
            train_batch_norm=True,
        ),
    ),
}


def find_recipe(name: str) -> DetectionRecipe:
    """Find a recipe by its name.

    Raises:
        ValueError: If there is no such recipe.
    """
    if name not in DETECTION_RECIPES:
        raise ValueError(f"Expected one of {', '.join(DETECTION_RECIPES)}. Received: {name!r}")
    return DETECTION_RECIPES[name]
