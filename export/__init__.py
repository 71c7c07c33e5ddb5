"""From a Keras model to files that run elsewhere, and the runtimes that run them."""

from .exporting import FORMATS, LIMITS, ExportResult, export
from .runtimes import Runtime, load_runtime

__all__ = ["FORMATS", "LIMITS", "ExportResult", "Runtime", "export", "load_runtime"]
