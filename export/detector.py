"""A whole detector as a file: Faster R-CNN with its suppression, from bytes to boxes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.checking import checked
from nasnet_zoo.detection import FasterRCNN
from nasnet_zoo.detection.ranges import ImageSize
from nasnet_zoo.files import write_text
from nasnet_zoo.reports.cards import card, card_path

from .formats import MODULES, load_runtime, replacing_export
from .from_keras import image_shape, inference_graph, pooled_graph
from .metadata import describe
from .official import INPUT_NAME, Part, check_backend, serving_module
from .quantization import as_model_input
from .rewrites import simplify, take_bytes
from .settings import ExportSettings, format_of

#: How far a file may be from Keras. Two detections are the same one if their class is, their scores
#: differ by at most `SCORE_LIMIT` and the coordinates of their boxes by at most `PIXEL_LIMIT`; of all
#: detections of the two, at least the share `AGREEMENT` have the same one on the other side. (Where two
#: boxes overlap by just the threshold of a suppression, the last bit of a number decides.)
SCORE_LIMIT, PIXEL_LIMIT, AGREEMENT = 1e-3, 0.1, 0.95


@dataclass(frozen=True)
class DetectorExport:
    """A written file, and how it compares with Keras.

    Args:
        path: Path of the file, or of the SavedModel's folder.
        format: Key of `nasnet_zoo.export.FORMATS`.
        size: Size in bytes.
        seconds: Time to write it, without the comparison.
        images: Number of compared images.
        detections: Number of detections of Keras on them.
        agreement: Share of the detections of both that are in both.
        pixels: Greatest difference of a coordinate of these.
        score: Greatest difference of a score of these.
    """

    path: Path
    format: str
    size: int
    seconds: float
    images: int
    detections: int
    agreement: float
    pixels: float
    score: float

    def __str__(self) -> str:
        size = f"{self.size / 1e6:.2f} MB in {self.seconds:.1f} s"
        return f"{self.path}: {self.format}, {size}; {self.comparison}"

    @property
    def comparison(self) -> str:
        """The comparison in one sentence."""
        return (
            f"of {self.detections} detections on {self.images} images {self.agreement:.1%} as in "
            f"Keras, within {self.pixels:.1e} pixels and a score of {self.score:.1e}"
        )


@checked
def export_detector(
    detector: FasterRCNN,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
    *,
    image_size: tuple[ImageSize, ImageSize],
    images: np.ndarray | None = None,
) -> DetectorExport:
    """Write a detector, its suppression included, as a file for a runtime, and compare it with Keras.

    The file takes ``image``, uint8 (batch, height, width, 3), with the batch left open but for LiteRT,
    where it is 1, and gives the detector's outputs: ``boxes`` (batch, detections, 4), (y_min, x_min,
    y_max, x_max) in pixels, ``classes`` int32 and ``scores`` (batch, detections), best first, and
    ``count`` (batch,) int32: what comes after it is zeros. LiteRT needs no operation of TensorFlow
    ("Flex"). It appears under its name only after its runtime has found what Keras finds,
    within `SCORE_LIMIT`, `PIXEL_LIMIT` and `AGREEMENT`. Where Keras finds nothing, nothing can be
    compared, and the file is refused.

    Args:
        detector: Detector in float32.
        path: Path of the file. A card is written beside it, as ``path`` + ".md".
        format: "saved_model", "litert" or "onnx". Default: by the path's suffix, ``.tflite``, ``.onnx``
            or none.
        image_size: (height, width) of the images, in pixels.
        images: Images to compare on, uint8 (images, height, width, 3), with objects on them. Default:
            two generated ones, on which a trained detector may find nothing.

    Raises:
        ValueError: If an argument does not fit, the format lacks an operation, Keras finds nothing on
            the images, a number is not finite, or the file is too far from Keras.
        OSError: If the file cannot be written.
        ImportError: If a package that the format needs is not installed.
    """
    check_backend()
    path = Path(path)
    format = format_of(path, format)  # noqa: A001
    shape = image_shape(detector.network, image_size)
    images = _generated(shape) if images is None else np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"Expected uint8 images of shape (images, {', '.join(map(str, shape))}). "
            f"Received: {images.dtype} {images.shape}"
        )
    settings, names = ExportSettings(converter="official"), detector.class_names
    given = "(y_min, x_min, y_max, x_max) in pixels, classes, scores and their count"
    metadata = describe(detector, shape, "uint8, 0 to 255", given, names, settings)
    expected = _expected(detector, images)
    # LiteRT has no operations that add a dimension to a tensor of two open ones.
    batch = 1 if format == "litert" else None
    start = time.perf_counter()
    with replacing_export(path, format) as temporary:
        if format == "saved_model":
            module = serving_module(
                lambda image: detector(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False),
                {INPUT_NAME: tf.TensorSpec((None, *shape), tf.uint8)},
                detector.variables,
            )
            MODULES[format].convert(module, temporary, metadata)
        else:
            MODULES[format].join(*_joined(detector, image_size, batch), temporary, metadata)
        seconds = time.perf_counter() - start
        result = _compare(temporary, path, format, images, expected, seconds)
    outputs = ("boxes", "classes", "scores", "count")
    write_text(card_path(path), card(result, metadata, outputs, batch=str(batch or "batch")))
    return result


def _joined(
    detector: FasterRCNN, image_size: tuple[int, int], batch: int | None
) -> tuple[tf.Module, tuple[Part, Part]]:
    """The halves of a detector's network as graphs, and a module that does the rest.

    The module has the outputs of both as inputs, and the crops that the second half reads as an output.
    """
    first = simplify(inference_graph(detector.first_half, image_size))
    second = simplify(pooled_graph(detector.box_head, detector.crop_size))
    states = {f"state_{k}": first.shapes()[name] for k, name in enumerate(first.outputs)}

    def between(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        *states, pooled = tensors
        proposed = detector.propose_on(states, image_size)
        crops = detector.crops(proposed["features"], proposed["proposals"], image_size)
        return {**detector.detect(proposed, pooled, image_size), "crops": crops}

    crops = None if batch is None else batch * detector.proposals
    inputs = {name: tf.TensorSpec((batch, *shape)) for name, shape in states.items()}
    inputs["pooled"] = tf.TensorSpec((crops, *second.shapes()[second.outputs[0]]))
    parts = (
        Part(take_bytes(first, 1 / 127.5, -1.0), INPUT_NAME, tuple(states)),
        Part(second, "crops", ("pooled",)),
    )
    return serving_module(between, inputs, detector.variables), parts


def _generated(shape: tuple[int, ...]) -> np.ndarray:
    """Noise, half of it behind coloured rectangles."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *shape), np.uint8)
    for _ in range(12):
        top, bottom = np.sort(rng.integers(0, shape[0] + 1, 2))
        left, right = np.sort(rng.integers(0, shape[1] + 1, 2))
        part = images[1, top:bottom, left:right]
        part[:] = part // 4 + rng.integers(0, 192, shape[2], np.uint8)
    return images


