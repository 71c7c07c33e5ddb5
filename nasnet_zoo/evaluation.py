"""Accuracy, confusion and calibration of a classifier: a Keras model or an exported file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from nasnet_zoo.checking import checked
from nasnet_zoo.data import ImageData, ImageSource, open_dataset
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.files import write_text
from nasnet_zoo.prediction import Crop, ImageSide, checked_probabilities, load_classifier
from nasnet_zoo.progress import track
from nasnet_zoo.reports.charts import confusion_chart, save_chart
from nasnet_zoo.training.input import evaluation_batches

_BINS = 15
_BATCH = 250


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of a classifier on labelled images.

    Args:
        confusion: Confusion matrix, int64 (true class, predicted class): numbers of images.
        top_5: Share of the images whose true class is among the five most probable ones.
        calibration_error: Expected calibration error (Guo et al., arXiv 1706.04599): the mean distance
            between the accuracy and the probability of the predicted class, over 15 bins of equal
            width of that probability, each weighted by its number of images.
        class_names: Names of the classes.
    """

    confusion: np.ndarray
    top_5: float
    calibration_error: float
    class_names: tuple[str, ...]

    @property
    def images(self) -> int:
        """Number of evaluated images."""
        return int(self.confusion.sum())

    @property
    def top_1(self) -> float:
        """Accuracy: the share of the images whose predicted class is the true one."""
        return float(np.trace(self.confusion) / self.images)

    def per_class(self) -> list[tuple[str, int, float, float]]:
        """Name, number of images, recall and precision of each class; NaN where undefined."""
        hits = np.diag(self.confusion)
        with np.errstate(invalid="ignore"):
            recall = hits / self.confusion.sum(axis=1)
            precision = hits / self.confusion.sum(axis=0)
        counts = self.confusion.sum(axis=1)
        rows = zip(self.class_names, counts, recall, precision, strict=True)
        return [(name, int(n), float(r), float(p)) for name, n, r, p in rows]

    def figures(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        return {
            "images": self.images,
            "top_1": self.top_1,
            "top_5": self.top_5,
            "calibration_error": self.calibration_error,
            "class_names": list(self.class_names),
            "confusion": self.confusion.tolist(),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON."""
        write_text(path, json.dumps(self.figures(), indent=2) + "\n")

    def save_picture(self, path: str | os.PathLike[str]) -> None:
        """Draw the confusion matrix in the format of the file's suffix."""
        title = f"{self.top_1:.2%} of {self.images:,} images"
        save_chart(confusion_chart(self.confusion, self.class_names, title), path)


@checked
def evaluate(
    model: keras.Model | str | os.PathLike[str],
    data: ImageSource | ImageData | str | os.PathLike[str],
    image_size: ImageSide | None = None,
    crop: Crop = 1.0,
    class_names: Sequence[str] | None = None,
) -> Evaluation:
    """Evaluate a classifier on the test images of a data set.

    Args:
        model: Keras model of class probabilities, or the path of a ``.keras``, ``.tflite`` or
            ``.onnx`` file or a SavedModel folder. It takes images in [-1, 1]; an exported file may
            take uint8 images.
        data: Data set, see `nasnet_zoo.data.open_dataset`. Its test images are evaluated.
        image_size: Height and width in pixels. Default: the model's.
        crop: Share of the shorter side in the central crop, in (0, 1].
        class_names: Names of the model's classes, in the order of its outputs. Default: the names
            that the model stores; a model without names is assumed to have the classes of the data.

    Raises:
        ValueError: If the file is not a classifier, or the model and the data differ in image size,
            channels or classes. The message names the first class that differs.
    """
    classifier = load_classifier(model)
    source = open_dataset(data)
    _check_classes(classifier.class_names if class_names is None else class_names, source)
    side, channels = classifier.image_side(image_size), classifier.image_shape[-1]
    if channels != source.channels:
        raise ValueError(
            f"{source.name}: expected images of {channels} channels. Received: {source.channels}"
        )
    batches = evaluation_batches(source, side, crop, _BATCH).as_numpy_iterator()
    shown = track(batches, "evaluate", math.ceil(source.test_size / _BATCH))
    pairs = ((classifier.run(images), labels.argmax(-1)) for images, labels in shown)
    with broken_images_named(source):
        return evaluate_predictions(pairs, source.class_names)


def _check_classes(expected: Sequence[str] | None, source: ImageSource) -> None:
    if expected is None:
        return
    for number, (of_model, of_data) in enumerate(zip(expected, source.class_names, strict=False)):
        if of_model != of_data:
            raise ValueError(
                f"{source.name}: expected the model's classes, in its order: class {number} is "
                f"{of_model!r}. Received: {of_data!r}"
            )
    if len(expected) != len(source.class_names):
        raise ValueError(
            f"{source.name}: expected the model's {len(expected)} classes. "
            f"Received: {len(source.class_names)}"
        )


def evaluate_predictions(
    predictions: Iterable[tuple[Any, np.ndarray]], class_names: tuple[str, ...]
) -> Evaluation:
    """Evaluate batches of class probabilities (batch, classes) and labels (batch,).

    Raises:
        ValueError: If there are no images, or the values are not probabilities of the classes.
    """
    classes = len(class_names)
    confusion = np.zeros((classes, classes), np.int64)
    in_top_5 = 0
    bins = np.zeros((_BINS, 3))  # images, correct predictions, sum of probabilities
    for probabilities, labels in predictions:
        probabilities = checked_probabilities(probabilities, len(labels), classes)
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        predicted = order[:, 0]
        np.add.at(confusion, (labels, predicted), 1)
        in_top_5 += int((order[:, :5] == labels[:, None]).any(-1).sum())
        confidence = probabilities.max(-1)
        which = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
        np.add.at(bins, which, np.stack([np.ones(len(labels)), predicted == labels, confidence], -1))
    images = int(confusion.sum())
    if not images:
        raise ValueError("Expected predictions for at least one image. Received: none")
    calibration_error = float(np.abs(bins[:, 1] - bins[:, 2]).sum() / images)
    return Evaluation(confusion, in_top_5 / images, calibration_error, tuple(class_names))
