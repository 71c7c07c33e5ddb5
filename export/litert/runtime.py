"""Running and measuring LiteRT files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.quiet import quiet_stderr

from ..runtime import Runtime, by_number, counted
from .packing import read_metadata

RUNTIME = "LiteRT"
#: Loads the runtime and a file, and runs one image; `peak_memory` runs it.
PEAK_MEMORY = """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(path)
image = interpreter.get_input_details()[0]
if size:
    interpreter.resize_tensor_input(image["index"], [1, *size, int(image["shape"][3])])
interpreter.allocate_tensors()
interpreter.invoke()
"""


def load(path: Path, threads: int) -> Runtime:
    """Load a file; see `nasnet_zoo.export.load_runtime`."""
    module = import_extra("ai_edge_litert.interpreter", "export")
    with quiet_stderr():  # it logs that it has a delegate
        interpreter = module.Interpreter(os.fspath(path), num_threads=threads)
        interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    outputs = {output["name"]: output for output in interpreter.get_output_details()}
    if interpreter.get_signature_list():
        named = interpreter.get_signature_runner().get_output_details()
        outputs = {name: named[name] for name in sorted(named, key=by_number)}
    shape = list(image["shape"])

    def run(images: np.ndarray) -> list[np.ndarray]:
        if shape != list(images.shape):
            shape[:] = images.shape
            interpreter.resize_tensor_input(image["index"], shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return [_real(interpreter.get_tensor(output["index"]), output) for output in outputs.values()]

    sizes = tuple(None if size < 0 else int(size) for size in image["shape_signature"][1:])
    dtype = np.dtype(image["dtype"]).name
    metadata = read_metadata(path)
    return Runtime(RUNTIME, path.stat().st_size, sizes, tuple(outputs), run, dtype, metadata)


def _real(output: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """An output of LiteRT: bytes in float32, what is on no scale as it is."""
    step, zero_point = details["quantization"]
    return (output.astype(np.float32) - zero_point) * np.float32(step) if step else output


def operators(path: Path) -> tuple[dict[str, int], float, int]:
    """The operators of each kind, and the share and the pieces that XNNPACK takes; see `FileReport`."""
    module = import_extra("ai_edge_litert.interpreter", "export")
    interpreter = module.Interpreter(os.fspath(path), num_threads=1)
    interpreter.allocate_tensors()
    # Behind the operators of the file stands one for each piece that the delegate took of them.
    details = interpreter._get_ops_details()
    operators = [op for op in details if op["op_name"] != "DELEGATE"]
    pieces = [op for op in details if op["op_name"] == "DELEGATE"]
    maker = {int(tensor): k for k, op in enumerate(operators) for tensor in op["outputs"]}
    taken: set[int] = set()
    for piece in pieces:
        given = {int(tensor) for tensor in piece["inputs"]}
        ahead = [int(tensor) for tensor in piece["outputs"]]
        while ahead:
            tensor = ahead.pop()
            if tensor not in given and tensor in maker and maker[tensor] not in taken:
                taken.add(maker[tensor])
                ahead += [int(t) for t in operators[maker[tensor]]["inputs"]]
    kinds = counted(op["op_name"] for op in operators)
    return kinds, len(taken) / max(len(operators), 1), len(pieces)
