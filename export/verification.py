"""Checking an exported file against the Keras model that it was made of.

Two questions are asked, and either can refuse the file:

- Does the file compute what its graph says? Every value that the file computes is compared with a
  simulation in float arithmetic of the operation that makes it, with the file's scales and rounding,
  from what the file itself computed before. Errors so do not add up, and rounding does not turn into
  noise on its way through the network: a correct file is far nearer to the simulation than the
  simulation is to the operation without quantisation. This is for files of this package, whose values
  have the names of the graph.
- What does quantisation cost? The file's outputs are compared with those of Keras.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nasnet_zoo.checking import Share, checked
from nasnet_zoo.network import functional, inference_model
from nasnet_zoo.progress import track

from .compute import compute_op
from .formats import MODULES, load_runtime
from .from_keras import image_shape, inference_graph, rescales
from .graph import InferenceGraph, Op, ValueShape
from .quantization import (
    INTEGER_KINDS,
    as_model_input,
    has_dynamic_kernel,
    round_dynamically,
    round_to,
)
from .rewrites import simplify, take_bytes
from .runtime import Runtime
from .settings import MIN_AGREEMENT, MIN_AGREEMENT_UNKNOWN, Limits
from .watching import FileValues, WatchedFile

#: The greatest difference of an output of a float32 file, as a part of the greatest output or of 1.
MAX_DIFFERENCE = 1e-4
#: How far a value may be from its simulation, as a part of how far the simulation is from the operation
#: without quantisation.
MAX_NEARNESS = 0.25
#: The same where nothing is quantised, as a part of the value's greatest number: rounding of float32.
_ROUNDING = 1e-5

# How far an integer weight may be from the model's, as a part of the step between two integers.
_PART_OF_A_STEP = 0.3

_BITS = {"int8": 8, "int16x8": 16}
# Of the images that are compared at a time: Keras keeps everything that it computes from them.
_PIXELS = 1 << 18
# Images on which all values are compared, fewer of large ones: a wrong weight shows on any of them.
_WATCHED = 4
# Probabilities below are equal in the signal-to-noise ratio.
_LEAST_PROBABILITY = 1e-7


class VerificationError(ValueError):
    """A file does not compute what it should."""


@dataclass(frozen=True)
class Verification:
    """How a file compares with the Keras model that it was made of.

    Args:
        path: Path of the file, or of the SavedModel's folder.
        format: "saved_model", "litert" or "onnx".
        quantization: The numbers in the file, or "unknown".
        size: Size in bytes.
        images: Number of compared images.
        values: Number of the file's values that were compared with a simulation, one by one; 0 for
            files of other writers and for SavedModels.
        nearness: The greatest distance of such a value from its simulation, as a part of the distance
            between the simulation and the operation without quantisation; 0 without quantised values.
        difference: The greatest difference of an output from Keras.
        signal_to_noise: Power of Keras's logits over that of the difference, in decibels; infinite
            where nothing differs. Of the outputs themselves where they are no probabilities.
        agreement: Share of the images on which the greatest output is that of Keras; None for a model
            that does not classify.
        accuracy: Share of the images that the file classifies correctly; None without labels.
        keras_accuracy: The same of Keras.
    """

    path: Path
    format: str
    quantization: str
    size: int
    images: int
    values: int
    nearness: float
    difference: float
    signal_to_noise: float
    agreement: float | None
    accuracy: float | None
    keras_accuracy: float | None

    def __str__(self) -> str:
        size = f"{self.size / 1e6:.2f} MB"
        return f"{self.path}: {self.format}, {self.quantization}, {size}; {self.comparison}"

    @property
    def comparison(self) -> str:
        """The comparison in one sentence."""
        parts = [
            f"on {self.images} images at most {self.difference:.1e} from Keras",
            f"signal-to-noise ratio {self.signal_to_noise:.1f} dB",
        ]
        if self.agreement is not None:
            parts.append(f"the same class on {self.agreement:.1%}")
        if self.accuracy is not None:
            parts.append(f"accuracy {self.accuracy:.2%} (Keras: {self.keras_accuracy:.2%})")
        if self.values:
            near = f" within {self.nearness:.0%} of what quantisation changes" if self.nearness else ""
            parts.append(f"all {self.values} values as simulated{near}")
        elif self.format != "saved_model":
            parts.append("compared by its outputs alone")
        return ", ".join(parts)


@checked
def verify(
    path: str | os.PathLike[str],
    model: keras.Model,
    images: Any,
    labels: Any = None,
    *,
    min_agreement: Share | None = Limits.min_agreement,
    max_accuracy_drop: Share = Limits.max_accuracy_drop,
) -> Verification:
    """Check that a file computes what a Keras model computes.

    Files of `nasnet_zoo.export.export` are compared value by value and by their outputs, those of other
    converters by their outputs alone. A SavedModel is a program: check only those that you trust.

    Args:
        path: SavedModel folder, or ``.tflite`` or ``.onnx`` file, with one image input.
        model: Model that the file was made of.
        images: Images, (images, height, width, channels): float32 as the model takes them, or uint8,
            which `nasnet_zoo.preprocess_input` scales.
        labels: Classes of the images, ints (images,). With them accuracies are compared.
        min_agreement: Least share of images on which the greatest output is that of Keras, in [0, 1].
            Default: `MIN_AGREEMENT` by the numbers in the file.
        max_accuracy_drop: Greatest loss of accuracy, in [0, 1].

    Returns:
        How the file compares.

    Raises:
        VerificationError: If the file computes something else, or loses more than the limits allow.
        ValueError: If the file, the model or the images do not fit each other.

    Example::

        verify("model.tflite", model, test_images, test_labels, max_accuracy_drop=0.01)
    """
    runtime = load_runtime(path)
    model = inference_model(functional(model))
    given = np.shape(images)[1:3] if np.ndim(images) == 4 else (None, None)
    size = tuple(n or m for n, m in zip(runtime.image_shape[:2], given, strict=True))
    shape = image_shape(model, size)  # type: ignore[arg-type]
    images = check_images(images, shape, not rescales(model))
    if runtime.image_dtype == "uint8" and images.dtype != np.uint8:
        raise ValueError(f"{path}: expected uint8 images for this file. Received: {images.dtype}")
    graph = None
    if runtime.metadata.get("converter") == "native":
        graph = file_graph(model, shape, runtime.image_dtype == "uint8")
    limits = Limits(min_agreement=min_agreement, max_accuracy_drop=max_accuracy_drop)
    return compare(Path(path), runtime, model, graph, images, labels, limits)


def file_graph(model: keras.Model, shape: ValueShape, as_bytes: bool) -> InferenceGraph:
    """The graph that is written to a file, before the rewrites for its runtime.

    Args:
        model: Model for inference.
        shape: (height, width, channels) of its images.
        as_bytes: Whether the file takes images as bytes.
    """
    graph = simplify(inference_graph(model, shape[:2]))  # type: ignore[arg-type]
    if as_bytes and rescales(model):
        return dataclasses.replace(graph, image_dtype="uint8")
    return take_bytes(graph, 1 / 127.5, -1.0) if as_bytes else graph


def compare(
    path: Path,
    runtime: Runtime,
    model: keras.Model,
    graph: InferenceGraph | None,
    images: np.ndarray,
    labels: Any = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    written: Path | None = None,
) -> Verification:
    """What `verify` does, of a file that is loaded already.

    Args:
        path: Path to name in messages.
        runtime: The file.
        model: For inference.
        graph: Before the writer's rewrites; None for a file of another writer.
        images: See `check_images`.
        labels: See `verify`.
        limits: How much worse than Keras the file may be.
        written: Where the file is now. Default: ``path``.
    """
    (file_format,) = (name for name, module in MODULES.items() if runtime.name == module.RUNTIME)
    quantization = runtime.metadata.get("quantization", "unknown")
    scaled = not rescales(model)
    if runtime.image_dtype == "float32":
        images = as_model_input(images, scaled)
    size = runtime.size
    outputs, expected = _outputs(runtime, model, images, scaled)
    del runtime  # which holds the weights once more
    for name, arrays in (("the file's", outputs), ("Keras's", expected)):
        if not all(np.isfinite(array).all() for array in arrays):
            raise VerificationError(f"{path}: expected finite outputs. Received: {name} are not")
    values, nearness = 0, 0.0
    if graph is not None and hasattr(MODULES[file_format], "watch"):
        known = MODULES[file_format].REWRITES
        if quantization not in known:
            raise VerificationError(
                f"{path}: expected its metadata to tell a quantization of {', '.join(known)}. "
                f"Received: {quantization!r}"
            )
        where = written or path
        values, nearness = _compare_values(
            where, path, graph, file_format, quantization, images, outputs, expected
        )
    difference = max(_distance(a, b) for a, b in zip(outputs, expected, strict=True))
    greatest = max(1.0, *(float(np.abs(array).max()) for array in expected))
    if quantization == "float32" and not difference <= MAX_DIFFERENCE * greatest:
        raise VerificationError(
            f"{path}: expected outputs within {MAX_DIFFERENCE * greatest:.2g} of Keras's. "
            f"Received: a difference of {difference:.2g}"
        )
    if limits.min_agreement is None:
        least = MIN_AGREEMENT.get(quantization, MIN_AGREEMENT_UNKNOWN)
        limits = Limits(min_agreement=least, max_accuracy_drop=limits.max_accuracy_drop)
    return Verification(
        path,
        file_format,
        quantization,
        size,
        len(images),
        values,
        nearness,
        difference,
        min(_signal_to_noise(a, b) for a, b in zip(outputs, expected, strict=True)),
        *_compare_classes(path, outputs, expected, labels, limits),
    )


def _compare_classes(
    path: Path,
    outputs: list[np.ndarray],
    expected: list[np.ndarray],
    labels: Any,
    limits: Limits,
) -> tuple[float | None, float | None, float | None]:
    """Agreement and both accuracies, as far as they are defined."""
    if len(outputs) > 1 or outputs[0].ndim != 2:
        if labels is not None:
            raise ValueError("Expected no labels for a model that does not classify. Received: labels")
        return None, None, None
    found, wanted = outputs[0].argmax(-1), expected[0].argmax(-1)
    agreement = float(np.mean(found == wanted))
    if agreement < limits.min_agreement:  # type: ignore[operator]
        raise VerificationError(
            f"{path}: expected the class of Keras on at least {limits.min_agreement:.1%} of the images "
            f"(min_agreement). Received: {agreement:.1%} of {len(found)} images"
        )
    if labels is None:
        return agreement, None, None
    labels = check_labels(labels, len(found), expected[0].shape[1])
    accuracy, keras_accuracy = float(np.mean(found == labels)), float(np.mean(wanted == labels))
    if keras_accuracy - accuracy > limits.max_accuracy_drop:
        raise VerificationError(
            f"{path}: expected to lose at most {limits.max_accuracy_drop:.1%} of accuracy "
            f"(max_accuracy_drop). Received: {accuracy:.2%}, in Keras {keras_accuracy:.2%}"
        )
    return agreement, accuracy, keras_accuracy


# === Images and labels ===


def check_images(images: Any, shape: tuple[int, ...], scaled: bool = True) -> np.ndarray:
    """Images that a model takes, or bytes that `preprocess_input` makes such images of.

    Args:
        images: float32 or uint8, (images, height, width, channels).
        shape: (height, width, channels) of the model's images.
        scaled: Whether the model takes images in [-1, 1].

    Raises:
        ValueError: If the shape, the type or the range of the numbers is another.
    """
    images = np.asarray(images)
    fits = images.ndim == 4 and images.shape[1:] == shape and len(images)
    if not fits or images.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f"Expected uint8 or float32 images of shape (images, {', '.join(map(str, shape))}). "
            f"Received: {images.dtype} {images.shape}"
        )
    if images.dtype == np.uint8:
        return images
    if not np.isfinite(images).all():
        raise ValueError("Expected images of finite numbers. Received: some that are not")
    low, high = float(images.min()), float(images.max())
    if scaled and (low < -1.5 or high > 1.5 or (low >= 0.0 and high > 0.0)):
        raise ValueError(
            "Expected uint8 images, or float32 images from -1 to 1 as preprocess_input scales them. "
            f"Received: float32 from {low:.3g} to {high:.3g}"
        )
    return images


def check_labels(labels: Any, count: int, classes: int) -> np.ndarray:
    """Labels of ``count`` images.

    Raises:
        ValueError: If these are not ints from 0 to below ``classes``, one for each image.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected {count} labels, one int for each image. Received: {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"Expected labels from 0 to {classes - 1}. Received: {labels.min()} to {labels.max()}"
        )
    return labels


