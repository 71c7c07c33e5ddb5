"""The primitives that every operation is made of.

An operation of the search space is a short sequence of primitives (``sep_3x3`` is ReLU, depthwise
3x3, pointwise, batch norm, twice). A primitive declares everything about one step: its weights, its
output shape, its multiply-adds, its computation and how it lowers to the inference graph. Layers,
costs, search children and exports all read these from here.

A primitive computes with `keras.ops` alone, so it runs on every Keras backend, and it is a pure
function: it returns the new values of its statistics instead of storing them.

Shapes are channels-last. ``Shape`` is ``(height, width, channels)`` without the batch; a spatial
size may be ``None``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from annotated_types import Interval

from nasnet_zoo.checking import NonNegativeFloat, PositiveFloat, Share, check_fields
from nasnet_zoo.lazy import LazyModule

keras: Any = LazyModule("keras")
ops: Any = LazyModule("keras.ops")

Tensor = Any
Shape = tuple[int | None, int | None, int]
Pair = tuple[int, int]
DropPathVersion = Literal["v1", "v2", "v3", "constant", "batch"]
KeepProbability = Annotated[float, Interval(gt=0, le=1)]

# Standard deviation of a standard normal cut off at two.
_TRUNCATED_STDDEV = 0.87962566103423978


@dataclass(frozen=True)
class Hyperparameters:
    """Constants that are the same in all layers of a network.

    The defaults are those of the released ImageNet models; `CIFAR` holds those for CIFAR-10.

    Args:
        bn_momentum: Decay of the moving statistics of batch norm, in [0, 1].
        bn_epsilon: Number that batch norm adds to the variance, above 0.
        l2: L2 penalty of every convolution and dense kernel in the loss, at least 0.
        group_lasso: Penalty of the groups of every `LearnedGroupConv` in the loss, at least 0.
        initializer_scale: Kernels are drawn from a truncated normal of variance
            ``initializer_scale / fan_out`` (TF-Slim's variance scaling). Above 0.

    Raises:
        ValueError: If a value is out of range.
    """

    bn_momentum: Share = 0.9997
    bn_epsilon: PositiveFloat = 1e-3
    l2: NonNegativeFloat = 0.0
    group_lasso: NonNegativeFloat = 0.0
    initializer_scale: PositiveFloat = 2.0

    def __post_init__(self) -> None:
        check_fields(self)

    def kernel_stddev(self, shape: tuple[int, ...], groups: int = 1) -> float:
        """Return the standard deviation, before truncation, of a kernel's initial values."""
        fan_out = math.prod(shape[:-2]) * shape[-1] / groups
        return math.sqrt(self.initializer_scale / fan_out) / _TRUNCATED_STDDEV

    def regularizer(self) -> Any:
        """Return the Keras regularizer of kernels, or None without an L2 penalty."""
        return keras.regularizers.L2(self.l2) if self.l2 else None


IMAGENET = Hyperparameters()
CIFAR = Hyperparameters(bn_momentum=0.9, bn_epsilon=1e-5)


class Weight(NamedTuple):
    """Specification of a weight of a primitive: its name, shape and role.

    The last axis of a grouped convolution's kernel holds the filters of one group after the other.
    """

    name: str
    shape: tuple[int, ...]
    role: str  # "kernel", "scale", "offset", "mean", "variance", "mask" or "index"
    groups: int = 1

    @property
    def trainable(self) -> bool:
        return self.role not in ("mean", "variance", "mask", "index")

    @property
    def initial(self) -> float | None:
        """Initial value, or None for a kernel, which is drawn at random."""
        return None if self.role == "kernel" else float(self.role in ("scale", "variance", "mask"))


class GraphBuilder(Protocol):
    """Collects the nodes of an inference graph (`nasnet_zoo.export.graph`) for `Primitive.lower`.

    Values are referred to by name.
    """

    def shape(self, value: str) -> tuple[int, int, int]:
        """Return (height, width, channels) of a value."""
        ...

    def add(self, kind: str, *inputs: str, name: str | None = None, **fields: Any) -> str:
        """Append a node and return the name of its output.

        Args:
            kind: Kind of node, a key of `nasnet_zoo.export.graph.KINDS`, which lists its fields.
            *inputs: Names of the values that the node reads.
            name: Name within the cell's node. Default: ``kind``.
            **fields: Weights and numbers of the node.
        """
        ...


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _output_size(
    shape: Shape, kernel: int | Pair, stride: int | Pair, padding: str
) -> tuple[int | None, int | None]:
    """Return the height and width that are left by a window which slides over an image."""
    windows = zip(shape[:2], _pair(kernel), _pair(stride), strict=True)
    height, width = (
        n if n is None else -(-n // s) if padding == "same" else (n - k) // s + 1 for n, k, s in windows
    )
    return height, width


def same_pads(size: Pair, extent: Pair, stride: Pair) -> tuple[int, int, int, int]:
    """Return the SAME padding above, below, left and right for windows of ``extent`` pixels."""
    pads: list[int] = []
    for n, k, s in zip(size, extent, stride, strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += (total // 2, total - total // 2)
    return pads[0], pads[1], pads[2], pads[3]


def _window(
    shape: tuple[int, int, int], kernel: int | Pair, stride: int | Pair, padding: str, dilation: int = 1
) -> dict[str, Any]:
    """Return the fields of an inference node whose window slides over an image."""
    fields: dict[str, Any] = {"stride": _pair(stride), "dilation": (dilation, dilation)}
    if padding == "same":
        height, width = ((n - 1) * dilation + 1 for n in _pair(kernel))
        fields["pads"] = same_pads(shape[:2], (height, width), _pair(stride))
    return fields


def _area(shape: Shape) -> int:
    height, width, _ = shape
    if height is None or width is None:
        raise ValueError(f"Multiply-adds need a fixed image size. Received: shape={shape}")
    return height * width


@dataclass(frozen=True)
class Primitive:
    """One step of an operation. ``filters`` is always the filter count F of the cell around it."""

    def output_shape(self, shape: Shape, filters: int) -> Shape:
        """Return the shape of the output for an input of ``shape``."""
        return shape

    def weights(self, channels: int, filters: int) -> tuple[Weight, ...]:
        """Return the weights for an input of ``channels`` channels, trainable ones first."""
        return ()

    def mult_adds(self, shape: Shape, filters: int) -> int:
        """Return the multiply-adds of convolutions and dense layers on one image of ``shape``."""
        return 0

    def __call__(
        self, x: Tensor, weights: Sequence[Tensor], training: bool, hyper: Hyperparameters
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Compute the step.

        Args:
            x: Float tensor (batch, height, width, channels).
            weights: One tensor for each entry of `weights`, in that order.
            training: Whether batch norm uses the statistics of the batch.
            hyper: Constants of the network.

        Returns:
            The output, and the new values of the weights that are not trainable (empty unless
            ``training``).
        """
        raise NotImplementedError

    def lower(
        self, build: GraphBuilder, x: str, weights: Sequence[np.ndarray], hyper: Hyperparameters
    ) -> str:
        """Compose the step at inference of nodes of the inference graph, which every format can write.

        Networks with a primitive without this method need the official converters.

        Args:
            build: Builder that collects the nodes.
            x: Name of the input value.
            weights: float32 arrays, one for each entry of `weights`.
            hyper: Constants of the network.

        Returns:
            Name of the output value.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Relu(Primitive):
    """max(x, 0)."""

    def __call__(self, x, weights, training, hyper):
        return ops.relu(x), ()

    def lower(self, build, x, weights, hyper):
        return build.add("relu", x)


@dataclass(frozen=True)
class Conv(Primitive):
    """Convolution without bias.

    Args:
        kernel: Kernel size: an int, or (height, width).
        stride: Stride: an int, or (height, width). Default: 1.
        dilation: Dilation rate along both axes. A rate above 1 needs stride 1. Default: 1.
        filters: Number of output channels. Default: the cell's F.
        padding: "same" or "valid". Default: "same".
        groups: Number of equal groups of channels that are convolved apart, each to as many filters. It
            divides the channels and the filters. Default: 1.
    """

    kernel: int | Pair
    stride: int | Pair = 1
    dilation: int = 1
    filters: int | None = None
    padding: str = "same"
    groups: int = 1

    def output_shape(self, shape, filters):
        size = _output_size(shape, self.kernel, self.stride, self.padding)
        return *size, self.filters or filters

    def weights(self, channels, filters):
        filters = self.filters or filters
        if channels % self.groups or filters % self.groups:
            raise ValueError(
                f"Expected channels and filters that {self.groups} groups divide. "
                f"Received: {channels=}, {filters=}"
            )
        shape = (*_pair(self.kernel), channels // self.groups, filters)
        return (Weight("kernel", shape, "kernel", self.groups),)

    def mult_adds(self, shape, filters):
        kh, kw = _pair(self.kernel)
        out = self.output_shape(shape, filters)
        return kh * kw * shape[2] // self.groups * out[2] * _area(out)

    def __call__(self, x, weights, training, hyper):
        if self.groups > 1:
            # TensorFlow has no gradients of grouped convolutions on CPUs.
            one = dataclasses.replace(self, groups=1)
            parts, kernels = (ops.split(tensor, self.groups, axis=-1) for tensor in (x, weights[0]))
            results = zip(parts, kernels, strict=True)
            made = [one(part, (kernel,), training, hyper)[0] for part, kernel in results]
            return ops.concatenate(made, axis=-1), ()
        stride = _pair(self.stride)
        if _pair(self.kernel) == (1, 1) and stride == (1, 1) and training:
            # As a matrix product: its gradients are a third faster on CPUs than a convolution's.
            kernel = ops.reshape(weights[0], weights[0].shape[-2:])
            pixels = ops.reshape(x, (-1, kernel.shape[0]))
            shape = -1, *ops.shape(x)[1:-1], kernel.shape[1]
            return ops.reshape(ops.matmul(pixels, kernel), shape), ()
        if _pair(self.kernel) == (1, 1) and max(stride) > 1 and weights[0].shape[-1] < 8:
            # The same, but the gradient of TensorFlow 2.21's strided 1x1 convolution writes outside
            # its memory on CPUs if there are fewer than 8 filters.
            x, stride = x[:, :: stride[0], :: stride[1]], (1, 1)
        x = ops.conv(x, weights[0], stride, self.padding, dilation_rate=self.dilation)
        return x, ()

    def lower(self, build, x, weights, hyper):
        fields = _window(build.shape(x), self.kernel, self.stride, self.padding, self.dilation)
        return build.add("conv", x, kernel=weights[0], groups=self.groups, **fields)


@dataclass(frozen=True)
class Depthwise(Primitive):
    """Depthwise convolution (one kernel per channel), SAME padded, without bias.

    Args:
        kernel: Kernel size along both axes.
        stride: Stride along both axes. Default: 1.
        dilation: Dilation rate along both axes. A rate above 1 needs stride 1. Default: 1.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1

    def output_shape(self, shape, filters):
        return *_output_size(shape, self.kernel, self.stride, "same"), shape[2]

    def weights(self, channels, filters):
        return (Weight("depthwise_kernel", (self.kernel, self.kernel, channels, 1), "kernel"),)

    def mult_adds(self, shape, filters):
        return self.kernel**2 * shape[2] * _area(self.output_shape(shape, filters))

    def __call__(self, x, weights, training, hyper):
        x = ops.depthwise_conv(x, weights[0], self.stride, "same", dilation_rate=self.dilation)
        return x, ()

    def lower(self, build, x, weights, hyper):
        fields = _window(build.shape(x), self.kernel, self.stride, "same", self.dilation)
        return build.add("depthwise", x, kernel=weights[0][..., 0], **fields)


@dataclass(frozen=True)
class BatchNorm(Primitive):
    """Batch normalisation over all axes but channels, computed in float32."""

    def weights(self, channels, filters):
        roles = ("scale", "offset", "mean", "variance")
        return tuple(Weight(f"bn_{role}", (channels,), role) for role in roles)

    def __call__(self, x, weights, training, hyper):
        scale, offset, mean, variance = weights
        dtype = x.dtype
        x = ops.cast(x, keras.backend.result_type(dtype, "float32"))
        updates: tuple[Tensor, ...] = ()
        if training:
            x, batch_mean, batch_variance = normalise_batch(x, scale, offset, hyper.bn_epsilon)
            keep = hyper.bn_momentum
            updates = (
                mean * keep + batch_mean * (1 - keep),
                variance * keep + batch_variance * (1 - keep),
            )
        else:
            x = ops.batch_normalization(
                x, mean, variance, axis=-1, offset=offset, scale=scale, epsilon=hyper.bn_epsilon
            )
        return ops.cast(x, dtype), updates

    def lower(self, build, x, weights, hyper):
        factor, bias = inference_affine(*weights, hyper.bn_epsilon)
        return build.add("scale", x, name="norm", kernel=factor, bias=bias)


def normalise_batch(
    x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm by the statistics of the batch.

    The moving variance follows the unbiased one, as in TF-Slim's fused batch norm and in PyTorch. On a
    replica of a `tf.distribute` strategy the statistics are those of the whole batch.

    Args:
        x: float32 or float64 tensor (batch, height, width, channels).
        scale: (channels,).
        offset: (channels,).
        epsilon: Added to the variance.

    Returns:
        The output, and the mean and the unbiased variance of each channel.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    _, replicas = replica()
    if keras.backend.backend() == "tensorflow" and dtype == "float32" and replicas == 1:
        return _fused_batch_norm(x, scale, offset, epsilon)
    mean, variance = ops.moments(x, axes=(0, 1, 2))
    if replicas > 1:
        mean, variance = _moments_of_all(mean, variance)
    y = ops.batch_normalization(x, mean, variance, axis=-1, offset=offset, scale=scale, epsilon=epsilon)
    values = ops.cast(replicas * math.prod(ops.shape(x)[:3]), x.dtype)
    return y, mean, variance * (values / ops.maximum(values - 1, 1))


def replica() -> tuple[Any, int]:
    """Index and number of the replicas that compute a step together under `tf.distribute`, else (0, 1).

    Each computes an equal part of the batch, in order.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if context := tf.distribute.get_replica_context():
            return context.replica_id_in_sync_group, context.num_replicas_in_sync
    return 0, 1


def _moments_of_all(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the whole batch from those of the replicas' parts.

    The sum over replicas of tables in which each fills its row is the table of all moments. A mean of
    squares would do without the table, but loses the digits of a small variance around a large mean.
    """
    import tensorflow as tf

    row = tf.one_hot(*replica(), dtype=mean.dtype)
    table = row[:, None, None] * tf.stack([mean, variance])
    table = tf.distribute.get_replica_context().all_reduce("SUM", table)
    means, variances = tf.unstack(table, axis=1)
    mean = tf.reduce_mean(means, 0)
    return mean, tf.reduce_mean(variances + tf.square(means - mean), 0)


def _fused_batch_norm(
    x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """TensorFlow's kernel, which computes in float32.

    Keras has no such operation: its batch norm in training is some forty operations in the graph of a
    training step. The kernel is two, forward and backward.
    """
    import tensorflow as tf

    nothing = tf.constant([], tf.float32)
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=nothing, variance=nothing, epsilon=epsilon
    )
    return y, mean, variance


def inference_affine(
    scale: np.ndarray, offset: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Batch norm at inference as a factor and a bias, computed in float64.

    Raises:
        ValueError: If a variance is negative.
    """
    if (variance < 0).any():
        raise ValueError(f"Expected variances of at least 0. Received: {variance.min():g}")
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    return factor.astype(np.float32), (offset - mean * factor).astype(np.float32)


@dataclass(frozen=True)
class _SampleNorm(Primitive):
    """Normalises each image by its own statistics, in float32, then scales and shifts channels."""

    axes: ClassVar[tuple[int, ...]]
    epsilon: ClassVar[float] = 1e-6

    def weights(self, channels, filters):
        return tuple(Weight(f"norm_{role}", (channels,), role) for role in ("scale", "offset"))

    def __call__(self, x, weights, training, hyper):
        dtype = x.dtype
        x = ops.cast(x, keras.backend.result_type(dtype, "float32"))
        scale, offset = (ops.cast(weight, x.dtype) for weight in weights)
        mean, variance = ops.moments(x, axes=self.axes, keepdims=True)
        x = (x - mean) * ops.rsqrt(variance + self.epsilon) * scale + offset
        return ops.cast(x, dtype), ()

    def lower(self, build, x, weights, hyper):
        scale, offset = weights
        return build.add("norm", x, kernel=scale, bias=offset, axes=self.axes, epsilon=self.epsilon)


@dataclass(frozen=True)
class LayerNorm(_SampleNorm):
    """Layer norm over height, width and channels (TF 1's contrib default, as in the paper)."""

    axes = (1, 2, 3)


@dataclass(frozen=True)
class InstanceNorm(_SampleNorm):
    """Instance norm: over height and width, each channel by itself."""

    axes = (1, 2)


@dataclass(frozen=True)
class Pool(Primitive):
    """Max or average pooling.

    Args:
        kind: "max" or "avg".
        kernel: Window size: an int, or (height, width); odd if ``padding`` is "zero".
        stride: Stride: an int, or (height, width). Default: 1.
        padding: "same", where pixels outside the image do not count for the maximum or the mean;
            "valid", no padding; or "zero" (stride 1 or 2), the windows of "same" with zeros outside the
            image. `keras.applications.NASNet*` has "zero" in its reduction pools, although its weights
            were trained with "same". Default: "same".
    """

    kind: str
    kernel: int | Pair
    stride: int | Pair = 1
    padding: str = "same"

    def output_shape(self, shape, filters):
        padding = "valid" if self.padding == "valid" else "same"
        return *_output_size(shape, self.kernel, self.stride, padding), shape[2]

    def __call__(self, x, weights, training, hyper):
        padding = self.padding
        if (self.kind, padding) == ("avg", "same") and keras.backend.backend() == "torch":
            return self._average_inside(x), ()
        if padding == "zero":
            padding, (above, below, left, right) = "valid", self._zeros(*ops.shape(x)[1:3])
            x = ops.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
        pool = ops.max_pool if self.kind == "max" else ops.average_pool
        return pool(x, self.kernel, self.stride, padding), ()

    def _zeros(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The rows above and below and the columns left and right of zeros around an image."""
        halves = [n // 2 for n in _pair(self.kernel)]
        # SAME puts one pixel less before an even-sized axis when the stride is 2.
        axes = zip((height, width), halves, _pair(self.stride), strict=True)
        above, left = (half - (1 - n % 2) * (stride - 1) for n, half, stride in axes)
        return above, halves[0], left, halves[1]

    def lower(self, build, x, weights, hyper):
        kind, window = f"{self.kind}_pool", _pair(self.kernel)
        height, width, channels = build.shape(x)
        fields = _window((height, width, channels), self.kernel, self.stride, self.padding)
        if self.padding == "zero":
            pads = self._zeros(height, width)
            if self.kind == "avg":
                kernel = np.full((*window, channels), 1 / math.prod(window), np.float32)
                fields["pads"] = pads
                return build.add("depthwise", x, name="pool", kernel=kernel, **fields)
            x = build.add("pad", x, name="pool/pad", pads=pads)
        return build.add(kind, x, name="pool", window=window, **fields)

    def _average_inside(self, x: Tensor) -> Tensor:
        """SAME average pooling where Keras (3.15, PyTorch) counts the padding of even-sized axes."""
        above, below, left, right = same_pads(ops.shape(x)[1:3], _pair(self.kernel), _pair(self.stride))

        def mean(x: Tensor) -> Tensor:
            x = ops.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
            return ops.average_pool(x, self.kernel, self.stride, "valid")

        return mean(x) / mean(ops.ones_like(x[:1, :, :, :1]))


@dataclass(frozen=True)
class Shift(Primitive):
    """Moves the image by one pixel up and left, zeros entering at the bottom and right.

    The second path of a factorized reduction samples the pixels that the first one skips.
    """

    def __call__(self, x, weights, training, hyper):
        batch, height, width, channels = ops.shape(x)
        # Not x[:, 1:, 1:]: the gradient of TensorFlow's strided slice is slow.
        x = ops.slice(x, (0, 1, 1, 0), (batch, height - 1, width - 1, channels))
        return ops.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), ()

    def lower(self, build, x, weights, hyper):
        return build.add("pad", x, name="shift", pads=(-1, 1, -1, 1))


@dataclass(frozen=True)
class TakeChannels(Primitive):
    """Some of the channels, side by side.

    Args:
        start: The first of them.
        stop: The one after the last.
    """

    start: int
    stop: int

    def output_shape(self, shape, filters):
        return shape[0], shape[1], self.stop - self.start

    def __call__(self, x, weights, training, hyper):
        return x[..., self.start : self.stop], ()

    def lower(self, build, x, weights, hyper):
        others = -self.start, self.stop - build.shape(x)[2]
        return build.add("pad", x, name="channels", channels=others)


@dataclass(frozen=True)
class PadChannels(Primitive):
    """Zero channels after the others.

    Args:
        channels: Number of channels of the output, no fewer than the input has.
    """

    channels: int

    def output_shape(self, shape, filters):
        return shape[0], shape[1], self.channels

    def __call__(self, x, weights, training, hyper):
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.channels - x.shape[-1]))), ()

    def lower(self, build, x, weights, hyper):
        zeros = 0, self.channels - build.shape(x)[2]
        return build.add("pad", x, name="channels", channels=zeros)


@dataclass(frozen=True)
class SelectChannels(Primitive):
    """Channels by an index, which is a weight: in any order, any number of times.

    Args:
        channels: Number of channels of the output.
    """

    channels: int

    def output_shape(self, shape, filters):
        return shape[0], shape[1], self.channels

    def weights(self, channels, filters):
        return (Weight("index", (self.channels,), "index"),)

    def __call__(self, x, weights, training, hyper):
        index = ops.cast(weights[0], "int32")
        return ops.take(x, index, axis=-1), tuple(weights) if training else ()

    def lower(self, build, x, weights, hyper):
        return build.add("select", x, index=weights[0].astype(np.int32))


@dataclass(frozen=True)
class MaskChannels(Primitive):
    """Channels of which training finds the ones that are kept (`nasnet_zoo.training.Condensing`)."""

    def weights(self, channels, filters):
        return (Weight("mask", (channels,), "mask"),)

    def __call__(self, x, weights, training, hyper):
        return x * ops.cast(weights[0], x.dtype), tuple(weights) if training else ()

    def lower(self, build, x, weights, hyper):
        return build.add("scale", x, name="mask", kernel=weights[0], bias=0 * weights[0])


@dataclass(frozen=True)
class Shuffle(Primitive):
    """Channels in turn from each of several equal groups (ShuffleNet's channel shuffle).

    Args:
        groups: Number of groups. It divides the channels.
    """

    groups: int

    def order(self, channels: int) -> np.ndarray:
        """Return the index of the output."""
        return np.arange(channels).reshape(self.groups, -1).T.reshape(-1)

    def __call__(self, x, weights, training, hyper):
        shape = ops.shape(x)
        x = ops.reshape(x, (*shape[:-1], self.groups, shape[-1] // self.groups))
        return ops.reshape(ops.swapaxes(x, -1, -2), shape), ()

    def lower(self, build, x, weights, hyper):
        return build.add("select", x, name="shuffle", index=self.order(build.shape(x)[2]))


@dataclass(frozen=True)
class LearnedGroupConv(Primitive):
    """1x1 convolution whose groups find the channels that they read in training ([CN]).

    Filter o is of group o % groups. A mask says which channels a group reads: at first all; at the end
    one of ``condense``, when the convolution equals `SelectChannels`, a grouped `Conv` and `Shuffle`.

    Args:
        filters: Number of output channels.
        groups: Number of groups of filters. It divides the filters.
        condense: Of how many channels a group reads one at the end. It divides the channels.
    """

    filters: int
    groups: int
    condense: int

    def output_shape(self, shape, filters):
        return shape[0], shape[1], self.filters

    def weights(self, channels, filters):
        if channels % self.condense or self.filters % self.groups:
            raise ValueError(
                f"Expected channels that {self.condense} divides and filters that {self.groups} groups "
                f"divide. Received: {channels=}, filters={self.filters}"
            )
        return (
            Weight("kernel", (1, 1, channels, self.filters), "kernel"),
            Weight("mask", (channels, self.groups), "mask"),
        )

    def mult_adds(self, shape, filters):
        """Return the multiply-adds at the end."""
        return shape[2] // self.condense * self.filters * _area(shape)

    def __call__(self, x, weights, training, hyper):
        kernel, mask = weights
        mask = ops.tile(ops.cast(mask, kernel.dtype), (1, self.filters // self.groups))
        x, _ = Conv(1, filters=self.filters)(x, (kernel * mask,), training, hyper)
        return x, (weights[1],) if training else ()

    def group_lasso(self, kernel: Tensor, mask: Tensor) -> Tensor:
        """Return the sum over groups and the channels that they read of the norms of their weights.

        It is 0 at the end.
        """
        kernel = ops.reshape(kernel, (kernel.shape[2], -1, self.groups))
        squares = ops.sum(ops.square(kernel), axis=1) * mask
        norms = ops.sqrt(ops.maximum(squares, 1e-6))
        searches = ops.mean(mask) > 1.5 / self.condense
        return ops.sum(norms) * ops.cast(searches, norms.dtype)

    def masked(self, kernel: np.ndarray, mask: np.ndarray, dropped: int) -> np.ndarray:
        """Return the mask of which each group drops the channels of the least weights.

        Args:
            kernel: Kernel.
            mask: Mask so far.
            dropped: Number of channels that a group does not read, those dropped before included.
        """
        sums = np.abs(kernel).reshape(len(mask), -1, self.groups).sum(1) * mask
        least = np.argsort(sums, axis=0, kind="stable")[:dropped]
        mask = mask.copy()
        np.put_along_axis(mask, least, 0, axis=0)
        return mask

    def condensed(self, kernel: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the index and the kernel of an equal grouped convolution, None before the end."""
        channels, groups = mask.shape
        if (mask.sum(0) * self.condense != channels).any():
            return None
        indices = [np.flatnonzero(column) for column in mask.T]
        parts = [kernel[:, :, index, k::groups] for k, index in enumerate(indices)]
        return np.concatenate(indices).astype(np.int32), np.concatenate(parts, axis=-1)

    def lower(self, build, x, weights, hyper):
        if (found := self.condensed(*weights)) is None:
            whole = weights[0] * np.tile(weights[1], (1, self.filters // self.groups))
            return Conv(1, filters=self.filters).lower(build, x, (whole,), hyper)
        index, kernel = found
        x = build.add("select", x, index=index)
        x = Conv(1, filters=self.filters, groups=self.groups).lower(build, x, (kernel,), hyper)
        return Shuffle(self.groups).lower(build, x, (), hyper)


@dataclass(frozen=True)
class GlobalAveragePool(Primitive):
    """Mean over height and width, kept as a 1x1 image."""

    def output_shape(self, shape, filters):
        return 1, 1, shape[2]

    def __call__(self, x, weights, training, hyper):
        return ops.mean(x, axis=(1, 2), keepdims=True), ()

    def lower(self, build, x, weights, hyper):
        return build.add("avg_pool", x, name="pool", window=build.shape(x)[:2])


@dataclass(frozen=True)
class Dense(Primitive):
    """Dense layer with bias over the channels of every pixel.

    Args:
        units: Number of outputs.
    """

    units: int

    def output_shape(self, shape, filters):
        return shape[0], shape[1], self.units

    def weights(self, channels, filters):
        return Weight("kernel", (channels, self.units), "kernel"), Weight(
            "bias", (self.units,), "offset"
        )

    def mult_adds(self, shape, filters):
        return shape[2] * self.units * _area(shape)

    def __call__(self, x, weights, training, hyper):
        return ops.add(ops.matmul(x, weights[0]), weights[1]), ()

    def lower(self, build, x, weights, hyper):
        return build.add("dense", x, kernel=weights[0], bias=weights[1])


# === Merges of several states to one ===


class Merge:
    """How a node of a graph merges its inputs. Default: of states of one size."""

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the output for inputs of these shapes."""
        raise NotImplementedError

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        """Merge tensors (batch, height, width, channels)."""
        raise NotImplementedError

    def lower(self, build: GraphBuilder, values: Sequence[str]) -> str:
        """Compose the merge of nodes of the inference graph; see `Primitive.lower`."""
        raise NotImplementedError


class Add(Merge):
    """Element-wise sum of states of one shape."""

    def output_shape(self, shapes):
        return shapes[0]

    def __call__(self, tensors):
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        return total

    def lower(self, build, values):
        total = values[0]
        for value in values[1:]:
            total = build.add("add", total, value)
        return total


class Average(Add):
    """Mean of states of one shape."""

    def __call__(self, tensors):
        return super().__call__(tensors) / len(tensors)

    def lower(self, build, values):
        total = super().lower(build, values)
        share = np.full(build.shape(total)[2], 1 / len(values), np.float32)
        return build.add("scale", total, name="mean", kernel=share, bias=0 * share)


class Concat(Merge):
    """Concatenation, along channels, of states of one size."""

    def output_shape(self, shapes):
        return *shapes[0][:2], sum(shape[2] for shape in shapes)

    def __call__(self, tensors):
        return ops.concatenate(tensors, axis=-1)

    def lower(self, build, values):
        return build.add("concat", *values)


class PaddedConcat(Concat):
    """Concatenation along channels of states of any size, zero-padded at the bottom and right."""

    def output_shape(self, shapes):
        height, width = (None if None in sizes else max(sizes) for sizes in _sizes(shapes))
        return height, width, sum(shape[2] for shape in shapes)

    def __call__(self, tensors):
        shapes = [ops.shape(tensor) for tensor in tensors]
        height, width = (_largest(sizes) for sizes in _sizes([shape[1:] for shape in shapes]))
        padded = [
            ops.pad(x, ((0, 0), (0, height - shape[1]), (0, width - shape[2]), (0, 0)))
            for x, shape in zip(tensors, shapes, strict=True)
        ]
        return super().__call__(padded)

    def lower(self, build, values):
        shapes = [build.shape(value) for value in values]
        height, width = map(max, _sizes(shapes))
        padded = [
            value
            if shape[:2] == (height, width)
            else build.add("pad", value, pads=(0, height - shape[0], 0, width - shape[1]))
            for value, shape in zip(values, shapes, strict=True)
        ]
        return super().lower(build, padded)


def _sizes(shapes: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the heights and the widths of shapes that begin with them."""
    return [shape[0] for shape in shapes], [shape[1] for shape in shapes]


def _largest(sizes: Sequence[Any]) -> Any:
    """Return the greatest of sizes, of which some may be tensors."""
    if all(isinstance(size, int) for size in sizes):
        return max(sizes)
    return ops.max(ops.stack(sizes))


#: The merges by the names that nodes of graphs have.
MERGES: dict[str, Merge] = {
    "add": Add(),
    "average": Average(),
    "concat": Concat(),
    "padded_concat": PaddedConcat(),
}
