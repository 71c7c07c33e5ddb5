"""Every value that an ONNX file computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nasnet_zoo.extras import import_extra

from ..graph import InferenceGraph, Op
from ..quantization import INTEGER_KINDS, Scale
from ..watching import FIELDS, Operator, WatchedFile, Weights

_ZERO_OF_BYTES = 128


def watch(path: Path, graph: InferenceGraph) -> WatchedFile:
    """Watch a file of `write`.

    Args:
        path: Path of the file.
        graph: Graph as it was written, after the writer's rewrites.
    """
    onnx = import_extra("onnx", "export")
    onnxruntime = import_extra("onnxruntime", "export")
    model = onnx.load(path)
    nodes = model.graph.node
    made = {output for node in nodes for output in node.output}
    # The image is turned to channels first, and bytes to floats, before anything else reads it.
    turned = "image/float" if graph.image_dtype == "uint8" else "image/channels_first"
    stored = {graph.image: turned, **{op.output: op.output for op in graph.ops}}
    integers = {name: f"{where}/bytes" for name, where in stored.items() if f"{where}/bytes" in made}
    in_floats = [op for op in graph.ops if not integers or op.kind not in INTEGER_KINDS]
    floats = {op.output: op.output for op in in_floats if op.output in made}
    floats[graph.image] = "image"
    constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(name: str) -> np.ndarray:
        return onnx.numpy_helper.to_array(constants[name]).astype(np.float64)

    def weights(op: Op, part: str) -> Weights | None:
        named = (f"{op.output}/{part}", f"{op.output}/linear/{part}")
        name = next((name for name in named if f"{name}/step" in constants), None)
        if name is None:
            return None
        array, step, zero = (constant(f"{name}{suffix}") for suffix in ("", "/step", "/zero"))
        if array.ndim == 4:  # channels come before pixels
            array = array.transpose(2, 3, 1, 0)
        array = array.reshape(getattr(op, FIELDS[part]).shape)
        return Weights((array - zero) * step, step)

    scales = {
        name: Scale(
            float(constant(f"{stored[name]}/step")),
            int(constant(f"{stored[name]}/zero")) - _ZERO_OF_BYTES,
        )
        for name in integers
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3

    def run(chosen: list[int], given: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        feeds = {
            name: array if name == "image" else _as_in_file(array) for name, array in given.items()
        }
        piece = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
        piece.graph.name = "piece"
        for number in chosen:
            piece.graph.node.append(nodes[number])
        read = {name for number in chosen for name in nodes[number].input}
        for name in read & {*constants}:
            piece.graph.initializer.append(constants[name])
        for name, array in feeds.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            piece.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
        for name in wanted:
            piece.graph.output.append(onnx.ValueInfoProto(name=name))
        content = piece.SerializeToString()
        del piece
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return [_as_in_graph(array) for array in session.run(wanted, feeds)]

    operators = [Operator(node.input, node.output) for node in nodes]
    return WatchedFile(graph, "image", floats, integers, scales, operators, run, weights)


def _as_in_graph(array: np.ndarray) -> np.ndarray:
    """A value of the file with its channels last, and its bytes as signed integers."""
    if array.dtype == np.uint8:
        array = (array ^ _ZERO_OF_BYTES).view(np.int8)
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def _as_in_file(array: np.ndarray) -> np.ndarray:
    """The inverse of `_as_in_graph`."""
    array = np.ascontiguousarray(np.moveaxis(array, -1, 1) if array.ndim == 4 else array)
    return array.view(np.uint8) ^ _ZERO_OF_BYTES if array.dtype == np.int8 else array
