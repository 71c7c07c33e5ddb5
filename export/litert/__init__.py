"""LiteRT (TFLite) files."""

from .official import convert
from .rewrites import REWRITES
from .runtime import PEAK_MEMORY, RUNTIME, load, operators
from .watching import watch
from .writer import stored, write

__all__ = [
    "PEAK_MEMORY",
    "REWRITES",
    "RUNTIME",
    "convert",
    "load",
    "operators",
    "stored",
    "watch",
    "write",
]
