"""Opening a data set by its name, its folder or its arrays."""

from __future__ import annotations

import os
from pathlib import Path

from nasnet_zoo.checking import PositiveInt, checked

from .arrays import ImageData
from .digits import load_digits
from .idx import has_idx_files, load_idx
from .sources import ImageSource


@checked
def open_dataset(
    source: ImageSource | ImageData | str | os.PathLike[str],
    image_size: PositiveInt | None = None,
    limit: PositiveInt | None = None,
) -> ImageSource:
    """Open a labelled image data set.

    Images of class folders and of streamed TFDS data sets are read when they are needed; all others are
    held in memory. Every image is decoded at its full size, upright, and resized at most once.

    Args:
        source: One of:

            - ``"digits"``: scikit-learn's digits, 8x8 grey pixels; a fixed fifth of each class to test.
            - A folder of IDX files, those of MNIST, Fashion-MNIST and the like, compressed or not.
            - A folder of class folders, or of ``train`` and ``test`` (or ``val``) folders that hold
              class folders. Without these, a fixed fifth of each class is the test set. Files are PNG,
              JPEG, BMP, GIF, WebP, PNM or TIFF, read as RGB.
            - The name of a TFDS data set, such as ``"cifar10"``, or its ``"NAME/CONFIG"``. It is
              streamed if its images differ in size or take more than 1 GiB.
            - Arrays, or a source, which is returned as it is.
        image_size: Height and width in pixels. The central square of each image is resized to it, and
            all images are held in memory. Default: images keep their sizes, and training and evaluation
            resize them in the same way to the size of the network.
        limit: Maximum number of images each to train and to test on, evenly from all classes. Others
            are not read. Default: all.

    Returns:
        Source of the images.

    Raises:
        ValueError: If the source is none of these or broken, or if it is streamed by TFDS and
            ``image_size`` or ``limit`` is given.
        ImportError: If an optional package that the source needs is not installed.

    Example::

        data = open_dataset("photos", image_size=64).in_memory()
        print(data.train_images.shape, data.class_names)
    """
    opened = _opened(source)
    if limit is not None:
        opened = opened.limited(limit)
    return opened if image_size is None else _opened(opened.in_memory(image_size))


def _opened(source: ImageSource | ImageData | str | os.PathLike[str]) -> ImageSource:
    # TensorFlow takes seconds to import.
    from .streams import ArraySource, FolderSource

    if isinstance(source, ImageData):
        return ArraySource(source)
    if not isinstance(source, (str, os.PathLike)):
        return source
    name = os.fspath(source)
    if name == "digits":
        return ArraySource(load_digits())
    if name and Path(name).is_dir():
        return ArraySource(load_idx(name)) if has_idx_files(name) else FolderSource(name)
    from .tfds import open_tfds

    return open_tfds(name)
