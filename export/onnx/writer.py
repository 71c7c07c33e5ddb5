"""Writing an inference graph as an ONNX file: channels-first inside, images and maps channels-last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra

from ..graph import InferenceGraph, Op
from ..quantization import (
    INTEGER_KINDS,
    Scale,
    calibrate,
    channel_scales,
    quantize_bias,
    quantize_weights,
    scales,
    with_halves,
    with_integers,
)
from ..settings import ExportSettings
from .rewrites import REWRITES

OLDEST_OPSET, DEFAULT_OPSET = 13, 17
# The first version of the file format that has the operators of an opset is that opset's own.
_IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}

# The operations that give values on the scale of what they read.
_KEEPING = ("max_pool", "pad", "select", "concat")


def check_opset(opset: int) -> None:
    """Raise a `ValueError` for an opset that cannot be written."""
    newest = min(max(_IR_VERSIONS), import_extra("onnx", "export").defs.onnx_opset_version())
    if not OLDEST_OPSET <= opset <= newest:
        raise ValueError(f"Expected an opset from {OLDEST_OPSET} to {newest}. Received: {opset}")


def write(
    graph: InferenceGraph,
    path: Path,
    output_names: tuple[str, ...],
    metadata: Mapping[str, str],
    settings: ExportSettings = ExportSettings(),  # noqa: B008 (frozen)
    images: np.ndarray | None = None,
) -> None:
    """Write a graph, and check it by `onnx.checker`.

    Args:
        graph: Graph to write; `REWRITES` are applied here.
        path: Path of the file.
        output_names: Names of the graph's outputs.
        metadata: The file's metadata_props.
        settings: Its quantization and opset are read. Weights of "float16" are stored as halves and
            computed with in float32; "int8" has uint8 values and int8 weights, between QuantizeLinear
            and DequantizeLinear.
        images: Images whose ranges "int8" are read off, of the graph's image type.

    Raises:
        ValueError: If the opset is out of range.
    """
    onnx = import_extra("onnx", "export")
    quantization, opset = settings.quantization, settings.opset or DEFAULT_OPSET
    check_opset(opset)
    for rewrite in REWRITES[quantization]:
        graph = rewrite(graph)
    found = None
    if quantization == "int8":
        assert images is not None
        found = scales(graph, calibrate(graph, images), 8, _KEEPING)
    writer = _Writer(onnx, graph, quantization == "float16", found)
    path.write_bytes(writer.model(output_names, metadata, opset).SerializeToString())
    del writer  # which holds the weights, as does the checker
    onnx.checker.check_model(str(path))


def stored(op: Op, graph: InferenceGraph, quantization: str, scales: Mapping[str, Scale]) -> Op:
    """An operation with the numbers that a file of `write` holds; see `litert.stored`."""
    if quantization == "float16":
        arrays = {name: getattr(op, name) for name in ("kernel", "bias")}
        # See `_Writer.constant`.
        return with_halves(op, *(name for name, a in arrays.items() if a is not None and a.size > 1))
    if quantization == "int8" and op.kind in INTEGER_KINDS:
        return with_integers(op, scales[op.inputs[0]], "int32", 255)
    return op


class _Writer:
    """Collects nodes and initialisers."""

    def __init__(
        self, onnx: Any, graph: InferenceGraph, float16: bool, found: Mapping[str, Scale] | None
    ) -> None:
        self.onnx, self.graph, self.float16, self.scales = onnx, graph, float16, found
        #: Whether the operation that is being written is computed in integers.
        self.integers = False
        #: From a float value to what it is rounded to, where that was asked for.
        self.rounded_once: dict[str, str] = {}
        self.shapes = graph.shapes()

    def model(self, output_names: tuple[str, ...], metadata: Mapping[str, str], opset: int) -> Any:
        """The whole file."""
        helper, proto, graph = self.onnx.helper, self.onnx.TensorProto, self.graph
        is_bytes = graph.image_dtype == "uint8"
        kind = proto.UINT8 if is_bytes else proto.FLOAT
        image = helper.make_tensor_value_info("image", kind, ["batch", *graph.image_shape])
        model = helper.make_model(
            helper.make_graph([], metadata.get("name", "nasnet"), [image], []),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=_IR_VERSIONS[opset],
            producer_name="nasnet-zoo",
        )
        helper.set_model_props(model, dict(metadata))
        # What follows is put where it stays: weights that are copied once more take memory.
        self.written = model.graph
        source = self.node("Transpose", ["image"], f"{graph.image}/channels_first", perm=[0, 3, 1, 2])
        if is_bytes:
            source = self.node("Cast", [source], f"{graph.image}/float", to=proto.FLOAT)
        self.names = {graph.image: source}
        for op in graph.ops:
            inputs = [self.names[name] for name in op.inputs]
            self.names[op.output] = self.write(op, inputs)
        for name, value in zip(output_names, graph.outputs, strict=True):
            shape = self.shapes[value]
            perm = {"perm": [0, 2, 3, 1]} if len(shape) == 3 else {}
            self.node("Transpose" if perm else "Identity", [self.names[value]], name, **perm)
            output = helper.make_tensor_value_info(name, proto.FLOAT, ["batch", *shape])
            self.written.output.append(output)
        return model

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a node and return the name of its value."""
        node = self.onnx.helper.make_node(kind, inputs, [output], output, **attributes)
        self.written.node.append(node)
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        """Append an initialiser and return its name; weights are stored as chosen."""
        if self.float16 and array.dtype == np.float32 and array.size > 1:
            with np.errstate(over="ignore"):  # the lowest number becomes minus infinity
                half = self.constant(f"{name}/half", array.astype(np.float16))
            return self.node("Cast", [half], name, to=self.onnx.TensorProto.FLOAT)
        tensor = self.onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        self.written.initializer.append(tensor)
        return name

    def channels(self, name: str, op: Op, array: np.ndarray) -> str:
        """A constant with one number for each channel of what ``op`` makes."""
        image = len(self.shapes[op.output]) == 3
        return self.constant(name, array.reshape(1, -1, 1, 1) if image else array)

    def write(self, op: Op, inputs: list[str]) -> str:
        """Append the nodes of one operation and return the name of its value."""
        self.integers = self.scales is not None and op.kind in INTEGER_KINDS
        if self.integers:
            inputs = [self.quantized(n, i) for n, i in zip(op.inputs, inputs, strict=True)]
        # Rounding to a scale whose least number is 0 is a ReLU.
        scale = self.scales[op.output] if self.scales is not None and self.integers else None
        has_relu = op.relu and (scale is None or scale.zero_point != -128)
        name = f"{op.output}/linear" if has_relu else op.output
        made = getattr(self, f"_{op.kind}")(op, inputs, name)
        if has_relu and self.integers:
            made = self._relu(op, [self.quantized(op.output, made)], op.output)
        if self.integers:
            return self.quantized(op.output, made)
        return self._relu(op, [made], op.output) if has_relu else made

    # === Integers ===

    def quantized(self, value: str, name: str) -> str:
        """A value of the graph rounded to its scale; ``name`` is that of the node's output."""
        if name.endswith("/rounded") or name in self.rounded_once:
            return self.rounded_once.get(name, name)
        assert self.scales is not None
        scale = self.scales[value]
        step = self.constant(f"{name}/step", np.array(scale.step, np.float32))
        zero = self.constant(f"{name}/zero", np.array(scale.zero_point + 128, np.uint8))
        as_bytes = self.node("QuantizeLinear", [name, step, zero], f"{name}/bytes")
        self.rounded_once[name] = self.rounded(name, [as_bytes, step, zero])
        return self.rounded_once[name]

    def rounded(self, name: str, inputs: list[str], **attributes: Any) -> str:
        return self.node("DequantizeLinear", inputs, f"{name}/rounded", **attributes)

    def weights(self, op: Op, name: str, kernel: np.ndarray, axis: int) -> list[str]:
        """The names of a kernel, whose filters are on ``axis``, and of the bias if there is one."""
        if not self.integers:
            biases = [] if op.bias is None else [self.constant(f"{name}/bias", op.bias)]
            return [self.constant(f"{name}/kernel", kernel), *biases]
        assert self.scales is not None
        steps = channel_scales(kernel, axis)
        zeros = self.constant(f"{name}/kernel/zero", np.zeros(len(steps), np.int8))
        parts = [
            self.constant(f"{name}/kernel", quantize_weights(kernel, steps, axis)),
            self.constant(f"{name}/kernel/step", steps),
            zeros,
        ]
        names = [self.rounded(f"{name}/kernel", parts, axis=axis)]
        if op.bias is not None:
            steps = steps * np.float32(self.scales[op.inputs[0]].step)
            bias = quantize_bias(op.bias, steps, "int32")
            parts = [
                self.constant(f"{name}/bias", bias),
                self.constant(f"{name}/bias/step", steps),
                self.constant(f"{name}/bias/zero", np.zeros(len(steps), np.int32)),
            ]
            names.append(self.rounded(f"{name}/bias", parts, axis=0))
        return names

    # === Kinds ===

    def _window(self, op: Op, kernel_shape: tuple[int, ...]) -> dict[str, Any]:
        above, below, left, right = op.pads
        window = {"kernel_shape": list(kernel_shape), "strides": list(op.stride)}
        return {**window, "pads": [above, left, below, right]}

    def _convolution(self, op: Op, inputs: list[str], name: str, kernel: np.ndarray, group: int) -> str:
        """``kernel`` has ONNX's order: filters, channels of a group, height, width."""
        inputs = [*inputs, *self.weights(op, name, kernel, 0)]
        window = self._window(op, kernel.shape[2:])
        return self.node("Conv", inputs, name, **window, dilations=list(op.dilation), group=group)

    def _conv(self, op: Op, inputs: list[str], name: str) -> str:
        return self._convolution(op, inputs, name, op.kernel.transpose(3, 2, 0, 1), op.groups)  # type: ignore[union-attr]

    def _depthwise(self, op: Op, inputs: list[str], name: str) -> str:
        kernel = op.kernel.transpose(2, 0, 1)[:, None]  # type: ignore[union-attr]
        return self._convolution(op, inputs, name, kernel, len(kernel))

    def _dense(self, op: Op, inputs: list[str], name: str) -> str:
        assert op.kernel is not None
        if len(self.shapes[op.output]) == 3:
            return self._conv(op.with_(kernel=op.kernel[None, None]), inputs, name)
        return self.node("Gemm", [*inputs, *self.weights(op, name, op.kernel, 1)], name)

    def _max_pool(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("MaxPool", inputs, name, **self._window(op, op.window))

    def _avg_pool(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("AveragePool", inputs, name, **self._window(op, op.window))

    def _pad(self, op: Op, inputs: list[str], name: str) -> str:
        (above, below, left, right), (before, after) = op.pads, op.channels
        starts, ends = np.array([[before, above, left], [after, below, right]], np.int64)
        if min(*starts, *ends) < 0:
            # A Slice, as MNN and ncnn take no negative numbers in a Pad.
            bounds = {
                "starts": -starts.clip(None, 0),
                "ends": np.where(ends < 0, ends, np.iinfo(np.int64).max),
                "axes": np.array([1, 2, 3]),
            }
            grows = max(*starts, *ends) > 0
            names = [self.constant(f"{name}/{k}", v) for k, v in bounds.items()]
            made = f"{name}/cropped" if grows else name
            inputs = [self.node("Slice", [*inputs, *names], made)]
            if not grows:
                return made
        pads = np.array([0, *starts, 0, *ends], np.int64).clip(0)
        # pnnx wants the mode, though it is the default.
        inputs = [*inputs, self.constant(f"{name}/pads", pads)]
        return self.node("Pad", inputs, name, mode="constant")

    def _select(self, op: Op, inputs: list[str], name: str) -> str:
        assert op.index is not None
        index = self.constant(f"{name}/index", op.index.astype(np.int64))
        return self.node("Gather", [*inputs, index], name, axis=1)

    def _affine(self, op: Op, value: str, name: str) -> str:
        factor = self.channels(f"{name}/factor", op, op.kernel)  # type: ignore[arg-type]
        bias = self.channels(f"{name}/bias", op, op.bias)  # type: ignore[arg-type]
        return self.node("Add", [self.node("Mul", [value, factor], f"{name}/scaled"), bias], name)

    def _scale(self, op: Op, inputs: list[str], name: str) -> str:
        return self._affine(op, inputs[0], name)

    def _norm(self, op: Op, inputs: list[str], name: str) -> str:
        assert op.kernel is not None
        assert op.bias is not None
        if 3 not in op.axes:
            pairs = (("scale", op.kernel), ("bias", op.bias))
            scale = [self.constant(f"{name}/{part}", array) for part, array in pairs]
            return self.node("InstanceNormalization", [*inputs, *scale], name, epsilon=op.epsilon)
        height, width, channels = self.shapes[op.output]
        row = self.constant(f"{name}/row", np.array([0, 1, -1], np.int64))
        image = self.constant(f"{name}/image", np.array([0, channels, height, width], np.int64))
        one = self.constant(f"{name}/unit_scale", np.ones(1, np.float32))
        zero = self.constant(f"{name}/unit_bias", np.zeros(1, np.float32))
        flat = self.node("Reshape", [*inputs, row], f"{name}/flat")
        normal = self.node(
            "InstanceNormalization", [flat, one, zero], f"{name}/normal", epsilon=op.epsilon
        )
        return self._affine(op, self.node("Reshape", [normal, image], f"{name}/reshaped"), name)

    def _map(self, op: Op, inputs: list[str], name: str) -> list[str]:
        """The inputs, and a constant with one number for each pixel."""
        assert op.kernel is not None
        values = op.kernel.transpose(2, 0, 1)[None]
        if not self.integers:
            return [*inputs, self.constant(f"{name}/map", values)]
        step = np.array(values.max() / 255, np.float32)
        parts = [
            self.constant(f"{name}/map", np.round(values / step).astype(np.uint8)),
            self.constant(f"{name}/map/step", step),
            self.constant(f"{name}/map/zero", np.zeros((), np.uint8)),
        ]
        return [*inputs, self.rounded(f"{name}/map", parts)]

    def _maximum_map(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Max", self._map(op, inputs, name), name)

    def _multiply_map(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Mul", self._map(op, inputs, name), name)

    def _add(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Add", inputs, name)

    def _concat(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Concat", inputs, name, axis=1)

    def _relu(self, op: Op, inputs: list[str], name: str) -> str:
        if self.integers:  # ONNX Runtime computes this one on bytes, and Relu on floats between them
            return self.node("LeakyRelu", inputs, name, alpha=0.0)
        return self.node("Relu", inputs, name)

    def _sigmoid(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Sigmoid", inputs, name)

    def _softmax(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Softmax", inputs, name, axis=1)

    def _mean(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Flatten", [self.node("GlobalAveragePool", inputs, f"{name}/pixel")], name)

    def _max(self, op: Op, inputs: list[str], name: str) -> str:
        return self.node("Flatten", [self.node("GlobalMaxPool", inputs, f"{name}/pixel")], name)
