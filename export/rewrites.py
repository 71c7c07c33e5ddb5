"""Rewrites of inference graphs: each gives a cheaper graph of the same function.

`simplify` does what every format gains from; rewrites for one runtime stand beside its writer.
A rewrite changes no result but by the rounding of float32.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from nasnet_zoo.cells.primitives import same_pads

from .graph import InferenceGraph, Op

Rewrite = Callable[[InferenceGraph], InferenceGraph]

_LINEAR = ("conv", "depthwise", "dense")
_TAKES_RELU = (*_LINEAR, "add", "max_pool")


def share_equal(graph: InferenceGraph) -> InferenceGraph:
    """Compute once what is computed twice: ReLUs and pools of one state, above all.

    So ``avg(p) + avg(p)`` becomes one pool, added to itself.
    """
    seen: dict[tuple, str] = {}
    renamed: dict[str, str] = {}
    ops = []
    for op in graph.ops:
        op = op.with_(inputs=tuple(renamed.get(name, name) for name in op.inputs))
        arrays = tuple(None if a is None else id(a) for a in (op.kernel, op.bias, op.index))
        sizes = (op.window, op.stride, op.dilation, op.pads, op.channels)
        key = (op.kind, op.inputs, arrays, sizes, op.relu, op.axes)
        if op.output in graph.outputs:
            ops.append(op)
            seen.setdefault(key, op.output)
        elif key in seen:
            renamed[op.output] = seen[key]
        else:
            seen[key] = op.output
            ops.append(op)
    return graph.with_ops(ops)


def fold_batch_norm(graph: InferenceGraph) -> InferenceGraph:
    """Multiply batch norm into the convolution before it, or into all that it concatenates."""
    made, readers = dict(graph.made_by()), graph.readers()
    shapes = graph.shapes()
    replaced: dict[str, str] = {}

    def foldable(name: str) -> bool:
        op = made.get(name)
        if op is None or readers[name] > 1 or op.relu:
            return False
        return op.kind in _LINEAR or (op.kind == "concat" and all(map(foldable, op.inputs)))

    def fold(name: str, factor: np.ndarray, bias: np.ndarray) -> None:
        op = made[name]
        if op.kind == "concat":
            start = 0
            for part in op.inputs:
                stop = start + shapes[part][-1]
                fold(part, factor[start:stop], bias[start:stop])
                start = stop
            return
        assert op.kernel is not None
        before = 0.0 if op.bias is None else op.bias * factor
        made[name] = op.with_(kernel=op.kernel * factor, bias=(bias + before).astype(np.float32))

    for op in graph.ops:
        if op.kind == "scale" and foldable(op.inputs[0]) and op.output not in graph.outputs:
            assert op.kernel is not None
            assert op.bias is not None
            fold(op.inputs[0], op.kernel, op.bias)
            replaced[op.output] = op.inputs[0]
            readers[op.inputs[0]] = readers[op.output]
    ops = (made[op.output] for op in graph.ops if op.output not in replaced)
    return graph.with_ops(
        op.with_(inputs=tuple(replaced.get(name, name) for name in op.inputs)) for op in ops
    )


def relu_before_concat(graph: InferenceGraph) -> InferenceGraph:
    """Where a concatenation is read through ReLU alone, applies ReLU to what it joins.

    There it can be fused into the operation before, or is computed already.
    """
    readers, through_relu = graph.readers(), graph.readers()
    for op in graph.ops:
        if op.kind == "relu":
            through_relu[op.inputs[0]] -= 1
    pushed = {
        op.output
        for op in graph.ops
        if op.kind == "concat" and readers[op.output] and not through_relu[op.output]
    }
    ops: list[Op] = []
    renamed: dict[str, str] = {}
    for op in graph.ops:
        if op.output in pushed:
            for name in op.inputs:
                ops.append(Op("relu", f"{op.output}/{name}/relu", (name,)))
            op = op.with_(inputs=tuple(f"{op.output}/{name}/relu" for name in op.inputs))
        elif op.kind == "relu" and op.inputs[0] in pushed and op.output not in graph.outputs:
            renamed[op.output] = op.inputs[0]
            continue
        ops.append(op.with_(inputs=tuple(renamed.get(name, name) for name in op.inputs)))
    return graph.with_ops(_unique(ops))


def _unique(ops: list[Op]) -> list[Op]:
    """Without repetitions of a value's name."""
    return list({op.output: op for op in ops}.values())


def fuse_relu(graph: InferenceGraph) -> InferenceGraph:
    """Make ReLU a part of the operation before, where nothing else reads its result."""
    made, readers = graph.made_by(), graph.readers()
    fused: dict[str, str] = {}
    for op in graph.ops:
        if op.kind == "relu" and op.inputs[0] in made and readers[op.inputs[0]] == 1:
            before = made[op.inputs[0]]
            if before.kind in _TAKES_RELU:
                fused[before.output] = op.output
    relus = set(fused.values())
    return graph.with_ops(
        op.with_(output=fused[op.output], relu=True) if op.output in fused else op
        for op in graph.ops
        if op.output not in relus
    )


