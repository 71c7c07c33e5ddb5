"""Where labelled images come from: arrays in memory, files in class folders, TFDS.

A source gives its training images in an order that is a function of a seed and a position alone, so
that a run which is resumed sees what it would have seen.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from nasnet_zoo.data import (
    ImageData,
    class_files,
    has_idx_files,
    is_plain_jpeg,
    load_digits,
    load_idx,
    read_pixels,
    split,
)
from nasnet_zoo.extras import import_extra

#: Data sets with images of one size are held in memory up to this many bytes.
_IN_MEMORY = 1 << 30
_SHUFFLE_BUFFER = 10_000


@runtime_checkable
class ImageSource(Protocol):
    """Labelled images to train and to test on."""

    name: str
    class_names: tuple[str, ...]
    channels: int
    train_size: int
    test_size: int

    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """Training images without end, from position ``start`` on: (position, image, label).

        Images are uint8 (height, width, channels), labels int64. Every ``train_size`` positions hold
        each image once, in an order of their own.
        """

    def testing(self) -> tf.data.Dataset:
        """The test images once: (image, label)."""


def open_source(data: ImageSource | ImageData | str | os.PathLike[str]) -> ImageSource:
    """Finds out what data is meant.

    Args:
        data: arrays; "digits"; the folder of IDX files or of class folders; or the name of a TFDS
            data set, such as "cifar10", "imagenet2012" or "fashion_mnist". A folder of files that is
            not split into ``train`` and ``test`` (or ``val``) has a fixed fifth held out.

    Raises:
        ValueError: if it is nothing of that kind.
        ImportError: if the optional package that it needs is not installed.
    """
    if isinstance(data, ImageData):
        return ArraySource(data)
    if not isinstance(data, (str, os.PathLike)):
        return data
    name = os.fspath(data)
    if name == "digits":
        return ArraySource(load_digits())
    if name and Path(name).is_dir():
        return ArraySource(load_idx(name)) if has_idx_files(name) else FolderSource(name)
    return _open_tfds(name)


def hold_out(source: ImageSource, share: float) -> ImageSource:
    """The source whose test images are a share of the training images, and are not trained on.

    They are always the same, ``share`` of each class; of a data set that TFDS streams, the last images
    of its training split, in which TFDS mixes the classes.

    Args:
        source: Of `open_source`, or another one with a method ``hold_out(share)``.
        share: Of the training images, in (0, 1).

    Raises:
        ValueError: If no image is held out, none of a class is left to train on, or the source has no
            such method.
    """
    if not hasattr(source, "hold_out"):
        raise ValueError(
            f"{source.name}: expected a source with a method hold_out, for held_out={share}. "
            f"Received: {type(source).__name__}"
        )
    return source.hold_out(share)


def _held_out(name: str, labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images that are trained on, and of those held out."""
    kept, held_out = (np.sort(part) for part in split(labels, share))
    if not len(held_out) or len(np.unique(labels[kept])) < len(np.unique(labels)):
        raise _unfit(name, share, len(labels))
    return kept, held_out


def _unfit(name: str, share: float, images: int) -> ValueError:
    return ValueError(
        f"{name}: expected a share that holds out an image and leaves some of each class. "
        f"Received: held_out={share} of {images} training images"
    )


def positions(start: int) -> tf.data.Dataset:
    """The numbers from ``start`` on, without end: places of examples in the training."""
    return tf.data.Dataset.range(start, np.iinfo(np.int64).max)


def shuffled(position: tf.Tensor, size: int, seed: int) -> tf.Tensor:
    """The index, below ``size``, of the image at a position: a permutation for every epoch."""
    epoch = position // size
    keys = tf.stack([tf.constant(seed, tf.int64), epoch])
    return tf.random.experimental.index_shuffle(position % size, keys, size - 1)


