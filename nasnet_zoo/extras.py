"""Optional dependencies, installed as extras of the package."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from packaging.requirements import Requirement

_PACKAGE = "nasnet-zoo"


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional dependency.

    Args:
        module: Full name of the module.
        extra: Extra of this package that installs it.

    Raises:
        ImportError: If the module is not installed. The message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        # Not "nasnet-zoo[extra]", which pip finds only if the package was installed from an index.
        wanted = " ".join(f"'{requirement}'" for requirement in requirements(extra))
        raise ImportError(
            f"Expected {missing!r}, of the extra {extra!r} of {_PACKAGE}: pip install {wanted}. "
            "Received: no such module",
            name=missing,
        ) from None


def requirements(extra: str) -> list[str]:
    """The requirements of an extra of this package, as arguments of pip."""
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
