"""Every value that a LiteRT file computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.quiet import quiet_stderr

from ..graph import InferenceGraph, Op
from ..quantization import Scale
from ..watching import FIELDS, Operator, WatchedFile, Weights
from .packing import cut_out, mapped


def watch(path: Path, graph: InferenceGraph) -> WatchedFile:
    """Watch a file of `write`.

    Args:
        path: Path of the file.
        graph: Graph as it was written, after the writer's rewrites.

    Raises:
        ValueError: If weights have a zero point, which LiteRT's kernels leave out.
    """
    schema = import_extra("ai_edge_litert.schema_py_generated", "export")
    interpreter_module = import_extra("ai_edge_litert.interpreter", "export")
    model = schema.ModelT.InitFromPackedBuf(mapped(path))
    (subgraph,) = model.subgraphs
    for tensor in subgraph.tensors:
        tensor.name = tensor.name.decode()
        zero_points = tensor.quantization and tensor.quantization.zeroPoint
        if model.buffers[tensor.buffer].data is not None and np.any(zero_points):
            raise ValueError(
                f"{path}: expected weights with a zero point of 0. "
                f"Received: {tensor.name} with {np.ravel(zero_points)[0]}"
            )
    numbers = {tensor.name: index for index, tensor in enumerate(subgraph.tensors)}
    outputs = dict(zip(subgraph.outputs, graph.outputs, strict=True))
    image = subgraph.tensors[subgraph.inputs[0]].name
    floats: dict[str, str] = {graph.image: image}
    integers: dict[str, str] = {}
    scales: dict[str, Scale] = {}
    byte_steps: dict[str, float] = {}
    for index in (index for operator in subgraph.operators for index in operator.outputs):
        tensor = subgraph.tensors[index]
        name = outputs.get(index, tensor.name).removesuffix("/float32")
        if tensor.type == schema.TensorType.FLOAT32:
            floats[name] = tensor.name
            continue
        step, zero_point = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])
        if tensor.type == schema.TensorType.UINT8:
            byte_steps[name] = step
        else:
            name = name.removesuffix("/int8").removesuffix("/int16")
            integers[name], scales[name] = tensor.name, Scale(step, zero_point)

    def run(chosen: list[int], given: dict[str, np.ndarray], wanted: list[str]) -> list[np.ndarray]:
        operators = [subgraph.operators[k] for k in chosen]
        content = bytes(cut_out(schema, model, operators, [numbers[name] for name in wanted]))
        with quiet_stderr():  # it logs that it has a delegate
            interpreter = interpreter_module.Interpreter(model_content=content)
        inputs = interpreter.get_input_details()
        for details in inputs:
            interpreter.resize_tensor_input(details["index"], given[details["name"]].shape)
        interpreter.allocate_tensors()
        for details in inputs:
            interpreter.set_tensor(details["index"], given[details["name"]])
        interpreter.invoke()
        return [interpreter.get_tensor(made["index"]) for made in interpreter.get_output_details()]

    def weights(op: Op, name: str) -> Weights | None:
        """The array ``name`` of an operation, where it is integers."""
        index = numbers.get(f"{op.output}/{name}")
        if index is None or subgraph.tensors[index].quantization is None:
            return None
        return _weights(schema, model, subgraph.tensors[index], op, name)

    operators = [
        Operator(*([subgraph.tensors[k].name for k in ks if k >= 0] for ks in (op.inputs, op.outputs)))
        for op in subgraph.operators
    ]
    return WatchedFile(graph, image, floats, integers, scales, operators, run, weights, byte_steps)


def _weights(schema: Any, model: Any, tensor: Any, op: Op, name: str) -> Weights:
    types = {schema.TensorType.INT8: "i1", schema.TensorType.INT16: "<i2"}
    types |= {schema.TensorType.INT32: "<i4", schema.TensorType.INT64: "<i8"}
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(types[tensor.type])
    array = data.reshape(tensor.shape).astype(np.float64)
    if name == "kernel" and op.kind in ("conv", "dense"):
        array = np.moveaxis(array, 0, -1)  # filters come first
    step = np.asarray(tensor.quantization.scale, np.float64)
    return Weights(array.reshape(getattr(op, FIELDS[name]).shape) * step, step)
