"""The front door: a model in, a verified file out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from nasnet_zoo.checking import PositiveInt, Share, checked
from nasnet_zoo.files import write_text
from nasnet_zoo.models import class_names as class_names_of
from nasnet_zoo.network import inference_model

from .compute import write_saved_model
from .from_keras import functional, image_shape, rescales
from .graph import InferenceGraph
from .litert_file import write_litert
from .onnx_file import DEFAULT_OPSET, check_opset, write_onnx
from .plain import WRITERS, WRITTEN_BY, card_path, check_backend, model_module, replacing_export
from .quantization import as_model_input
from .runtimes import load_runtime
from .verification import (
    MAX_ACCURACY_DROP,
    Verification,
    check_images,
    compare,
    file_graph,
)

#: The formats, and what numbers each of them can hold.
FORMATS = {
    "saved_model": ("float32",),
    "litert": ("float32", "float16", "dynamic", "int8", "int16x8"),
    "onnx": ("float32", "float16", "int8"),
}
#: The quantizations whose ranges are read off images.
CALIBRATED = ("int8", "int16x8")
_SUFFIXES = {".tflite": "litert", ".onnx": "onnx", "": "saved_model"}


@dataclass(frozen=True)
class ExportResult(Verification):
    """A written file, and how it compares with Keras.

    Args:
        seconds: Time that it took to write, without the comparison.

    The other attributes are those of `Verification`.
    """

    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.format}, {self.quantization}, {self.size / 1e6:.2f} MB in "
            f"{self.seconds:.1f} s; {self.told}"
        )


@checked
def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    quantization: str = "float32",
    representative: Any = None,
    images: Any = None,
    labels: Any = None,
    min_agreement: Share | None = None,
    max_accuracy_drop: Share = MAX_ACCURACY_DROP,
    class_names: Sequence[str] | None = None,
    preprocess: bool = False,
    byte_outputs: bool = False,
    image_size: tuple[PositiveInt, PositiveInt] | None = None,
    opset: int | None = None,
    route: Literal["direct", "plain"] = "direct",
) -> ExportResult:
    """Writes a model as a file for a runtime, and compares that file with Keras.

    The file takes ``image``, float32 (batch, height, width, channels) with the batch left open, and
    gives ``output``, or ``output_0``.. for a model of several. It appears under its name only when
    its runtime has been seen to compute what Keras computes; see `nasnet_zoo.export.verify`.

    Args:
        model: of the zoo, fine-tuned or not, or a backbone; an auxiliary head is left out.
        path: of the file; a model card is written beside it, as ``path`` + ".md".
        format: "saved_model", "litert" or "onnx". Default: by the path's suffix, ``.tflite``,
            ``.onnx`` or none.
        quantization: "float32"; "float16", weights stored as halves; for LiteRT also "dynamic",
            int8 weights; "int8", all in bytes, for LiteRT and ONNX; "int16x8", for LiteRT.
        representative: images like those that the model will see, (images, height, width,
            channels): float32 as the model takes them, or uint8 as files hold them, which
            `preprocess_input` scales unless the model rescales images itself. Needed for "int8" and
            "int16x8", whose ranges are read off them: take training images.
        images: images on which the file is compared with Keras, as ``representative``: take test
            images. Default: the representative ones, else a few generated images.
        labels: the classes of ``images``, ints. If given, accuracies are compared.
        min_agreement: least share of ``images`` on which the greatest output is that of Keras, in
            [0, 1]. Default: `MIN_AGREEMENT` by quantization, 0 for generated images.
        max_accuracy_drop: greatest loss of accuracy, in [0, 1].
        class_names: names of the classes, stored in the file. Default: the model's own.
        preprocess: whether the file takes uint8 images and does `preprocess_input` itself.
        byte_outputs: whether a LiteRT file of "int8" gives uint8, on a scale that it holds:
            probabilities in steps of 1/256.
        image_size: (height, width), for a model that leaves them open: those of the file, or with
            route="plain", whose files leave them open too, of the images to compare on.
        opset: version of ONNX's operators. Default: 17.
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
    _check(format, quantization, representative, images, labels, route, opset, preprocess, byte_outputs)
    opset = DEFAULT_OPSET if opset is None else opset
    model = inference_model(functional(model))
    shape, scaled = image_shape(model, image_size), not rescales(model)
    if min_agreement is None and representative is None and images is None:
        min_agreement = 0.0
    if images is None:
        images = _generated(shape, scaled or preprocess) if representative is None else representative
    images = _as_taken(images, shape, scaled, preprocess)
    names = _output_names(model)
    metadata = _metadata(model, shape, class_names, preprocess, byte_outputs, quantization, route)

    start = time.perf_counter()
    graph = None
    if route == "direct":
        graph = file_graph(model, shape, preprocess)
    with replacing_export(path, format) as temporary:
        if graph is None:
            options = {"opset": opset} if format == "onnx" else {}
            WRITERS[format](model_module(model), temporary, metadata, **options)
        else:
            if representative is not None:
                representative = _as_taken(representative, shape, scaled, preprocess)
            _write(
                graph,
                temporary,
                format,
                names,
                metadata,
                quantization,
                representative,
                opset,
                byte_outputs,
            )
        seconds = time.perf_counter() - start
        found = compare(
            path,
            load_runtime(temporary),
            model,
            graph,
            images,
            labels,
            min_agreement,
            max_accuracy_drop,
            temporary,
        )
    result = ExportResult(**vars(found), seconds=seconds)
    write_text(card_path(path), _card(result, metadata, names))
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
    images: Any,
    labels: Any,
    route: str,
    opset: int | None,
    preprocess: bool,
    byte_outputs: bool,
) -> None:
    if quantization not in FORMATS[format]:
        raise ValueError(
            f"Expected a quantization of {format}, {', '.join(FORMATS[format])}. "
            f"Received: {quantization=}"
        )
    if quantization in CALIBRATED and representative is None:
        raise ValueError(
            f"Expected representative images for quantization={quantization!r}. Received: none"
        )
    if byte_outputs and (format, quantization) != ("litert", "int8"):
        raise ValueError(
            "Expected byte_outputs with a LiteRT file of quantization='int8'. "
            f"Received: {format=}, {quantization=}"
        )
    if labels is not None and representative is None and images is None:
        raise ValueError("Expected images with labels. Received: labels alone")
    if route == "plain" and (quantization != "float32" or preprocess):
        raise ValueError(
            "Expected quantization='float32' and preprocess=False with route='plain'. "
            f"Received: {quantization=}, {preprocess=}"
        )
    if format == "onnx":
        check_opset(DEFAULT_OPSET if opset is None else opset)
    elif opset is not None:
        raise ValueError(f"Expected opset with an ONNX file. Received: {format=}, {opset=}")


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


