"""scikit-learn's digits."""

from __future__ import annotations

import numpy as np

from nasnet_zoo.extras import import_extra

from .arrays import TEST_SHARE, ImageData, split


def load_digits() -> ImageData:
    """Load scikit-learn's digits: 1,797 grey images of 8x8 pixels, handwritten 0 to 9.

    A fixed fifth of every class is the test set.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    digits = import_extra("sklearn.datasets", "demo").load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    train, test = split(labels, TEST_SHARE)
    names = tuple(str(digit) for digit in range(10))
    return ImageData(
        images[train], labels[train], images[test], labels[test], names, "digits", len(labels)
    )
