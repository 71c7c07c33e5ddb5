"""Labelled images in memory, and fixed subsets of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Share of every class that is the test set of a data set without one.
TEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set in memory.

    Args:
        train_images: Pixels of (images, height, width, channels), with 1 or 3 channels: uint8, or
            float32 of the same range, 0 to 255, for resized images.
        train_labels: int64, (images,), class numbers from 0.
        test_images: Test images, in the form of the training images.
        test_labels: Test labels, in the form of the training labels.
        class_names: Names in the order of the class numbers.
        name: Name of the data set.
        found: Number of images in the original data set, before a limit.

    Raises:
        ValueError: If the arrays do not fit each other.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    found: int

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            shape, dtype = images.shape, images.dtype
            if dtype not in (np.uint8, np.float32) or len(shape) != 4 or shape[-1] not in (1, 3):
                expected = f"uint8 images (images, height, width, 1 or 3) to {part}"
                raise self._unfit(expected, f"{dtype} {shape}")
            if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
                raise self._unfit(f"int labels (images,) to {part}", f"{labels.dtype} {labels.shape}")
            if len(images) != len(labels):
                received = f"{len(images)} images, {len(labels)} labels"
                raise self._unfit(f"one label for each image to {part}", received)
            if not len(labels):
                raise self._unfit(f"images to {part}", "none")
            if labels.min() < 0 or labels.max() >= len(self.class_names):
                expected = f"labels from 0 to {len(self.class_names) - 1} to {part}"
                raise self._unfit(expected, f"{labels.min()} to {labels.max()}")
        images, dtype = self.train_images, self.test_images.dtype
        if dtype != images.dtype:
            raise self._unfit(f"test images of type {images.dtype}", dtype)
        # Images that were scaled to [0, 1] or [-1, 1] would be read as black ones.
        if dtype == np.float32 and not (images.min() > -0.5 and 1 < images.max() < 255.5):
            raise self._unfit("pixels from 0 to 255", f"{images.min():.4g} to {images.max():.4g}")

    def _unfit(self, expected: str, received: object) -> ValueError:
        return ValueError(f"{self.name}: expected {expected}. Received: {received}")


def split(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Hold out a share of every class, always the same one for the same labels.

    Args:
        labels: int, (images,).
        share: Share of every class to hold out, in (0, 1).

    Returns:
        Indices of the images kept and of those held out, each in a fixed random order.
    """
    order, ranks = _shuffled(labels)
    held_out = ranks < np.round(np.bincount(labels)[labels[order]] * share)
    return order[~held_out], order[held_out]


def balanced(labels: np.ndarray, limit: int) -> np.ndarray:
    """Indices, in ascending order, of at most ``limit`` images spread evenly over the classes.

    If a class has fewer images than its share, the other classes fill the rest.
    """
    order, ranks = _shuffled(labels)
    # Every class's first image comes before any class's second.
    return np.sort(order[np.argsort(ranks, kind="stable")][:limit])


def _shuffled(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A fixed random order of all indices, and the rank of each within its class."""
    order = np.random.default_rng(0).permutation(len(labels))
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = labels[order] == label
        ranks[members] = np.arange(members.sum())
    return order, ranks
