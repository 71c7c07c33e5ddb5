"""Detections on image files, as pictures and as data."""

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

#: Suffixes of the formats of pictures. Pictures of other images are written as PNG.
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


def detections(detector: Callable[[Any], dict[str, Any]], images: Any) -> dict[str, np.ndarray]:
    """Run a detector on a batch of images.

    Args:
        detector: `FasterRCNN`, or a function with the same input and output.
        images: Images, float32 (batch, height, width, 3) in [-1, 1].

    Returns:
        The outputs of the detector as arrays.

    Raises:
        NotFiniteError: If a value in the detector is infinite or NaN.
    """
    found = {name: np.asarray(values) for name, values in detector(images).items()}
    if not all(np.isfinite(found[name]).all() for name in ("boxes", "scores")):
        raise NotFiniteError("Expected a detector of finite numbers. Received: scores that are not")
    return found


@checked
def predict_files(
    detector: FasterRCNN, paths: Sequence[str | os.PathLike[str]], size: ImageSize, score: Share
) -> Iterator[tuple[Path, np.ndarray, dict[str, np.ndarray]]]:
    """Detect the objects on image files.

    Args:
        detector: Detector.
        paths: Paths of the files.
        size: Height and width in pixels of the square that an image is fitted into.
        score: Least score of a detection, in [0, 1].

    Returns:
        Iterator over the images. It gives the path, the pixels, uint8 (height, width, 3), and a dict of
        ``boxes`` (N, 4) in these pixels, ``scores`` (N,) and ``classes`` (N,) in descending order.

    Raises:
        ValueError: If an argument is out of range or a file cannot be read.
        NotFiniteError: If a value in the detector is infinite or NaN.
    """

    def predicted(path: str | os.PathLike[str]) -> tuple[Path, np.ndarray, dict[str, np.ndarray]]:
        pixels = read_pixels(path)
        image, scale = fitted(pixels, size)
        found = {name: v[0] for name, v in detections(detector, squared(image, size)[None]).items()}
        kept = found["scores"] >= max(score, 1e-9)
        boxes = np.minimum(found["boxes"][kept] / float(scale), [*pixels.shape[:2], *pixels.shape[:2]])
        found = {"boxes": boxes, "scores": found["scores"][kept], "classes": found["classes"][kept]}
        return Path(path), pixels, found

    return map(predicted, paths)


def as_results(
    path: Path, found: dict[str, np.ndarray], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Convert the detections on an image to COCO's result format, with names instead of ids.

    Returns:
        A dict of ``file_name``, ``category_name``, ``bbox`` (x, y, width, height) in pixels of the
        image, and ``score`` for every detection.
    """
    return [
        coco_result(box, score, file_name=os.fspath(path), category_name=class_names[kind])
        for box, score, kind in zip(found["boxes"], found["scores"], found["classes"], strict=True)
    ]


def coco_result(box: np.ndarray, score: Any, **names: Any) -> dict[str, Any]:
    """Convert a detection to COCO's result format.

    Args:
        box: (y_min, x_min, y_max, x_max) in pixels.
        score: Score.
        **names: Entries that name the image and the category.
    """
    y, x, y_end, x_end = box.tolist()
    return {**names, "bbox": [x, y, x_end - x, y_end - y], "score": float(score)}


def picture_paths(images: Sequence[Path], out: Path) -> list[Path]:
    """Choose paths for the pictures of images: their own names, equal ones numbered from 2.

    Args:
        images: Image files.
        out: Folder of the pictures.

    Raises:
        ValueError: If ``out`` is a file, or a file of one of these names exists there.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: expected a folder for the pictures. Received: a file")
    paths: list[Path] = []
    taken: set[str] = set()
    for image in images:
        suffix = image.suffix if image.suffix.lower() in _PICTURES else ".png"
        name, number = f"{image.stem}{suffix}", 1
        # Some file systems ignore case.
        while name.lower() in taken:
            number += 1
            name = f"{image.stem}_{number}{suffix}"
        taken.add(name.lower())
        paths.append(out / name)
    # Resolved, since ".." behind a missing folder means another path once that is created.
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
    """Draw detections on an image and write it in the format of the file's suffix.

    Raises:
        ImportError: If Pillow is not installed.
        OSError: If the file cannot be written.
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