# === Outputs ===


def _outputs(
    runtime: Runtime, model: keras.Model, images: np.ndarray, scaled: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """All outputs of the file and of Keras."""
    found, expected = [], []
    step = max(_PIXELS // (images.shape[1] * images.shape[2]), 1)
    for start in track(range(0, len(images), step), "compare with Keras"):
        batch = images[start : start + step]
        found.append(runtime.predict_all(batch))
        made = model(as_model_input(batch, scaled), training=False)
        made = made if isinstance(made, (list, tuple)) else [made]
        expected.append([np.asarray(keras.ops.convert_to_numpy(array), np.float32) for array in made])
    joined = [
        [np.concatenate(parts) for parts in zip(*batches, strict=True)] for batches in (found, expected)
    ]
    shapes = [[array.shape for array in arrays] for arrays in joined]
    if shapes[0] != shapes[1]:
        raise VerificationError(f"Expected outputs of shapes {shapes[1]}. Received: {shapes[0]}")
    return joined[0], joined[1]


def _distance(output: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(output.astype(np.float32) - expected).max())


def _signal_to_noise(output: np.ndarray, expected: np.ndarray) -> float:
    """In decibels. The logits of probabilities are known up to a number for each image."""
    if expected.ndim == 2 and expected.min() >= 0.0 and np.allclose(expected.sum(-1), 1.0, atol=1e-3):
        logs = [np.log(np.maximum(p, _LEAST_PROBABILITY)) for p in (output, expected)]
        output, expected = (log - log.mean(-1, keepdims=True) for log in logs)
    signal, noise = _rms(expected), _rms(output - expected)
    return 20 * math.log10(signal / noise) if signal and noise else math.inf


def _rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


# === Values ===


def _compare_values(
    written: Path,
    path: Path,
    graph: InferenceGraph,
    file_format: str,
    quantization: str,
    images: np.ndarray,
    outputs: list[np.ndarray],
    expected: list[np.ndarray],
) -> tuple[int, float]:
    """The number of values compared, and the greatest nearness of one."""
    writer = MODULES[file_format]
    for rewrite in writer.REWRITES[quantization]:
        graph = rewrite(graph)
    watched = writer.watch(written, graph)
    count = min(_WATCHED, max(_PIXELS // 2 // (images.shape[1] * images.shape[2]), 1))
    chosen = slice(None, None, -(-len(images) // count))
    pairs = [(output[chosen], wanted[chosen]) for output, wanted in zip(outputs, expected, strict=True)]
    farthest = 0.0
    try:
        for op in graph.ops:
            held = writer.stored(op, graph, quantization, watched.scales)
            _check_weights(path, op, held, watched)
        for name, nearness in _nearnesses(watched, writer, quantization, images[chosen], pairs):
            if not nearness <= MAX_NEARNESS:
                raise VerificationError(
                    f"{path}: expected {name} to be what its operation makes of its inputs, within "
                    f"{MAX_NEARNESS:.0%} of what quantisation changes. Received: {nearness:.0%}"
                )
            farthest = max(farthest, nearness)
    except KeyError as missing:
        raise VerificationError(
            f"{path}: expected the values of this model. Received: a file without {missing}"
        ) from None
    return len(graph.ops), farthest


def _check_weights(path: Path, op: Op, held: Op, watched: WatchedFile) -> None:
    """Compare weights in integers: what one integer changes may be less than what rounding does."""
    is_map = op.kind in ("multiply_map", "maximum_map")
    for expected, name in ((held.kernel, "map" if is_map else "kernel"), (held.bias, "bias")):
        if expected is None or (found := watched.weights(op, name)) is None:
            continue
        # Biases of int16x8 have more bits than the float32 numbers that they are compared with.
        rounded = np.finfo(np.float32).eps * np.abs(expected)
        wrong = np.abs(found.array - expected) > _PART_OF_A_STEP * found.step + rounded
        if wrong.any():
            raise VerificationError(
                f"{path}: expected the model's weights for {op.output}. "
                f"Received: {wrong.mean():.0%} others"
            )


def _nearnesses(
    watched: WatchedFile,
    writer: Any,
    quantization: str,
    images: np.ndarray,
    outputs: list[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[str, float]]:
    """Every value and how near it is to its simulation; then the outputs of the file itself."""
    for op, values in watched.values(images):
        yield op.output, _nearness(op, watched, writer, quantization, values)
    # A runtime may fuse what it computes one by one where all values are outputs.
    for name, (output, wanted) in zip(watched.graph.outputs, outputs, strict=True):
        half_a_byte = 0.51 * watched.byte_steps.get(name, 0.0)
        yield f"output {name}", _output_nearness(values.real(name), output, wanted, half_a_byte)


def _output_nearness(
    watched: np.ndarray, output: np.ndarray, expected: np.ndarray, half_a_byte: float
) -> float:
    """How far an output of the file is from what its values lead to."""
    tolerance = _ROUNDING * float(np.abs(watched).max())
    return _part(output, watched, _rms(watched - expected), max(tolerance, half_a_byte))


def _nearness(
    op: Op, watched: WatchedFile, writer: Any, quantization: str, values: FileValues
) -> float:
    """How far a value is from its simulation, see `MAX_NEARNESS`; 0 for rounding of float32."""
    bits = _BITS.get(quantization, 0)
    integers = bool(bits) and op.kind in INTEGER_KINDS
    inputs = [values.integers(name) if integers else values.real(name) for name in op.inputs]
    exact = np.asarray(compute_op(op, *inputs))
    if quantization == "dynamic" and has_dynamic_kernel(op):
        # A 1x1 convolution is a matrix product, whose rows have scales of their own.
        rows = op.kind == "dense" or op.extent == op.stride == (1, 1)
        inputs = [round_dynamically(inputs[0], rows)]
    stored = writer.stored(op, watched.graph, quantization, watched.scales)
    simulated = exact if stored is op else np.asarray(compute_op(stored, *inputs))
    cost = _rms(simulated - exact)
    scale = watched.scales.get(op.output)
    found = []
    in_floats = None if integers else values.floats(op.output)
    if in_floats is not None:
        tolerance = _ROUNDING * float(np.abs(simulated).max())
        if op.kind == "norm":
            tolerance = max(tolerance, _norm_rounding(op, inputs[0]))
        found.append(_part(in_floats, simulated, cost, tolerance))
        simulated = in_floats
    if integers or scale is not None:
        scale = watched.scales[op.output]
        rounded = round_to(simulated, scale, bits)
        cost = _rms(rounded - exact)
        # Runtimes round sums, products and conversions in ways of their own, to the next integer.
        weighted = op.kind in ("conv", "depthwise", "dense") and bits == 8
        tolerance = 0.0 if weighted else 1.01 * scale.step
        found.append(_part(values.integers(op.output), rounded, cost, tolerance))
    return max(found)


def _norm_rounding(op: Op, value: np.ndarray) -> float:
    """What rounding of float32 becomes where it is divided by the deviation of a constant map."""
    assert op.kernel is not None
    deviation = math.sqrt(float(value.var(op.axes).min()) + op.epsilon)
    return 1e-6 * float(np.abs(value).max()) * float(np.abs(op.kernel).max()) / deviation


def _part(found: np.ndarray, simulated: np.ndarray, cost: float, tolerance: float) -> float:
    """The distance of a value from its simulation as a part of ``cost``; 0 within the tolerance."""
    apart = np.abs(found.astype(np.float64) - simulated)
    if not np.isfinite(apart).all():
        return math.inf
    if apart.max() <= tolerance:
        return 0.0
    return _rms(apart) / cost if cost else math.inf
