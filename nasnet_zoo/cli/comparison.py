"""What exported files are compared with: a model, and images of a data set."""

from __future__ import annotations

import os

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.cells.networks import NetworkGenotype
from nasnet_zoo.data import ImageSource
from nasnet_zoo.data.resizing import as_bytes, normalize, resize_with_crop
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.models import create_model
from nasnet_zoo.saving import load_model

_SHUFFLED = 10_000


def find_model(name: str, weights: str | None, genotype: NetworkGenotype | None) -> keras.Model:
    """Load a model from a file, or build it by its name.

    Args:
        name: A .keras file, or the name of a model.
        weights: Weights of a model by its name, as in `nasnet_zoo.NASNet`.
        genotype: Cells of a model by its name. Default: its own.

    Raises:
        ValueError: If a file is given together with weights or cells.
    """
    if name.endswith(".keras") or os.path.exists(name):
        if weights or genotype:
            raise ValueError(
                "Expected --weights and --genotype with a model by its name. "
                f"Received: {name} {weights or genotype}"
            )
        return load_model(name)
    return create_model(name, genotype, weights=weights)


def sample_images(
    source: ImageSource, examples: tf.data.Dataset, shape: tuple[int, ...], limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images of a data set and bring them into a shape.

    Args:
        source: The data set.
        examples: Its images and labels.
        shape: (height, width, channels).
        limit: Largest number of images.

    Returns:
        Images, uint8 (images, height, width, channels), and labels (images,).

    Raises:
        ValueError: If the images have another number of channels, or one is broken.
    """
    if source.channels not in (1, shape[2]):
        raise ValueError(f"Expected images of {shape[2]} channels. Received: {source.channels}")
    # Folders are in the order of their classes.
    examples = examples.shuffle(_SHUFFLED, seed=0).take(limit)
    size = shape[0], shape[1]
    sized = examples.map(lambda image, label: (normalize(resize_with_crop(image, size)), label))
    with broken_images_named(source):
        images, labels = zip(*sized.as_numpy_iterator(), strict=True)
    stacked = np.stack(images)
    if stacked.shape[3] != shape[2]:
        stacked = np.repeat(stacked, shape[2], axis=3)
    return as_bytes(stacked), np.array(labels)


def sample_training_images(source: ImageSource, shape: tuple[int, ...], limit: int) -> np.ndarray:
    """Draw training images of a data set as `sample_images` does."""
    once = source.training(0, 0).take(source.train_size)
    pairs = once.map(lambda position, image, label: (image, label))
    return sample_images(source, pairs, shape, limit)[0]


def known_labels(labels: np.ndarray | None, model: keras.Model) -> np.ndarray | None:
    """Labels, if all of them are classes of the model."""
    shape = getattr(model, "output_shape", None)  # of a subclassed model: none
    classes = shape[-1] if isinstance(shape, tuple) else 0
    return labels if labels is not None and labels.max() < (classes or 0) else None
