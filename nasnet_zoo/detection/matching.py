"""Assignment of anchors and proposals to true boxes, and sampling for a loss ([R] 3.1.2)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from .boxes import top_k

#: Classes of boxes that are no objects: padding of a batch, and crowds, which are neither objects nor
#: background. Other classes are counted from 0.
PADDING, CROWD = -1, -2

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


def match(
    overlaps: Any, classes: Any, positive: float, negative: float, best_for_each: bool = False
) -> tuple[Any, Any]:
    """Match candidates to true boxes by their IoU.

    Args:
        overlaps: IoU of candidates and true boxes, (batch, candidates, boxes).
        classes: Classes of the true boxes, (batch, boxes); see `PADDING` and `CROWD`.
        positive: Least IoU of a positive candidate.
        negative: IoU below which a candidate is background. Between the two it is ignored.
        best_for_each: Whether every object's best candidate is positive too, however small the IoU.

    Returns:
        Index of every candidate's true box and its assignment (POSITIVE, NEGATIVE or IGNORED), both
        int32 (batch, candidates). A candidate whose best box is a crowd is ignored, not positive.
    """
    real = (classes >= 0)[:, None, :]
    overlaps = ops.where((classes != PADDING)[:, None, :], overlaps, -1.0)
    index = ops.argmax(overlaps, axis=-1)
    overlap = ops.max(overlaps, axis=-1)
    background = ops.where(overlap < negative, NEGATIVE, IGNORED)
    assignment = ops.where(overlap >= positive, POSITIVE, background)
    crowded = ops.take_along_axis(classes, index, axis=1) == CROWD
    assignment = ops.where(ops.logical_and(crowded, assignment == POSITIVE), IGNORED, assignment)
    if best_for_each:
        highest = ops.max(overlaps, axis=1, keepdims=True)
        is_best = ops.logical_and(real, ops.logical_and(overlaps == highest, highest > 0.0))
        forced = ops.any(is_best, axis=-1)
        index = ops.where(forced, ops.argmax(ops.where(is_best, overlaps, -1.0), axis=-1), index)
        assignment = ops.where(forced, POSITIVE, assignment)
    return ops.cast(index, "int32"), ops.cast(assignment, "int32")


def sample(
    assignment: Any, size: int, positive_share: float, seed: keras.random.SeedGenerator
) -> tuple[Any, Any]:
    """Sample candidates for a loss: positive ones up to a share, the rest negative.

    Args:
        assignment: Assignment of the candidates, see `match`, (batch, candidates).
        size: Number of candidates to sample in each image.
        positive_share: Largest share of positive candidates; one is always allowed.
        seed: Generator of the random draws.

    Returns:
        int32 indices (batch, size), of all candidates if there are fewer, and a mask of the sampled
        ones among them, booleans: in an image with too few candidates the rest is ignored.
    """
    noise = keras.random.uniform(ops.shape(assignment), seed=seed)
    positive = ops.where(assignment == POSITIVE, noise, -1.0)
    least = top_k(positive, max(1, int(size * positive_share)))[0][:, -1:]
    chosen = ops.logical_and(positive >= least, positive >= 0.0)
    key = ops.where(chosen, 1.0 + noise, ops.where(assignment == NEGATIVE, noise, -1.0))
    keys, index = top_k(key, size)
    return index, keys >= 0.0
