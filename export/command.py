"""What the commands ``nasnet-zoo export``, ``verify`` and ``benchmark`` do."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.checking import check
from nasnet_zoo.data import ImageSource, open_dataset, read_class_names, read_pixels
from nasnet_zoo.data.resizing import as_bytes, normalize, resize_with_crop
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.detection.input import fitted, squared
from nasnet_zoo.detection.ranges import ImageSize
from nasnet_zoo.detection.training import load_detector
from nasnet_zoo.files import check_writable, write_text
from nasnet_zoo.models import create_model
from nasnet_zoo.saving import load_model

from .benchmark import FileReport, as_json, benchmark, picture
from .detector import DetectorExport, export_detector
from .exporting import ExportResult, export
from .formats import load_runtime
from .from_keras import functional, image_shape
from .settings import CALIBRATED, SUFFIXES, format_of
from .verification import Verification, verify

_SHUFFLED = 10_000


def export_command(arguments: argparse.Namespace) -> ExportResult:
    """Exports a model by the arguments of ``nasnet-zoo export``."""
    path = Path(arguments.out)
    format_of(path, arguments.format)  # before the model and the images are opened
    size = tuple(arguments.image_size) if arguments.image_size else None
    model = _model(arguments.model, arguments.weights, arguments.genotype)
    representative = images = labels = None
    if arguments.images:
        source, shape = open_dataset(arguments.images), image_shape(functional(model), size)
        images, labels = _images(source, source.testing(), shape, arguments.limit)
        if arguments.quantization in CALIBRATED:
            training = source.training(0, 0).take(source.train_size)
            pairs = training.map(lambda position, image, label: (image, label))
            representative, _ = _images(source, pairs, shape, arguments.limit)
    return export(
        model,
        path,
        arguments.format,
        quantization=arguments.quantization,
        representative=representative,
        images=images,
        labels=_known(labels, model),
        min_agreement=arguments.min_agreement,
        max_accuracy_drop=arguments.max_accuracy_drop,
        class_names=read_class_names(arguments.classes) if arguments.classes else None,
        preprocess=arguments.bytes,
        byte_outputs=arguments.byte_outputs,
        image_size=size,
        opset=arguments.opset,
        converter=arguments.converter,
    )


def verify_command(arguments: argparse.Namespace) -> Verification:
    """Checks a file by the arguments of ``nasnet-zoo verify``."""
    runtime = load_runtime(arguments.file)
    model = _model(arguments.model, arguments.weights, arguments.genotype)
    size = runtime.image_shape[:2]
    shape = image_shape(functional(model), None if None in size else size)  # type: ignore[arg-type]
    source = open_dataset(arguments.images)
    images, labels = _images(source, source.testing(), shape, arguments.limit)
    return verify(
        arguments.file,
        model,
        images,
        _known(labels, model),
        min_agreement=arguments.min_agreement,
        max_accuracy_drop=arguments.max_accuracy_drop,
    )


def _known(labels: np.ndarray | None, model: keras.Model) -> np.ndarray | None:
    """Labels, if all of them are classes of the model."""
    shape = getattr(model, "output_shape", None)  # of a subclassed model: none
    classes = shape[-1] if isinstance(shape, tuple) else 0
    return labels if labels is not None and labels.max() < (classes or 0) else None


def export_detector_command(arguments: argparse.Namespace) -> DetectorExport:
    """Exports a detector by the arguments of ``nasnet-zoo detect export``."""
    path, size = Path(arguments.out), arguments.image_size
    check("image_size", size, ImageSize)
    chosen = format_of(path, arguments.format)
    detector = load_detector(arguments.detector)
    images = [squared(fitted(read_pixels(name), size)[0], size) for name in arguments.images]
    return export_detector(
        detector,
        path,
        chosen,
        image_size=(size, size),
        images=as_bytes(np.stack(images)) if images else None,
    )


def _model(name: str, weights: str | None, genotype: str | None) -> keras.Model:
    if name.endswith(".keras") or os.path.exists(name):
        if weights or genotype:
            raise ValueError(
                "Expected --weights and --genotype with a model by its name. "
                f"Received: {name} {weights or genotype}"
            )
        return load_model(name)
    return create_model(name, genotype, weights=weights)


def _images(
    source: ImageSource, examples: tf.data.Dataset, shape: tuple[int, ...], limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """At most ``limit`` images of a source as uint8 in a shape, and their labels."""
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


def benchmark_command(arguments: argparse.Namespace) -> list[FileReport]:
    """Measures files by the arguments of ``nasnet-zoo benchmark``."""
    for written in (arguments.json, arguments.picture):
        if written:
            check_writable(written, [*arguments.files, *filter(None, [arguments.keras])])
    size = tuple(arguments.image_size) if arguments.image_size else None
    files = [Path(name) for name in arguments.files]
    for path in files:
        load_runtime(path)
    folder = Path(tempfile.mkdtemp(prefix="nasnet-zoo-"))
    try:
        if arguments.keras:
            model = functional(load_model(arguments.keras))
            image_shape(model, size)
            files = [*_keras_exports(model, files, folder), *files]
        reports = benchmark(files, arguments.threads, arguments.rounds, size)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        write_text(arguments.json, as_json(reports))
    if arguments.picture:
        write_text(arguments.picture, picture(reports))
    return reports


def _keras_exports(model: keras.Model, files: list[Path], folder: Path) -> list[Path]:
    """Keras's own exports of a model, in the formats of ``files``."""
    keras_formats = {"saved_model": "tf_saved_model", "litert": "litert", "onnx": "onnx"}
    made = []
    for name in dict.fromkeys(format_of(path) for path in files):
        path = folder / f"keras{SUFFIXES[name]}"
        model.export(os.fspath(path), format=keras_formats[name], verbose=False)
        made.append(path)
    return made
