"""How well a detector finds objects: COCO's twelve numbers, by `pycocotools`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.extras import import_extra

from .coco import CocoImages, Example
from .input import evaluation_batches
from .prediction import detections
from .ranges import ImageSize

#: COCO's numbers, in its order: average precision over IoU of 0.50 to 0.95, at 0.50 and at 0.75, of
#: small, medium and large objects; average recall with 1, 10 and 100 detections, and by size.
METRICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


def check_class_names(
    name: str, class_names: Sequence[str], other: str, other_names: Sequence[str]
) -> None:
    """Checks that two lists of classes are the same, in the same order.

    Args:
        name: of what has the expected classes, for the message.
        class_names: the expected ones.
        other: of what has to have them too.
        other_names: the classes that it has.

    Raises:
        ValueError: naming the first difference.
    """
    for number, (expected, received) in enumerate(zip_longest(class_names, other_names)):
        if expected != received:
            raise ValueError(
                f"{other}: expected the {len(class_names)} classes of {name}, with {expected!r} as "
                f"class {number}. Received: {len(other_names)} classes, with {received!r}"
            )


@checked
def detect(
    detector: Callable[[Any], dict[str, Any]],
    source: CocoImages,
    size: ImageSize,
    batch_size: PositiveInt = 8,
) -> list[dict[str, Any]]:
    """The detections of all images, in COCO's result format.

    Args:
        detector: a `FasterRCNN`, or what gives the same of images.
        source: of the images.
        size: to which the images are brought, in pixels.
        batch_size: images at once.

    Returns:
        A dict of ``image_id``, ``category_id``, ``bbox`` (x, y, width, height) in pixels of the file,
        and ``score`` for every detection: what COCO's server takes as JSON.

    Raises:
        ValueError: if an argument is out of range, or naming an image that cannot be read.
        NotFiniteError: if a number in the detector is infinite or no number.
    """
    results, examples = [], iter(source.examples)
    with broken_images_named(source):
        for images, scales in evaluation_batches(source, size, batch_size):
            found = detections(detector, images)
            for k, scale in enumerate(scales.numpy()):
                results += _results(source, next(examples), {n: v[k] for n, v in found.items()}, scale)
    return results


def _results(
    source: CocoImages, example: Example, found: dict[str, np.ndarray], scale: float
) -> list[dict[str, Any]]:
    """The detections on an image, in COCO's result format."""
    results = []
    for n in range(found["count"]):
        y, x, y_end, x_end = (found["boxes"][n] / scale).tolist()
        results.append(
            {
                "image_id": example.image_id,
                "category_id": source.category_ids[found["classes"][n]],
                "bbox": [x, y, x_end - x, y_end - y],
                "score": float(found["scores"][n]),
            }
        )
    return results


def evaluate(source: CocoImages, results: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's twelve numbers (`METRICS`), in [0, 1]; -1 where there is no object of a size.

    Args:
        source: what is true.
        results: see `detect`.
    """
    coco_eval = import_extra("pycocotools.cocoeval", "detection")
    if not results:
        return dict.fromkeys(METRICS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = source.ground_truth()
        # `loadRes` writes into what it is given.
        found = truth.loadRes([dict(result) for result in results])
        evaluation = coco_eval.COCOeval(truth, found, "bbox")
        evaluation.params.imgIds = sorted(example.image_id for example in source.examples)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats.tolist(), strict=True))
