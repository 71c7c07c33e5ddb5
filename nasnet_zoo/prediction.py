"""The classes of images, by a Keras model and by its exported files alike."""

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
    """A class, and how probable it is that an image is of it.

    Args:
        class_name: the class.
        class_index: its place in the model's outputs, from 0.
        probability: in [0, 1].
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
    """Predicts the classes of image files, which are prepared as `evaluate` prepares them.

    Args:
        model: see `nasnet_zoo.evaluation.evaluate`.
        images: paths of image files; for a model of one channel they are turned to grey.
        top: the most classes to give of an image.
        image_size: height and width in pixels. Default: the model's.
        crop: share of the shorter side that is looked at, in (0, 1].
        class_names: of the model, in the order of its outputs. Default: those that it holds. A model
            of 1,000 classes without names is taken for one of ImageNet; the classes of others are
            called "class 0" and so on.

    Returns:
        An iterator over the images, which gives the most probable classes of each, best first.

    Raises:
        ValueError: if the file is no classifier, an argument is out of range, or naming the image that
            cannot be read.
        OSError: if a file cannot be opened.

    Example::

        for path, (best, *_) in zip(paths, predict("model.tflite", paths)):
            print(path, best.class_name, best.probability)
    """
    classifier = load_classifier(model)
    side = classifier.image_side(image_size)
    return (_predicted(classifier, path, side, crop, top, class_names) for path in images)


def _predicted(
    classifier: Classifier,
    path: str | os.PathLike[str],
    side: int,
    crop: float,
    top: int,
    class_names: Sequence[str] | None,
) -> list[Prediction]:
    pixels = _pixels(path, classifier.image_shape[-1])
    image = normalize(resize_with_crop(pixels, (side, side), crop)).numpy()
    # One by one: a file of another converter may take no more at once.
    (probabilities,) = checked_probabilities(classifier.run(image[None]), images=1)
    names = _class_names(classifier.class_names if class_names is None else class_names, probabilities)
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(names[k], int(k), float(probabilities[k])) for k in best]


def _pixels(path: str | os.PathLike[str], channels: int | None) -> np.ndarray:
    pixels = read_pixels(path)
    if channels == 3:
        return pixels
    return np.asarray(import_extra("PIL.Image", "train").fromarray(pixels).convert("L"))[..., None]


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
        run: from images (batch, height, width, channels) in [-1, 1] to its output.
        image_shape: (height, width, channels) of the images it takes; None where any will do.
        class_names: in the order of its outputs, if it holds them.
    """

    run: Callable[[np.ndarray], Any]
    image_shape: tuple[int | None, ...]
    class_names: tuple[str, ...] | None

    def image_side(self, image_size: int | None) -> int:
        """The height and width to bring images to.

        Args:
            image_size: that is asked for. Default: the classifier's own.

        Raises:
            ValueError: if it takes images of any size and none is given, or of another size only.
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
    """Makes a classifier of a Keras model, or of a file.

    Args:
        model: see `nasnet_zoo.evaluation.evaluate`.

    Raises:
        ValueError: if it is no classifier of images with 1 or 3 channels, or the file is broken.
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
    """The outputs of a classifier as float32 (images, classes), if they are class probabilities.

    Args:
        outputs: to check.
        images: in the batch.
        classes: of the data. Default: any number.

    Raises:
        ValueError: if they have another shape, or do not sum to 1.
    """
    probabilities = np.asarray(outputs, np.float32)
    shape = probabilities.shape
    if len(shape) != 2 or shape[0] != images or classes not in (None, shape[1]):
        of = "" if classes is None else f"{classes} "
        raise ValueError(f"Expected probabilities of {of}classes for each image. Received: {shape}")
    if not (probabilities.min() >= -0.01 and np.allclose(probabilities.sum(-1), 1.0, atol=0.1)):
        raise ValueError("Expected class probabilities. Received: outputs that do not sum to 1")
    return probabilities
