from .detector import DetectorExport, export_detector
from .exporting import ExportResult, export
from .formats import load_runtime
from .runtime import Runtime
from .settings import FORMATS, MIN_AGREEMENT, ExportSettings
from .verification import Verification, VerificationError, verify

__all__ = [
    "FORMATS",
    "MIN_AGREEMENT",
    "DetectorExport",
    "ExportResult",
    "ExportSettings",
    "Runtime",
    "Verification",
    "VerificationError",
    "export",
    "export_detector",
    "load_runtime",
    "verify",
]
