"""The input pipeline of detectors.

An image keeps its aspect ratio. It is resized to fit the upper left corner of a square, whose rest is
grey, the 0 of images in [-1, 1].
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from nasnet_zoo.checking import PositiveInt, Seed, checked
from nasnet_zoo.data.resizing import normalize, resize
from nasnet_zoo.data.streams import file_names, positions, read_image, shuffled

from .coco import CocoImages
from .matching import PADDING
from .ranges import ImageSize


@checked
def training_batches(
    source: CocoImages,
    size: ImageSize,
    batch_size: PositiveInt,
    seed: Seed = 0,
    start: int = 0,
    flip: bool = True,
) -> tf.data.Dataset:
    """Endless training batches for `FasterRCNN`.

    Args:
        source: Source of the images.
        size: Height and width of a batch in pixels.
        batch_size: Images in a batch.
        seed: Seed of the order and of the mirroring. Default: 0.
        start: First training step. Default: 0.
        flip: Whether half of the images are mirrored. Default: true.

    Returns:
        Images (batch, size, size, 3) in [-1, 1], and a dict of ``boxes`` (batch, N, 4) float32 and
        ``classes`` (batch, N) int32, where N is the largest number of boxes of an image.
    """
    paths, boxes, classes = _tensors(source)

    def example(position: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        index = shuffled(position, len(source.examples), seed)
        image, scale = fitted(read_image(paths[index]), size)
        found = boxes[index] * scale
        key = tf.stack([tf.constant(seed, tf.int64), position])
        if flip and tf.random.stateless_uniform([], key) < 0.5:
            # Before the image is padded on its right.
            width = tf.cast(tf.shape(image)[1], tf.float32)
            image = tf.reverse(image, [1])
            y, x, y_end, x_end = tf.unstack(found, axis=-1)
            mirrored = tf.stack([y, width - x_end, y_end, width - x], axis=-1)
            found = tf.where(classes[index][:, None] == PADDING, found, mirrored)
        return squared(image, size), {"boxes": found, "classes": classes[index]}

    examples = positions(start * batch_size).map(example, tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


@checked
def evaluation_batches(source: CocoImages, size: ImageSize, batch_size: PositiveInt) -> tf.data.Dataset:
    """Batches of all images once, with the ratios of their sizes to those of the files."""

    def example(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, scale = fitted(read_image(path), size)
        return squared(image, size), scale

    files = tf.data.Dataset.from_tensor_slices(file_names(source.paths))
    examples = files.map(example, tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _tensors(source: CocoImages) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Paths, and boxes and classes padded to the largest number of an image, at least 1."""
    count, most = len(source.examples), max(1, *(len(e.classes) for e in source.examples))
    boxes = np.zeros((count, most, 4), np.float32)
    classes = np.full((count, most), PADDING, np.int32)
    for k, example in enumerate(source.examples):
        boxes[k, : len(example.boxes)] = example.boxes
        classes[k, : len(example.classes)] = example.classes
    return file_names(source.paths), tf.constant(boxes), tf.constant(classes)


def fitted(image: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Resize an image to fit a square, in [-1, 1]. Return it with the ratio of its sizes."""
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = size / tf.reduce_max(shape)
    fitting = tf.maximum(tf.cast(tf.round(shape * scale), tf.int32), 1)
    return normalize(resize(image, fitting)), scale


def squared(image: tf.Tensor, size: int) -> tf.Tensor:
    """Pad an image to a square with grey below and on the right."""
    below, right = size - tf.shape(image)[0], size - tf.shape(image)[1]
    image = tf.pad(image, [[0, below], [0, right], [0, 0]])
    image.set_shape((size, size, 3))
    return image
