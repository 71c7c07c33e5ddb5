"""Recipes for detectors: those of classifiers with what a detector adds ([N] section 4.2, [D])."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from nasnet_zoo.training.recipes import Recipe

from .faster_rcnn import AnchorSize, Count, CropSize, Filters
from .input import ImageSize

#: Fields of `Recipe` that the training of a detector does not read.
_WITHOUT = (
    "label_smoothing",
    "auxiliary_weight",
    "drop_path_keep",
    "drop_path_version",
    "crop",
    "pad",
    "color",
    "cutout",
    "mixup",
    "rand_augment_layers",
    "rand_augment_magnitude",
    "held_out",
    "keep",
    "patience",
    "steps_per_execution",
)


@dataclass(frozen=True)
class DetectionRecipe(Recipe):
    """How a `FasterRCNN` is trained; images are brought into squares of ``image_size``.

    The other arguments are those of `Recipe`, without crops, colours, cutout, mixup, RandAugment, label
    smoothing, drop path, an auxiliary head, held-out images, early stopping and several steps in one
    execution: a detector is trained without them.

    Args:
        image_size: height and width in pixels. Default: the model's.
        anchor_size: anchors have a quarter, a half, once and twice this size, in pixels.
        rpn_filters: see `FasterRCNN`, as all that follows.
        candidates: proposals that non-maximum suppression looks at.
        proposals: of an image, after suppression.
        box_samples: proposals of an image that the losses look at.
        crop_size: height and width of the map's crop at a proposal.
        train_batch_norm: whether batch norm uses and updates the statistics of the batch.

    Raises:
        ValueError: naming the field, if a value is out of range, or a field of `Recipe` that a detector
            is trained without is not at its default.
    """

    image_size: ImageSize | None = None
    anchor_size: AnchorSize = 256.0
    rpn_filters: Filters = 512
    candidates: Count = 1000
    proposals: Count = 300
    box_samples: Count = 64
    crop_size: CropSize = 17
    train_batch_norm: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _WITHOUT and value != field.default:
                raise ValueError(
                    f"Expected {field.name}={field.default}: a detector is trained without it. "
                    f"Received: {field.name}={value}"
                )
        super().__post_init__()


_MOBILE = DetectionRecipe(
    model="nasnet_mobile",
    weights="imagenet",
    image_size=600,  # [N] table 4
    epochs=10,  # [D] 1.2 million steps of 1 out of 118,287 images
    batch_size=1,  # [D]
    learning_rate=3e-4,  # [D]
    momentum=0.9,  # [D]
    schedule="cosine",  # [D] divides the rate by 10 twice, in the last quarter
    clip_norm=10.0,  # [D]
    flip=True,  # [D]
)

#: The recipes by name.
DETECTION_RECIPES: dict[str, DetectionRecipe] = {
    "coco_mobile": _MOBILE,
    "coco_large": dataclasses.replace(
        _MOBILE,
        model="nasnet_large",
        image_size=1200,  # [D]; 800 as well in [N] table 4
        gradient_checkpointing=True,
    ),
    # From random weights, for canvases of 256 pixels with digits, on two CPU cores.
    "pasted": DetectionRecipe(
        model="nasnet_mobile",
        cells=1,
        filters=16,
        stem_filters=16,
        image_size=256,
        epochs=4,
        batch_size=4,
        learning_rate=0.02,
        momentum=0.9,
        warmup_epochs=0.5,
        clip_norm=10.0,
        bn_momentum=0.99,
        anchor_size=64.0,
        rpn_filters=64,
        candidates=300,
        proposals=50,
        box_samples=24,
        crop_size=9,
        train_batch_norm=True,
    ),
}


def find_recipe(name: str) -> DetectionRecipe:
    """A recipe by its name.

    Raises:
        ValueError: if there is none.
    """
    if name not in DETECTION_RECIPES:
        raise ValueError(f"Expected one of {', '.join(DETECTION_RECIPES)}. Received: {name!r}")
    return DETECTION_RECIPES[name]
