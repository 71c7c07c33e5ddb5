"""Rewrites for LiteRT's XNNPACK delegate."""

from __future__ import annotations

import numpy as np

from ..graph import InferenceGraph, Op
from ..rewrites import Rewrite, average_by_depthwise, equalize_channels, scale_by_depthwise

#: Rows and columns of a 7x7 kernel, centred grids that cover it once, of which XNNPACK has the first as
#: a kernel of 25 taps, and the others as kernels of 9 or 4.
_PIECES = (
    (range(1, 6), range(1, 6)),
    ((0, 6), (0, 2, 4, 6)),
    ((0, 6), (1, 3, 5)),
    ((1, 3, 5), (0, 6)),
    ((2, 4), (0, 6)),
)


def split_depthwise(graph: InferenceGraph) -> InferenceGraph:
    """Split 7x7 depthwise kernels into the inner 5x5 and pieces of the ring around it.

    XNNPACK has depthwise kernels of 4, 9 and 25 taps, fills smaller ones with zeros, and runs larger
    ones as grouped convolutions. Centred pieces have the pads of the whole; what they give is added.
    """
    ops: list[Op] = []
    for op in graph.ops:
        kernel = op.kernel
        if kernel is None or op.kind != "depthwise" or op.extent != (7, 7) or len(kernel) != 7:
            ops.append(op)
            continue
        total = ""
        for number, places in enumerate(_PIECES):
            dilation = tuple(place[1] - place[0] for place in places)
            pads = tuple(op.pads[k] - places[k // 2][0] for k in range(4))
            piece = op.with_(
                output=f"{op.output}/piece_{number}",
                kernel=np.ascontiguousarray(kernel[np.ix_(*places)]),
                bias=op.bias if not number else None,
                dilation=dilation,
                pads=pads,
                relu=False,
            )
            ops.append(piece)
            if not number:
                total = piece.output
                continue
            last = number == len(_PIECES) - 1
            added = op.output if last else f"{op.output}/sum_{number}"
            ops.append(Op("add", added, (total, piece.output), relu=op.relu and last))
            total = added
    return graph.with_ops(ops)


def merge_pointwise(graph: InferenceGraph) -> InferenceGraph:
    """The sum of two 1x1 convolutions becomes one convolution of what they read, joined.

    In integers it spares two roundings of whole images, and the sum.
    """
    made, readers = graph.made_by(), graph.readers()

    def is_pointwise(name: str) -> bool:
        op = made.get(name)
        if op is None or op.kind != "conv" or op.relu or readers[name] > 1:
            return False
        return op.extent == op.stride == (1, 1) and op.groups == 1

    ops: list[Op] = []
    for op in graph.ops:
        if op.kind != "add" or not all(map(is_pointwise, op.inputs)):
            ops.append(op)
            continue
        left, right = (made[name] for name in op.inputs)
        assert left.kernel is not None
        assert right.kernel is not None
        joined = Op("concat", f"{op.output}/joined", left.inputs + right.inputs)
        kernel = np.concatenate([left.kernel, right.kernel], axis=2)
        biases = [part.bias for part in (left, right) if part.bias is not None]
        bias = sum(biases[1:], biases[0]) if biases else None
        fields = {"kernel": kernel, "bias": bias, "relu": op.relu}
        ops += (joined, left.with_(output=op.output, inputs=(joined.output,), **fields))
    return graph.with_ops(ops)


def nest_concats(graph: InferenceGraph, most: int = 5) -> InferenceGraph:
    """Join at most ``most`` values at a time: XNNPACK takes no concatenation of more."""
    ops: list[Op] = []
    for op in graph.ops:
        parts, number = list(op.inputs), 0
        while op.kind == "concat" and len(parts) > most:
            number += 1
            inner, first = f"{op.output}/part_{number}", max(most - 1, len(parts) - most)
            ops.append(Op("concat", inner, tuple(parts[first:])))
            parts[first:] = [inner]
        ops.append(op.with_(inputs=tuple(parts)))
    return graph.with_ops(ops)


_FLOAT: tuple[Rewrite, ...] = (split_depthwise, nest_concats)
#: What LiteRT's XNNPACK delegate runs faster, in order, by the numbers in the file. It takes no
#: int16, which LiteRT's own kernels compute as they come.
REWRITES: dict[str, tuple[Rewrite, ...]] = {
    "float32": _FLOAT,
    "float16": _FLOAT,
    "dynamic": _FLOAT,
    "int8": (
        equalize_channels,
        scale_by_depthwise,
        average_by_depthwise,
        merge_pointwise,
        *_FLOAT,
    ),
    "int16x8": (scale_by_depthwise,),
}
