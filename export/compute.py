"""Computing an inference graph in TensorFlow: the reference of all writers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.cells.primitives import same_pads

from .graph import NO_PADS, InferenceGraph, Op


def compute(
    graph: InferenceGraph, image: Any, watch: Callable[[str, Any], None] = lambda name, value: None
) -> list[Any]:
    """The outputs of a graph.

    Args:
        graph: The graph.
        image: float32 tensor (batch, height, width, channels).
        watch: Function called with the name of every value and the value.
    """
    values = {graph.image: image}
    last_use = {name: k for k, op in enumerate(graph.ops) for name in op.inputs}
    watch(graph.image, image)
    for k, op in enumerate(graph.ops):
        value = values[op.output] = compute_op(op, *(values[name] for name in op.inputs))
        watch(op.output, value)
        for name in set(op.inputs):
            if last_use[name] == k and name not in graph.outputs:
                del values[name]
    return [values[name] for name in graph.outputs]


def compute_op(op: Op, *inputs: Any) -> Any:
    """The value that one operation makes of float32 tensors (batch, ...)."""
    value = _KINDS[op.kind](op, *inputs)
    return tf.nn.relu(value) if op.relu else value


def predict(graph: InferenceGraph, images: np.ndarray) -> list[np.ndarray]:
    """The outputs for float32 images, as arrays."""
    return [np.asarray(value) for value in compute(graph, tf.constant(images))]


def _pairs(op: Op) -> list[list[int]]:
    return [[0, 0], list(op.pads[:2]), list(op.pads[2:]), [0, 0]]


def _biased(op: Op, value: Any) -> Any:
    return value if op.bias is None else tf.nn.bias_add(value, op.bias)


def _conv(op: Op, x: Any) -> Any:
    if op.dilation != (1, 1) and op.stride != (1, 1):
        raise ValueError("Expected a stride or a dilation of a convolution, not both.")
    strides, padding = [1, *op.stride, 1], _pairs(op)
    return _biased(op, tf.nn.conv2d(x, op.kernel, strides, padding, dilations=op.dilation))


def _depthwise(op: Op, x: Any) -> Any:
    kernel, dilation = op.kernel[..., None], op.dilation  # type: ignore[index]
    if dilation != (1, 1) and op.stride != (1, 1):
        kernel, dilation = _spread_taps(kernel, dilation), (1, 1)
    # TensorFlow's depthwise convolution takes no numbers of pads.
    same = _is_same(op, x)
    x, padding = (x, "SAME") if same else (_pad(op, x), "VALID")
    y = tf.nn.depthwise_conv2d(x, kernel, [1, *op.stride, 1], padding, dilations=list(dilation))
    return _biased(op, y)


def _is_same(op: Op, x: Any) -> bool:
    return op.pads == same_pads((int(x.shape[1]), int(x.shape[2])), op.extent, op.stride)


def _spread_taps(kernel: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    size = [(n - 1) * d + 1 for n, d in zip(kernel.shape[:2], dilation, strict=True)]
    spread = np.zeros((*size, *kernel.shape[2:]), kernel.dtype)
    spread[:: dilation[0], :: dilation[1]] = kernel
    return spread


def _pad(op: Op, x: Any) -> Any:
    ends = (op.pads[:2], op.pads[2:], op.channels)
    if min(*op.pads, *op.channels) < 0:
        x = x[:, *(slice(max(-first, 0), -max(-last, 0) or None) for first, last in ends)]
    grown = [[0, 0], *([max(first, 0), max(last, 0)] for first, last in ends)]
    return tf.pad(x, grown) if any(map(any, grown)) else x


def _pool(kind: str) -> Callable[[Op, Any], Any]:
    def pool(op: Op, x: Any) -> Any:
        same = _is_same(op, x)
        if not same and op.pads != NO_PADS and kind == "AVG":
            raise ValueError(f"Expected an average pool padded as SAME. Received: {op.pads}")
        if not same and op.pads != NO_PADS:
            x, same = tf.pad(x, _pairs(op), constant_values=x.dtype.min), False
        function = tf.nn.max_pool2d if kind == "MAX" else tf.nn.avg_pool2d
        return function(x, op.window, op.stride, "SAME" if same else "VALID")

    return pool


def _norm(op: Op, x: Any) -> Any:
    mean, variance = tf.nn.moments(x, op.axes, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + op.epsilon) * op.kernel + op.bias


_KINDS: dict[str, Callable[..., Any]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "dense": lambda op, x: _biased(op, tf.matmul(x, op.kernel)),
    "max_pool": _pool("MAX"),
    "avg_pool": _pool("AVG"),
    "pad": _pad,
    "select": lambda op, x: tf.gather(x, op.index, axis=-1),
    "scale": lambda op, x: x * op.kernel + op.bias,
    "norm": _norm,
    "maximum_map": lambda op, x: tf.maximum(x, op.kernel),
    "multiply_map": lambda op, x: x * op.kernel,
    "add": lambda op, x, y: x + y,
    "concat": lambda op, *xs: tf.concat(xs, -1),
    "relu": lambda op, x: tf.nn.relu(x),
    "sigmoid": lambda op, x: tf.sigmoid(x),
    "softmax": lambda op, x: tf.nn.softmax(x),
    "mean": lambda op, x: tf.reduce_mean(x, (1, 2)),
    "max": lambda op, x: tf.reduce_max(x, (1, 2)),
}
