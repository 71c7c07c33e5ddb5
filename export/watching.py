"""Every value that an exported file computes, in its own runtime, by its name in the graph.

A copy of the file whose outputs are all of its values runs on the same kernels as the file itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .graph import InferenceGraph, Op
from .quantization import Scale

# The fields of an `Op` by the names of their arrays in a file.
FIELDS = {"kernel": "kernel", "map": "kernel", "bias": "bias"}


@dataclass(frozen=True, eq=False)
class FileValues:
    """The values that a file computes from a batch of images.

    Args:
        floats: Values in float32, channels last, by their names in the graph.
        integers: Values in integers, as the real numbers that they stand for.
        scales: Scales of ``integers``.
        byte_steps: Steps of the outputs that leave the file as uint8.
    """

    floats: dict[str, np.ndarray] = field(default_factory=dict)
    integers: dict[str, np.ndarray] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    byte_steps: dict[str, float] = field(default_factory=dict)

    def real(self, name: str) -> np.ndarray:
        """A value as an operation in float32 reads it."""
        return self.floats[name] if name in self.floats else self.integers[name]


class Weights(NamedTuple):
    """Weights of a file that are integers.

    Args:
        array: Real numbers that they stand for, float64, shaped as in the graph.
        step: Distance between two integers, for each filter or for all.
    """

    array: np.ndarray
    step: np.ndarray


@dataclass(frozen=True, eq=False)
class WatchedFile:
    """A file whose values can be seen.

    Args:
        run: Function from images to all values.
        kernels: Integer kernels, by the names of the values that they make.
        biases: Integer biases, likewise.
    """

    run: Callable[[np.ndarray], FileValues]
    kernels: dict[str, Weights]
    biases: dict[str, Weights]


def all_weights(
    graph: InferenceGraph, weights: Callable[[Op, str], Weights | None]
) -> tuple[dict[str, Weights], dict[str, Weights]]:
    """The integer kernels, maps among them, and biases of all operations."""
    kernels: dict[str, Weights] = {}
    biases: dict[str, Weights] = {}
    for op in graph.ops:
        for found, array, name in (
            (kernels, op.kernel, "map" if op.kind in ("multiply_map", "maximum_map") else "kernel"),
            (biases, op.bias, "bias"),
        ):
            read = None if array is None else weights(op, name)
            if read is not None:
                found[op.output] = read
    return kernels, biases


def real(integers: np.ndarray, scale: Scale) -> np.ndarray:
    """The real numbers that integers stand for, float32."""
    return ((integers.astype(np.float64) - scale.zero_point) * scale.step).astype(np.float32)
