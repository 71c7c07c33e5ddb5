"""Prediction of the classes of images by a Keras model or an exported file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import keras
import numpy as np
from annotated_types import Interval

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.classifier import class_names as stored_names
from nasnet_zoo.classifier import imagenet_classes
from nasnet_zoo.data import read_pixels
from nasnet_zoo.data.resizing import as_bytes, normalize, resize_with_crop
from nasnet_zoo.export.formats import load_runtime
from nasnet_zoo.extras import import_extra
from nasnet_zoo.saving import load_model

ImageSide = Annotated[int, Interval(ge=1, le=4096)]
Crop = Annotated[float, Interval(gt=0, le=1)]


class Prediction(NamedTuple):
    """A predicted class.

    Args:
        class_name: Name of the class.
        class_index: Index of the class in the model's outputs, from 0.
        probability: Probability of the class, in [0, 1].
    """

    class_name: str
    class_index: int
    probability: float


@checked
def predict(
    model: keras.Model | str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    top: PositiveInt = 5,
    image_size: ImageSide | None = None,
    crop: Crop = 1.0,
    class_names: Sequence[str] | None = None,
) -> Iterator[list[Prediction]]:
    """Predict the classes of image files, preprocessed as in `nasnet_zoo.evaluation.evaluate`.

    Args:
        model: Model or path, see `nasnet_zoo.evaluation.evaluate`.
        images: Paths of image files. They are converted to grey for a model of one channel.
        top: Maximum number of classes per image. Default: 5.
        image_size: Height and width in pixels. Default: the model's.
        crop: Share of the shorter side in the central crop, in (0, 1]. Default: 1.
        class_names: Names of the model's classes, in the order of its outputs. Default: the names that
            the model stores. A model of 1,000 classes without names is assumed to have those of
            ImageNet; the classes of others are named "class 0", "class 1", ...

    Returns:
        Iterator over the images that gives the most probable classes of each in descending order.

    Raises:
        ValueError: If the file is not a classifier, an argument is out of range, or an image cannot be
            read.
        OSError: If a file cannot be opened.

    Example::

        for path, (best, *_) in zip(paths, predict("model.tflite", paths)):
            print(path, best.class_name, best.probability)
    """
    classifier = load_classifier(model)
    side = classifier.image_side(image_size)

    def predicted(path: str | os.PathLike[str]) -> list[Prediction]:
        pixels = read_pixels(path)
        if classifier.image_shape[-1] == 1:
            image = import_extra("PIL.Image", "train").fromarray(pixels)
            pixels = np.asarray(image.convert("L"))[..., None]
        image = normalize(resize_with_crop(pixels, (side, side), crop)).numpy()
        # One by one: a file of another converter may have a fixed batch size of 1.
        (probabilities,) = checked_probabilities(classifier.run(image[None]), images=1)
        given = classifier.class_names if class_names is None else class_names
        names = _class_names(given, probabilities)
        best = np.argsort(-probabilities, kind="stable")[:top]
        return [Prediction(names[k], int(k), float(probabilities[k])) for k in best]

    return map(predicted, images)


def _class_names(names: Sequence[str] | None, probabilities: np.ndarray) -> Sequence[str]:
    classes = len(probabilities)
    if names is None:
        of_imagenet = [name for _, name in imagenet_classes()]
        return of_imagenet if classes == len(of_imagenet) else [f"class {k}" for k in range(classes)]
    if len(names) != classes:
        raise ValueError(f"Expected names of the model's {classes} classes. Received: {len(names)}")
    return names


class Classifier(NamedTuple):
    """A Keras model or an exported file, ready to run.

    Args:
        run: Function from images (batch, height, width, channels) in [-1, 1] to the output.
        image_shape: Height, width and channels of the images. None where any size is accepted.
        class_names: Class names in the order of the outputs. None if they are not stored.
    """

    run: Callable[[np.ndarray], Any]
    image_shape: tuple[int | None, ...]
    class_names: tuple[str, ...] | None

    def image_side(self, image_size: int | None) -> int:
        """Height and width in pixels to resize images to.

        Args:
            image_size: Requested size. Default: the classifier's own.

        Raises:
            ValueError: If the classifier takes images of any size and none is given, or if it takes
                another size only.
        """
        height, width, _ = self.image_shape
        side = image_size or height or width
        if side is None:
            raise ValueError("Expected image_size for a model of any image size. Received: None")
        if height not in (None, side) or width not in (None, side):
            raise ValueError(
                f"Expected a model of images of {side}x{side} pixels. Received: one of {height}x{width}"
            )
        return side


def load_classifier(model: keras.Model | str | os.PathLike[str]) -> Classifier:
    """Load a classifier.

    Args:
        model: Model or path, see `nasnet_zoo.evaluation.evaluate`.

    Raises:
        ValueError: If the model is not a classifier of images with 1 or 3 channels, or the file is
            broken.
    """
    if isinstance(model, keras.Model):
        return _of_keras(model)
    path = Path(model)
    if path.suffix == ".keras":
        return _of_keras(load_model(path))
    runtime = load_runtime(path)
    if len(runtime.outputs) != 1:
        raise ValueError(
            f"{path}: expected a classifier, with one output. Received: {', '.join(runtime.outputs)}"
        )
    shape = runtime.image_shape
    if len(shape) != 3 or shape[-1] not in (1, 3):
        raise ValueError(f"{path}: expected {_IMAGES}. Received: shape {shape}")
    if runtime.image_dtype == "uint8":
        return Classifier(lambda images: runtime.predict(as_bytes(images)), shape, runtime.class_names)
    return Classifier(runtime.predict, shape, runtime.class_names)


_IMAGES = "a classifier of images (height, width, 1 or 3 channels)"


def _of_keras(model: keras.Model) -> Classifier:
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or len(model.outputs) != 1:
        raise ValueError(
            "Expected a classifier: a model with one image input and one output. "
            f"Received: {type(model).__name__} {model.name!r}"
        )
    if shape[-1] not in (1, 3):
        raise ValueError(f"Expected {_IMAGES}. Received: shape {shape[1:]}")
    return Classifier(lambda images: model.predict_on_batch(images), shape[1:], stored_names(model))


def checked_probabilities(outputs: Any, images: int, classes: int | None = None) -> np.ndarray:
    """Check that the outputs of a classifier are class probabilities.

    Args:
        outputs: Outputs of a batch.
        images: Number of images in the batch.
        classes: Number of classes. Default: any number.

    Returns:
        The probabilities, float32 (images, classes).

    Raises:
        ValueError: If the outputs have another shape or do not sum to 1.
    """
    probabilities = np.asarray(outputs, np.float32)
    shape = probabilities.shape
    if len(shape) != 2 or shape[0] != images or classes not in (None, shape[1]):
        of = "" if classes is None else f"{classes} "
        raise ValueError(f"Expected probabilities of {of}classes for each image. Received: {shape}")
    if not (probabilities.min() >= -0.01 and np.allclose(probabilities.sum(-1), 1.0, atol=0.1)):
        raise ValueError("Expected class probabilities. Received: outputs that do not sum to 1")
    return probabilities