def scale_by_depthwise(graph: InferenceGraph) -> InferenceGraph:
    """Scale images by a depthwise convolution of one pixel, which takes the ReLU after it.

    So batch norm that is followed by a convolution, instead of following one. What scales the image
    stays, as its bytes may have that scale already.
    """
    shapes = graph.shapes()

    def converted(op: Op) -> Op:
        if op.kind != "scale" or op.inputs == (graph.image,) or len(shapes[op.output]) != 3:
            return op
        assert op.kernel is not None
        return op.with_(kind="depthwise", kernel=op.kernel[None, None])

    return fuse_relu(graph.with_ops(map(converted, graph.ops)))


def sample_by_depthwise(graph: InferenceGraph) -> InferenceGraph:
    """Take every second pixel by a depthwise convolution with a single 1.

    In place of a 1x1 pool with a stride, and of the shift in the second path of a factorized
    reduction, which is a slice and a pad of the whole image.
    """
    shapes, made = graph.shapes(), graph.made_by()
    ops: list[Op] = []
    for op in graph.ops:
        before = made.get(op.inputs[0])
        if op.kind in ("avg_pool", "max_pool") and op.window == (1, 1) and not op.relu:
            kernel = np.ones((1, 1, shapes[op.inputs[0]][2]), np.float32)
            ops.append(Op("depthwise", op.output, op.inputs, kernel=kernel, stride=op.stride))
        elif _reads_shifted(op, before):
            assert before is not None
            image = shapes[before.inputs[0]]
            sampled = Op(
                "depthwise",
                f"{before.output}/sampled",
                before.inputs,
                kernel=_last_tap(image[2]),
                stride=op.stride,
                pads=same_pads((image[0], image[1]), (2, 2), (2, 2)),
            )
            ops += (sampled, op.with_(inputs=(sampled.output,), stride=(1, 1)))
        else:
            ops.append(op)
    return graph.with_ops(_unique(ops))


def _reads_shifted(op: Op, before: Op | None) -> bool:
    shifted = before is not None and before.kind == "pad" and before.pads == (-1, 1, -1, 1)
    return shifted and op.kind == "conv" and op.extent == (1, 1) and op.stride == (2, 2)


def _last_tap(channels: int) -> np.ndarray:
    kernel = np.zeros((2, 2, channels), np.float32)
    kernel[1, 1] = 1.0
    return kernel


def crop_kernels(graph: InferenceGraph) -> InferenceGraph:
    """Leave out the taps of kernels that never reach the image, on maps smaller than a kernel.

    XNNPACK fails, or writes where it may not, on convolutions that only ever read padding.
    """
    shapes = graph.shapes()
    ops: list[Op] = []
    for op in graph.ops:
        if op.kind in ("conv", "depthwise") and op.kernel is not None:
            kernel, pads = op.kernel, list(op.pads)
            for axis in (0, 1):
                size, made = shapes[op.inputs[0]][axis], shapes[op.output][axis]
                reads = np.arange(made) * op.stride[axis] - pads[2 * axis]
                taps = np.arange(kernel.shape[axis]) * op.dilation[axis]
                inside = (taps[:, None] + reads >= 0) & (taps[:, None] + reads < size)
                (reaching,) = np.nonzero(inside.any(1))
                if not len(reaching):
                    continue
                first, last = reaching[0], reaching[-1]
                cropped = [int(taps[first]), int(taps[-1] - taps[last])]
                if cropped[0] <= pads[2 * axis] and cropped[1] <= pads[2 * axis + 1]:
                    kernel = kernel.take(range(first, last + 1), axis)
                    pads[2 * axis : 2 * axis + 2] = np.subtract(pads[2 * axis : 2 * axis + 2], cropped)
            # What is left of 7x7 in both directions is faster whole: see `litert.rewrites`.
            if kernel.shape != op.kernel.shape and min(kernel.shape[:2]) <= 5:
                above, below, left, right = map(int, pads)
                op = op.with_(kernel=kernel, pads=(above, below, left, right))
        ops.append(op)
    return graph.with_ops(ops)


#: What suits every format, in order.
COMMON: tuple[Rewrite, ...] = (
    share_equal,
    fold_batch_norm,
    relu_before_concat,
    share_equal,
    fuse_relu,
    sample_by_depthwise,
    crop_kernels,
)


def simplify(graph: InferenceGraph) -> InferenceGraph:
    """A graph after all rewrites of `COMMON`."""
    for rewrite in COMMON:
        graph = rewrite(graph)
    return graph


