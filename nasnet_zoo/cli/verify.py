"""``nasnet-zoo verify``."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from tyro.conf import arg

from nasnet_zoo.export.settings import Limits

from .shared import Cells, Data, Json, Limit, Weights


def verify(
    file: str,
    model: str,
    /,
    *,
    images: Data,
    weights: Weights = None,
    genotype: Cells = None,
    limit: Limit = 200,
    limits: Annotated[Limits, arg(name="")] = Limits(),
    json: Json = None,
) -> dict[str, Any]:
    """Check an exported file against its Keras model.

    Files of nasnet-zoo are compared value by value, files of other converters by their outputs, on the
    test images of a data set. A SavedModel is a program: check only those that you trust.

    Args:
        file: A SavedModel folder, or a .tflite or .onnx file.
        model: A .keras file, or the name of a model, as `nasnet-zoo models` lists them.
        limits: Limits of the differences.

    Example:
        nasnet-zoo verify model.tflite model.keras --images FOLDER --max-accuracy-drop 0.01
    """
    from nasnet_zoo import export
    from nasnet_zoo.data import open_dataset
    from nasnet_zoo.export.formats import load_runtime
    from nasnet_zoo.export.from_keras import image_shape
    from nasnet_zoo.network import functional
    from nasnet_zoo.quiet import start_backend

    from .comparison import find_model, known_labels, sample_images

    start_backend()
    runtime = load_runtime(file)
    network = find_model(model, weights, genotype)
    size = runtime.image_shape[:2]
    shape = image_shape(functional(network), None if None in size else size)  # type: ignore[arg-type]
    source = open_dataset(images)
    tested, labels = sample_images(source, source.testing(), shape, limit)
    found = export.verify(file, network, tested, known_labels(labels, network), **vars(limits))
    print(found)
    return {**dataclasses.asdict(found), "path": file}
