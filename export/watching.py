"""Every value that an exported file computes, in its own runtime, by its name in the graph.

Pieces of the file, whose outputs are all of their values, run one after the other on the same kernels
as the file itself. At a time, only the values of a piece are held, and those that are read later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .graph import InferenceGraph, Op
from .quantization import Scale

# The fields of an `Op` by the names of their arrays in a file.
FIELDS = {"kernel": "kernel", "map": "kernel", "bias": "bias"}

# Bytes of the weights and values of a piece of a file.
_PIECE = 1 << 26


class Weights(NamedTuple):
    """Weights of a file that are integers.

    Args:
        array: Real numbers that they stand for, float64, shaped as in the graph.
        step: Distance between two integers, for each filter or for all.
    """

    array: np.ndarray
    step: np.ndarray


class Operator(NamedTuple):
    """An operator of a file.

    Args:
        inputs: Names of the tensors that it reads, constants among them.
        outputs: Names of the tensors that it makes.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True, eq=False)
class WatchedFile:
    """A file whose values can be seen.

    Args:
        graph: Graph as it was written, after the writer's rewrites.
        image: Name of the tensor of the images.
        floats: Names of the tensors in float32, by the names of values in the graph.
        integers: Names of the tensors in integers, likewise.
        scales: Scales of ``integers``.
        operators: Operators of the file, in order.
        run: Function from the numbers of operators, the tensors that these read, by name, and the names
            of tensors that they make, to these tensors, all channels last.
        weights: Function from an operation and the name of an array to that array, or to None where it
            is no integers.
        byte_steps: Steps of the outputs that leave the file as uint8.
    """

    graph: InferenceGraph
    image: str
    floats: Mapping[str, str]
    integers: Mapping[str, str]
    scales: Mapping[str, Scale]
    operators: Sequence[Operator]
    run: Callable[[list[int], dict[str, np.ndarray], list[str]], list[np.ndarray]]
    weights: Callable[[Op, str], Weights | None]
    byte_steps: Mapping[str, float] = field(default_factory=dict)

    def values(self, images: np.ndarray) -> Iterator[tuple[Op, FileValues]]:
        """Every operation in turn, with the values that it reads and makes.

        The outputs of the graph are held to the end.
        """
        graph = self.graph
        makers = {name: k for k, operator in enumerate(self.operators) for name in operator.outputs}
        last_use = {name: op for op in graph.ops for name in (*op.inputs, op.output)}
        values = FileValues(self, {self.image: images})
        made = [graph.image]
        for piece in _pieces(graph, len(images)):
            made += [op.output for op in piece]
            wanted = [tensor for name in made for tensor in self._tensors(name) if tensor in makers]
            numbers = _needed(wanted, self.operators, makers, values.tensors)
            read = {name for number in numbers for name in self.operators[number].inputs}
            given = {name: array for name, array in values.tensors.items() if name in read}
            values.tensors.update(zip(wanted, self.run(numbers, given, wanted), strict=True))
            for op in piece:
                yield op, values
                for name in {*op.inputs, op.output} - {*graph.outputs}:
                    if last_use[name] is op:
                        for tensor in self._tensors(name):
                            values.tensors.pop(tensor, None)
            made = []

    def _tensors(self, name: str) -> list[str]:
        """The tensors that are a value of the graph."""
        found = [names[name] for names in (self.floats, self.integers) if name in names]
        if not found:
            raise KeyError(name)
        return found


class FileValues:
    """The values that a file computes from a batch of images.

    Args:
        file: The file.
        tensors: Tensors of the file by name, channels last.
    """

    def __init__(self, file: WatchedFile, tensors: dict[str, np.ndarray]) -> None:
        self.file, self.tensors = file, tensors

    def floats(self, name: str) -> np.ndarray | None:
        """A value in float32, if the file holds it so."""
        return self.tensors.get(self.file.floats.get(name, ""))

    def integers(self, name: str) -> np.ndarray:
        """The real numbers that the integers of a value stand for, float32."""
        scale = self.file.scales[name]
        integers = self.tensors[self.file.integers[name]]
        return ((integers.astype(np.float64) - scale.zero_point) * scale.step).astype(np.float32)

    def real(self, name: str) -> np.ndarray:
        """A value as an operation in float32 reads it."""
        array = self.floats(name)
        return self.integers(name) if array is None else array.astype(np.float32, copy=False)


def _pieces(graph: InferenceGraph, batch: int) -> Iterator[list[Op]]:
    """Operations that follow each other, of about `_PIECE` bytes."""
    shapes = graph.shapes()
    piece: list[Op] = []
    size = 0
    for op in graph.ops:
        piece.append(op)
        weights = 0 if op.kernel is None else op.kernel.nbytes
        size += weights + 4 * batch * math.prod(shapes[op.output])
        if size > _PIECE or op is graph.ops[-1]:
            yield piece
            piece, size = [], 0


def _needed(
    wanted: Iterable[str],
    operators: Sequence[Operator],
    makers: Mapping[str, int],
    known: Mapping[str, np.ndarray],
) -> list[int]:
    """The numbers of the operators that make tensors of known ones."""
    numbers: set[int] = set()
    ahead = list(wanted)
    while ahead:
        name = ahead.pop()
        if name in makers and name not in known and makers[name] not in numbers:
            numbers.add(makers[name])
            ahead += operators[makers[name]].inputs
    return sorted(numbers)