def take_bytes(graph: InferenceGraph, factor: float, bias: float) -> InferenceGraph:
    """A graph of bytes as image files hold them: ``byte * factor + bias`` is what the model takes."""
    channels = graph.image_shape[-1]
    scaled = f"{graph.image}/scaled"
    first = Op(
        "scale",
        scaled,
        (graph.image,),
        kernel=np.full(channels, factor, np.float32),
        bias=np.full(channels, bias, np.float32),
    )
    rest = (
        op.with_(inputs=tuple(scaled if name == graph.image else name for name in op.inputs))
        for op in graph.ops
    )
    return dataclasses.replace(graph, ops=(first, *rest), image_dtype="uint8")


def equalize_channels(graph: InferenceGraph, rounds: int = 3) -> InferenceGraph:
    """Give the channels of a value that only convolutions read weights of like size on both sides.

    They are multiplied by the factors of cross-layer equalisation (Nagel et al. 2019), which leave on
    either side the geometric mean of a channel's greatest weights. In integers a value has one step for
    all of its channels, in which small ones would be lost.
    """
    made, readers = dict(graph.made_by()), _readers(graph)
    for name in equalizable(graph) * rounds:
        written = _greatest_weights(made[name], -1)
        reading = [made[reader] for reader in readers[name]]
        read = np.max([_greatest_weights(op, _reading_axis(op)) for op in reading], 0)
        factors = np.ones(len(written), np.float32)
        alive = (written > 0) & (read > 0)
        factors[alive] = np.sqrt(read[alive] / written[alive])
        for op in (made[name], *reading):
            made[op.output] = _scaled(op, name, factors)
    return graph.with_ops(made.values())


def equalizable(graph: InferenceGraph) -> list[str]:
    """The values that a convolution makes and only convolutions read."""
    made, readers = graph.made_by(), _readers(graph)
    scalable = {op.output for op in graph.ops if op.kind in _LINEAR and op.groups == 1}
    return [
        name
        for name in made
        if name not in graph.outputs and scalable.issuperset((name, *readers[name]))
    ]


def scaled_channels(graph: InferenceGraph, name: str, factors: np.ndarray) -> InferenceGraph:
    """The same function with the channels of an equalizable value times positive factors.

    ReLU in between keeps such factors.
    """
    factors = factors.astype(np.float32)
    return graph.with_ops(_scaled(op, name, factors) for op in graph.ops)


def _scaled(op: Op, name: str, factors: np.ndarray) -> Op:
    """An operation when the channels of a value that it may make or read are multiplied."""
    if op.output == name:
        assert op.kernel is not None
        bias = None if op.bias is None else op.bias * factors
        return op.with_(kernel=op.kernel * factors, bias=bias)
    if name in op.inputs:
        assert op.kernel is not None
        rows = factors if _reading_axis(op) == -1 else factors[:, None]
        return op.with_(kernel=op.kernel / rows)
    return op


def _readers(graph: InferenceGraph) -> dict[str, list[str]]:
    """What the operations make that read each value."""
    readers: dict[str, list[str]] = defaultdict(list)
    for op in graph.ops:
        for name in dict.fromkeys(op.inputs):
            readers[name].append(op.output)
    return readers


def _reading_axis(op: Op) -> int:
    """The axis of a kernel with the channels that it reads."""
    return -1 if op.kind == "depthwise" else -2


def _greatest_weights(op: Op, axis: int) -> np.ndarray:
    """The greatest weight of each channel on an axis of the kernel."""
    assert op.kernel is not None
    others = tuple(k for k in range(op.kernel.ndim) if k != axis % op.kernel.ndim)
    return np.abs(op.kernel).max(others)


def average_by_depthwise(graph: InferenceGraph) -> InferenceGraph:
    """An average pool becomes a depthwise convolution, whose sums are corrected at the border.

    int8 average pools stay outside of XNNPACK, and of ONNX Runtime's fast kernels.
    """
    shapes = graph.shapes()
    ops: list[Op] = []
    for op in graph.ops:
        if op.kind != "avg_pool":
            ops.append(op)
            continue
        height, width, channels = shapes[op.inputs[0]]
        taps = op.window[0] * op.window[1]
        kernel = np.full((*op.window, channels), 1.0 / taps, np.float32)
        inside = np.pad(np.ones((height, width)), (op.pads[:2], op.pads[2:]))
        windows = np.lib.stride_tricks.sliding_window_view(inside, op.window)
        counts = windows[:: op.stride[0], :: op.stride[1]].sum((2, 3))
        sums = op.with_(kind="depthwise", kernel=kernel, window=(1, 1))
        if counts.min() == taps:
            ops.append(sums)
            continue
        sums = sums.with_(output=f"{op.output}/sums")
        weights = (taps / counts).astype(np.float32)[..., None]
        ops += (sums, Op("multiply_map", op.output, (sums.output,), kernel=weights))
    return graph.with_ops(ops)
