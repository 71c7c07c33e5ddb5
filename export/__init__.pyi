from .detector import DetectorExport, export_detector
from .exporting import ExportResult, export
from .runtimes import Runtime, load_runtime
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
