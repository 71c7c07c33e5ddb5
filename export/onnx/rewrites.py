"""Rewrites for ONNX Runtime."""

from __future__ import annotations

import numpy as np

from ..graph import InferenceGraph, Op, ValueShape
from ..rewrites import Rewrite, average_by_depthwise, equalize_channels, scale_by_depthwise


def zero_padded_max_by_maximum_map(graph: InferenceGraph) -> InferenceGraph:
    """A zero pad read by max pools becomes their own padding, and a maximum with 0 at the border.

    ONNX Runtime fuses a Pad into a MaxPool as if it padded with minus infinity.
    """
    shapes, made = graph.shapes(), graph.made_by()
    ops: list[Op] = []
    for op in graph.ops:
        pad = made.get(op.inputs[0])
        surrounds = pad is not None and pad.kind == "pad" and min(pad.pads) >= 0
        if op.kind != "max_pool" or pad is None or not surrounds or any(pad.channels):
            ops.append(op)
            continue
        height, width, _ = shapes[pad.inputs[0]]
        inside = np.pad(np.ones((height, width)), (pad.pads[:2], pad.pads[2:]))
        windows = np.lib.stride_tricks.sliding_window_view(inside, op.window)
        reach_outside = (windows[:: op.stride[0], :: op.stride[1]] == 0).any((2, 3))
        floor = np.where(reach_outside, 0.0, np.finfo(np.float32).min).astype(np.float32)[..., None]
        pooled = op.with_(output=f"{op.output}/inside", inputs=pad.inputs, pads=pad.pads, relu=False)
        if op.relu:  # a maximum with 0 everywhere
            floor = np.zeros_like(floor)
        ops += (pooled, Op("maximum_map", op.output, (pooled.output,), kernel=floor))
    return graph.with_ops(ops)


def paths_as_sum(graph: InferenceGraph, block: int = 16) -> InferenceGraph:
    """Concatenated convolutions become a sum of wider ones, where they do not fill ``block`` channels.

    So both paths of a factorized reduction, which `pad_channels` would fill each by itself. ONNX
    Runtime adds within the second convolution.
    """
    made, readers, shapes = graph.made_by(), graph.readers(), graph.shapes()
    ops = {op.output: op for op in graph.ops}
    for op in graph.ops:
        parts = [made.get(name) for name in op.inputs]
        if op.kind != "concat" or len(parts) != 2 or op.relu or op.output in graph.outputs:
            continue
        if not all(p is not None and p.kind == "conv" and readers[p.output] == 1 for p in parts):
            continue
        if any(p and p.groups > 1 for p in parts):
            continue
        channels = [shapes[name][-1] for name in op.inputs]
        if not any(count % block for count in channels) or any(p and p.relu for p in parts):
            continue
        start, total = 0, sum(channels)
        for part, count in zip(parts, channels, strict=True):
            assert part is not None
            assert part.kernel is not None
            place = np.arange(start, start + count)
            kernel = _spread(part.kernel, place, total, 3)
            bias = None if part.bias is None else _spread(part.bias, place, total, 0)
            ops[part.output] = part.with_(kernel=kernel, bias=bias)
            start += count
        ops[op.output] = op.with_(kind="add")
    return graph.with_ops(ops.values())


def pad_channels(graph: InferenceGraph, block: int = 16) -> InferenceGraph:
    """Fill channels up to multiples of ``block`` with zeros, which every operation keeps at zero.

    ONNX Runtime's convolutions work on blocks of channels and change the layout of all others.
    Left alone: the image, what the graph gives, what grouped convolutions and choices of channels read
    and make, and graphs with layer norm, whose statistics the zeros would enter.
    """
    if any(op.kind == "norm" and 3 in op.axes for op in graph.ops):
        return graph
    # Where the channels of a value lie in its padded form.
    places = {graph.image: np.arange(graph.image_shape[-1])}
    width = {graph.image: graph.image_shape[-1]}
    shapes = graph.shapes()
    fixed = _unpadded(graph, shapes)
    ops = []
    for op in graph.ops:
        source = op.inputs[0]
        channels = shapes[op.output][-1]
        makes_channels = op.kind in ("conv", "dense")
        if makes_channels:
            total = channels if op.output in fixed else -(-channels // block) * block
            place = np.arange(channels)
        elif op.kind == "concat":
            starts = np.cumsum([0] + [width[name] for name in op.inputs])
            place = np.concatenate(
                [places[name] + start for name, start in zip(op.inputs, starts, strict=False)]
            )
            total = int(starts[-1])
        elif _counts_channels(op):
            total, place = channels, np.arange(channels)
        else:
            place, total = places[source], width[source]
        kernel, bias = op.kernel, op.bias
        if kernel is not None and op.kind not in ("maximum_map", "multiply_map"):
            if makes_channels:
                kernel = _spread(kernel, places[source], width[source], kernel.ndim - 2)
            kernel = _spread(kernel, place, total, kernel.ndim - 1)
        if bias is not None:
            bias = _spread(bias, place, total, 0)
        ops.append(op.with_(kernel=kernel, bias=bias))
        places[op.output], width[op.output] = place, total
        if any(not np.array_equal(places[name], place) for name in op.inputs if op.kind == "add"):
            return graph
    return graph.with_ops(ops)


def _counts_channels(op: Op) -> bool:
    """Whether an operation goes by the numbers of channels."""
    return any(op.channels) or op.index is not None


def _unpadded(graph: InferenceGraph, shapes: dict[str, ValueShape]) -> set[str]:
    """The values whose channels count, and those that become such by operations that keep channels."""
    fixed = set(graph.outputs)
    for op in graph.ops:
        if op.groups > 1 or _counts_channels(op):
            fixed.update((op.output, *op.inputs))
    for op in reversed(graph.ops):
        if (op.output in fixed and op.kind not in ("conv", "dense")) or op.kind == "softmax":
            fixed.update(op.inputs)
    if any(name in fixed for op in graph.ops if op.kind == "add" for name in op.inputs):
        # Both sides of a sum have one width.
        changed = True
        while changed:
            before = len(fixed)
            for op in graph.ops:
                keeps = op.kind not in ("conv", "dense")
                if keeps and op.kind != "concat" and fixed & {op.output, *op.inputs}:
                    fixed.update((op.output, *op.inputs))
                elif op.kind == "concat" and op.output in fixed:
                    fixed.update(op.inputs)
            changed = len(fixed) > before
    return fixed


def _spread(array: np.ndarray, place: np.ndarray, total: int, axis: int) -> np.ndarray:
    """``array`` with its entries along an axis put at ``place`` among ``total``, zeros elsewhere."""
    if total == len(place):
        return array
    shape = list(array.shape)
    shape[axis] = total
    spread = np.zeros(shape, array.dtype)
    index: list = [slice(None)] * array.ndim
    index[axis] = place
    spread[tuple(index)] = array
    return spread


_FLOAT: tuple[Rewrite, ...] = (zero_padded_max_by_maximum_map, paths_as_sum, pad_channels)
#: What ONNX Runtime runs faster, in order, by the numbers in the file.
REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "float32": _FLOAT,
    "float16": _FLOAT,
    "int8": (equalize_channels, scale_by_depthwise, average_by_depthwise, *_FLOAT),
}
