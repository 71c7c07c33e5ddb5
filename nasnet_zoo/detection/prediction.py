"""Detections on single images, as pictures and as data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.cells.files import replacing
from nasnet_zoo.extras import import_extra
from nasnet_zoo.training.sources import read_image

from .faster_rcnn import FasterRCNN
from .input import fitted, squared


def predict_files(
    detector: FasterRCNN, paths: Sequence[str | os.PathLike[str]], size: int, score: float
) -> Iterator[tuple[Path, np.ndarray, dict[str, np.ndarray]]]:
    """The detections on image files.

    Args:
        detector: what finds them.
        paths: of the files.
        size: to which an image is brought, in pixels.
        score: the least of a detection.

    Yields:
        Of each image the path, the pixels, uint8 (height, width, 3), and a dict of ``boxes`` (N, 4) in
        its pixels, ``scores`` (N,) and ``classes`` (N,), best first.

    Raises:
        ValueError: if a file cannot be read.
    """
    for path in map(Path, paths):
        pixels = read_file(path)
        image, scale = fitted(pixels, size)
        found = {name: np.asarray(v)[0] for name, v in detector(squared(image, size)[None]).items()}
        kept = found["scores"] >= max(score, 1e-9)
        boxes = found["boxes"][kept] / float(scale)
        yield (
            path,
            pixels.numpy(),
            {
                "boxes": np.minimum(boxes, [*pixels.shape[:2], *pixels.shape[:2]]),
                "scores": found["scores"][kept],
                "classes": found["classes"][kept],
            },
        )


def read_file(path: str | os.PathLike[str]) -> tf.Tensor:
    """The pixels of an image file, uint8 (height, width, 3).

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return read_image(tf.constant(os.fspath(path)))
    except tf.errors.OpError as error:
        raise ValueError(f"{path}: expected an image. Received: {error.message}") from None


def draw(
    pixels: np.ndarray, found: dict[str, Any], class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Writes an image with its detections drawn on it; the file's suffix says in which format.

    Raises:
        ImportError: if Pillow is not installed.
    """
    image_module = import_extra("PIL.Image", "detection")
    drawing = import_extra("PIL.ImageDraw", "detection")
    image = image_module.fromarray(pixels)
    pen = drawing.Draw(image)
    for box, score, kind in zip(found["boxes"], found["scores"], found["classes"], strict=True):
        y, x, y_end, x_end = box.tolist()
        hue = int(255 * kind / len(class_names))
        color = image_module.new("HSV", (1, 1), (hue, 255, 255)).convert("RGB").getpixel((0, 0))
        pen.rectangle([x, y, x_end, y_end], outline=color, width=2)
        pen.text((x + 3, y + 2), f"{class_names[kind]} {score:.0%}", fill=color)
    with replacing(path) as temporary:
        image.save(temporary)
