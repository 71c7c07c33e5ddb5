"""Every value that an ONNX file computes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from nasnet_zoo.extras import import_extra

from ..graph import InferenceGraph, Op
from ..quantization import INTEGER_KINDS, Scale
from ..watching import FIELDS, FileValues, WatchedFile, Weights, all_weights, real

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
    made = {output for node in model.graph.node for output in node.output}
    # The image is turned to channels first, and bytes to floats, before anything else reads it.
    turned = "image/float" if graph.image_dtype == "uint8" else "image/channels_first"
    stored = {graph.image: turned, **{op.output: op.output for op in graph.ops}}
    integers = {name: f"{where}/bytes" for name, where in stored.items() if f"{where}/bytes" in made}
    in_floats = [op for op in graph.ops if not integers or op.kind not in INTEGER_KINDS]
    floats = {op.output: op.output for op in in_floats if op.output in made}
    del model.graph.output[:]
    for name in (*integers.values(), *floats.values()):
        model.graph.output.append(onnx.ValueInfoProto(name=name))
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

    kernels, biases = all_weights(graph, weights)
    scales = {
        name: Scale(
            float(constant(f"{stored[name]}/step")),
            int(constant(f"{stored[name]}/zero")) - _ZERO_OF_BYTES,
        )
        for name in integers
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        watched = os.fspath(Path(folder) / "watched.onnx")
        onnx.save(model, watched)
        del model
        session = onnxruntime.InferenceSession(watched, options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> FileValues:
        found = session.run([*integers.values(), *floats.values()], {"image": images})
        values = FileValues({graph.image: images.astype(np.float32)}, scales=dict(scales))
        for name, array in zip((*integers, *floats), found, strict=True):
            array = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
            if array.dtype == np.uint8:
                signed = array.astype(np.int16) - _ZERO_OF_BYTES
                values.integers[name] = real(signed, scales[name])
            else:
                values.floats[name] = array
        return values

    return WatchedFile(run, kernels, biases)
