"""The inference graph: what stands between a trained Keras model and every file format.

A list of plain operations on images of a fixed size, with NumPy weights. `from_keras` makes it,
`rewrites` turns it into cheaper graphs of the same function, and one writer for each format reads
it. Images are channels-last, and the batch size is left open.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

#: The shape of a value without the batch: (height, width, channels), or (channels,) for vectors.
ValueShape = tuple[int, ...]
#: Rows above, rows below, columns left and columns right of an image.
Pads = tuple[int, int, int, int]
Pair = tuple[int, int]

NO_PADS: Pads = (0, 0, 0, 0)
#: The operations, with what of `Op` each of them reads.
KINDS = {
    "conv": "kernel (height, width, channels / groups, filters), bias, stride, dilation, pads, relu",
    "depthwise": "kernel (height, width, channels), bias, stride, dilation, pads, relu",
    "dense": "kernel (channels, units), bias, relu",
    "max_pool": "window, stride, pads, which take no part in the maximum; relu",
    "avg_pool": "window, stride, pads, which take no part in the mean",
    "pad": "pads, channels: zeros around the image and channels of zeros; negative numbers crop",
    "select": "index, int32: channels in that order",
    "scale": "kernel (channels,), bias: x * kernel + bias",
    "norm": "axes, epsilon, kernel (channels,), bias: each image by its own statistics",
    "maximum_map": "kernel (height, width, 1): the maximum of each pixel and its number",
    "multiply_map": "kernel (height, width, 1): each pixel times its number",
    "add": "two inputs; relu",
    "concat": "inputs, joined along channels",
    "relu": "",
    "sigmoid": "",
    "softmax": "over channels",
    "mean": "over height and width: (channels,)",
    "max": "over height and width: (channels,)",
}


@dataclass(frozen=True, eq=False)
class Op:
    """One operation; see `KINDS` for what each kind reads.

    Args:
        kind: Key of `KINDS`.
        output: Name of the value that it makes, unique in a graph.
        inputs: Names of values made before it.
        kernel: float32 weights, shaped by kind.
        bias: float32 (channels,).
        window: Height and width of a pool's window.
        stride: Rows and columns from one window to the next.
        dilation: Rows and columns from one tap of a kernel to the next.
        pads: Pixels added on each side.
        groups: Equal groups of channels that are convolved apart.
        channels: Channels added before and after the others.
        index: Numbers of the channels that "select" keeps.
        relu: Whether a ReLU follows.
        axes: Axes of the statistics of "norm", the batch being axis 0.
        epsilon: Number that "norm" adds to the variance.
    """

    kind: str
    output: str
    inputs: tuple[str, ...]
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    window: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    pads: Pads = NO_PADS
    groups: int = 1
    channels: Pair = (0, 0)
    index: np.ndarray | None = None
    relu: bool = False
    axes: tuple[int, ...] = ()
    epsilon: float = 0.0

    def with_(self, **changes: object) -> Op:
        """A copy with other fields."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def extent(self) -> Pair:
        """Height and width in pixels that one window covers."""
        size = self.window if self.kernel is None else self.kernel.shape[:2]
        height, width = ((n - 1) * d + 1 for n, d in zip(size, self.dilation, strict=True))
        return height, width

    def output_shape(self, shapes: list[ValueShape]) -> ValueShape:
        """The shape it makes from inputs of these shapes."""
        shape = shapes[0]
        if self.kind in ("conv", "depthwise", "max_pool", "avg_pool", "pad"):
            above, below, left, right = self.pads
            size = (shape[0] + above + below, shape[1] + left + right)
            if self.kind != "pad":
                trio = zip(size, self.extent, self.stride, strict=True)
                size = tuple((n - k) // s + 1 for n, k, s in trio)  # type: ignore[assignment]
            channels = shape[2] + sum(self.channels) if self.kernel is None else self.kernel.shape[-1]
            return (*size, channels)
        if self.kind == "dense":
            assert self.kernel is not None
            return (*shape[:-1], self.kernel.shape[1])
        if self.kind == "concat":
            return (*shape[:-1], sum(s[-1] for s in shapes))
        if self.kind in ("mean", "max"):
            return shape[-1:]
        if self.index is not None:
            return (*shape[:-1], len(self.index))
        return shape


@dataclass(frozen=True, eq=False)
class InferenceGraph:
    """Operations in an order in which each comes after what it reads.

    Args:
        image: Name of the input value.
        image_shape: (height, width, channels) in pixels.
        ops: Operations; see `Op`.
        outputs: Names of the values that leave the graph.
        image_dtype: "float32", or "uint8" for bytes that are cast to float32.
    """

    image: str
    image_shape: ValueShape
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    image_dtype: str = "float32"

    def with_ops(self, ops: Iterable[Op]) -> InferenceGraph:
        """The graph of other operations for the same outputs, without those that nothing reads."""
        wanted, kept = set(self.outputs), []
        for op in reversed(list(ops)):
            if op.output in wanted:
                wanted.update(op.inputs)
                kept.append(op)
        return dataclasses.replace(self, ops=tuple(reversed(kept)))

    def shapes(self) -> dict[str, ValueShape]:
        """The shape of every value by its name."""
        known = {self.image: self.image_shape}
        for op in self.ops:
            known[op.output] = op.output_shape([known[name] for name in op.inputs])
        return known

    def readers(self) -> Counter[str]:
        """How often every value is read, as an output of the graph too."""
        return Counter([*(name for op in self.ops for name in op.inputs), *self.outputs])

    def made_by(self) -> Mapping[str, Op]:
        """The operation that makes every value but the image."""
        return {op.output: op for op in self.ops}
