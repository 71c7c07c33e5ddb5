"""Lazy imports, since Keras and its backend take seconds to load."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from nasnet_zoo.quiet import quiet_stderr


class LazyModule(ModuleType):
    """A module that is imported at the first access to one of its attributes.

    Args:
        name: Full name of the module.

    Example::

        ops = LazyModule("keras.ops")
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


class KerasFinder(MetaPathFinder):
    """Finder that delegates to the other finders and changes how Keras is loaded.

    The start-up messages of native libraries are hidden while Keras or TensorFlow is loaded. The
    followers are imported as soon as Keras is loaded and no module of this package is partly loaded.

    Args:
        followers: Full names of modules of this package that need Keras.
    """

    def __init__(self, followers: Sequence[str]) -> None:
        self.followers = followers
        self._loading = 0

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the spec of Keras, TensorFlow or a module of this package. None for other modules."""
        native = name in ("keras", "tensorflow")
        if not native and not name.startswith("nasnet_zoo."):
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                self._loading += 1
                try:
                    with quiet_stderr() if native else nullcontext():
                        load(module)
                finally:
                    self._loading -= 1
                if "keras" in sys.modules and not self._loading:
                    for follower in self.followers:
                        importlib.import_module(follower)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def follow_keras(*modules: str) -> None:
    """Import modules right after Keras, or now if Keras is imported already.

    Modules that register Keras classes need this, so that `keras.models.load_model` finds the classes
    whether this package or Keras is imported first.

    Args:
        *modules: Full names of the modules.
    """
    if "keras" in sys.modules:
        for module in modules:
            importlib.import_module(module)
    else:
        sys.meta_path.insert(0, KerasFinder(modules))
