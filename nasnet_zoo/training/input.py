"""The input pipeline of classifiers: batches of a source's images by a recipe.

The augmentation of an image depends on the seed and the image's position only.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from nasnet_zoo.data import ImageSource
from nasnet_zoo.data.resizing import normalize, resize, resize_with_crop

from .rand_augment import rand_augment, rounded
from .recipes import AugmentationSettings, Recipe

#: Data that is folded into the keys of these augmentations.
_RAND_AUGMENT, _MIXUP = np.int64(0), np.int64(1)


def training_batches(
    source: ImageSource, recipe: Recipe, seed: int = 0, start: int = 0, deterministic: bool = True
) -> tf.data.Dataset:
    """Endless batches of augmented training images.

    Args:
        source: Source of the images.
        recipe: Recipe with the augmentation, image size and batch size.
        seed: Seed of the order and of all random draws. Default: 0.
        start: First training step. Default: 0.
        deterministic: Whether the order of the images is deterministic, which is slower. Default: true.

    Returns:
        Images (batch, height, width, channels) in [-1, 1] and one-hot labels (batch, classes). With
        mixup in the recipe, each is a mixture of two of the batch.
    """
    augmentation, batch_size = recipe.augmentation, recipe.run.batch_size
    classes, size = len(source.class_names), recipe.model.architecture.image_size

    def example(position: tf.Tensor, image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, ...]:
        key = tf.stack([tf.constant(seed, tf.int64), position])
        image = augment(image, augmentation, size, key)
        image.set_shape((size, size, source.channels))
        label = tf.one_hot(label, classes)
        if not augmentation.mixup:
            return image, label
        return image, label, mixup_share(augmentation.mixup, tf.random.fold_in(key, _MIXUP))

    examples = source.training(seed, start * batch_size)
    examples = examples.map(example, tf.data.AUTOTUNE, deterministic=deterministic)
    batches = examples.batch(batch_size, drop_remainder=True)
    if augmentation.mixup:
        batches = batches.map(mixed_up, tf.data.AUTOTUNE, deterministic=deterministic)
    return batches.prefetch(tf.data.AUTOTUNE)


def evaluation_batches(
    source: ImageSource, size: int, crop: float = 1.0, batch_size: int = 250
) -> tf.data.Dataset:
    """Batches of the test images, once, in the form of `training_batches`.

    Args:
        source: Source of the images.
        size: Height and width in pixels to resize to.
        crop: Share of the shorter side in the central square crop, in (0, 1]. Default: 1.
        batch_size: Images in a batch; the last batch may be smaller. Default: 250.
    """
    classes = len(source.class_names)

    def example(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = normalize(resize_with_crop(image, (size, size), crop))
        image.set_shape((size, size, source.channels))
        return image, tf.one_hot(label, classes)

    examples = source.testing().map(example, tf.data.AUTOTUNE, deterministic=True)
    return examples.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def augment(
    image: tf.Tensor, augmentation: AugmentationSettings, size: int, key: tf.Tensor
) -> tf.Tensor:
    """Augment a training image: crop, flip, color, RandAugment and cutout, in this order.

    Args:
        image: Pixels from 0 to 255, (height, width, channels).
        augmentation: Augmentations and their strengths.
        size: Height and width in pixels to resize to.
        key: Seed of all random draws, int64 (2,).

    Returns:
        float32 (size, size, channels) in [-1, 1].
    """
    keys = tf.random.split(key, 4)
    if augmentation.crop == "distorted":
        image = normalize(resize(distorted_crop(image, keys[0]), (size, size)))
    elif augmentation.crop == "upsample":
        larger = size + 2 * augmentation.pad
        image = normalize(resize_with_crop(image, (larger, larger)))
        image = tf.image.stateless_random_crop(image, (size, size, image.shape[-1]), keys[0])
    else:
        image = normalize(resize_with_crop(image, (size, size)))
        if augmentation.crop == "pad":
            image = padded_crop(image, augmentation.pad, keys[0])
    if augmentation.flip:
        image = tf.image.stateless_random_flip_left_right(image, keys[1])
    if augmentation.color:
        image = varied_color(image, keys[2])
    if augmentation.rand_augment_layers:
        pixels = rounded((image + 1.0) * 127.5)
        image = normalize(
            rand_augment(
                pixels,
                augmentation.rand_augment_layers,
                augmentation.rand_augment_magnitude,
                tf.random.fold_in(key, _RAND_AUGMENT),
            )
        )
    if augmentation.cutout:
        image = cut_out(image, augmentation.cutout, keys[3])
    return image


def padded_crop(image: tf.Tensor, pad: int, key: tf.Tensor) -> tf.Tensor:
    """Add a black border of ``pad`` pixels, then crop randomly to the original size."""
    shape = tf.shape(image)
    bordered = tf.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=-1.0)
    return tf.image.stateless_random_crop(bordered, shape, key)


def distorted_crop(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Crop randomly to 5 to 100 % of the area and an aspect ratio of 3:4 to 4:3 (Inception's, [S])."""
    box = tf.zeros((1, 0, 4))
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        box,
        key,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.05, 1.0),
        use_image_if_no_bounding_boxes=True,
    )
    return tf.ensure_shape(tf.slice(image, begin, extent), (None, None, image.shape[-1]))


