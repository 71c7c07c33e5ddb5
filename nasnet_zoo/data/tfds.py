"""Data sets of TensorFlow Datasets."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.extras import import_extra

from .arrays import ImageData
from .sources import ImageSource
from .streams import ArraySource, positions, unfit

#: Data sets with images of one size are held in memory up to this many bytes.
_IN_MEMORY = 1 << 30
_SHUFFLE_BUFFER = 10_000


class TfdsSource(ImageSource):
    """A TFDS data set that is read from its files during training.

    Args:
        builder: `tensorflow_datasets` builder whose data is prepared.
    """

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        info = builder.info
        config = builder.builder_config
        self.name = info.name if config is None else f"{info.name}/{config.name}"
        self.class_names = tuple(info.features["label"].names)
        self.channels = info.features["image"].shape[-1]
        # The test images of ImageNet have no labels.
        self.train_split = "train"
        self.test_split = "validation" if "validation" in info.splits else "test"
        self.train_size = info.splits["train"].num_examples
        self.test_size = info.splits[self.test_split].num_examples

    def _read(self, split: str, **arguments: Any) -> tf.data.Dataset:
        return self._builder.as_dataset(split, as_supervised=True, **arguments)

    def training(self, seed: int, start: int) -> tf.data.Dataset:
        """See `ImageSource`. Files are shuffled, then images within a buffer of 10,000."""
        tfds = import_extra("tensorflow_datasets", "train")
        decode = self._builder.info.features["image"].decode_example

        def epoch(number: tf.Tensor) -> tf.data.Dataset:
            # For this function's graph only. With 0, TensorFlow would test in Python whether the
            # other seed, a tensor, is 0 too.
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
        # Skips images before ``start`` without decoding them.
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
        """See `ImageSource`."""
        kept = self.train_size - round(self.train_size * share)
        if not 0 < kept < self.train_size:
            raise unfit(self.name, share, self.train_size)
        source = copy.copy(self)
        source.train_split, source.test_split = f"train[:{kept}]", f"train[{kept}:]"
        source.train_size, source.test_size = kept, self.train_size - kept
        return source


def open_tfds(name: str) -> ImageSource:
    """Open a TFDS data set by its name. Download it if necessary.

    Args:
        name: Name, or ``NAME/CONFIG``.

    Raises:
        ValueError: If there is no such data set, or its files have to be downloaded by hand.
        ImportError: If TFDS is not installed.
    """
    unknown = ValueError(
        "Expected 'digits', the path of a folder, or the name of a data set of TFDS. "
        f"Received: {name!r}, which is no such folder and no such data set"
    )
    # TFDS raises other errors for texts that are not names.
    if not re.fullmatch(r"[A-Za-z]\w*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?", name, re.ASCII):
        raise unknown
    tfds = import_extra("tensorflow_datasets", "train")
    try:
        builder = tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError:
        raise unknown from None
    except (AssertionError, ValueError) as error:  # no such version or configuration
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: expected a data set of TFDS. Received: {reason}") from None
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # files have to be downloaded by hand
        raise ValueError(f"{name}: expected its files. Received: {error}") from None
    return from_tfds(builder)


def from_tfds(builder: Any) -> ImageSource:
    """Open a TFDS data set: in memory if its images are of one size and take at most 1 GiB.

    Args:
        builder: `tensorflow_datasets` builder whose data is prepared.

    Raises:
        ValueError: If the examples are not images with a class label, or training or test images are
            missing.
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