class ArraySource:
    """Images in memory.

    Args:
        data: the images.
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
        """See `hold_out`."""
        data = self.data
        kept, held_out = _held_out(self.name, data.train_labels, share)
        return ArraySource(
            dataclasses.replace(
                data,
                train_images=data.train_images[kept],
                train_labels=data.train_labels[kept],
                test_images=data.train_images[held_out],
                test_labels=data.train_labels[held_out],
            )
        )


class FolderSource:
    """Image files in one folder per class, read when they are needed.

    Args:
        folder: see `open_source`.
    """

    channels = 3

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        import_extra("PIL", "train")
        train, test, self.class_names = class_files(folder)
        self._train, self._test = train, test
        self.name = Path(folder).resolve().name
        self.train_size, self.test_size = len(train[0]), len(test[0])

    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """See `ImageSource`."""
        paths, labels = _constants(*self._train)

        def example(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
            index = shuffled(position, self.train_size, seed)
            return position, read_image(paths[index]), labels[index]

        return positions(start).map(example, tf.data.AUTOTUNE, deterministic=True)

    def testing(self) -> tf.data.Dataset:
        """See `ImageSource`."""
        files = tf.data.Dataset.from_tensor_slices(_constants(*self._test))
        return files.map(lambda path, label: (read_image(path), label), tf.data.AUTOTUNE)

    def hold_out(self, share: float) -> FolderSource:
        """See `hold_out`."""
        paths, labels = self._train
        kept, held_out = _held_out(self.name, labels, share)
        source = copy.copy(self)
        source._train = [paths[k] for k in kept], labels[kept]
        source._test = [paths[k] for k in held_out], labels[held_out]
        source.train_size, source.test_size = len(kept), len(held_out)
        return source

    def check(self) -> None:
        """Raises a `ValueError` that names the first file that cannot be read."""
        for path in (*self._train[0], *self._test[0]):
            try:
                read_image(tf.constant(os.fsencode(path)))
            except tf.errors.OpError as error:
                read_pixels(path)  # tells it in one line
                reason = error.message.split(" [Op:")[0].split("}} ")[-1]
                message = f"{path}: expected a readable image. Received: {reason}"
                raise ValueError(message) from None


@contextmanager
def broken_images_named(source: ImageSource) -> Iterator[None]:
    """Makes an error of the input pipeline one that names the file that it comes from."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnknownError):
        if isinstance(source, FolderSource):
            source.check()
        raise


