"""Writing an inference graph as a LiteRT (TFLite) file: the flatbuffer itself, no converter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.cells.primitives import same_pads
from nasnet_zoo.extras import import_extra

from ..graph import NO_PADS, InferenceGraph, Op, Pads, Pair, ValueShape
from ..quantization import (
    INTEGER_KINDS,
    Scale,
    calibrate,
    channel_scales,
    has_dynamic_kernel,
    quantize_bias,
    quantize_weights,
    scales,
    with_halves,
    with_integer_kernel,
    with_integers,
)
from ..runtime import METADATA_NAME
from ..settings import ExportSettings
from .packing import Buffer, metadata_bytes, packed
from .rewrites import REWRITES

# The operations that give values on the scale of what they read, by the type of the values.
_KEEPING = {
    "int8": ("max_pool", "pad", "select", "concat"),
    "int16": ("max_pool", "pad", "select", "concat", "avg_pool"),
}
# The first versions of operators that take these types.
_VERSIONS = {
    "int8": {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "DEQUANTIZE": 2},
    "int16": {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 7, "DEQUANTIZE": 3}
    | dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "ADD", "MEAN"), 3)
    | {"MUL": 4, "RELU": 3, "GATHER": 4},
}
_LATER_INT8 = (
    *("MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "ADD", "MEAN", "MUL", "RELU", "GATHER"),
)


def write(
    graph: InferenceGraph,
    path: Path,
    output_names: tuple[str, ...],
    metadata: Mapping[str, str],
    settings: ExportSettings = ExportSettings(),  # noqa: B008 (frozen)
    images: np.ndarray | None = None,
) -> None:
    """Write a graph.

    Args:
        graph: Graph to write; `REWRITES` are applied here.
        path: Path of the file.
        output_names: Names of the graph's outputs.
        metadata: What the file holds about the model, as JSON.
        settings: Its quantization and ``byte_outputs`` are read. Weights of "float16" are stored as
            halves and computed with in float32; activations of "dynamic" are quantised as they come.
        images: Images whose ranges "int8" and "int16x8" are read off, of the graph's image type.
    """
    quantization = settings.quantization
    for rewrite in REWRITES[quantization]:
        graph = rewrite(graph)
    integers = {"int8": "int8", "int16x8": "int16"}.get(quantization)
    found: dict[str, Scale] = {}
    if integers:
        assert images is not None
        bits = 8 if integers == "int8" else 16
        found = scales(graph, calibrate(graph, images), bits, _KEEPING[integers])
    writer = _Writer(graph, quantization, integers, found)
    path.write_bytes(writer.file(output_names, metadata, settings.byte_outputs))


def stored(op: Op, graph: InferenceGraph, quantization: str, scales: Mapping[str, Scale]) -> Op:
    """An operation with the numbers that a file of `write` holds of it.

    Args:
        op: Operation of ``graph``.
        graph: Graph as it is written, after `REWRITES`.
        quantization: Numbers in the file.
        scales: Scales of the values that are integers in the file.
    """
    if quantization == "float16" and op.kind in ("conv", "depthwise", "dense"):
        return with_halves(op, "kernel")
    if quantization == "dynamic" and has_dynamic_kernel(op):
        return with_integer_kernel(op)
    if quantization in ("int8", "int16x8") and op.kind in INTEGER_KINDS:
        bias, levels = ("int32", 127) if quantization == "int8" else ("int64", 32767)
        return with_integers(op, scales[op.inputs[0]], bias, levels)
    if quantization == "int8" and op is graph.ops[0] and (scale := byte_scale(graph)) is not None:
        assert op.kernel is not None
        return op.with_(bias=op.kernel * np.float32(-scale.zero_point))
    return op


def byte_scale(graph: InferenceGraph) -> Scale | None:
    """The scale on which bytes are what a graph's first operation makes of them, if there is one.

    The byte of zero is rounded: 127.5, in the middle of [-1, 1], is half a step off.
    """
    first = graph.ops[0]
    if graph.image_dtype != "uint8" or first.kind != "scale":
        return None
    assert first.kernel is not None
    assert first.bias is not None
    readers = [op for op in graph.ops if graph.image in op.inputs]
    if len(readers) > 1 or np.ptp(first.kernel) or np.ptp(first.bias) or first.kernel[0] <= 0:
        return None
    zero_point = round(float(-first.bias[0] / first.kernel[0]))
    return Scale(float(first.kernel[0]), zero_point) if 0 <= zero_point <= 255 else None


class _Writer:
    """Collects tensors, buffers and operators of the schema's object form.

    A value of the graph is a tensor of floats, of integers, or both, as it is read.
    """

    def __init__(
        self,
        graph: InferenceGraph,
        quantization: str,
        integers: str | None,
        found: Mapping[str, Scale],
    ) -> None:
        self.schema = import_extra("ai_edge_litert.schema_py_generated", "export")
        self.graph, self.quantization = graph, quantization
        self.integers, self.scales = integers, found
        self.shapes = graph.shapes()
        self.buffers: list[np.ndarray | None] = [None]
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[tuple[int, int], int] = {}
        self.stored: dict[bytes, int] = {}
        #: The type of what is being written: "float32", or that of the integers.
        self.dtype = "float32"
        self.values: dict[tuple[str, str], int] = {}

    def file(
        self, output_names: tuple[str, ...], metadata: Mapping[str, str], byte_outputs: bool
    ) -> memoryview:
        """The whole file."""
        s, graph = self.schema, self.graph
        image = self.image()
        for op in self.graph.ops:
            self.write(op)
        output = self.bytes_of if byte_outputs else self.floats_of
        outputs = [output(name) for name in graph.outputs]
        for name, index in zip(output_names, outputs, strict=True):
            self.tensors[index].name = name
        subgraph = s.SubGraphT(self.tensors, [image], outputs, self.operators, "main")
        signature = s.SignatureDefT(
            [s.TensorMapT("image", image)],
            [s.TensorMapT(n, i) for n, i in zip(output_names, outputs, strict=True)],
            "serving_default",
        )
        model = s.ModelT(
            version=3,
            operatorCodes=[self.operator_code(code, version) for code, version in self.codes],
            subgraphs=[subgraph],
            description=metadata.get("name", "nasnet"),
            metadata=[s.MetadataT(METADATA_NAME, self.buffer(metadata_bytes(metadata)))],
            signatureDefs=[signature],
        )
        model.buffers = [Buffer(s, data) for data in self.buffers]
        return packed(model, sum(data.nbytes for data in self.buffers if data is not None))

    def image(self) -> int:
        """The tensor of the image; bytes become what the model takes."""
        s, graph = self.schema, self.graph
        shape = (1, *graph.image_shape)
        if graph.image_dtype == "float32":
            self.values[graph.image, "float32"] = image = self.tensor("image", shape)
        elif self.integers == "int8" and (step := byte_scale(graph)) is not None:
            first, *rest = graph.ops
            signed = Scale(step.step, step.zero_point - 128)
            bytes_scale = s.QuantizationParametersT(scale=[step.step], zeroPoint=[step.zero_point])
            image = self.tensor("image", shape, "uint8", None, bytes_scale)
            self.graph = dataclasses.replace(graph, ops=tuple(rest))
            self.scales = {**self.scales, first.output: signed}
            made = self.tensor(f"{first.output}/int8", shape, "int8", None, self.per_tensor(signed))
            self.operator("QUANTIZE", [image], made, s.QuantizeOptionsT())
            self.values[first.output, "int8"] = made
        else:
            image = self.tensor("image", shape, "uint8")
            made = self.tensor("image/float32", shape)
            self.values[graph.image, "float32"] = made
            self.operator("CAST", [image], made, s.CastOptionsT())
        return image

    def floats_of(self, name: str) -> int:
        """The tensor of an output in float32."""
        return self.value(name, "float32")

    def bytes_of(self, name: str) -> int:
        """The tensor of an output in uint8: probabilities in steps of 1/256."""
        kind, scale = self.graph.made_by()[name].kind, self.scales[name]
        scale = Scale(scale.step, scale.zero_point + 128)
        if kind in ("softmax", "sigmoid"):
            scale = Scale(1 / 256, 0)
        dtype = "int8" if (name, "int8") in self.values else "float32"
        made = self.tensor(name, (1, *self.shapes[name]), "uint8", None, self.per_tensor(scale))
        source = [self.values[name, dtype]]
        return self.operator("QUANTIZE", source, made, self.schema.QuantizeOptionsT())

    def value(self, name: str, dtype: str) -> int:
        """The tensor of a value in a type; converts it where it is in another."""
        if (name, dtype) in self.values:
            return self.values[name, dtype]
        s, shape = self.schema, self.shapes[name]
        if dtype == "float32":
            made = self.tensor(f"{name}/float32", (1, *shape))
            integers = self.values[name, self.integers or ""]
            self.operator("DEQUANTIZE", [integers], made, s.DequantizeOptionsT())
        else:
            scale = self.per_tensor(self.scales[name])
            made = self.tensor(f"{name}/{dtype}", (1, *shape), dtype, None, scale)
            self.operator("QUANTIZE", [self.values[name, "float32"]], made, s.QuantizeOptionsT())
        self.values[name, dtype] = made
        return made

    def operator_code(self, code: int, version: int) -> Any:
        # Old readers look at a byte, which newer operators do not fit into.
        return self.schema.OperatorCodeT(min(code, 127), None, version, code)

    # === Parts of the schema ===

    def buffer(self, data: np.ndarray) -> int:
        self.buffers.append(data)
        return len(self.buffers) - 1

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "float32",
        data: np.ndarray | None = None,
        quantization: Any = None,
    ) -> int:
        """Append a tensor and return its number; one without data has an open batch size."""
        s = self.schema
        made = s.TensorT(list(shape), getattr(s.TensorType, dtype.upper()), 0, name, quantization)
        if data is None:
            made.shapeSignature = [-1, *shape[1:]]
        else:
            made.buffer = self.buffer(data)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(
        self, kind: str, inputs: list[int], output: int, options: Any = None, version: int = 0
    ) -> int:
        """Append an operator and return the number of its output."""
        s = self.schema
        if not version:
            version = _version(kind, self.dtype if kind != "DEQUANTIZE" else self.integers or "")
        code = getattr(s.BuiltinOperator, kind)
        index = self.codes.setdefault((code, version), len(self.codes))
        operator = s.OperatorT(index, inputs, [output])
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(s.BuiltinOptions, type(options).__name__[:-1])
        self.operators.append(operator)
        return output

    def made(self, name: str, shape: ValueShape, like: str | None = None) -> int:
        """A tensor for a value that is computed, on its own scale or on that of the value ``like``."""
        if self.dtype == "float32":
            return self.tensor(name, (1, *shape))
        scale = self.per_tensor(self.scales[like or name])
        return self.tensor(name, (1, *shape), self.dtype, None, scale)

    def constant(self, name: str, array: np.ndarray) -> int:
        """A tensor of numbers as they are; equal ones are stored once."""
        key = array.tobytes() + str((array.dtype, array.shape)).encode()
        if key not in self.stored:
            self.stored[key] = self.tensor(name, array.shape, str(array.dtype), array)
        return self.stored[key]

    def kernel(self, op: Op, kernel: np.ndarray, axis: int) -> tuple[int, np.ndarray]:
        """A tensor of weights as they are stored, whose filters are on ``axis``; and their steps."""
        name = f"{op.output}/kernel"
        one = np.ones(kernel.shape[axis], np.float32)
        if self.quantization == "float16":
            half = self.tensor(f"{name}/half", kernel.shape, "float16", kernel.astype(np.float16))
            whole = self.tensor(name, kernel.shape)
            self.tensors[whole].shapeSignature = None
            self.operator("DEQUANTIZE", [half], whole, self.schema.DequantizeOptionsT(), 3)
            return whole, one
        dynamic = self.quantization == "dynamic" and has_dynamic_kernel(op)
        if dynamic or self.dtype != "float32":
            steps = channel_scales(kernel, axis)
            data = quantize_weights(kernel, steps, axis)
            return self.tensor(name, kernel.shape, "int8", data, self.per_channel(steps, axis)), steps
        return self.tensor(name, kernel.shape, "float32", kernel), one

    def per_channel(self, steps: np.ndarray, axis: int) -> Any:
        zeros = np.zeros(len(steps), np.int64)
        made = self.schema.QuantizationParametersT(scale=steps, zeroPoint=zeros)
        made.quantizedDimension = axis
        return made

    def per_tensor(self, scale: Scale) -> Any:
        return self.schema.QuantizationParametersT(scale=[scale.step], zeroPoint=[scale.zero_point])

    def write(self, op: Op) -> None:
        """Append the operators of one operation."""
        if self.integers and op.kind in INTEGER_KINDS:
            self.dtype = self.integers
        inputs = [self.value(name, self.dtype) for name in op.inputs]
        self.values[op.output, self.dtype] = getattr(self, f"_{op.kind}")(op, inputs)
        self.dtype = "float32"

    # === Kinds ===

    def activation(self, op: Op) -> int:
        kinds = self.schema.ActivationFunctionType
        return kinds.RELU if op.relu else kinds.NONE

    def padded(self, op: Op, value: int) -> tuple[int, int]:
        """The input of a window, and its padding; what is neither SAME nor VALID is padded before."""
        height, width, _ = shape = self.shapes[op.inputs[0]]
        padding = self.schema.Padding
        if op.pads == NO_PADS:
            return value, padding.VALID
        if op.pads == same_pads((height, width), op.extent, op.stride):
            return value, padding.SAME
        if op.kind not in ("conv", "depthwise"):
            raise ValueError(f"Expected a pool padded as SAME. Received: {op.kind} with {op.pads}")
        padded = self.zeros_around(f"{op.output}/padded", value, shape, op.pads, op.inputs[0])
        return padded, padding.VALID

    def zeros_around(
        self,
        name: str,
        value: int,
        shape: ValueShape,
        pads: Pads,
        like: str,
        channels: Pair = (0, 0),
    ) -> int:
        amounts = np.array([0, 0, *pads, *channels], np.int32).clip(0).reshape(4, 2)
        padded = tuple(int(n) for n in shape + amounts[1:].sum(1))
        made = self.made(name, padded, like)
        inputs = [value, self.constant(f"{name}/amounts", amounts)]
        return self.operator("PAD", inputs, made, self.schema.PadOptionsT())

    def weights(self, op: Op, kernel: np.ndarray, axis: int) -> list[int]:
        """The tensors of a kernel and of the bias that goes with it."""
        name = op.output
        index, steps = self.kernel(op, kernel, axis)
        bias = np.zeros(len(steps), np.float32) if op.bias is None else op.bias
        if self.dtype == "float32":
            return [index, self.constant(f"{name}/bias", bias)]
        steps = steps * np.float32(self.scales[op.inputs[0]].step)
        dtype = "int32" if self.dtype == "int8" else "int64"
        data = quantize_bias(bias, steps, dtype)
        return [index, self.tensor(f"{name}/bias", data.shape, dtype, data, self.per_channel(steps, 0))]

    def _conv(self, op: Op, inputs: list[int]) -> int:
        assert op.kernel is not None
        value, padding = self.padded(op, inputs[0])
        shape = self.shapes[op.output]
        options = self.schema.Conv2DOptionsT(
            padding, op.stride[1], op.stride[0], self.activation(op), op.dilation[1], op.dilation[0]
        )
        inputs = [value, *self.weights(op, op.kernel.transpose(3, 0, 1, 2), 0)]
        version = 5 if self.quantization == "dynamic" and has_dynamic_kernel(op) else 0
        return self.operator("CONV_2D", inputs, self.made(op.output, shape), options, version)

    def _depthwise(self, op: Op, inputs: list[int]) -> int:
        assert op.kernel is not None
        value, padding = self.padded(op, inputs[0])
        shape = self.shapes[op.output]
        options = self.schema.DepthwiseConv2DOptionsT(
            padding, op.stride[1], op.stride[0], 1, self.activation(op), op.dilation[1], op.dilation[0]
        )
        inputs = [value, *self.weights(op, op.kernel[None], 3)]
        version = max(_version("DEPTHWISE_CONV_2D", self.dtype), 1 if op.dilation == (1, 1) else 2)
        return self.operator("DEPTHWISE_CONV_2D", inputs, self.made(op.output, shape), options, version)

    def _dense(self, op: Op, inputs: list[int]) -> int:
        assert op.kernel is not None
        shape = self.shapes[op.output]
        if len(shape) == 3:
            return self._conv(op.with_(kernel=op.kernel[None, None]), inputs)
        options = self.schema.FullyConnectedOptionsT(fusedActivationFunction=self.activation(op))
        inputs = [*inputs, *self.weights(op, op.kernel.T, 0)]
        version = 12 if self.quantization == "dynamic" else 0
        return self.operator("FULLY_CONNECTED", inputs, self.made(op.output, shape), options, version)

    def pool(self, kind: str, op: Op, inputs: list[int]) -> int:
        value, padding = self.padded(op, inputs[0])
        options = self.schema.Pool2DOptionsT(
            padding, op.stride[1], op.stride[0], op.window[1], op.window[0], self.activation(op)
        )
        return self.operator(kind, [value], self.made(op.output, self.shapes[op.output]), options)

    def _max_pool(self, op: Op, inputs: list[int]) -> int:
        return self.pool("MAX_POOL_2D", op, inputs)

    def _avg_pool(self, op: Op, inputs: list[int]) -> int:
        return self.pool("AVERAGE_POOL_2D", op, inputs)

    def _pad(self, op: Op, inputs: list[int]) -> int:
        shape, value = self.shapes[op.inputs[0]], inputs[0]
        cropped = np.array([*op.pads, *op.channels], np.int32).clip(None, 0).reshape(3, 2)
        grows = max(*op.pads, *op.channels) > 0
        if cropped.any():
            shape = tuple(int(n) for n in shape + cropped.sum(1))
            begin = np.array([0, *-cropped[:, 0]], np.int32)
            end = begin + np.array([0, *shape], np.int32)
            bounds = {"begin": begin, "end": end, "step": np.ones(4, np.int32)}
            made = self.made(f"{op.output}/cropped" if grows else op.output, shape, op.output)
            inputs = [value, *(self.constant(f"{op.output}/{k}", v) for k, v in bounds.items())]
            # XNNPACK takes no SLICE of an open batch size. The masks leave the batch whole.
            options = self.schema.StridedSliceOptionsT(beginMask=1, endMask=1)
            value = self.operator("STRIDED_SLICE", inputs, made, options)
            if not grows:
                return value
        return self.zeros_around(op.output, value, shape, op.pads, op.output, op.channels)

    def _select(self, op: Op, inputs: list[int]) -> int:
        assert op.index is not None
        inputs = [*inputs, self.constant(f"{op.output}/index", op.index)]
        made = self.made(op.output, self.shapes[op.output])
        return self.operator("GATHER", inputs, made, self.schema.GatherOptionsT(axis=3))

    def combine(self, kind: str, name: str, inputs: list[int], shape: ValueShape, relu: int = 0) -> int:
        """An element-wise operator on two tensors."""
        options = {"ADD": "AddOptionsT", "SUB": "SubOptionsT", "MUL": "MulOptionsT"}.get(kind)
        made = getattr(self.schema, options or "MaximumMinimumOptionsT")()
        if options:
            made.fusedActivationFunction = relu
        return self.operator(kind, inputs, self.made(name, shape), made)

    def affine(self, op: Op, value: int) -> int:
        shape = self.shapes[op.output]
        assert op.kernel is not None
        assert op.bias is not None
        factor = self.constant(f"{op.output}/factor", op.kernel)
        scaled = self.combine("MUL", f"{op.output}/scaled", [value, factor], shape)
        bias = self.constant(f"{op.output}/bias", op.bias)
        return self.combine("ADD", op.output, [scaled, bias], shape)

    def _scale(self, op: Op, inputs: list[int]) -> int:
        return self.affine(op, inputs[0])

    def _norm(self, op: Op, inputs: list[int]) -> int:
        shape, name, s = self.shapes[op.output], op.output, self.schema
        axes = self.constant(f"{name}/axes", np.array(op.axes, np.int32))
        kept = (1, 1, 1 if 3 in op.axes else shape[2])

        def mean(value: int, where: str) -> int:
            made = self.made(where, kept)
            return self.operator("MEAN", [value, axes], made, s.ReducerOptionsT(keepDims=True))

        centred = self.combine(
            "SUB", f"{name}/centred", [inputs[0], mean(inputs[0], f"{name}/mean")], shape
        )
        square = self.combine("MUL", f"{name}/square", [centred, centred], shape)
        epsilon = self.constant(f"{name}/epsilon", np.array([op.epsilon], np.float32))
        variance = self.combine(
            "ADD", f"{name}/variance", [mean(square, f"{name}/mean_square"), epsilon], kept
        )
        factor = self.operator("RSQRT", [variance], self.made(f"{name}/rsqrt", kept))
        return self.affine(op, self.combine("MUL", f"{name}/normal", [centred, factor], shape))

    def map(self, op: Op) -> int:
        """A constant with one number for each pixel."""
        assert op.kernel is not None
        values = op.kernel[None]
        if self.dtype == "float32":
            return self.constant(f"{op.output}/map", values)
        largest = 127 if self.dtype == "int8" else 32767
        step = float(values.max()) / largest
        data = np.round(values / step).astype(self.dtype)
        scale = self.per_tensor(Scale(step, 0))
        return self.tensor(f"{op.output}/map", values.shape, self.dtype, data, scale)

    def _maximum_map(self, op: Op, inputs: list[int]) -> int:
        return self.combine("MAXIMUM", op.output, [*inputs, self.map(op)], self.shapes[op.output])

    def _multiply_map(self, op: Op, inputs: list[int]) -> int:
        return self.combine("MUL", op.output, [*inputs, self.map(op)], self.shapes[op.output])

    def _add(self, op: Op, inputs: list[int]) -> int:
        return self.combine("ADD", op.output, inputs, self.shapes[op.output], self.activation(op))

    def _concat(self, op: Op, inputs: list[int]) -> int:
        shape = self.shapes[op.output]
        options = self.schema.ConcatenationOptionsT(len(shape))
        return self.operator("CONCATENATION", inputs, self.made(op.output, shape), options)

    def unary(self, kind: str, op: Op, inputs: list[int], options: Any = None) -> int:
        return self.operator(kind, inputs, self.made(op.output, self.shapes[op.output]), options)

    def _relu(self, op: Op, inputs: list[int]) -> int:
        if self.dtype != "int8":
            return self.unary("RELU", op, inputs)
        # XNNPACK takes no int8 RELU, but a change of scale: below a zero point of -128 is nothing.
        options, scale = self.schema.QuantizeOptionsT(), self.scales[op.output]
        if scale.zero_point != -128:  # a scale shared with negative values
            positive = Scale(scale.step * max(127 - scale.zero_point, 1) / 255, -128)
            shape = (1, *self.shapes[op.output])
            made = self.tensor(f"{op.output}/on_0", shape, "int8", None, self.per_tensor(positive))
            inputs = [self.operator("QUANTIZE", inputs, made, options)]
        return self.unary("QUANTIZE", op, inputs, options)

    def _sigmoid(self, op: Op, inputs: list[int]) -> int:
        return self.unary("LOGISTIC", op, inputs)

    def _softmax(self, op: Op, inputs: list[int]) -> int:
        return self.unary("SOFTMAX", op, inputs, self.schema.SoftmaxOptionsT(1.0))

    def reduce(self, kind: str, op: Op, inputs: list[int]) -> int:
        axes = self.constant("spatial_axes", np.array([1, 2], np.int32))
        return self.unary(kind, op, [*inputs, axes], self.schema.ReducerOptionsT(keepDims=False))

    def _mean(self, op: Op, inputs: list[int]) -> int:
        return self.reduce("MEAN", op, inputs)

    def _max(self, op: Op, inputs: list[int]) -> int:
        return self.reduce("REDUCE_MAX", op, inputs)


def _version(kind: str, dtype: str) -> int:
    """The first version of an operator that takes values of a type."""
    later = 2 if dtype == "int8" and kind in _LATER_INT8 else 1
    return _VERSIONS.get(dtype, {}).get(kind, later)