def _write(
    graph: InferenceGraph,
    path: Path,
    format: str,  # noqa: A002
    names: tuple[str, ...],
    metadata: dict[str, str],
    quantization: str,
    images: np.ndarray | None,
    opset: int,
    byte_outputs: bool,
) -> None:
    if format == "saved_model":
        write_saved_model(graph, path, names, metadata)
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


# === What is told about a file ===


def _metadata(
    model: keras.Model,
    shape: tuple[int, ...],
    class_names: Sequence[str] | None,
    preprocess: bool,
    byte_outputs: bool,
    quantization: str,
    route: str,
) -> dict[str, str]:
    told = {
        "name": str(model.name),
        "image_shape": json.dumps(shape),
        "image": "uint8, 0 to 255" if preprocess else "float32, scaled by preprocess_input to [-1, 1]",
        "output": "uint8, on the scale that the file holds" if byte_outputs else "float32",
        "quantization": quantization,
        "parameters": str(model.count_params()),
        "producer": "nasnet-zoo",
        "route": route,
    }
    names = class_names_of(model) if class_names is None else class_names
    if names is not None:
        units = model.outputs[0].shape[-1]
        if len(names) != units:
            raise ValueError(
                f"Expected {units} class names, one for each output. Received: {len(names)}"
            )
        told["class_names"] = json.dumps([str(name) for name in names])
    return told


def _card(result: ExportResult, metadata: dict[str, str], names: tuple[str, ...]) -> str:
    lines = [
        f"# {metadata['name']}",
        "",
        f"{result.format} file, {result.size:,} bytes, {result.quantization}, of a model with "
        f"{int(metadata['parameters']):,} parameters. {WRITTEN_BY}",
        "",
        f"- Input `image`: (batch, {metadata['image_shape'][1:-1]}), {metadata['image']}.",
        f"- Output: {', '.join(f'`{name}`' for name in names)}, {metadata['output']}.",
        f"- Compared with Keras: {result.told}.",
    ]
    if "class_names" in metadata:
        lines.append(f"- Classes: {', '.join(json.loads(metadata['class_names']))}.")
    return "\n".join(lines) + "\n"