def _constants(paths: Sequence[Path], labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.constant([os.fsencode(path) for path in paths]), tf.constant(labels, tf.int64)


def read_image(path: tf.Tensor) -> tf.Tensor:
    """An image file as uint8 (height, width, 3), see `nasnet_zoo.data.read_pixels`."""

    def looked_at(name: np.ndarray | bytes) -> np.bool_:
        return np.bool_(is_plain_jpeg(_path(name)))

    def read(name: np.ndarray | bytes) -> np.ndarray:
        return read_pixels(_path(name))

    # TensorFlow decodes without Python's lock, with this method as Pillow does.
    image = tf.cond(
        tf.numpy_function(looked_at, [path], tf.bool, stateful=False),
        lambda: tf.io.decode_jpeg(tf.io.read_file(path), 3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.numpy_function(read, [path], tf.uint8, stateful=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _path(name: np.ndarray | bytes) -> str:
    return os.fsdecode(np.asarray(name).item())


class TfdsSource:
    """A TFDS data set read from its files as training goes on.

    Args:
        builder: a `tensorflow_datasets` builder whose data is prepared.
    """

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        info = builder.info
        config = builder.builder_config
        self.name = info.name if config is None else f"{info.name}/{config.name}"
        self.class_names = tuple(info.features["label"].names)
        self.channels = info.features["image"].shape[-1]
        # The test images of ImageNet have no labels; what it calls validation is tested on.
        self.train_split = "train"
        self.test_split = "validation" if "validation" in info.splits else "test"
        self.train_size = info.splits["train"].num_examples
        self.test_size = info.splits[self.test_split].num_examples

    def _read(self, split: str, **arguments: Any) -> tf.data.Dataset:
        return self._builder.as_dataset(split, as_supervised=True, **arguments)

    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """See `ImageSource`; images further apart than the shuffle buffer are mixed by file."""
        tfds = import_extra("tensorflow_datasets", "train")
        decode = self._builder.info.features["image"].decode_example

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            # Of this function's graph only: with 0, TensorFlow asks in Python whether the other
            # seed, a tensor, is 0 too.
            tf.random.set_seed(1)
            undecoded = self._read(
                self.train_split,
                shuffle_files=True,
                read_config=tfds.ReadConfig(shuffle_seed=seed),
                decoders={"image": tfds.decode.SkipDecoding()},
            )
            buffer = min(_SHUFFLE_BUFFER, self.train_size)
            return undecoded.shuffle(buffer, seed=tf.constant(seed, tf.int64) + number)

        first = start // self.train_size
        # Images that come before ``start`` are skipped undecoded.
        examples = positions(first).flat_map(epoch).skip(start % self.train_size)
        numbered = tf.data.Dataset.zip(positions(start), examples)
        return numbered.map(
            lambda position, example: (position, decode(example[0]), example[1]),
            tf.data.AUTOTUNE,
            deterministic=True,
        )

    def testing(self) -> tf.data.Dataset:
        """See `ImageSource`."""
        return self._read(self.test_split)

    def hold_out(self, share: float) -> TfdsSource:
        """See `hold_out`."""
        kept = self.train_size - round(self.train_size * share)
        if not 0 < kept < self.train_size:
            raise _unfit(self.name, share, self.train_size)
        source = copy.copy(self)
        source.train_split, source.test_split = f"train[:{kept}]", f"train[{kept}:]"
        source.train_size, source.test_size = kept, self.train_size - kept
        return source


def _open_tfds(name: str) -> ImageSource:
    nothing = ValueError(
        "Expected 'digits', the path of a folder, or the name of a data set of TFDS. "
        f"Received: {name!r}, which is no such folder and no such data set"
    )
    # What TFDS does not take for a name it parses otherwise, with errors of its own.
    if not re.fullmatch(r"[A-Za-z]\w*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?", name, re.ASCII):
        raise nothing
    tfds = import_extra("tensorflow_datasets", "train")
    try:
        builder = tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError:
        raise nothing from None
    except (AssertionError, ValueError) as error:  # another version or configuration than there is
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: expected a data set of TFDS. Received: {reason}") from None
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # raised where files have to be fetched by hand
        raise ValueError(f"{name}: expected its files. Received: {error}") from None
    return from_tfds(builder)


def from_tfds(builder: Any) -> ImageSource:
    """A source from a prepared TFDS builder: in memory where its images are small and of one size.

    Raises:
        ValueError: if its examples are not images with a class label, or none are to train or test.
    """
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise ValueError(
            f"{builder.info.name}: expected features 'image' and 'label' (a class). "
            f"Received: {sorted(features)}"
        )
    splits = set(builder.info.splits)
    if "train" not in splits or not splits & {"validation", "test"}:
        raise ValueError(
            f"{builder.info.name}: expected the splits 'train' and 'validation' or 'test'. "
            f"Received: {sorted(splits)}"
        )
    source = TfdsSource(builder)
    shape = features["image"].shape
    images = source.train_size + source.test_size
    if None in shape or np.prod(shape) * images > _IN_MEMORY:
        return source
    tfds = import_extra("tensorflow_datasets", "train")

    def arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
        whole = builder.as_dataset(split, as_supervised=True, batch_size=-1)
        part, labels = tfds.as_numpy(whole)
        return part, labels.astype(np.int64)

    train, test = arrays("train"), arrays(source.test_split)
    return ArraySource(ImageData(*train, *test, source.class_names, source.name, images))
