"""LiteRT (TFLite) files."""

from .official import convert, join
from .profiling import operator_times
from .rewrites import REWRITES
from .runtime import PEAK_MEMORY, RUNTIME, load, operators
from .watching import watch
from .writer import stored, write

__all__ = [
    "PEAK_MEMORY",
    "REWRITES",
    "RUNTIME",
    "convert",
    "join",
    "load",
    "operator_times",
    "operators",
    "stored",
    "watch",
    "write",
]
