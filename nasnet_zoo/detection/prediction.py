"""Detections on single images, as pictures and as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.checking import Share, checked
from nasnet_zoo.data import read_pixels
from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import replacing
from nasnet_zoo.training.checkpoint import NotFiniteError

from .faster_rcnn import FasterRCNN
from .input import fitted, squared
from .ranges import ImageSize

#: Suffixes of the formats that pictures are written in; those of other images become PNG.
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


def detections(detector: Callable[[Any], dict[str, Any]], images: Any) -> dict[str, np.ndarray]:
    """What a detector finds on a batch of images, as arrays.

    Args:
        detector: a `FasterRCNN`, or what gives the same of images.
        images: float32 (batch, height, width, 3) in [-1, 1].

    Raises:
        NotFiniteError: if a number in the detector is infinite or no number.
    """
    found = {name: np.asarray(values) for name, values in detector(images).items()}
    if not all(np.isfinite(found[name]).all() for name in ("boxes", "scores")):
        raise NotFiniteError("Expected a detector of finite numbers. Received: scores that are not")
    return found


@checked
def predict_files(
    detector: FasterRCNN, paths: Sequence[str | os.PathLike[str]], size: ImageSize, score: Share
) -> Iterator[tuple[Path, np.ndarray, dict[str, np.ndarray]]]:
    """The detections on image files.

    Args:
        detector: what finds them.
        paths: of the files.
        size: to which an image is brought, in pixels.
        score: the least of a detection.

    Returns:
        An iterator over the images, which gives of each the path, the pixels, uint8 (height, width, 3),
        and a dict of ``boxes`` (N, 4) in its pixels, ``scores`` (N,) and ``classes`` (N,), best first.

    Raises:
        ValueError: if an argument is out of range, or a file cannot be read.
        NotFiniteError: see `detections`.
    """
    return (_predicted(detector, Path(path), size, score) for path in paths)


def _predicted(
    detector: FasterRCNN, path: Path, size: int, score: float
) -> tuple[Path, np.ndarray, dict[str, np.ndarray]]:
    pixels = read_pixels(path)
    image, scale = fitted(pixels, size)
    found = {name: v[0] for name, v in detections(detector, squared(image, size)[None]).items()}
    kept = found["scores"] >= max(score, 1e-9)
    boxes = np.minimum(found["boxes"][kept] / float(scale), [*pixels.shape[:2], *pixels.shape[:2]])
    found = {"boxes": boxes, "scores": found["scores"][kept], "classes": found["classes"][kept]}
    return path, pixels, found


def as_results(
    path: Path, found: dict[str, np.ndarray], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Detections on an image for JSON: COCO's result format, with names instead of ids.

    Returns:
        For every detection a dict of ``file_name``, ``category_name``, ``bbox`` (x, y, width, height)
        in pixels of the image, and ``score``.
    """
    results = []
    for box, score, kind in zip(found["boxes"], found["scores"], found["classes"], strict=True):
        y, x, y_end, x_end = box.tolist()
        results.append(
            {
                "file_name": os.fspath(path),
                "category_name": class_names[kind],
                "bbox": [x, y, x_end - x, y_end - y],
                "score": float(score),
            }
        )
    return results


def picture_paths(images: Sequence[Path], out: Path) -> list[Path]:
    """Where the pictures of images go: under their own names, of equal names numbered from 2.

    Args:
        images: the files that detections are drawn of.
        out: the folder of the pictures.

    Raises:
        ValueError: if ``out`` is a file, or already holds a file of one of these names.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: expected a folder for the pictures. Received: a file")
    paths: list[Path] = []
    taken: set[str] = set()
    for image in images:
        suffix = image.suffix if image.suffix.lower() in _PICTURES else ".png"
        name, number = f"{image.stem}{suffix}", 1
        # Some file systems take upper and lower case for the same.
        while name.lower() in taken:
            number += 1
            name = f"{image.stem}_{number}{suffix}"
        taken.add(name.lower())
        paths.append(out / name)
    # Resolved: a missing folder that ".." leaves again is made later, and then leads elsewhere.
    there = [path for path in paths if os.path.lexists(out.resolve() / path.name)]
    if there:
        raise ValueError(
            f"{out}: expected a folder without pictures of these names: nothing is written over. "
            f"Received: one with {there[0].name}"
        )
    return paths


def draw(
    pixels: np.ndarray, found: dict[str, Any], class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Writes an image with its detections drawn on it; the file's suffix says in which format.

    Raises:
        ImportError: if Pillow is not installed.
        OSError: if the file cannot be written.
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
