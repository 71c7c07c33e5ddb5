"""The front door: a model in, a verified file out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells.files import write_text
from nasnet_zoo.network import inference_model

from .compute import write_saved_model
from .from_keras import image_shape, inference_graph
from .graph import InferenceGraph
from .litert_file import write_litert
from .onnx_file import DEFAULT_OPSET, check_opset, write_onnx
from .plain import WRITERS, check_backend, model_module, replacing_export
from .quantization import as_model_input
from .rewrites import simplify, take_bytes
from .runtimes import load_runtime

#: The formats, and what numbers each of them can hold.
FORMATS = {
    "saved_model": ("float32",),
    "litert": ("float32", "float16", "dynamic", "int8", "int16x8"),
    "onnx": ("float32", "float16", "int8"),
}
#: How far a file may be from Keras: the greatest difference of an output, as a part of the greatest
#: output (or of 1, where that is less), and the least share of images on which the best output is
#: the same, which is asked of at least `_AGREEMENT_IMAGES` images.
LIMITS = {
    "float32": (1e-4, 0.99),
    "float16": (0.1, 0.98),
    "dynamic": (0.5, 0.9),
    "int8": (1.0, 0.85),
    "int16x8": (0.5, 0.9),
}
_AGREEMENT_IMAGES = 50
_CALIBRATED = ("int8", "int16x8")
_SUFFIXES = {".tflite": "litert", ".onnx": "onnx", "": "saved_model"}
# Of the images that are compared at a time: Keras keeps everything that it computes from them.
_PIXELS = 1 << 18


@dataclass(frozen=True)
class ExportResult:
    """A file, and how it was found to compare with Keras.

    Args:
        path: of the file, or of the SavedModel's folder.
        format: a key of `FORMATS`.
        quantization: the numbers it holds.
        size: in bytes.
        seconds: it took to write, without the comparison.
        images: on how many it was compared.
        difference: the greatest difference of an output from Keras.
        agreement: share of the images on which the greatest output is the same as in Keras; None
            for what does not classify.
        accuracy: share of the images that the file names right; None without labels.
        keras_accuracy: the same of Keras.
    """

    path: Path
    format: str
    quantization: str
    size: int
    seconds: float
    images: int
    difference: float
    agreement: float | None
    accuracy: float | None
    keras_accuracy: float | None

    def __str__(self) -> str:
        parts = [
            f"{self.path}: {self.format}, {self.quantization}, {self.size / 1e6:.2f} MB in "
            f"{self.seconds:.1f} s; on {self.images} images at most {self.difference:.1e} from Keras"
        ]
        if self.agreement is not None:
            parts.append(f"the same class on {self.agreement:.1%}")
        if self.accuracy is not None:
            parts.append(f"accuracy {self.accuracy:.2%} (Keras: {self.keras_accuracy:.2%})")
        return ", ".join(parts)


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    quantization: str = "float32",
    representative: Any = None,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    preprocess: bool = False,
    byte_outputs: bool = False,
    image_size: tuple[int, int] | None = None,
    opset: int = DEFAULT_OPSET,
    route: str = "direct",
) -> ExportResult:
    """Writes a model as a file for a runtime, and compares that file with Keras.

    The file takes ``image``, float32 (batch, height, width, channels) with the batch left open, and
    gives ``output``, or ``output_0``.. for a model of several. It appears under its name only when
    its runtime has been seen to compute what Keras computes, within `LIMITS`.

    Args:
        model: of the zoo, fine-tuned or not, or a backbone; an auxiliary head is left out.
        path: of the file; a model card is written beside it, as ``path`` + ".md".
        format: "saved_model", "litert" or "onnx". Default: by the path's suffix, ``.tflite``,
            ``.onnx`` or none.
        quantization: "float32"; "float16", weights stored as halves; for LiteRT also "dynamic",
            int8 weights; "int8", all in bytes, for LiteRT and ONNX; "int16x8", for LiteRT.
        representative: images like those that the model will see, (images, height, width,
            channels): float32 as the model takes them, or uint8 as files hold them, which
            `preprocess_input` scales. Needed for "int8" and "int16x8", whose ranges are read off
            them. The file is compared with Keras on them. Default: a few generated images.
        labels: the classes of these images, ints. If given, accuracies are compared.
        class_names: stored in the file.
        preprocess: whether the file takes uint8 images and does `preprocess_input` itself.
        byte_outputs: whether a LiteRT file of "int8" gives uint8, on a scale that it holds:
            probabilities in steps of 1/256.
        image_size: (height, width), for a model that leaves them open: those of the file, or with
            route="plain", whose files leave them open too, of the images to compare on.
        opset: of ONNX.
        route: "direct", or "plain": the format's own converter, for float32 and for models with
            layers that are not ours.

    Returns:
        What was written and how it compares.

    Raises:
        ValueError: if the model or an argument does not fit, or the file is too far from Keras.
        OSError: if the file cannot be written.
        ImportError: if what the format needs is not installed.

    Example::

        result = export(model, "model.tflite", quantization="int8", representative=images)
    """
    check_backend()
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: {model!r}")
    path = Path(path)
    format = format_of(path, format)  # noqa: A001
    _check(format, quantization, representative, labels, route, opset, preprocess, byte_outputs)
    model = inference_model(model)
    shape = image_shape(model, image_size)
    images = _images(representative, shape, preprocess)
    names = _output_names(model)
    metadata = _metadata(model, shape, class_names, preprocess, byte_outputs, quantization)

    start = time.perf_counter()
    graph = None
    if route == "direct":
        graph = simplify(inference_graph(model, image_size))
        if preprocess:
            graph = take_bytes(graph, 1 / 127.5, -1.0)
    with replacing_export(path, format) as temporary:
        if graph is None:
            WRITERS[format](model_module(model), temporary, metadata)
        else:
            _write(graph, temporary, format, names, metadata, quantization, images, opset, byte_outputs)
        seconds = time.perf_counter() - start
        result = _compare(model, temporary, path, format, quantization, images, labels, seconds)
    write_text(path.with_name(path.name + ".md"), _card(result, metadata, names))
    return result


def format_of(path: Path, format: str | None = None) -> str:  # noqa: A002
    """The format to write, by name or by the path's suffix.

    Raises:
        ValueError: if there is no such format, or the suffix is another's.
    """
    suffixes = {name: suffix for suffix, name in _SUFFIXES.items()}
    if format is None and path.suffix in _SUFFIXES:
        format = _SUFFIXES[path.suffix]  # noqa: A001
    if format not in FORMATS:
        raise ValueError(
            f"Expected a format of {', '.join(FORMATS)}, or a path that ends in .tflite or .onnx. "
            f"Received: format={format!r}, path={os.fspath(path)!r}"
        )
    if suffixes[format] and path.suffix != suffixes[format]:
        raise ValueError(
            f"Expected a path that ends in {suffixes[format]}. Received: {os.fspath(path)!r}"
        )
    return format


def _check(
    format: str,  # noqa: A002
    quantization: str,
    representative: Any,
    labels: Any,
    route: str,
    opset: int,
    preprocess: bool,
    byte_outputs: bool,
) -> None:
    if route not in ("direct", "plain"):
        raise ValueError(f"Expected route 'direct' or 'plain'. Received: {route=}")
    if quantization not in FORMATS[format]:
        raise ValueError(
            f"Expected a quantization of {format}, {', '.join(FORMATS[format])}. "
            f"Received: {quantization=}"
        )
    if quantization in _CALIBRATED and representative is None:
        raise ValueError(
            f"Expected representative images for quantization={quantization!r}. Received: none"
        )
    if byte_outputs and (format, quantization) != ("litert", "int8"):
        raise ValueError(
            "Expected byte_outputs with a LiteRT file of quantization='int8'. "
            f"Received: {format=}, {quantization=}"
        )
    if labels is not None and representative is None:
        raise ValueError("Expected representative images with labels. Received: labels alone")
    if route == "plain" and (quantization != "float32" or preprocess):
        raise ValueError(
            "Expected quantization='float32' and preprocess=False with route='plain'. "
            f"Received: {quantization=}, {preprocess=}"
        )
    if format == "onnx":
        check_opset(opset)


def _images(representative: Any, shape: tuple[int, ...], preprocess: bool) -> np.ndarray:
    """The images to calibrate and compare on, as the file will take them."""
    if representative is None:
        noise = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
        ramp = np.linspace(0, 255, shape[0] * shape[1]).reshape(1, *shape[:2], 1)
        ramp = np.broadcast_to(ramp, (1, *shape)).astype(np.uint8)
        representative = np.concatenate([noise[:1], ramp, noise[1:] // 2 + ramp // 2])
    images = np.asarray(representative)
    fits = images.ndim == 4 and images.shape[1:] == shape and len(images)
    if not fits or images.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f"Expected uint8 or float32 images of shape (images, {', '.join(map(str, shape))}). "
            f"Received: {images.dtype} {images.shape}"
        )
    if images.dtype == np.float32 and not np.isfinite(images).all():
        raise ValueError("Expected images of finite numbers. Received: some that are not")
    if preprocess:
        if images.dtype != np.uint8:
            raise ValueError(f"Expected uint8 images with preprocess=True. Received: {images.dtype}")
        return images
    return as_model_input(images)


def _output_names(model: keras.Model) -> tuple[str, ...]:
    count = len(model.outputs)
    return ("output",) if count == 1 else tuple(f"output_{k}" for k in range(count))


def _write(
    graph: InferenceGraph,
    path: Path,
    format: str,  # noqa: A002
    names: tuple[str, ...],
    metadata: dict[str, str],
    quantization: str,
    images: np.ndarray,
    opset: int,
    byte_outputs: bool,
) -> None:
    if format == "saved_model":
        write_saved_model(graph, path, names)
    elif format == "litert":
        write_litert(
            graph,
            path,
            names,
            metadata,
            quantization=quantization,
            images=images,
            byte_outputs=byte_outputs,
        )
    else:
        write_onnx(graph, path, names, metadata, opset=opset, quantization=quantization, images=images)


# === Comparison ===


def _compare(
    model: keras.Model,
    written: Path,
    path: Path,
    format: str,  # noqa: A002
    quantization: str,
    images: np.ndarray,
    labels: Any,
    seconds: float,
) -> ExportResult:
    """Runs a file beside Keras; raises a `ValueError` where they are too far apart."""
    runtime = load_runtime(written)
    difference, scale = 0.0, 1.0
    best, expected_best = [], []
    step = max(_PIXELS // (images.shape[1] * images.shape[2]), 1)
    for start in range(0, len(images), step):
        batch = images[start : start + step]
        outputs = runtime.predict_all(batch)
        expected = model(as_model_input(batch), training=False)
        expected = list(expected) if isinstance(expected, (list, tuple)) else [expected]
        for output, tensor in zip(outputs, expected, strict=True):
            array = np.asarray(keras.ops.convert_to_numpy(tensor), np.float32)
            difference = max(difference, _distance(output, array))
            scale = max(scale, float(np.abs(array).max()))
        best.append(outputs[0].argmax(-1))
        expected_best.append(np.asarray(expected[0]).argmax(-1))
    classifies = len(model.outputs) == 1 and best[0].ndim == 1
    agreement = accuracy = keras_accuracy = None
    if classifies:
        found, wanted = np.concatenate(best), np.concatenate(expected_best)
        agreement = float(np.mean(found == wanted))
        if labels is not None:
            labels = _labels(labels, len(images))
            accuracy, keras_accuracy = float(np.mean(found == labels)), float(np.mean(wanted == labels))
    greatest, least = LIMITS[quantization]
    few = agreement is None or len(images) < _AGREEMENT_IMAGES
    if not difference <= greatest * scale or not (few or agreement >= least):  # type: ignore[operator]
        same = "" if few else f", the same class on {agreement:.1%}"
        raise ValueError(
            f"{path}: expected outputs within {greatest * scale:.2g} of Keras's, and the same class "
            f"on {least:.0%} of {_AGREEMENT_IMAGES} images or more. Received: a difference of "
            f"{difference:.2g}{same}"
        )
    return ExportResult(
        path,
        format,
        quantization,
        runtime.size,
        seconds,
        len(images),
        difference,
        agreement,
        accuracy,
        keras_accuracy,
    )


def _distance(output: np.ndarray, expected: np.ndarray) -> float:
    if output.shape != expected.shape:
        raise ValueError(f"Expected an output of shape {expected.shape}. Received: {output.shape}")
    return float(np.abs(output.astype(np.float32) - expected).max())


def _labels(labels: Any, count: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected {count} labels, one int for each image. Received: {labels.dtype} {labels.shape}"
        )
    return labels


# === What is told about a file ===


def _metadata(
    model: keras.Model,
    shape: tuple[int, ...],
    class_names: Sequence[str] | None,
    preprocess: bool,
    byte_outputs: bool,
    quantization: str,
) -> dict[str, str]:
    told = {
        "name": str(model.name),
        "image_shape": json.dumps(shape),
        "image": "uint8, 0 to 255" if preprocess else "float32, scaled by preprocess_input to [-1, 1]",
        "output": "uint8, on the scale that the file holds" if byte_outputs else "float32",
        "quantization": quantization,
        "parameters": str(model.count_params()),
        "producer": "nasnet-zoo",
    }
    if class_names is not None:
        units = model.outputs[0].shape[-1]
        if len(class_names) != units:
            raise ValueError(
                f"Expected {units} class names, one for each output. Received: {len(class_names)}"
            )
        told["class_names"] = json.dumps([str(name) for name in class_names])
    return told


def _card(result: ExportResult, metadata: dict[str, str], names: tuple[str, ...]) -> str:
    lines = [
        f"# {metadata['name']}",
        "",
        f"{result.format} file, {result.size:,} bytes, {result.quantization}, of a model with "
        f"{int(metadata['parameters']):,} parameters. Written by nasnet-zoo.",
        "",
        f"- Input `image`: (batch, {metadata['image_shape'][1:-1]}), {metadata['image']}.",
        f"- Output: {', '.join(f'`{name}`' for name in names)}, {metadata['output']}.",
        f"- Compared with Keras on {result.images} images: greatest difference {result.difference:.2e}"
        + ("" if result.agreement is None else f", the same class on {result.agreement:.1%}")
        + ".",
    ]
    if result.accuracy is not None:
        accuracies = f"{result.accuracy:.2%}; in Keras {result.keras_accuracy:.2%}"
        lines.append(f"- Accuracy on these: {accuracies}.")
    if "class_names" in metadata:
        lines.append(f"- Classes: {', '.join(json.loads(metadata['class_names']))}.")
    return "\n".join(lines) + "\n"
