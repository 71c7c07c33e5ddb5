"""Image files as people see them: upright, in RGB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra

# Pillow is told which formats to try: some that it knows run other programs on the file.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
_ORIENTATION = 0x0112
#: EXIF's orientations that swap height and width.
_SIDEWAYS = (5, 6, 7, 8)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels, from the head of an image file.

    Raises:
        ValueError: if the file is no image.
    """
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """The pixels of an image file, uint8 (height, width, 3).

    They are turned as the EXIF orientation says. Of 16 bits the upper eight are taken, of a moving
    picture the first frame; transparency is left out.

    Raises:
        ValueError: if the file cannot be read or is no image.
    """
    operations = import_extra("PIL.ImageOps", "detection")
    with _opened(path) as image:
        upright = operations.exif_transpose(image) if _orientation(image) != 1 else image
        if upright.mode.startswith("I"):
            grey = np.clip(np.asarray(upright) // 256, 0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.asarray(upright.convert("RGB"))


def is_turned(path: str | os.PathLike[str]) -> bool:
    """Whether an image file is shown otherwise than it is stored.

    Raises:
        ValueError: if the file is no image.
    """
    with _opened(path) as image:
        return _orientation(image) != 1


def write_pixels(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Writes uint8 pixels (height, width, 1 or 3); the file's suffix says in which format."""
    image_module = import_extra("PIL.Image", "detection")
    image_module.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    image_module = import_extra("PIL.Image", "detection")
    try:
        with image_module.open(path, formats=_FORMATS) as image:
            if image.format == "TIFF":
                image.load()  # Pillow turns TIFF files itself, when it loads them
            yield image
    # Pillow's decoders raise many kinds of error on broken files.
    except Exception as error:
        of_system = getattr(error, "strerror", None)
        reason = of_system.lower() if of_system else " ".join(str(error).split())
        reason = reason or type(error).__name__
        raise ValueError(f"{os.fspath(path)}: expected an image. Received: {reason}") from None


def _orientation(image: Any) -> int:
    """EXIF's, as the head of the file tells it; the method of PNG would decode the whole image."""
    base = import_extra("PIL.Image", "detection").Image
    return int(base.getexif(image).get(_ORIENTATION, 1))
