"""The file formats: one module for each.

Such a module has ``RUNTIME``, the name of the runtime that computes its files; ``write`` and
``convert``, the native and the official converter; ``load``, ``operators`` and ``PEAK_MEMORY``, which
run and measure a file; where all values of a file can be compared, ``REWRITES``, ``stored`` and
``watch``; and where its operators can be timed one by one, ``operator_times``.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

from nasnet_zoo.files import check_parent, replacing, replacing_folder
from nasnet_zoo.reports.cards import check_card

from . import litert, onnx, saved_model
from .runtime import Runtime
from .settings import SUFFIXES

MODULES: dict[str, ModuleType] = {"saved_model": saved_model, "litert": litert, "onnx": onnx}


def format_at(path: Path) -> str:
    """The format of a file that is there.

    Raises:
        ValueError: If there is no such file, or it is of another kind.
    """
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    formats = {suffix: name for name, suffix in SUFFIXES.items() if suffix}
    if path.suffix in formats and path.is_file():
        return formats[path.suffix]
    raise ValueError(
        "Expected a SavedModel folder, or a file that ends in .tflite or .onnx. "
        f"Received: {os.fspath(path)!r}"
    )


def load_runtime(path: str | os.PathLike[str], threads: int | None = None) -> Runtime:
    """Load a file into the runtime that it is for, on the CPU.

    A SavedModel is a program: load only those that you trust.

    Args:
        path: SavedModel folder, or ``.tflite`` or ``.onnx`` file, with one input.
        threads: Number of threads of LiteRT or ONNX Runtime. Default: one for each core.

    Raises:
        ValueError: If there is no such file, or it is broken or of another kind.
        ImportError: If the runtime is not installed.
    """
    path = Path(path)
    file_format = format_at(path)
    try:
        return MODULES[file_format].load(path, threads or os.cpu_count() or 1)
    except ImportError:
        raise
    # The runtimes raise errors of their own kinds on files that they cannot read.
    except Exception as error:
        raise ValueError(f"{path}: expected a model that can be loaded. Received: {error}") from None


def replacing_export(path: Path, format: str) -> AbstractContextManager[Path]:  # noqa: A002
    """As `replacing`, for a file or folder of a format; checks its place before the work begins.

    Raises:
        ValueError: If the place of a SavedModel or of a model card is taken by something else.
        OSError: If the parent folder does not exist.
    """
    check_card(path)
    if format != "saved_model":
        return replacing(path)
    check_parent(path)
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise ValueError(
            f"Expected a new folder or an earlier SavedModel. Received: {os.fspath(path)!r}"
        )
    return replacing_folder(path)
