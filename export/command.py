"""What the commands ``nasnet-zoo export`` and ``nasnet-zoo benchmark`` do."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from nasnet_zoo.cells.files import write_text
from nasnet_zoo.data import ImageData, balanced, load_data, load_folder
from nasnet_zoo.models import create_model

from .benchmark import FileReport, as_json, benchmark, picture
from .exporting import ExportResult, export, format_of
from .from_keras import image_shape, load_model
from .onnx_file import DEFAULT_OPSET


def export_command(arguments: argparse.Namespace) -> ExportResult:
    """Exports a model by the arguments of ``nasnet-zoo export``."""
    path = Path(arguments.out)
    chosen = format_of(path, arguments.format)
    size = tuple(arguments.image_size) if arguments.image_size else None
    model = _model(arguments.model, arguments.weights)
    representative = labels = None
    if arguments.images:
        shape = image_shape(model, size)
        representative, labels = _images(arguments.images, shape, arguments.limit)
        if labels.max() >= (model.output_shape[-1] or 0):
            labels = None
    names = None
    if arguments.classes:
        names = Path(arguments.classes).read_text(encoding="utf-8").split("\n")
        names = [name for name in names if name]
    return export(
        model,
        path,
        chosen,
        quantization=arguments.quantization,
        representative=representative,
        labels=labels,
        class_names=names,
        preprocess=arguments.bytes,
        image_size=size,
        opset=arguments.opset or DEFAULT_OPSET,
        route=arguments.route,
    )


def _model(name: str, weights: str | None) -> keras.Model:
    if name.endswith(".keras") or os.path.exists(name):
        if weights:
            raise ValueError(f"Expected --weights with a model by its name. Received: {name} {weights}")
        return load_model(name)
    return create_model(name, weights=weights)


def _images(source: str, shape: tuple[int, ...], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out images of a data set, scaled to a shape, and their labels."""
    known = source == "digits" or any(Path(source).glob("*idx?-ubyte*"))
    data: ImageData = load_data(source, limit) if known else load_folder(source, max(shape[:2]), limit)
    chosen = balanced(data.test_labels, limit)
    images, labels = data.test_images[chosen], data.test_labels[chosen]
    if images.shape[3] != shape[2]:
        if images.shape[3] != 1:
            raise ValueError(f"Expected images of {shape[2]} channels. Received: {images.shape[3]}")
        images = np.repeat(images, shape[2], axis=3)
    if images.shape[1:3] != shape[:2]:
        resized = keras.ops.image.resize(images.astype("float32"), shape[:2], antialias=True)
        images = np.clip(np.round(keras.ops.convert_to_numpy(resized)), 0, 255).astype(np.uint8)
    return images, labels


def benchmark_command(arguments: argparse.Namespace) -> list[FileReport]:
    """Measures files by the arguments of ``nasnet-zoo benchmark``."""
    size = tuple(arguments.image_size) if arguments.image_size else None
    folder = Path(tempfile.mkdtemp(prefix="nasnet-zoo-"))
    try:
        files = [Path(name) for name in arguments.files]
        if arguments.keras:
            files = [*_keras_exports(load_model(arguments.keras), files, folder), *files]
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
    suffixes = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
    made = []
    for name in dict.fromkeys(format_of(path) for path in files):
        path = folder / f"keras{suffixes[name]}"
        model.export(os.fspath(path), format=keras_formats[name], verbose=False)
        made.append(path)
    return made
