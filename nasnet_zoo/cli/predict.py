"""``nasnet-zoo predict``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nasnet_zoo.checking import PositiveInt

from .shared import ClassNames, Crop, ImageSide, Json, Weights

if TYPE_CHECKING:
    import keras


def predict(
    model: str,
    images: tuple[str, ...],
    /,
    *,
    weights: Weights = None,
    top: PositiveInt = 5,
    image_size: ImageSide = None,
    crop: Crop = 1.0,
    classes: ClassNames = None,
    json: Json = None,
) -> list[dict[str, Any]]:
    """Predict the classes of images.

    Image files are prepared as `nasnet-zoo evaluate` prepares them. A model of 1,000 classes that holds
    no class names is taken for one of ImageNet.

    Args:
        model: A .keras, .tflite or .onnx file, a SavedModel folder, or the name of a model, as
            `nasnet-zoo models` lists them.
        images: Image files.
        top: Largest number of classes to print for an image.

    Example:
        nasnet-zoo predict runs/digits/model.keras a.png b.png --top 3
    """
    from nasnet_zoo import prediction
    from nasnet_zoo.data import read_class_names, read_size
    from nasnet_zoo.progress import track
    from nasnet_zoo.quiet import start_backend

    if json:
        json.check(filter(None, [model, weights, classes, *images]))
    names = None if classes is None else read_class_names(classes)
    for path in images:
        read_size(path)
    start_backend()
    classifier = _classifier(model, weights, image_size)
    found = prediction.predict(classifier, images, top, image_size, crop, names)
    results = []
    for path, predictions in zip(images, track(found, "predict", len(images)), strict=True):
        print(f"{path}:")
        for name, _, probability in predictions:
            print(f"{probability:8.2%}  {name}")
        listed = [
            {"class": name, "index": index, "probability": probability}
            for name, index, probability in predictions
        ]
        results.append({"image": path, "predictions": listed})
    return results


def _classifier(name: str, weights: str | None, image_size: int | None) -> str | keras.Model:
    """The model of a name in the papers' tables, with weights; a file is left as it is."""
    from nasnet_zoo.models import create_model
    from nasnet_zoo.presets import find_preset, list_models

    if weights is None:
        if name in list_models() and not os.path.exists(name):
            raise ValueError(f"Expected --weights for the model {name}. Received: none")
        return name
    channels = find_preset(name).architecture.channels
    shape = None if image_size is None else (image_size, image_size, channels)
    return create_model(name, weights=weights, input_shape=shape)