def _expected(detector: FasterRCNN, images: np.ndarray) -> list[np.ndarray]:
    """The detections of Keras on each image.

    Raises:
        ValueError: If there are none, or they are not finite.
    """
    rows = [_rows(detector(as_model_input(image[None]), training=False), "Keras") for image in images]
    if not any(map(len, rows)):
        raise ValueError(
            f"Expected images with objects that the detector finds (images=, --images), or a detector "
            f"of a lower score than {detector.score}. Received: images on which it finds nothing, so "
            f"that there is nothing to compare"
        )
    return rows


def _compare(
    written: Path,
    path: Path,
    format: str,  # noqa: A002
    images: np.ndarray,
    expected: Sequence[np.ndarray],
    seconds: float,
) -> DetectorExport:
    """Run a file on images of which the detections of Keras are expected.

    Raises:
        ValueError: If those of the file are too far from them.
    """
    runtime = load_runtime(written)
    total, pairs = 0, np.zeros((0, 6))
    for image, own in zip(images, expected, strict=True):
        outputs = zip(runtime.outputs, runtime.predict_all(image[None]), strict=True)
        found = _rows(dict(outputs), os.fspath(path))
        total += len(found) + len(own)
        pairs = np.concatenate([pairs, _differences(found, own)])
    agreement = 2 * len(pairs) / total
    if agreement < AGREEMENT:
        raise ValueError(
            f"{path}: expected {AGREEMENT:.0%} of the detections as in Keras, within "
            f"{PIXEL_LIMIT} pixels and a score of {SCORE_LIMIT}. Received: {agreement:.1%} of {total}"
        )
    score, pixels = (float(part.max(initial=0.0)) for part in (pairs[:, 1], pairs[:, 2:]))
    return DetectorExport(
        path,
        format,
        runtime.size,
        seconds,
        len(images),
        sum(map(len, expected)),
        agreement,
        pixels,
        score,
    )


def _rows(outputs: Mapping[str, Any], source: str) -> np.ndarray:
    """The detections of one image, (count, 6): class, score and box."""
    count = int(outputs["count"][0])
    parts = [np.asarray(outputs[name])[0] for name in ("classes", "scores", "boxes")]
    if not all(np.isfinite(part).all() for part in parts):
        raise ValueError(f"Expected finite detections. Received: others, from {source}")
    return np.column_stack([part[:count] for part in parts])


def _differences(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """How far those are apart that are the same detection, (pairs, 6); each is in one pair at most."""
    free, pairs = np.ones(len(found), bool), []
    for row in expected:
        off = np.abs(found - row)
        same = free & (off[:, 0] == 0) & (off[:, 1] <= SCORE_LIMIT)
        same &= off[:, 2:].max(axis=1, initial=0.0) <= PIXEL_LIMIT
        if same.any():
            nearest = int(np.argmin(np.where(same, off[:, 2:].max(axis=1), np.inf)))
            free[nearest] = False
            pairs.append(off[nearest])
    return np.reshape(pairs, (-1, 6))
