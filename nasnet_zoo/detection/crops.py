"""Crops of feature maps at proposals by bilinear interpolation ([D])."""

from __future__ import annotations

from typing import Any

from keras import ops


def crop_and_resize(features: Any, boxes: Any, size: int) -> Any:
    """Resample boxes of feature maps to squares as `tf.image.crop_and_resize` does.

    Args:
        features: Feature maps, (batch, height, width, channels).
        boxes: Normalized boxes, (batch, N, 4): 0 is the centre of the first row or column, 1 of the
            last. Values outside the map are 0.
        size: Height and width of a crop, at least 2.

    Returns:
        Crops, (batch, N, size, size, channels).
    """
    _, height, width, channels = features.shape
    height = ops.shape(features)[1] if height is None else height
    width = ops.shape(features)[2] if width is None else width
    steps = ops.arange(size, dtype="float32") / (size - 1)

    def places(first: Any, last: Any, length: Any) -> tuple[Any, Any, Any, Any]:
        """Previous and next neighbours, the weight of the next, and whether it is on the map."""
        extent = ops.cast(length - 1, "float32")
        at = (first[..., None] + (last - first)[..., None] * steps) * extent
        inside = ops.logical_and(at >= 0, at <= extent)
        at = ops.where(inside, at, 0.0)
        before = ops.floor(at)
        after = ops.minimum(before + 1, extent)
        return ops.cast(before, "int32"), ops.cast(after, "int32"), at - before, inside

    top, bottom, down, inside_y = places(boxes[..., 0], boxes[..., 2], height)
    left, right, across, inside_x = places(boxes[..., 1], boxes[..., 3], width)
    first = ops.arange(ops.shape(features)[0], dtype="int32")[:, None, None, None] * height * width

    def gather(y: Any, x: Any) -> Any:
        # One reshape per gather, so that the gradients are added as maps. With a common one they would
        # be kept as crops, which takes twice the memory.
        flat = ops.reshape(features, (-1, channels))
        return ops.take(flat, first + y[..., :, None] * width + x[..., None, :], axis=0)

    down = ops.cast(down, features.dtype)[..., :, None, None]
    across = ops.cast(across, features.dtype)[..., None, :, None]
    upper = gather(top, left) * (1 - across) + gather(top, right) * across
    lower = gather(bottom, left) * (1 - across) + gather(bottom, right) * across
    inside = ops.logical_and(inside_y[..., :, None], inside_x[..., None, :])
    crops = upper * (1 - down) + lower * down
    return ops.where(inside[..., None], crops, ops.zeros_like(crops))
