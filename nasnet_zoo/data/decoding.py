"""The decoder of image files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import reading

# Pillow runs other programs on files of some other formats.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
_ORIENTATION = 0x0112  # in EXIF
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode an image file.

    The image is turned upright as its EXIF orientation says. 16-bit values keep their upper 8 bits,
    transparency is dropped, and the first of several frames is read.

    Args:
        path: PNG, JPEG, BMP, GIF, WebP, PNM or TIFF file with any suffix.

    Returns:
        uint8 (height, width, 3) in RGB.

    Raises:
        ValueError: If the file cannot be decoded. The message names the file.
        OSError: If the file cannot be opened.
        ImportError: If Pillow is not installed.
    """
    with _opened(path) as image:
        if _orientation(image) != 1:
            image = import_extra("PIL.ImageOps", "train").exif_transpose(image)
        if image.mode.startswith("I"):
            # Pillow would clip values above 255.
            values = np.asarray(image)
            if values.min() < 0 or values.max() > 65535:
                raise ValueError("numbers of more than 16 bits")
            return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1)
        if image.mode == "F":
            raise ValueError("floating-point numbers")
        return np.asarray(image.convert("RGB"))


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Read the height and width in pixels of the upright image from the header of its file.

    Raises:
        ValueError: If the file is not an image. The message names the file.
        OSError: If the file cannot be opened.
    """
    with _opened(path) as image:
        if image.format == "TIFF":
            image.load()  # Pillow turns TIFF files itself, when it loads them
        width, height = image.size
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def is_turned(path: str | os.PathLike[str]) -> bool:
    """Whether an image file has an EXIF orientation other than upright.

    Raises:
        ValueError: If the file is not an image. The message names the file.
        OSError: If the file cannot be opened.
    """
    with _opened(path) as image:
        return _orientation(image) != 1


def is_plain_jpeg(path: str | os.PathLike[str]) -> bool:
    """Whether an image file is an upright grey or RGB JPEG, which TensorFlow decodes as Pillow does.

    Raises:
        ValueError: If the file is not an image. The message names the file.
        OSError: If the file cannot be opened.
    """
    with _opened(path) as image:
        return image.format == "JPEG" and image.mode in ("L", "RGB") and _orientation(image) == 1


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    pillow = import_extra("PIL.Image", "train")
    with reading(path, "an image"), open(path, "rb") as file:
        try:
            with pillow.open(file, formats=_FORMATS) as image:
                yield image
        # Pillow's decoders raise many kinds of error on broken files.
        except Exception as error:
            unknown = isinstance(error, import_extra("PIL", "train").UnidentifiedImageError)
            received = f"none of {', '.join(_FORMATS)}" if unknown else error
            raise ValueError(f"{path}: expected a readable image. Received: {received}") from None


def _orientation(image: Any) -> int:
    # Reads the header only: the override of PNG images would decode the whole image.
    return import_extra("PIL.Image", "train").Image.getexif(image).get(_ORIENTATION, 1)
