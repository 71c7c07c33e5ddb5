"""The resize of images and their scaling to [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def resize(images: Any, size: Any) -> tf.Tensor:
    """Resize images by antialiased bilinear interpolation. Images of that size are not changed.

    Args:
        images: An image (height, width, channels), or a batch of them.
        size: (height, width) in pixels.

    Returns:
        float32, in the range of the images.
    """
    images = tf.cast(images, tf.float32)
    return tf.cond(
        tf.reduce_all(tf.shape(images)[-3:-1] == size),
        lambda: images,
        lambda: tf.image.resize(images, size, antialias=True),
    )


def resize_with_crop(images: Any, size: tuple[int, int], crop: float = 1.0) -> tf.Tensor:
    """Crop the centre of images to the aspect ratio of a size, and resize it to that size.

    Args:
        images: An image (height, width, channels), or a batch of them.
        size: (height, width) in pixels.
        crop: Share of the height and width of the largest such crop, in (0, 1].

    Returns:
        float32, in the range of the images.
    """
    shape = tf.shape(images)[-3:-1]
    extent = tf.cast(shape, tf.float32)
    # The largest crop is as high or as wide as the image.
    largest = tf.minimum(extent, tf.reverse(extent, [0]) * [size[0] / size[1], size[1] / size[0]])
    side = tf.maximum(tf.cast(tf.round(largest * crop), tf.int32), 1)
    top, left = tf.unstack((shape - side) // 2)
    return resize(images[..., top : top + side[0], left : left + side[1], :], size)


def normalize(images: Any) -> tf.Tensor:
    """Scale pixels from 0 to 255 to float32 in [-1, 1]."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Scale images in [-1, 1] to uint8 pixels, rounded and clipped."""
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype(np.uint8)