def varied_color(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Vary brightness by up to an eighth of the range, saturation by up to half (fast mode of [S])."""
    keys = tf.random.split(key, 2)
    unit = tf.image.stateless_random_brightness((image + 1.0) / 2.0, 32 / 255, keys[0])
    if image.shape[-1] == 3:
        unit = tf.image.stateless_random_saturation(unit, 0.5, 1.5, keys[1])
    return tf.clip_by_value(unit, 0.0, 1.0) * 2.0 - 1.0


def cut_out(image: tf.Tensor, side: int, key: tf.Tensor) -> tf.Tensor:
    """Make a square around a random pixel grey, clipped at the image's borders ([C])."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    keys = tf.random.split(key, 2)
    row = tf.random.stateless_uniform((), keys[0], 0, height, tf.int32)
    column = tf.random.stateless_uniform((), keys[1], 0, width, tf.int32)

    def outside(length: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
        first = centre - side // 2
        places = tf.range(length)
        return (places < first) | (places >= first + side)

    kept = outside(height, row)[:, None] | outside(width, column)[None, :]
    return tf.where(kept[..., None], image, 0.0)


def mixup_share(alpha: float, key: tf.Tensor) -> tf.Tensor:
    """Sample a float32 scalar from the Beta distribution (alpha, alpha).

    The sample is G / (G + H) for G and H of Gamma(alpha). For a small alpha these underflow, so their
    logarithms are computed: G is G' * U**(1 / alpha) with G' of Gamma(alpha + 1) and U uniform.
    """
    keys = tf.random.split(key, 2)
    gamma = tf.random.stateless_gamma((2,), keys[0], alpha + 1.0, dtype=tf.float64)
    uniform = 1.0 - tf.random.stateless_uniform((2,), keys[1], dtype=tf.float64)  # not 0
    first, second = tf.unstack(tf.math.log(gamma) + tf.math.log(uniform) / alpha)
    return tf.cast(tf.sigmoid(first - second), tf.float32)


def mixed_up(images: tf.Tensor, labels: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each image and label with the previous ones of the batch (Zhang et al., arXiv 1710.09412).

    Args:
        images: Images, (batch, height, width, channels).
        labels: Labels, (batch, classes).
        shares: Weights of the images and labels, (batch,). The first are mixed with the last.
    """

    def mixed(values: tf.Tensor) -> tf.Tensor:
        own = tf.reshape(shares, (-1, *(1 for _ in values.shape[1:])))
        return own * values + (1.0 - own) * tf.roll(values, 1, 0)

    return mixed(images), mixed(labels)
