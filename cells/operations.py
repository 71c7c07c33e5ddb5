"""The registry of operations and combinations ([N] section 3, Figure 3).

Each entry has a name, its look in a picture, and the primitives it is made of. Genotypes refer to
entries by name; layers, costs, pictures, search and export read them from here. To add an
operation, register it::

    register_operation(
        "sep_9x9", lambda stride, channels, filters: (*separable(9, stride), *separable(9))
    )

The conventions are those of the released TF-Slim models: every convolution is ReLU, convolution
without bias, batch norm; a separable convolution is applied twice, only the first with the stride;
pooling is SAME padded.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nasnet_zoo.checking import checked

from .primitives import (
    BatchNorm,
    Conv,
    Depthwise,
    InstanceNorm,
    LayerNorm,
    Pool,
    Primitive,
    Relu,
)

Primitives = tuple[Primitive, ...]


@dataclass(frozen=True)
class OperationSpec:
    """An operation of the search space.

    Args:
        name: Name in genotypes.
        primitives: Function ``primitives(stride, channels, filters)`` that returns the steps from a
            state of ``channels`` channels to one of ``filters`` channels at 1/``stride`` of the size.
        label: Text in a picture.
        colour: Fill in a picture.
        drop_path: Whether ScheduledDropPath may drop the output; True for all but identity.
        factorized: Whether a stride above 1 is a factorized reduction to ``filters`` channels before
            the steps, which then have stride 1.
    """

    name: str
    primitives: Callable[[int, int, int], Primitives]
    label: str
    colour: str
    drop_path: bool = True
    factorized: bool = False


@dataclass(frozen=True)
class Combination:
    """How the two operations of a block become one state.

    Args:
        name: Name in genotypes.
        merge: "add" (element-wise) or "concat" (along channels).
        primitives: Steps applied to both sides before they are merged.
        label: Text in a picture.
        colour: Fill in a picture.
    """

    name: str
    merge: str
    primitives: Primitives
    label: str
    colour: str


OPERATIONS: dict[str, OperationSpec] = {}
COMBINATIONS: dict[str, Combination] = {}

YELLOW, GREEN = "#fde9a9", "#cfe8c6"


@checked
def register_operation(
    name: str,
    primitives: Callable[[int, int, int], Iterable[Primitive]],
    *,
    label: str | None = None,
    colour: str = YELLOW,
    drop_path: bool = True,
    factorized: bool = False,
) -> OperationSpec:
    """Add an operation to the registry and return it. See `OperationSpec` for the arguments.

    Raises:
        ValueError: If the name is empty or already registered.
    """
    if not name or name in OPERATIONS:
        raise ValueError(f"Expected a new operation name. Received: name={name!r}")

    def steps(stride: int, channels: int, filters: int) -> Primitives:
        return tuple(primitives(stride, channels, filters))

    label = label or name.replace("_", " ")
    OPERATIONS[name] = OperationSpec(name, steps, label, colour, drop_path, factorized)
    return OPERATIONS[name]


@checked
def register_combination(
    name: str,
    merge: str,
    primitives: Iterable[Primitive] = (),
    *,
    label: str | None = None,
    colour: str = GREEN,
) -> Combination:
    """Add a combination to the registry and return it. See `Combination` for the arguments.

    Raises:
        ValueError: If the name is empty or already registered, or ``merge`` is unknown.
    """
    if not name or name in COMBINATIONS:
        raise ValueError(f"Expected a new combination name. Received: name={name!r}")
    if merge not in ("add", "concat"):
        raise ValueError(f"Expected merge 'add' or 'concat'. Received: merge={merge!r}")
    label = label or name.replace("_", " ")
    COMBINATIONS[name] = Combination(name, merge, tuple(primitives), label, colour)
    return COMBINATIONS[name]


def import_operations(module: str) -> None:
    """Import a module that registers operations. This runs the module's code.

    Args:
        module: Name of the module, or path of a ``.py`` file. The folder of the file is added to
            ``sys.path``, so that worker processes can import its primitives.

    Raises:
        ValueError: If there is no such module, or another module has the file's name.
    """
    name, path = module, None
    if module.endswith(".py"):
        path = Path(module).resolve()
        if not path.is_file():
            raise ValueError(f"{module}: expected a Python file. Received: no such file")
        name = path.stem
        sys.path.append(os.fspath(path.parent))
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Of a dotted name the first part may be what is not there.
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"Expected the name of a Python module or the path of a .py file. Received: {module!r}"
        ) from None
    if path is not None and Path(found.__file__ or "").resolve() != path:
        raise ValueError(
            f"{module}: expected a file whose name no other module has. Received: the name of "
            f"{found.__file__ or 'a module of Python'}"
        )


def conv(kernel: int | tuple[int, int], stride: int = 1, filters: int | None = None) -> Primitives:
    """ReLU, convolution, batch norm."""
    return Relu(), Conv(kernel, stride, filters=filters), BatchNorm()


def separable(kernel: int, stride: int = 1) -> Primitives:
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""
    return Relu(), Depthwise(kernel, stride), Conv(1), BatchNorm()


def _identity(stride: int, channels: int, filters: int) -> Primitives:
    return () if stride == 1 and channels == filters else conv(1, stride)


def _pooling(kind: str, kernel: int, padding: str = "same"):
    def primitives(stride: int, channels: int, filters: int) -> Primitives:
        pool = Pool(kind, kernel, stride, padding)
        return (pool,) if channels == filters else (pool, Conv(1), BatchNorm())

    return primitives


def _two_step(kernel: int):
    def primitives(stride: int, channels: int, filters: int) -> Primitives:
        return *conv((1, kernel), stride), *conv((kernel, 1))

    return primitives


def _dilated(kernel: int):
    """Dilated convolution. With stride 2 it reads every second pixel: a plain convolution of those."""

    def primitives(stride: int, channels: int, filters: int) -> Primitives:
        if stride == 1:
            return Relu(), Conv(kernel, dilation=2), BatchNorm()
        return Pool("avg", 1, stride), *conv(kernel)

    return primitives


def _dilated_separable(kernel: int):
    """Dilated separable convolution. With stride 2, as `_dilated`."""

    def primitives(stride: int, channels: int, filters: int) -> Primitives:
        if stride == 1:
            return Relu(), Depthwise(kernel, dilation=2), Conv(1), BatchNorm()
        return Pool("avg", 1, stride), *separable(kernel)

    return primitives


def _bottleneck_two_step(kernel: int):
    def primitives(stride: int, channels: int, filters: int) -> Primitives:
        narrow = max(filters // 4, 1)
        two_steps = *conv((1, kernel), stride, narrow), *conv((kernel, 1), filters=narrow)
        return *conv(1, filters=narrow), *two_steps, *conv(1)

    return primitives


def _separable_twice(kernel: int):
    return lambda stride, channels, filters: (*separable(kernel, stride), *separable(kernel))


register_operation("identity", _identity, drop_path=False)
register_operation("1x3_3x1", _two_step(3), label="1x3 3x1")
register_operation("1x7_7x1", _two_step(7), label="1x7 7x1")
register_operation("dil_3x3", _dilated(3))
register_operation("avg_3x3", _pooling("avg", 3))
register_operation("avg_5x5", _pooling("avg", 5))
register_operation("max_3x3", _pooling("max", 3))
register_operation("max_5x5", _pooling("max", 5))
register_operation("max_7x7", _pooling("max", 7))
register_operation("conv_1x1", lambda stride, channels, filters: conv(1, stride))
register_operation("conv_3x3", lambda stride, channels, filters: conv(3, stride))
register_operation("sep_3x3", _separable_twice(3))
register_operation("sep_5x5", _separable_twice(5))
register_operation("sep_7x7", _separable_twice(7))

#: The paper's 13 operations: the default search space (seed lists add "avg_5x5").
SEARCH_OPERATIONS: tuple[str, ...] = tuple(name for name in OPERATIONS if name != "avg_5x5")

# NASNet-B's published size fits separable convolutions that are applied once.
register_operation(
    "sep_once_3x3", lambda stride, channels, filters: separable(3, stride), label="sep 3x3"
)
register_operation(
    "sep_once_5x5", lambda stride, channels, filters: separable(5, stride), label="sep 5x5"
)

# The operations of the relatives: AmoebaNet's convolutions that are not separable run on a quarter
# of the filters, DARTS's dilated ones are separable and applied once, and ENAS's and DARTS's skip
# connections halve a state by a factorized reduction.
register_operation("bottleneck_1x7_7x1", _bottleneck_two_step(7), label="1x7 7x1 (bottleneck)")
register_operation("dil_sep_3x3", _dilated_separable(3))
register_operation("dil_sep_5x5", _dilated_separable(5))
register_operation("skip", _identity, drop_path=False, factorized=True)

# What Keras computes where the paper's models pool: the padding counts as zeros.
register_operation("zero_avg_3x3", _pooling("avg", 3, "zero"), label="avg 3x3 (zero padded)")
register_operation("zero_max_3x3", _pooling("max", 3, "zero"), label="max 3x3 (zero padded)")

register_combination("add", "add")
register_combination("concat", "concat")
register_combination("ln_add", "add", (LayerNorm(),))
register_combination("in_add", "add", (InstanceNorm(),))

#: The combinations of the paper's main search.
SEARCH_COMBINATIONS: tuple[str, ...] = ("add", "concat")
