"""``nasnet-zoo export``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from nasnet_zoo.export.settings import CALIBRATED, ExportSettings

from .shared import Cells, ClassNames, Json, Limit, Weights


def export(
    model: str,
    /,
    *,
    out: str,
    weights: Weights = None,
    genotype: Cells = None,
    images: Annotated[
        str | None,
        arg(
            metavar="DATA",
            help="Data set, as of `nasnet-zoo train`. Ranges are read off its training images, and the "
            "file is compared with Keras on its test images. Default: a few generated images.",
        ),
    ] = None,
    limit: Limit = 200,
    classes: ClassNames = None,
    settings: Annotated[ExportSettings, arg(name="")] = ExportSettings(),
    json: Json = None,
) -> dict[str, Any]:
    """Write a model as a SavedModel, LiteRT or ONNX file, and compare that file with Keras.

    Args:
        model: A .keras file, or the name of a model, as `nasnet-zoo models` lists them.
        out: A .tflite or .onnx file, or a folder for a SavedModel.
        settings: Settings of the export.

    Example:
        nasnet-zoo export model.keras --out model.tflite --quantization int8 --images FOLDER
    """
    path = Path(out)
    settings.format_of(path)

    from nasnet_zoo import export as exporting
    from nasnet_zoo.data import open_dataset, read_class_names
    from nasnet_zoo.export.from_keras import image_shape
    from nasnet_zoo.network import functional
    from nasnet_zoo.quiet import start_backend

    from .comparison import find_model, known_labels, sample_images, sample_training_images

    start_backend()
    network = find_model(model, weights, genotype)
    representative = tested = labels = None
    if images:
        source, shape = open_dataset(images), image_shape(functional(network), settings.image_size)
        tested, labels = sample_images(source, source.testing(), shape, limit)
        if settings.quantization in CALIBRATED:
            representative = sample_training_images(source, shape, limit)
    result = exporting.export(
        network,
        path,
        representative=representative,
        images=tested,
        labels=known_labels(labels, network),
        class_names=read_class_names(classes) if classes else None,
        **vars(settings),
    )
    print(result)
    return {**dataclasses.asdict(result), "path": out}
