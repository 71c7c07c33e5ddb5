"""Sources of images: arrays in memory, and files that are read when they are needed."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from nasnet_zoo.extras import import_extra

from .arrays import ImageData, balanced, split
from .decoding import is_plain_jpeg, read_pixels
from .folders import Files, class_files
from .resizing import resize_with_crop
from .sources import ImageSource

#: Default height and width in pixels of images of class folders in memory.
_SIZE = 32
_Arrays = tuple[np.ndarray, np.ndarray]  # images, labels


def positions(start: int) -> tf.data.Dataset:
    """Positions of training examples: the endless numbers from ``start`` on."""
    return tf.data.Dataset.range(start, np.iinfo(np.int64).max)


def shuffled(position: tf.Tensor, size: int, seed: int) -> tf.Tensor:
    """Index in [0, ``size``) of the image at a position, by a different permutation in every epoch."""
    epoch = position // size
    keys = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.experimental.index_shuffle(position % size, keys, size - 1)


class ArraySource(ImageSource):
    """Images in memory.

    Args:
        data: Arrays of the images.
    """

    def __init__(self, data: ImageData) -> None:
        self.name, self.class_names = data.name, data.class_names
        self.channels = data.train_images.shape[-1]
        self.train_size, self.test_size = len(data.train_labels), len(data.test_labels)
        self.data = data

    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """See `ImageSource`."""
        images = tf.constant(self.data.train_images)
        labels = tf.constant(self.data.train_labels, tf.int64)

        def example(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
            index = shuffled(position, self.train_size, seed)
            return position, images[index], labels[index]

        return positions(start).map(example)

    def testing(self) -> tf.data.Dataset:
        """See `ImageSource`."""
        pairs = self.data.test_images, self.data.test_labels.astype(np.int64)
        return tf.data.Dataset.from_tensor_slices(pairs)

    def hold_out(self, share: float) -> ArraySource:
        """See `ImageSource`."""
        images, labels = self.data.train_images, self.data.train_labels
        kept, held_out = _held_out(self.name, labels, share)
        return self._with((images[kept], labels[kept]), (images[held_out], labels[held_out]))

    def limited(self, limit: int) -> ArraySource:
        """See `ImageSource`."""
        data = self.data
        train, test = balanced(data.train_labels, limit), balanced(data.test_labels, limit)
        return self._with(
            (data.train_images[train], data.train_labels[train]),
            (data.test_images[test], data.test_labels[test]),
        )

    def _with(self, train: _Arrays, test: _Arrays) -> ArraySource:
        return ArraySource(ImageData(*train, *test, self.class_names, self.name, self.data.found))

    def in_memory(self, image_size: int | None = None) -> ImageData:
        """See `ImageSource`."""
        data = self.data
        if image_size is None:
            return data
        size = image_size, image_size
        return dataclasses.replace(
            data,
            train_images=resize_with_crop(data.train_images, size).numpy(),
            test_images=resize_with_crop(data.test_images, size).numpy(),
        )


class FolderSource(ImageSource):
    """Image files in one folder per class, read when they are needed.

    Args:
        folder: Folder of class folders, see `nasnet_zoo.data.open_dataset`.
    """

    channels = 3

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        import_extra("PIL", "train")
        train, test, self.class_names = class_files(folder)
        self.name, self._found = Path(folder).resolve().name, len(train[0]) + len(test[0])
        self._take(train, test)

    def _take(self, train: Files, test: Files) -> None:
        self._train, self._test = train, test
        self.train_size, self.test_size = len(train[0]), len(test[0])

    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """See `ImageSource`."""
        paths, labels = file_names(self._train[0]), tf.constant(self._train[1], tf.int64)

        def example(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
            index = shuffled(position, self.train_size, seed)
            return position, read_image(paths[index]), labels[index]

        return positions(start).map(example, tf.data.AUTOTUNE, deterministic=True)

    def testing(self) -> tf.data.Dataset:
        """See `ImageSource`."""
        files = tf.data.Dataset.from_tensor_slices((file_names(self._test[0]), self._test[1]))
        return files.map(lambda path, label: (read_image(path), label), tf.data.AUTOTUNE)

    def hold_out(self, share: float) -> FolderSource:
        """See `ImageSource`."""
        kept, held_out = _held_out(self.name, self._train[1], share)
        source = copy.copy(self)
        source._take(_chosen(self._train, kept), _chosen(self._train, held_out))
        return source

    def limited(self, limit: int) -> FolderSource:
        """See `ImageSource`."""
        source = copy.copy(self)
        source._take(*(_chosen(f, balanced(f[1], limit)) for f in (self._train, self._test)))
        return source

    def in_memory(self, image_size: int | None = None) -> ImageData:
        """See `ImageSource`."""
        size = (image_size or _SIZE,) * 2

        def pixels(paths: Sequence[Path]) -> np.ndarray:
            files = tf.data.Dataset.from_tensor_slices(file_names(paths))
            resized = files.map(lambda path: resize_with_crop(read_image(path), size), tf.data.AUTOTUNE)
            images = np.empty((len(paths), *size, self.channels), np.float32)
            for image, pixels in zip(images, resized.as_numpy_iterator(), strict=True):
                image[...] = pixels
            return images

        (paths, labels), (test_paths, test_labels) = self._train, self._test
        with broken_images_named(self):
            images, test_images = pixels(paths), pixels(test_paths)
        return ImageData(
            images, labels, test_images, test_labels, self.class_names, self.name, self._found
        )

    @property
    def paths(self) -> list[Path]:
        """All image files."""
        return [*self._train[0], *self._test[0]]


@contextmanager
def broken_images_named(*sources: object) -> Iterator[None]:
    """Reword errors of the input pipeline to name the broken file.

    Args:
        *sources: Sources that the pipeline reads. Sources of files list them as ``paths``.

    Raises:
        ValueError: If a file cannot be decoded.
        OSError: If a file cannot be opened.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnknownError):
        for path in (path for source in sources for path in getattr(source, "paths", ())):
            _check(path)
        raise


