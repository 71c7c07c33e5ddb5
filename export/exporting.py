"""Writing a classifier or a backbone as a verified file."""

from __future__ import annotations

import dataclasses
import gc
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nasnet_zoo.checking import PositiveInt, Share, checked
from nasnet_zoo.classifier import class_names as class_names_of
from nasnet_zoo.files import write_text
from nasnet_zoo.network import functional, inference_model
from nasnet_zoo.reports.cards import card, card_path

from .formats import MODULES, load_runtime, replacing_export
from .from_keras import image_shape, rescales
from .metadata import describe
from .official import check_backend, model_module
from .quantization import as_model_input
from .settings import CALIBRATED, Converter, ExportSettings, Format, Quantization
from .verification import Verification, check_images, compare, file_graph


@dataclass(frozen=True)
class ExportResult(Verification):
    """A written file, and how it compares with Keras.

    Args:
        seconds: Time to write it, without the comparison.

    The other attributes are those of `Verification`.
    """

    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.format}, {self.quantization}, {self.size / 1e6:.2f} MB in "
            f"{self.seconds:.1f} s; {self.comparison}"
        )


@checked
def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: Format | None = ExportSettings.format,  # noqa: A002
    *,
    representative: Any = None,
    images: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    quantization: Quantization = ExportSettings.quantization,
    preprocess: bool = ExportSettings.preprocess,
    byte_outputs: bool = ExportSettings.byte_outputs,
    image_size: tuple[PositiveInt, PositiveInt] | None = ExportSettings.image_size,
    opset: PositiveInt | None = ExportSettings.opset,
    converter: Converter = ExportSettings.converter,
    min_agreement: Share | None = ExportSettings.min_agreement,
    max_accuracy_drop: Share = ExportSettings.max_accuracy_drop,
) -> ExportResult:
    """Write a model as a file for a runtime, and compare that file with Keras.

    The file takes ``image``, float32 (batch, height, width, channels) with the batch left open, and
    gives ``output``, or ``output_0``.. for a model of several. It appears under its name only after its
    runtime has computed what Keras computes; see `nasnet_zoo.export.verify`.

    Args:
        model: Model of the zoo, fine-tuned or not, or a backbone. An auxiliary head is left out.
        path: Path of the file. A model card is written beside it, as ``path`` + ".md".
        format: See `ExportSettings`, as for all that is not listed here.
        representative: Images like those that the model will see, (images, height, width, channels):
            float32 as the model takes them, or uint8 as files hold them, which `preprocess_input`
            scales unless the model rescales images itself. Needed for "int8" and "int16x8", whose
            ranges are read off them: take training images.
        images: Images on which the file is compared with Keras, as ``representative``: take test
            images. Default: the representative ones, else a few generated images.
        labels: Classes of ``images``, ints (images,). With them accuracies are compared.
        class_names: Names of the classes, stored in the file. Default: the model's own.
        quantization: See `ExportSettings`.
        preprocess: See `ExportSettings`.
        byte_outputs: See `ExportSettings`.
        image_size: See `ExportSettings`.
        opset: See `ExportSettings`.
        converter: See `ExportSettings`.
        min_agreement: See `Limits`.
        max_accuracy_drop: See `Limits`.

    Returns:
        The file and how it compares.

    Raises:
        ValueError: If the model or an argument does not fit, or the file is too far from Keras.
        OSError: If the file cannot be written.
        ImportError: If a package that the format needs is not installed.

    Example::

        result = export(model, "model.tflite", quantization="int8", representative=images)
    """
    settings = ExportSettings(
        format=format,
        quantization=quantization,
        preprocess=preprocess,
        byte_outputs=byte_outputs,
        image_size=image_size,
        opset=opset,
        converter=converter,
        min_agreement=min_agreement,
        max_accuracy_drop=max_accuracy_drop,
    )
    check_backend()
    path = Path(path)
    file_format = settings.format_of(path)
    if quantization in CALIBRATED and representative is None:
        raise ValueError(
            f"Expected representative images for quantization={quantization!r}. Received: none"
        )
    if images is None and representative is None:
        if labels is not None:
            raise ValueError("Expected images with labels. Received: labels alone")
        if min_agreement is None:
            settings = dataclasses.replace(settings, min_agreement=0.0)
    model = inference_model(functional(model))
    shape, scaled = image_shape(model, image_size), not rescales(model)
    if images is None:
        images = _generated(shape, scaled or preprocess) if representative is None else representative
    images = _as_taken(images, shape, scaled, preprocess)
    names = _output_names(model)
    class_names = class_names_of(model) if class_names is None else class_names
    _check_class_names(class_names, model)
    taken = "uint8, 0 to 255" if preprocess else "float32, scaled by preprocess_input to [-1, 1]"
    given = "uint8, on the scale that the file holds" if byte_outputs else "float32"
    metadata = describe(model, shape, taken, given, class_names, settings)

    start = time.perf_counter()
    graph = file_graph(model, shape, preprocess) if converter == "native" else None
    with replacing_export(path, file_format) as temporary:
        if graph is None:
            MODULES[file_format].convert(model_module(model), temporary, metadata, opset)
        else:
            if representative is not None:
                representative = _as_taken(representative, shape, scaled, preprocess)
            MODULES[file_format].write(graph, temporary, names, metadata, settings, representative)
        seconds = time.perf_counter() - start
        found = compare(
            path, load_runtime(temporary), model, graph, images, labels, settings, written=temporary
        )
    gc.collect()  # functions of TensorFlow are cycles, which hold their weights
    result = ExportResult(**vars(found), seconds=seconds)
    write_text(card_path(path), card(result, metadata, names))
    return result


def _generated(shape: tuple[int, ...], as_bytes: bool) -> np.ndarray:
    """A few images to compare on: noise, a ramp, and both."""
    noise = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    ramp = np.linspace(0, 255, shape[0] * shape[1]).reshape(1, *shape[:2], 1)
    ramp = np.broadcast_to(ramp, (1, *shape)).astype(np.uint8)
    images = np.concatenate([noise[:1], ramp, noise[1:] // 2 + ramp // 2])
    return images if as_bytes else images.astype(np.float32)


def _as_taken(images: Any, shape: tuple[int, ...], scaled: bool, preprocess: bool) -> np.ndarray:
    """Images as the file will take them."""
    images = check_images(images, shape, scaled)
    if preprocess and images.dtype != np.uint8:
        raise ValueError(f"Expected uint8 images with preprocess=True. Received: {images.dtype}")
    return images if preprocess else as_model_input(images, scaled)


def _output_names(model: keras.Model) -> tuple[str, ...]:
    count = len(model.outputs)
    return ("output",) if count == 1 else tuple(f"output_{k}" for k in range(count))


def _check_class_names(names: Sequence[str] | None, model: keras.Model) -> None:
    units = model.outputs[0].shape[-1]
    if names is not None and len(names) != units:
        raise ValueError(f"Expected {units} class names, one for each output. Received: {len(names)}")
