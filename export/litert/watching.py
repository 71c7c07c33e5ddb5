"""Every value that a LiteRT file computes."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.quiet import quiet_stderr

from ..graph import InferenceGraph, Op
from ..quantization import Scale
from ..watching import FIELDS, FileValues, WatchedFile, Weights, all_weights, real
from .packing import packed


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
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (subgraph,) = model.subgraphs
    for tensor in subgraph.tensors:
        zero_points = tensor.quantization and tensor.quantization.zeroPoint
        if model.buffers[tensor.buffer].data is not None and np.any(zero_points):
            raise ValueError(
                f"{path}: expected weights with a zero point of 0. "
                f"Received: {tensor.name.decode()} with {np.ravel(zero_points)[0]}"
            )
    kernels, biases = all_weights(graph, partial(_weights, schema, model))
    names = {index: graph.outputs[k] for k, index in enumerate(subgraph.outputs)}
    subgraph.outputs = [index for operator in subgraph.operators for index in operator.outputs]
    model.signatureDefs = None
    outputs = subgraph.outputs
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A file and not its bytes: the runtime reads it where it lies.
        watched = Path(folder) / "watched.tflite"
        watched.write_bytes(packed(model, path.stat().st_size))
        del model, subgraph
        with quiet_stderr():  # it logs that it has a delegate
            interpreter = interpreter_module.Interpreter(os.fspath(watched))
    (image,) = interpreter.get_input_details()
    details = interpreter.get_output_details()

    def run(images: np.ndarray) -> FileValues:
        interpreter.resize_tensor_input(image["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        values = FileValues({graph.image: images.astype(np.float32)})
        for index, output in zip(outputs, details, strict=True):
            name = names.get(index, output["name"]).removesuffix("/float32")
            array = interpreter.tensor(output["index"])()
            step, zero_point = output["quantization"]
            if array.dtype == np.float32:
                values.floats[name] = array
            elif array.dtype == np.uint8:
                values.byte_steps[name] = step
            else:
                name = name.removesuffix("/int8").removesuffix("/int16")
                values.scales[name] = scale = Scale(step, zero_point)
                values.integers[name] = real(array, scale)
        return values

    return WatchedFile(run, kernels, biases)


def _weights(schema: Any, model: Any, op: Op, name: str) -> Weights | None:
    """The array ``name`` of an operation, where it is integers."""
    wanted = f"{op.output}/{name}".encode()
    tensor = next((tensor for tensor in model.subgraphs[0].tensors if tensor.name == wanted), None)
    if tensor is None or tensor.quantization is None:
        return None
    types = {schema.TensorType.INT8: "i1", schema.TensorType.INT16: "<i2"}
    types |= {schema.TensorType.INT32: "<i4", schema.TensorType.INT64: "<i8"}
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(types[tensor.type])
    array = data.reshape(tensor.shape).astype(np.float64)
    if name == "kernel" and op.kind in ("conv", "dense"):
        array = np.moveaxis(array, 0, -1)  # filters come first
    step = np.asarray(tensor.quantization.scale, np.float64)
    return Weights(array.reshape(getattr(op, FIELDS[name]).shape) * step, step)
