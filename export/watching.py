"""Every value that an exported file computes, in its own runtime, by its name in the graph.

A copy of the file whose outputs are all of its values runs on the same kernels as the file itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.quiet import quiet_stderr

from .graph import InferenceGraph, Op
from .litert_file import packed
from .quantization import INTEGER_KINDS, Scale

_ZERO_OF_BYTES = 128
# The fields of an `Op` by the names of their arrays in a file.
_FIELDS = {"kernel": "kernel", "map": "kernel", "bias": "bias"}


@dataclass(frozen=True, eq=False)
class FileValues:
    """What a file computed of a batch of images.

    Args:
        floats: values in float32, channels last, by their names in the graph.
        integers: values in integers, as the real numbers that they stand for.
        scales: the scales of ``integers``.
        byte_steps: the steps of the outputs that leave the file as uint8.
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
        array: the real numbers that they stand for, float64, shaped as in the graph.
        step: between two of them, for each filter or for all.
    """

    array: np.ndarray
    step: np.ndarray


@dataclass(frozen=True, eq=False)
class WatchedFile:
    """A file whose values can be seen.

    Args:
        run: from images to all values.
        kernels: the integer kernels, by the names of the values that they make.
        biases: the integer biases, likewise.
    """

    run: Callable[[np.ndarray], FileValues]
    kernels: dict[str, Weights]
    biases: dict[str, Weights]


def watch_litert(path: Path, graph: InferenceGraph) -> WatchedFile:
    """Watches a file of `write_litert`.

    Args:
        path: of the file.
        graph: as it was written, after the writer's rewrites.

    Raises:
        ValueError: if weights have a zero point, which LiteRT's kernels leave out.
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
    kernels, biases = _all_weights(graph, partial(_litert_weights, schema, model))
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
                values.integers[name] = _real(array, scale)
        return values

    return WatchedFile(run, kernels, biases)


def _litert_weights(schema: Any, model: Any, op: Op, name: str) -> Weights | None:
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
    return Weights(array.reshape(getattr(op, _FIELDS[name]).shape) * step, step)


def watch_onnx(path: Path, graph: InferenceGraph) -> WatchedFile:
    """Watches a file of `write_onnx`; arguments as of `watch_litert`."""
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
        array = array.reshape(getattr(op, _FIELDS[part]).shape)
        return Weights((array - zero) * step, step)

    kernels, biases = _all_weights(graph, weights)
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
                values.integers[name] = _real(signed, scales[name])
            else:
                values.floats[name] = array
        return values

    return WatchedFile(run, kernels, biases)


def _all_weights(
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


def _real(integers: np.ndarray, scale: Scale) -> np.ndarray:
    return ((integers.astype(np.float64) - scale.zero_point) * scale.step).astype(np.float32)


#: By format.
WATCHES: Mapping[str, Callable[[Path, InferenceGraph], WatchedFile]] = {
    "litert": watch_litert,
    "onnx": watch_onnx,
}
