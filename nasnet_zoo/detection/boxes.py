"""Boxes: tensors (..., 4) of (y_min, x_min, y_max, x_max) in pixels, and what is computed from them.

[R] is Ren et al., arXiv 1506.01497; [D] the configuration that the NASNet detector was released with.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

_FORMAT = "yxyx"
# The reciprocals of the box coder's scale factors 10, 10, 5, 5 ([D]).
_VARIANCE = (0.1, 0.1, 0.2, 0.2)
# A side grows at most from one cell of the map to 1,000 pixels in one step: exp stays finite.
_LARGEST_LOG = math.log(1000 / 16)


def iou(boxes1: Any, boxes2: Any) -> Any:
    """Intersection over union of all pairs: (..., N, M) from (..., N, 4) and (..., M, 4)."""
    return keras.utils.bounding_boxes.compute_iou(boxes1, boxes2, _FORMAT)


def encode(boxes: Any, anchors: Any) -> Any:
    """What moves anchors onto boxes ([R] section 3.1.2): (..., 4) of dy, dx, log dh, log dw."""
    return keras.utils.bounding_boxes.encode_box_to_deltas(
        anchors, boxes, _FORMAT, _FORMAT, variance=_VARIANCE
    )


def decode(deltas: Any, anchors: Any) -> Any:
    """The boxes that `encode` made ``deltas`` of; a side grows at most 62.5-fold."""
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
    """The parts of boxes within an image."""
    limits = ops.cast(ops.stack([height, width, height, width]), boxes.dtype)
    return ops.minimum(ops.maximum(boxes, 0.0), limits)


def area(boxes: Any) -> Any:
    """(...) from (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def top_k(scores: Any, count: int) -> tuple[Any, Any]:
    """The ``count`` greatest scores of each row, or all if there are fewer, with int32 indices.

    Args:
        scores: (batch, N).
        count: at least 1.
    """
    known = scores.shape[-1]
    count = ops.minimum(count, ops.shape(scores)[-1]) if known is None else min(count, known)
    values, index = ops.top_k(scores, count)
    return values, ops.cast(index, "int32")


def suppress(boxes: Any, scores: Any, threshold: float) -> Any:
    """Greedy non-maximum suppression: which boxes are kept.

    A box is kept unless a kept one with a higher score (of equal scores: an earlier one) overlaps it
    by more than ``threshold``. That is the one fixed point of "kept: no kept better one overlaps",
    which is computed by repetition from all kept: after k rounds the k best are settled, and in
    practice a few rounds are enough.

    Args:
        boxes: (batch, N, 4).
        scores: (batch, N).
        threshold: the largest IoU of two kept boxes, in [0, 1].

    Returns:
        Booleans, (batch, N).
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
    """The best pairs of box and class, after non-maximum suppression in each class.

    Args:
        boxes: within the image, (batch, N, classes, 4), or (batch, N, 1, 4), the same for all classes.
        scores: (batch, N, classes), not negative; 0 is never a detection.
        candidates: best pairs that the suppression looks at.
        threshold: the largest IoU of two that are kept in a class.
        least: score of what is kept.
        count: pairs to return, if there are as many candidates.

    Returns:
        Boxes (batch, count, 4), classes (batch, count) int32, scores (batch, count), best first, and
        which of them are detections.
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
