"""Labelled images: the only decoder and resize of the package.

No backend is loaded until a data set is opened.
"""

from .arrays import ImageData
from .class_names import read_class_names
from .decoding import is_turned, read_pixels, read_size
from .opening import open_dataset
from .sources import ImageSource

__all__ = [
    "ImageData",
    "ImageSource",
    "is_turned",
    "open_dataset",
    "read_class_names",
    "read_pixels",
    "read_size",
]
