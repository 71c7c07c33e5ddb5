"""Integers for the values of an inference graph: ranges read off images, and scales from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from nasnet_zoo.classifier import preprocess_input

from .compute import compute
from .graph import InferenceGraph, Op

#: The kinds of operations that are computed in integers; the others are computed in float32 between
#: conversions.
INTEGER_KINDS = (
    *("conv", "depthwise", "dense", "max_pool", "avg_pool", "pad"),
    *("select", "multiply_map", "add", "concat", "relu", "mean"),
)
#: The least and the greatest number of a value.
Range = tuple[float, float]
_BATCH = 8


@dataclass(frozen=True)
class Scale:
    """How integers stand for real numbers: ``(integer - zero_point) * step``."""

    step: float
    zero_point: int


def calibrate(graph: InferenceGraph, images: np.ndarray) -> dict[str, Range]:
    """The range of every value of a graph on representative images.

    Args:
        graph: Graph as the writer will write it.
        images: Images (images, height, width, channels), of the graph's image type.
    """
    ranges: dict[str, Range] = {}

    def watch(name: str, value: Any) -> None:
        low, high = float(tf.reduce_min(value)), float(tf.reduce_max(value))
        known = ranges.get(name, (0.0, 0.0))  # zero must have an integer of its own
        ranges[name] = (min(low, known[0]), max(high, known[1]))

    for start in range(0, len(images), _BATCH):
        compute(graph, tf.constant(images[start : start + _BATCH], tf.float32), watch)
    return ranges


def scales(
    graph: InferenceGraph, ranges: Mapping[str, Range], bits: int, keeping: tuple[str, ...]
) -> dict[str, Scale]:
    """The scale of every value of a graph.

    Args:
        graph: The graph.
        ranges: See `calibrate`.
        bits: Bits of the integers: 8, or 16 with a zero point of 0.
        keeping: Kinds of operations whose values are on the scale of their inputs.
    """
    group = {name: name for name in ranges}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for op in graph.ops:
        if op.kind in keeping:
            for name in op.inputs:
                group[root(name)] = root(op.output)
    joined: dict[str, Range] = {}
    for name, (low, high) in ranges.items():
        known = joined.get(root(name), (0.0, 0.0))
        joined[root(name)] = (min(low, known[0]), max(high, known[1]))
    return {name: _scale(joined[root(name)], bits) for name in ranges}


def _scale(values: Range, bits: int) -> Scale:
    low, high = values
    if bits == 16:
        return Scale(max(-low, high, 1e-6) / 32767.0, 0)
    step = max(high - low, 1e-6) / 255.0
    return Scale(step, int(np.clip(round(-128 - low / step), -128, 127)))


def round_to(value: Any, scale: Scale, bits: int) -> Any:
    """The real numbers that integers on a scale stand for, as float32.

    Args:
        value: float32 array.
        scale: Scale of the integers.
        bits: Bits of the signed integers, 8 or 16.
    """
    limit = 2 ** (bits - 1)
    integers = np.round(np.asarray(value, np.float64) / scale.step) + scale.zero_point
    integers = np.clip(integers, -limit, limit - 1)
    return ((integers - scale.zero_point) * scale.step).astype(np.float32)


def round_dynamically(value: np.ndarray, rows: bool) -> np.ndarray:
    """The real numbers of int8 on a scale for each item of a batch, or for each row of channels.

    In float32 and step by step as XNNPACK does it as it goes: halves are rounded to the same side.
    """
    axes = (-1,) if rows else tuple(range(1, value.ndim))
    low = np.minimum(value.min(axes, keepdims=True), np.float32(0))
    high = np.maximum(value.max(axes, keepdims=True), np.float32(0))
    with np.errstate(divide="ignore"):
        steps = np.where(low == high, np.float32(1), np.float32(255) / (high - low))
    least, most = np.float32(-128) - low * steps, np.float32(127) - high * steps
    zero_point = np.round(np.clip(np.where(least + most < 0, least, most), -128, 127))
    integers = np.clip(np.round(value * steps) + zero_point, -128, 127)
    return ((integers - zero_point) * (np.float32(1) / steps)).astype(np.float32)


# === Weights ===


def channel_scales(kernel: np.ndarray, axis: int) -> np.ndarray:
    """The step of symmetric int8 weights for each filter, which are on ``axis``."""
    largest = np.abs(kernel).max(tuple(k for k in range(kernel.ndim) if k != axis))
    return (np.maximum(largest, 1e-8) / 127.0).astype(np.float32)


def quantize_weights(kernel: np.ndarray, steps: np.ndarray, axis: int) -> np.ndarray:
    """int8 weights, from -127 to 127."""
    shape = [1] * kernel.ndim
    shape[axis] = -1
    return np.clip(np.round(kernel / steps.reshape(shape)), -127, 127).astype(np.int8)


def quantize_bias(bias: np.ndarray, steps: np.ndarray, dtype: str) -> np.ndarray:
    """Bias in the integers in which products are summed, of one step for each filter."""
    limit = 2**31 - 1
    return np.clip(np.round(bias.astype(np.float64) / steps), -limit, limit).astype(dtype)


def with_halves(op: Op, *fields: str) -> Op:
    """An operation with the arrays ``fields`` as they come back from float16."""
    arrays = {name: getattr(op, name) for name in fields}
    with np.errstate(over="ignore"):
        halves = {
            k: a.astype(np.float16).astype(np.float32) for k, a in arrays.items() if a is not None
        }
    return op.with_(**halves)


def has_dynamic_kernel(op: Op) -> bool:
    """Whether the weights of an operation are int8 in "dynamic" files, and its input as it comes.

    LiteRT has such kernels for convolutions of one group, and for dense layers.
    """
    return op.kind in ("conv", "dense") and op.groups == 1


def with_integer_kernel(op: Op) -> Op:
    """An operation whose kernel comes back from int8, one scale for each filter."""
    assert op.kernel is not None
    axis = op.kernel.ndim - 1
    steps = channel_scales(op.kernel, axis)
    return op.with_(kernel=quantize_weights(op.kernel, steps, axis) * steps)


def with_integers(op: Op, scale: Scale, bias_dtype: str, map_levels: int) -> Op:
    """An operation whose arrays come back from integers.

    Args:
        op: Operation of `INTEGER_KINDS`.
        scale: Scale of the value that it reads.
        bias_dtype: "int32" or "int64".
        map_levels: Greatest integer of a map of "multiply_map".
    """
    if op.kernel is None:
        return op
    if op.kind == "multiply_map":
        step = float(op.kernel.max()) / map_levels
        return op.with_(kernel=(np.round(op.kernel / step) * step).astype(np.float32))
    if op.bias is not None:
        steps = channel_scales(op.kernel, op.kernel.ndim - 1) * np.float32(scale.step)
        bias = quantize_bias(op.bias, steps, bias_dtype).astype(np.float64) * steps
        op = op.with_(bias=bias.astype(np.float32))
    return with_integer_kernel(op)


def as_model_input(images: np.ndarray, scaled: bool = True) -> np.ndarray:
    """Images as a Keras model takes them.

    Args:
        images: Images in float32 as the model takes them, or bytes.
        scaled: Whether bytes are scaled by `preprocess_input`, or left to a model that scales them.
    """
    if images.dtype != np.uint8:
        return images
    images = images.astype(np.float32)
    return preprocess_input(images) if scaled else images
