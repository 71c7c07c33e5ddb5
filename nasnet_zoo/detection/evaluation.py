"""How well a detector finds objects: COCO's twelve numbers, by `pycocotools`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra

from .coco import CocoImages
from .input import evaluation_batches

#: COCO's numbers, in its order: average precision over IoU of 0.50 to 0.95, at 0.50 and at 0.75, of
#: small, medium and large objects; average recall with 1, 10 and 100 detections, and by size.
METRICS = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip


def detect(
    detector: Callable[[Any], dict[str, Any]], source: CocoImages, size: int, batch_size: int = 8
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
    """
    results, examples = [], iter(source.examples)
    for images, scales in evaluation_batches(source, size, batch_size):
        found = {name: np.asarray(values) for name, values in detector(images).items()}
        for k, scale in enumerate(scales.numpy()):
            image_id = next(examples).image_id
            for n in range(found["count"][k]):
                y, x, y_end, x_end = (found["boxes"][k, n] / scale).tolist()
                category = source.category_ids[found["classes"][k, n]]
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": category,
                        "bbox": [x, y, x_end - x, y_end - y],
                        "score": float(found["scores"][k, n]),
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
