"""Metadata of an exported file."""

from __future__ import annotations

import json
from collections.abc import Sequence

import keras

from .settings import ExportSettings


def describe(
    model: keras.Model,
    image_shape: Sequence[int],
    image: str,
    output: str,
    class_names: Sequence[str] | None,
    settings: ExportSettings,
) -> dict[str, str]:
    """Describe an exported file.

    Args:
        model: Exported model.
        image_shape: Height, width and channels of the images.
        image: Type and range of the images.
        output: Type and meaning of the outputs.
        class_names: Names of the classes, if they are known.
        settings: Settings of the export.
    """
    metadata = {
        "name": str(model.name),
        "image_shape": json.dumps(image_shape),
        "image": image,
        "output": output,
        "quantization": settings.quantization,
        "parameters": str(model.count_params()),
        "producer": "nasnet-zoo",
        "converter": settings.converter,
    }
    if class_names is not None:
        metadata["class_names"] = json.dumps([str(name) for name in class_names])
    return metadata
