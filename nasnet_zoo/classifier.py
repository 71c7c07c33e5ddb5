"""The classifier: its layer, which knows the names of its classes, and its inputs and predictions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
from annotated_types import Interval

from nasnet_zoo.checking import check, checked


# Named as Keras's own: files of weights name layers by their class.
@keras.saving.register_keras_serializable(package="nasnet_zoo")
class Dense(keras.layers.Dense):
    """Keras's dense layer, with the names of the classes that its outputs stand for.

    Args:
        units: Number of classes.
        class_names: One name for each class, in the order of the outputs. Default: None.
        **kwargs: Those of `keras.layers.Dense`.

    Raises:
        ValueError: If there is not one name for each class.
    """

    def __init__(self, units: int, class_names: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check("class_names", class_names, tuple[str, ...] | None)
        if class_names is not None and len(class_names) != units:
            raise ValueError(
                f"Expected class_names: one for each of {units} classes. "
                f"Received: {len(class_names)} names"
            )
        self.class_names = None if class_names is None else tuple(class_names)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = None if self.class_names is None else list(self.class_names)
        return {**super().get_config(), "class_names": names}


def class_names(model: keras.Model) -> tuple[str, ...] | None:
    """Return the names of a model's classes, in the order of its outputs.

    Args:
        model: Keras model, new or loaded.

    Returns:
        The names that the model was built or trained with, or None if it holds none.
    """
    outputs = {id(output) for output in keras.tree.flatten(getattr(model, "outputs", None) or [])}
    for layer in model.layers:
        if isinstance(layer, Dense) and id(layer.output) in outputs:
            return layer.class_names
    return None


def preprocess_input(x: Any) -> Any:
    """Scale images from [0, 255] to [-1, 1].

    Args:
        x: Array or tensor of any shape, RGB where there are colours; integers become float32.
    """
    return keras.applications.imagenet_utils.preprocess_input(x, mode="tf")


@checked
def decode_predictions(
    predictions: Any, top: Annotated[int, Interval(ge=1, le=1000)] = 5
) -> list[list[tuple[str, str, float]]]:
    """Name the ``top`` most probable ImageNet classes of every image.

    The names are those of `keras.applications`, held in this package: nothing is fetched.

    Args:
        predictions: Probabilities (batch, 1000).
        top: Number of classes for each image, from 1 to 1000. Default: 5.

    Returns:
        For every image a list of (WordNet id, class name, probability), best first.

    Raises:
        ValueError: If ``predictions`` has another shape, or ``top`` is out of range.
    """
    probabilities = np.asarray(keras.ops.convert_to_numpy(predictions))
    classes = imagenet_classes()
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ValueError(
            f"Expected predictions of shape (batch, {len(classes)}). Received: {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("Expected finite predictions. Received: infinite ones, or no numbers")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(*classes[k], float(row[k])) for k in chosen]
        for row, chosen in zip(probabilities, best, strict=True)
    ]


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """WordNet IDs and names of ImageNet's classes, in the order of `keras.applications`."""
    lines = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return tuple((identity, name) for identity, name in (line.split(" ") for line in lines))
