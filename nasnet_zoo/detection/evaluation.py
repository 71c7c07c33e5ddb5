"""Evaluation of detectors by COCO's twelve metrics, with `pycocotools`."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.extras import import_extra
from nasnet_zoo.progress import track

from .coco import CocoImages, Example
from .input import evaluation_batches
from .prediction import coco_result, detections
from .ranges import ImageSize

#: COCO's metrics in its order: average precision over IoU of 0.50 to 0.95, at 0.50 and at 0.75, of
#: small, medium and large objects; average recall with 1, 10 and 100 detections, and by size.
METRICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


def check_class_names(
    name: str, class_names: Sequence[str], other: str, other_names: Sequence[str]
) -> None:
    """Check that two lists of classes are equal.

    Args:
        name: Name of the object with the expected classes, for the message.
        class_names: Expected classes.
        other: Name of the object with the received classes.
        other_names: Received classes.

    Raises:
        ValueError: If the lists differ. The message has the first difference.
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
    """Detect the objects on all images.

    Args:
        detector: `FasterRCNN`, or a function with the same input and output.
        source: Source of the images.
        size: Height and width in pixels of the square that images are fitted into.
        batch_size: Images in a batch. Default: 8.

    Returns:
        Detections in the JSON format of COCO's server: dicts of ``image_id``, ``category_id``, ``bbox``
        (x, y, width, height) in pixels of the file, and ``score``.

    Raises:
        ValueError: If an argument is out of range or an image cannot be read.
        NotFiniteError: If a value in the detector is infinite or NaN.
    """
    results, examples = [], iter(source.examples)
    batches = math.ceil(len(source.examples) / batch_size)
    with broken_images_named(source):
        for images, scales in track(evaluation_batches(source, size, batch_size), "detect", batches):
            found = detections(detector, images)
            for k, scale in enumerate(scales.numpy()):
                results += _results(source, next(examples), {n: v[k] for n, v in found.items()}, scale)
    return results


def _results(
    source: CocoImages, example: Example, found: dict[str, np.ndarray], scale: float
) -> list[dict[str, Any]]:
    """Convert the detections on an image to COCO's result format."""
    return [
        coco_result(
            found["boxes"][n] / scale,
            found["scores"][n],
            image_id=example.image_id,
            category_id=source.category_ids[found["classes"][n]],
        )
        for n in range(found["count"])
    ]


def evaluate(source: CocoImages, results: list[dict[str, Any]]) -> dict[str, float]:
    """Compute COCO's twelve metrics.

    Args:
        source: Images with their true boxes.
        results: Output of `detect`.

    Returns:
        Values in [0, 1] by their names in `METRICS`, or -1 if there are no objects of a size.
    """
    coco_eval = import_extra("pycocotools.cocoeval", "detection")
    if not results:
        return dict.fromkeys(METRICS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = source.ground_truth()
        # `loadRes` changes its argument.
        found = truth.loadRes([dict(result) for result in results])
        evaluation = coco_eval.COCOeval(truth, found, "bbox")
        evaluation.params.imgIds = sorted(example.image_id for example in source.examples)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, evaluation.stats.tolist(), strict=True))
