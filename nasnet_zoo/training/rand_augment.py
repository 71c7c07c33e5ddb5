"""RandAugment (Cubuk et al., arXiv 1909.13719): random operations of the same magnitude.

Images are uint8 (height, width, 1 or 3 channels). The operations are those of Pillow, up to rounding.
Keras's layer of this name has its own random state and computes all operations for every image.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

_GREY = 128.0


def rand_augment(image: tf.Tensor, layers: int, magnitude: float, key: tf.Tensor) -> tf.Tensor:
    """Apply random operations of `OPERATIONS`, each in a random direction, one after the other.

    Args:
        image: Image, uint8 (height, width, channels).
        layers: Number of operations, the paper's N.
        magnitude: Magnitude of the operations in [0, 10], the paper's M.
        key: Seed of all random draws, int64 (2,).
    """
    for layer in range(layers):
        kind, side = tf.unstack(tf.random.split(tf.random.fold_in(key, tf.constant(layer, tf.int64))))
        number = tf.random.stateless_uniform((), kind, 0, len(OPERATIONS), tf.int32)
        direction = tf.cast(tf.random.stateless_uniform((), side, 0, 2, tf.int32) * 2 - 1, tf.float32)
        strength = direction * (magnitude / 10.0)
        branches = [functools.partial(apply, image, strength) for apply in OPERATIONS.values()]
        image = tf.ensure_shape(tf.switch_case(number, branches), image.shape)
    return image


# === Operations on pixel values ===


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretch the values of each channel to 0 .. 255."""
    values = tf.cast(image, tf.float32)
    lowest, highest = (reduce(values, (0, 1)) for reduce in (tf.reduce_min, tf.reduce_max))
    stretched = (values - lowest) * 255.0 / tf.maximum(highest - lowest, 1.0)
    return rounded(tf.where(highest > lowest, stretched, values))


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Equalize the histogram of each channel."""
    return tf.stack([_equalized(channel) for channel in tf.unstack(image, axis=-1)], -1)


def _equalized(channel: tf.Tensor) -> tf.Tensor:
    values = tf.cast(channel, tf.int32)
    counts = tf.math.bincount(tf.reshape(values, [-1]), minlength=256, maxlength=256)
    step = (tf.reduce_sum(counts) - counts[tf.reduce_max(values)]) // 255
    mapping = (tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1)
    return tf.where(step > 0, tf.cast(tf.minimum(tf.gather(mapping, values), 255), tf.uint8), channel)


def posterize(image: tf.Tensor, dropped: tf.Tensor) -> tf.Tensor:
    """Set the ``dropped`` lowest bits of every value to 0."""
    bits = tf.cast(dropped, tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, bits), bits)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Invert the values that are not below a threshold."""
    return tf.where(tf.cast(image, tf.float32) < threshold, image, 255 - image)


def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with the grey image: factor 0 gives that, 1 the original."""
    if image.shape[-1] == 1:
        return image
    return _blended(tf.image.rgb_to_grayscale(tf.cast(image, tf.float32)), image, factor)


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with the mean grey: factor 0 gives that, 1 the original."""
    values = tf.cast(image, tf.float32)
    grey = values if image.shape[-1] == 1 else tf.image.rgb_to_grayscale(values)
    return _blended(tf.round(tf.reduce_mean(grey)), image, factor)


def brightness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with black: factor 0 gives that, 1 the original."""
    return _blended(tf.constant(0.0), image, factor)


def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with the image smoothed within its border: factor 0 gives that, 1 the original."""
    values = tf.cast(image, tf.float32)
    mean = tf.nn.avg_pool2d(values[None], 3, 1, "SAME")[0]
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    inside = (rows > 0) & (rows < height - 1) & (columns > 0) & (columns < width - 1)
    smooth = tf.where(inside, tf.round((9.0 * mean + 4.0 * values) / 13.0), values)
    return _blended(smooth, image, factor)


def _blended(degenerate: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return rounded(degenerate + factor * (tf.cast(image, tf.float32) - degenerate))


def rounded(values: tf.Tensor) -> tf.Tensor:
    """Round and clip to uint8."""
    return tf.cast(tf.clip_by_value(tf.round(values), 0.0, 255.0), tf.uint8)


# === Geometric operations ===


def affine(image: tf.Tensor, *rows: tuple[tf.Tensor | float, ...]) -> tf.Tensor:
    """Apply an affine transformation with bilinear interpolation, grey outside the image.

    Args:
        image: Image, uint8 (height, width, channels).
        *rows: (a, b, c) and (d, e, f): the output at (x, y) is the input at (ax + by + c, dx + ey + f).
            The origin is the upper left corner of the image, as in Pillow.
    """
    (a, b, c), (d, e, f) = rows
    # TensorFlow's origin is the centre of the first pixel.
    places = (a, b, c + (a + b - 1.0) / 2.0, d, e, f + (d + e - 1.0) / 2.0, 0.0, 0.0)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack([tf.cast(place, tf.float32) for place in places])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=_GREY,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return rounded(moved[0])


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Rotate the image counterclockwise about its centre."""
    angle = degrees * (3.14159265358979 / 180.0)
    sine, cosine = tf.sin(angle), tf.cos(angle)
    size = tf.cast(tf.shape(image), tf.float32)
    x, y = size[1] / 2.0, size[0] / 2.0
    return affine(
        image,
        (cosine, -sine, x - cosine * x + sine * y),
        (sine, cosine, y - sine * x - cosine * y),
    )


def _side(image: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.cast(tf.shape(image)[axis], tf.float32)


#: The operations of the paper by name. The sign of their strength s in [-1, 1] is the direction. At 1
#: they reach the ends of AutoAugment's ranges (arXiv 1805.09501, table 6); at 0 all but two do nothing.
OPERATIONS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "identity": lambda image, s: tf.identity(image),
    "autocontrast": lambda image, s: autocontrast(image),
    "equalize": lambda image, s: equalize(image),
    "rotate": lambda image, s: rotate(image, 30.0 * s),
    "solarize": lambda image, s: solarize(image, 256.0 * (1.0 - tf.abs(s))),
    "color": lambda image, s: color(image, 1.0 + 0.9 * s),
    "posterize": lambda image, s: posterize(image, tf.round(4.0 * tf.abs(s))),
    "contrast": lambda image, s: contrast(image, 1.0 + 0.9 * s),
    "brightness": lambda image, s: brightness(image, 1.0 + 0.9 * s),
    "sharpness": lambda image, s: sharpness(image, 1.0 + 0.9 * s),
    "shear_x": lambda image, s: affine(image, (1.0, 0.3 * s, 0.0), (0.0, 1.0, 0.0)),
    "shear_y": lambda image, s: affine(image, (1.0, 0.0, 0.0), (0.3 * s, 1.0, 0.0)),
    "translate_x": lambda image, s: affine(
        image, (1.0, 0.0, 150.0 / 331.0 * s * _side(image, 1)), (0.0, 1.0, 0.0)
    ),
    "translate_y": lambda image, s: affine(
        image, (1.0, 0.0, 0.0), (0.0, 1.0, 150.0 / 331.0 * s * _side(image, 0))
    ),
}
