"""The input pipeline: from a source's images to batches, by a recipe.

What becomes of an image in training is drawn from the seed and the image's position alone.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from nasnet_zoo.data import ImageSource
from nasnet_zoo.data.resizing import normalize, resize, resize_with_crop

from .rand_augment import rand_augment, rounded
from .recipes import AugmentationSettings, Recipe

#: What the keys of draws that are not in every recipe are made with.
_RAND_AUGMENT, _MIXUP = np.int64(0), np.int64(1)


def training_batches(
    source: ImageSource, recipe: Recipe, seed: int = 0, start: int = 0, deterministic: bool = True
) -> tf.data.Dataset:
    """Batches without end: images (batch, height, width, channels) in [-1, 1], one-hot labels.

    With mixup in the recipe, images and labels are mixtures of two of the batch.

    Args:
        source: of the images.
        recipe: says what is done to them.
        seed: of their order and of all that is drawn.
        start: the training step to begin with.
        deterministic: if false, images may change places within the pipeline, for speed.
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
    """The test images once, like those of training; the last batch may be smaller.

    Args:
        source: of the images.
        size: height and width in pixels to make.
        crop: share of the shorter side that the central square takes.
        batch_size: images in a batch.
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
    """A training image: cropped, mirrored, varied in colour, RandAugmented, cut out.

    Args:
        image: Pixels from 0 to 255, (height, width, channels).
        augmentation: The changes and their strengths.
        size: height and width to make.
        key: int64 (2,), the seed of all draws.

    Returns:
        float32 (size, size, channels) in [-1, 1].
    """
    keys = tf.random.split(key, 4)
    if augmentation.crop == "distorted":
        image = normalize(resize(distorted_crop(image, keys[0]), (size, size)))
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
    """A random crop of the image's own size out of the image with a black border of ``pad`` pixels."""
    shape = tf.shape(image)
    bordered = tf.pad(image, ((pad, pad), (pad, pad), (0, 0)), constant_values=-1.0)
    return tf.image.stateless_random_crop(bordered, shape, key)


def distorted_crop(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """A random part: 5 to 100 % of the area, width to height from 3:4 to 4:3 (Inception's, [S])."""
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
    """Brightness by at most an eighth of the range, saturation by half (the fast mode of [S])."""
    keys = tf.random.split(key, 2)
    unit = tf.image.stateless_random_brightness((image + 1.0) / 2.0, 32 / 255, keys[0])
    if image.shape[-1] == 3:
        unit = tf.image.stateless_random_saturation(unit, 0.5, 1.5, keys[1])
    return tf.clip_by_value(unit, 0.0, 1.0) * 2.0 - 1.0


def cut_out(image: tf.Tensor, side: int, key: tf.Tensor) -> tf.Tensor:
    """Greys a square whose centre is any pixel; what lies outside the image is cut off ([C])."""
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
    """A draw from the Beta distribution (alpha, alpha), float32.

    It is G / (G + H) for G and H of the Gamma distribution. For a small alpha they are below any
    float; hence their logarithms: G is G' * U**(1 / alpha), G' of Gamma(alpha + 1) and U uniform.
    """
    keys = tf.random.split(key, 2)
    gamma = tf.random.stateless_gamma((2,), keys[0], alpha + 1.0, dtype=tf.float64)
    uniform = 1.0 - tf.random.stateless_uniform((2,), keys[1], dtype=tf.float64)  # not 0
    first, second = tf.unstack(tf.math.log(gamma) + tf.math.log(uniform) / alpha)
    return tf.cast(tf.sigmoid(first - second), tf.float32)


def mixed_up(images: tf.Tensor, labels: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixup (Zhang et al., arXiv 1710.09412): each image and label with those before it.

    Args:
        images: (batch, height, width, channels).
        labels: (batch, classes).
        shares: (batch,), what of an image and its label is kept; before the first comes the last.
    """

    def mixed(values: tf.Tensor) -> tf.Tensor:
        own = tf.reshape(shares, (-1, *(1 for _ in values.shape[1:])))
        return own * values + (1.0 - own) * tf.roll(values, 1, 0)

    return mixed(images), mixed(labels)
