"""The time of each operator of a LiteRT file.

XNNPACK takes a graph as a whole and says nothing of its parts. So each operator is cut out into a file
of one copy and a file of several, which run in the same process: what a copy adds is its time.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.quiet import quiet_stderr

from ..runtime import OperatorTime
from .packing import cut_out, mapped

_COPIES = 5


def operator_times(path: Path, image: np.ndarray, threads: int, rounds: int) -> list[OperatorTime]:
    """Measure the operators of a file, which has a size of image of its own.

    See `nasnet_zoo.export.profiling.profiled`.
    """
    file = _File(path)
    alike: dict[str, list[int]] = {}
    for number in file.numbers():
        alike.setdefault(file.kind_of(number), []).append(number)
    pairs = [
        [file.interpreter(numbers[0], copies, threads) for copies in (1, 1 + _COPIES)]
        for numbers in alike.values()
    ]
    times = np.zeros((rounds, len(pairs), 2))
    for turn in range(-1, rounds):
        for k, pair in enumerate(pairs):
            for which, interpreter in enumerate(pair):
                start = time.perf_counter()
                interpreter.invoke()
                times[turn, k, which] = time.perf_counter() - start
    seconds = np.maximum(np.median(times[:, :, 1] - times[:, :, 0], 0), 0) / _COPIES
    found = {
        number: OperatorTime(*file.about(number), float(own))
        for own, numbers in zip(seconds, alike.values(), strict=True)
        for number in numbers
    }
    return [found[number] for number in sorted(found)]


class _File:
    """A file in the schema's object form, and the files that are cut out of it."""

    def __init__(self, path: Path) -> None:
        self.schema = import_extra("ai_edge_litert.schema_py_generated", "export")
        self.model = self.schema.ModelT.InitFromPackedBuf(mapped(path))
        if len(self.model.subgraphs) > 1:
            raise ValueError(
                f"{path}: expected a file without loops to profile. "
                f"Received: one with {len(self.model.subgraphs) - 1} graphs of loops"
            )
        (self.subgraph,) = self.model.subgraphs
        self.operators = self.subgraph.operators
        codes = self.schema.BuiltinOperator
        names = {code: name for name, code in vars(codes).items() if not name.startswith("_")}
        self.names = [names[code.builtinCode] for code in self.model.operatorCodes]
        self.makers = {tensor: k for k, op in enumerate(self.operators) for tensor in op.outputs}

    def numbers(self) -> Iterator[int]:
        """The operators whose inputs are not all constants."""
        return (k for k in range(len(self.operators)) if not self._is_constant(k))

    def about(self, number: int) -> tuple[str, int, str]:
        """The kind and the multiply-adds of an operator, and the name of its output."""
        operator = self.operators[number]
        output, kind = self._tensor(operator.outputs[0]), self.names[operator.opcodeIndex]
        made, name = math.prod(output.shape), output.name.decode()
        if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            return kind, 0, name
        _, *size, last = map(int, self._tensor(operator.inputs[1]).shape)
        if not size:
            return kind, made * last, name
        read = 1 if kind == "DEPTHWISE_CONV_2D" else last
        return f"{kind} {'x'.join(map(str, size))}", made * read * math.prod(size), name

    def kind_of(self, number: int) -> str:
        """What operators share that take the same time: their options, shapes and types."""
        operator = self.operators[number]
        options = vars(operator.builtinOptions) if operator.builtinOptions else {}
        tensors = [self._tensor(k) for k in (*operator.inputs, *operator.outputs) if k >= 0]
        shapes = [(list(t.shape if t.shape is not None else ()), t.type) for t in tensors]
        # The same tensor twice is read once.
        places = [list(operator.inputs).index(k) for k in operator.inputs]
        return repr((operator.opcodeIndex, sorted(options.items()), shapes, places))

    def interpreter(self, number: int, copies: int, threads: int) -> Any:
        """An operator as often as ``copies`` says in a file of its own, ready to run."""
        module = import_extra("ai_edge_litert.interpreter", "export")
        content = bytes(self._cut(number, copies))
        with quiet_stderr():  # it logs that it has a delegate
            made = module.Interpreter(model_content=content, num_threads=threads)
            made.allocate_tensors()
        rng = np.random.default_rng(0)
        for details in made.get_input_details():
            values = rng.normal(size=details["shape"])
            if details["dtype"] is not np.float32:
                values = values * 30
            made.set_tensor(details["index"], values.astype(details["dtype"]))
        return made

    def _tensor(self, index: int) -> Any:
        return self.subgraph.tensors[index]

    def _is_constant(self, number: int) -> bool:
        """Whether an operator reads constants alone, as one does that widens weights of float16."""
        return all(
            index < 0 or self._data(index) is not None for index in self.operators[number].inputs
        )

    def _data(self, index: int) -> Any:
        return self.model.buffers[self._tensor(index).buffer].data

    def _cut(self, number: int, copies: int) -> memoryview:
        """A file of copies of an operator, which read the same."""
        operator = self.operators[number]
        before = {self.makers[k] for k in operator.inputs if k in self.makers}
        operators = [self.operators[k] for k in sorted(before) if self._is_constant(k)]
        outputs: list[int] = []
        for _ in range(copies):
            again, first = copy.copy(operator), len(self.subgraph.tensors)
            self.subgraph.tensors += [self._tensor(k) for k in operator.outputs]
            again.outputs = list(range(first, len(self.subgraph.tensors)))
            operators.append(again)
            outputs += again.outputs
        return cut_out(self.schema, self.model, operators, outputs)
