"""The interface of data sets that training and evaluation read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from .arrays import ImageData

if TYPE_CHECKING:
    import tensorflow as tf


class ImageSource(ABC):
    """Labelled images to train and to test on.

    The order of the training images depends on a seed and a position only, so that a resumed run reads
    the images that it would have read without the break. A source that reads its images as a stream
    need not override `hold_out`, `limited` and `in_memory`, which then raise an error.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    train_size: int
    test_size: int

    @abstractmethod
    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """Endless training images from position ``start`` on: (position, image, label).

        Images are pixels of 0 to 255, uint8 or float32 (height, width, channels); labels are int64.
        Every ``train_size`` positions hold each image once, in a different order each time.
        """

    @abstractmethod
    def testing(self) -> tf.data.Dataset:
        """The test images once: (image, label)."""

    def hold_out(self, share: float) -> ImageSource:
        """Make a share of the training images the test images of a new source.

        The held-out images are always the same, ``share`` of each class. Of a data set that TFDS
        streams, they are the last images of its training split, in which TFDS mixes the classes.

        Args:
            share: Share of the training images, in (0, 1).

        Raises:
            ValueError: If no image is held out, a class has no images left to train on, or the source
                does not override this method.
        """
        raise ValueError(
            f"{self.name}: expected a source with a method hold_out, for held_out={share}. "
            f"Received: {type(self).__name__}"
        )

    def limited(self, limit: int) -> ImageSource:
        """A source of at most ``limit`` images each to train and to test, evenly from all classes.

        Raises:
            ValueError: If the source streams its images.
        """
        raise self._streamed()

    def in_memory(self, image_size: int | None = None) -> ImageData:
        """Read all images into memory.

        Args:
            image_size: Height and width in pixels, see `open_dataset`. Default: 32 for class folders,
                whose images may differ in size, else the size of the images.

        Raises:
            ValueError: If the source streams its images, or an image cannot be read.
        """
        raise self._streamed()

    def _streamed(self) -> ValueError:
        return ValueError(
            f"{self.name}: expected images of one size that fit into memory. "
            f"Received: {self.train_size} images"
        )
