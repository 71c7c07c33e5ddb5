"""Data sets of images that are all of one value, their own number: arrays, and those of TFDS."""

import numpy as np
import tensorflow_datasets as tfds

from nasnet_zoo.data import ImageData


def numbered(count, size=8, channels=1, classes=3):
    """Training images from 0 to ``count`` - 1, and test images from 200 to 206."""
    numbers = np.concatenate([np.arange(count), 200 + np.arange(7)]).astype(np.uint8)
    shape = (len(numbers), size, size, channels)
    images = np.broadcast_to(numbers[:, None, None, None], shape).copy()
    labels = numbers.astype(np.int64) % classes
    names = tuple("abcdefghij"[:classes])
    return ImageData(
        images[:count], labels[:count], images[count:], labels[count:], names, "numbered", count + 7
    )


class Numbered(tfds.core.GeneratorBasedBuilder):
    """40 training images of one size, which are held in memory."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (8, 8, 1)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=self.shape),
            "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples(part) for part in ("train", "test")}

    def _generate_examples(self, part):
        data = numbered(40, self.shape[0] or 8, self.shape[-1])
        images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield k, {"image": image, "label": int(label)}


class NumberedStream(Numbered):
    """The same with images that could be of any size, so that they are streamed."""

    shape = (None, None, 3)


class NumberedSizes(Numbered):
    """The same in two configurations, with images of either size."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=str(size), version=Numbered.VERSION) for size in (8, 16)
    ]

    @property
    def shape(self):
        return (int(self.builder_config.name),) * 2 + (1,)


def prepared(builder, folder):
    """A builder whose data lies in a folder."""
    made = builder(data_dir=folder)
    made.download_and_prepare()
    return made
