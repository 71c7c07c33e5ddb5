"""Data sets as training and evaluation read them.

A source gives its training images in an order that is a function of a seed and a position alone, so
that a run which is resumed sees the images that it would have seen without the break.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .arrays import ImageData

if TYPE_CHECKING:
    import tensorflow as tf


@runtime_checkable
class ImageSource(Protocol):
    """Labelled images to train and to test on.

    A source of one's own may lack the methods ``hold_out``, ``limited`` and ``in_memory`` of the
    sources here; what needs them then refuses it.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    train_size: int
    test_size: int

    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """Training images without end, from position ``start`` on: (position, image, label).

        Images are pixels of 0 to 255, uint8 or float32 (height, width, channels); labels are int64.
        Every ``train_size`` positions hold each image once, in an order of their own.
        """

    def testing(self) -> tf.data.Dataset:
        """The test images once: (image, label)."""


def hold_out(source: ImageSource, share: float) -> ImageSource:
    """Make a share of the training images the test images of a source.

    They are always the same, ``share`` of each class; of a data set that TFDS streams, the last images
    of its training split, in which TFDS mixes the classes.

    Args:
        source: Source of `open_dataset`, or another one with a method ``hold_out(share)``.
        share: Share of the training images, in (0, 1).

    Raises:
        ValueError: No image is held out, none of a class is left to train on, or the source has no such
            method.
    """
    if not hasattr(source, "hold_out"):
        raise ValueError(
            f"{source.name}: expected a source with a method hold_out, for held_out={share}. "
            f"Received: {type(source).__name__}"
        )
    return source.hold_out(share)


def limited(source: ImageSource, limit: int) -> ImageSource:
    """The source with at most ``limit`` images each to train and to test, evenly from all classes.

    Raises:
        ValueError: The source streams its images.
    """
    if not hasattr(source, "limited"):
        raise _streamed(source)
    return source.limited(limit)


def in_memory(source: ImageSource, image_size: int | None = None) -> ImageData:
    """Read all images of a source into memory.

    Args:
        source: Source of `open_dataset`.
        image_size: Height and width in pixels, see `open_dataset`. Default: 32 for class folders, whose
            images may differ in size, else the size of the images.

    Raises:
        ValueError: The source streams its images, or an image cannot be read.
    """
    if not hasattr(source, "in_memory"):
        raise _streamed(source)
    return source.in_memory(image_size)


def _streamed(source: ImageSource) -> ValueError:
    return ValueError(
        f"{source.name}: expected images of one size that fit into memory. "
        f"Received: {source.train_size} images"
    )
