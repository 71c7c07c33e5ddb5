"""From a Keras model to files that run elsewhere, and the runtimes that run them."""

from .detector import DetectorExport, export_detector
from .exporting import FORMATS, LIMITS, ExportResult, export
from .runtimes import Runtime, load_runtime

__all__ = [
    "FORMATS",
    "LIMITS",
    "DetectorExport",
    "ExportResult",
    "Runtime",
    "export",
    "export_detector",
    "load_runtime",
]