def _check(path: Path) -> None:
    try:
        read_image(tf.constant(os.fsencode(path)))
    except tf.errors.OpError as error:
        read_pixels(path)  # its error has one line
        reason = error.message.split(" [Op:")[0].split("}} ")[-1]
        raise ValueError(f"{path}: expected a readable image. Received: {reason}") from None


def _chosen(files: Files, indices: np.ndarray) -> Files:
    paths, labels = files
    return [paths[k] for k in indices], labels[indices]


def file_names(paths: Sequence[Path]) -> tf.Tensor:
    """Paths as a string tensor."""
    return tf.constant([os.fsencode(path) for path in paths])


def read_image(path: tf.Tensor) -> tf.Tensor:
    """Decode an image file to uint8 (height, width, 3), with the values of `read_pixels`."""

    def is_plain(name: np.ndarray | bytes) -> np.bool_:
        return np.bool_(is_plain_jpeg(_path(name)))

    def read(name: np.ndarray | bytes) -> np.ndarray:
        return read_pixels(_path(name))

    # TensorFlow decodes without Python's lock. With this method it gives the pixels of Pillow.
    image = tf.cond(
        tf.numpy_function(is_plain, [path], tf.bool, stateful=False),
        lambda: tf.io.decode_jpeg(tf.io.read_file(path), 3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.numpy_function(read, [path], tf.uint8, stateful=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _path(name: np.ndarray | bytes) -> str:
    return os.fsdecode(np.asarray(name).item())


def _held_out(name: str, labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the held-out images."""
    kept, held_out = (np.sort(part) for part in split(labels, share))
    if not len(held_out) or len(np.unique(labels[kept])) < len(np.unique(labels)):
        raise unfit(name, share, len(labels))
    return kept, held_out


def unfit(name: str, share: float, images: int) -> ValueError:
    """The error for a share that leaves no images to train on or holds out none."""
    return ValueError(
        f"{name}: expected a share that holds out an image and leaves some of each class. "
        f"Received: held_out={share} of {images} training images"
    )
