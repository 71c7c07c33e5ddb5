"""Optional dependencies: what only some commands need and a plain install leaves out."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional dependency.

    Args:
        module: its full name.
        extra: the extra of this package that installs it.

    Raises:
        ImportError: naming the extra to install, if the module is not there.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ImportError(
            f"Expected the optional package of {missing!r}: pip install 'nasnet-zoo[{extra}]'",
            name=missing,
        ) from None
