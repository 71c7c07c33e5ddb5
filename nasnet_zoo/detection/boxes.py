"""Overlap, encoding and suppression of boxes: (..., 4) of (y_min, x_min, y_max, x_max) in pixels."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

_FORMAT = "yxyx"
# The reciprocals of the box coder's scale factors 10, 10, 5, 5 ([D]).
_VARIANCE = (0.1, 0.1, 0.2, 0.2)
# A side grows at most from one position of the map to 1,000 pixels, which keeps exp finite.
_LARGEST_LOG = math.log(1000 / 16)


def iou(boxes1: Any, boxes2: Any) -> Any:
    """Intersection over union of all pairs: (..., N, M) from (..., N, 4) and (..., M, 4)."""
    return keras.utils.bounding_boxes.compute_iou(boxes1, boxes2, _FORMAT)


def encode(boxes: Any, anchors: Any) -> Any:
    """Encode boxes as offsets from anchors ([R] section 3.1.2): (..., 4) of dy, dx, log dh, log dw."""
    return keras.utils.bounding_boxes.encode_box_to_deltas(
        anchors, boxes, _FORMAT, _FORMAT, variance=_VARIANCE
    )


def decode(deltas: Any, anchors: Any) -> Any:
    """Invert `encode`. A side is at most 62.5 times the anchor's."""
    scale = ops.convert_to_tensor(_VARIANCE, "float32")[2:]
    sides = ops.minimum(deltas[..., 2:], _LARGEST_LOG / scale)
    return keras.utils.bounding_boxes.decode_deltas_to_boxes(
        anchors,
        ops.concatenate([deltas[..., :2], sides], axis=-1),
        _FORMAT,
        _FORMAT,
        variance=_VARIANCE,
    )


def clip(boxes: Any, height: Any, width: Any) -> Any:
    """Clip boxes to an image."""
    limits = ops.cast(ops.stack([height, width, height, width]), boxes.dtype)
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def area(boxes: Any) -> Any:
    """Areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def top_k(scores: Any, count: int) -> tuple[Any, Any]:
    """The greatest scores of each row and their indices.

    Args:
        scores: Scores, (batch, N).
        count: Number of scores to take, at least 1. All are taken if there are fewer.

    Returns:
        Scores in descending order and int32 indices, both (batch, count).
    """
    known = scores.shape[-1]
    count = ops.minimum(count, ops.shape(scores)[-1]) if known is None else min(count, known)
    values, index = ops.top_k(scores, count)
    return values, ops.cast(index, "int32")


def suppress(boxes: Any, scores: Any, threshold: float) -> Any:
    """Greedy non-maximum suppression.

    A box is kept unless a kept one with a higher score (of equal scores: an earlier one) overlaps it
    by more than ``threshold``. This rule has one fixed point, which is found by iteration from "all
    are kept": round k settles the k-th best box, and in practice a few rounds are enough.

    Args:
        boxes: Boxes, (batch, N, 4).
        scores: Scores, (batch, N).
        threshold: Largest IoU of two kept boxes, in [0, 1].

    Returns:
        Mask of the kept boxes, booleans (batch, N).
    """
    order = ops.argsort(-scores, axis=-1)
    rank = ops.argsort(order, axis=-1)
    better = rank[:, None, :] < rank[:, :, None]
    suppresses = ops.cast(ops.logical_and(better, iou(boxes, boxes) > threshold), "float32")

    def settle(kept: Any, changed: Any) -> tuple[Any, Any]:
        suppressed = ops.matmul(suppresses, kept[..., None])[..., 0]
        now = ops.cast(suppressed < 0.5, "float32")
        return now, ops.any(ops.not_equal(now, kept))

    kept, _ = ops.while_loop(
        lambda kept, changed: changed, settle, (ops.ones_like(scores), ops.convert_to_tensor(True))
    )
    return kept > 0.5


def suppress_in_classes(
    boxes: Any, scores: Any, *, candidates: int, threshold: float, least: float, count: int
) -> tuple[Any, Any, Any, Any]:
    """The best pairs of box and class after non-maximum suppression in each class.

    Args:
        boxes: Boxes within the image, (batch, N, classes, 4), or (batch, N, 1, 4) for all classes.
        scores: Scores, (batch, N, classes), not negative. A score of 0 is no detection.
        candidates: Number of best pairs that enter the suppression.
        threshold: Largest IoU of two kept boxes of a class, in [0, 1].
        least: Least score of a detection.
        count: Number of pairs to return, at most ``candidates``.

    Returns:
        Boxes (batch, count, 4), int32 classes (batch, count) and scores (batch, count) in descending
        order of the score, and a mask of the detections among them, booleans (batch, count).
    """
    batch, classes = ops.shape(scores)[0], scores.shape[-1]
    scores, index = top_k(ops.reshape(scores, (batch, -1)), candidates)
    boxes_of, kinds = index // (classes // boxes.shape[2]), index % classes
    boxes = ops.take_along_axis(ops.reshape(boxes, (batch, -1, 4)), boxes_of[..., None], axis=1)
    # Boxes of different classes are moved apart, so that they do not suppress each other.
    apart = ops.max(boxes) + 1.0
    moved = boxes + ops.cast(kinds, "float32")[..., None] * apart
    kept = ops.logical_and(suppress(moved, scores, threshold), scores >= least)
    scores, index = top_k(ops.where(kept, scores, 0.0), count)
    boxes = ops.take_along_axis(boxes, index[..., None], axis=1)
    return boxes, ops.take_along_axis(kinds, index, axis=1), scores, scores > 0.0
