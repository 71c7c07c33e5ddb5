"""Optional dependencies: what only some commands need and a plain install leaves out."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from packaging.requirements import Requirement

_PACKAGE = "nasnet-zoo"


def import_extra(module: str, extra: str) -> ModuleType:
    """Imports a module of an optional dependency.

    Args:
        module: its full name.
        extra: the extra of this package that installs it.

    Raises:
        ImportError: naming the extra and what it installs, if the module is not there.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        # Not "nasnet-zoo[extra]", which pip finds only where nasnet-zoo came from.
        wanted = " ".join(f"'{requirement}'" for requirement in requirements(extra))
        raise ImportError(
            f"Expected {missing!r}, of the extra {extra!r} of {_PACKAGE}: pip install {wanted}. "
            "Received: no such module",
            name=missing,
        ) from None


def requirements(extra: str) -> list[str]:
    """What an extra of this package installs, as pip takes it.

    Args:
        extra: its name.
    """
    found: list[str] = []
    for line in metadata.requires(_PACKAGE) or ():
        requirement = Requirement(line)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == _PACKAGE:
            found += [name for other in sorted(requirement.extras) for name in requirements(other)]
        else:
            found.append(f"{requirement.name}{requirement.specifier}")
    return list(dict.fromkeys(found))
