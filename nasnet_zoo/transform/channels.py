"""What becomes of a layer when the channels around it are copied, dropped or moved.

An index says it: channel ``j`` of the new tensor is channel ``index[j]`` of the old one. Each class of
layers has a rule here; a transformation that meets a layer without one refuses the model.

- `READS`: layers whose input has an index. They take it up in their weights, or pass it on.
- `WRITES`: layers that can make their outputs by an index.
- `MERGES`: layers of several inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from nasnet_zoo import classifier

from .calls import Call, Weights

Index = np.ndarray
#: From a call, the layer's weights and the index of its input to its new weights and the index of its
#: output, None if its output stays as it is.
Rule = Callable[[Call, Weights, Index], tuple[Weights, Index | None]]

#: Activations that treat every value by itself.
_ELEMENTWISE = (
    *("celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh"),
    *("leaky_relu", "linear", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu"),
    *("soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "squareplus", "tanh"),
    *("tanh_shrink", "threshold"),
)


def activation_of(layer: Any) -> str:
    """Return the name of the activation that is part of a layer."""
    function = getattr(layer, "activation", None)
    return "linear" if function is None else getattr(function, "__name__", str(function))


def refusal(layer: Any, why: str = "") -> ValueError:
    """Return the error of a layer without a rule, or to which its rule does not apply."""
    kind = f"{'' if isinstance(layer, keras.Layer) else 'keras.ops.'}{type(layer).__name__}"
    return ValueError(
        f"Expected layers whose channels can be copied. Received: {layer.name!r} of class {kind}{why}"
    )


def check_layout(call: Call) -> None:
    """Check that a layer has its channels last, and its weights as they are here.

    Raises:
        ValueError: If it does not.
    """
    layer, last = call.layer, len(call.inputs[0].shape) - 1
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    if first or getattr(layer, "axis", -1) not in (-1, last):
        raise refusal(layer, ", whose channels are not its last axis")
    if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        raise refusal(layer, ", quantized or with LoRA")


def _check_elementwise(layer: Any) -> None:
    """Check that a layer treats each of its outputs by itself.

    Raises:
        ValueError: If it does not.
    """
    if activation_of(layer) not in _ELEMENTWISE:
        raise refusal(layer, f", with the activation {activation_of(layer)}")


# === Layers that read ===


def read_convolution(call: Call, weights: Weights, index: Index) -> tuple[Weights, None]:
    """The rule of a convolution, whose kernel is (.., inputs of a group, filters), or a dense layer."""
    groups, kernel = getattr(call.layer, "groups", 1), weights["kernel"]
    parts = by_group(call.layer, index, kernel.shape[-2] * groups)
    kernels = np.split(kernel, groups, axis=-1)
    kernel = np.concatenate([_rows(k, part) for k, part in zip(kernels, parts, strict=True)], axis=-1)
    return {**weights, "kernel": kernel}, None


def _separable(call: Call, weights: Weights, index: Index) -> tuple[Weights, None]:
    depthwise, multiplier = weights["depthwise_kernel"], call.layer.depth_multiplier
    rows = _rows(weights["pointwise_kernel"], _repeated(index, multiplier))
    return {**weights, "depthwise_kernel": depthwise[..., index, :], "pointwise_kernel": rows}, None


def _rows(kernel: np.ndarray, index: Index) -> np.ndarray:
    """The rows of an index, which share what one row did ([NET])."""
    shares = 1 / np.bincount(index)[index]
    return (kernel[..., index, :] * shares[:, None]).astype(kernel.dtype)


def by_group(layer: Any, index: Index, channels: int) -> list[Index]:
    """Return the index within each group of a grouped convolution's channels.

    Raises:
        ValueError: If a group would have channels of another one.
    """
    groups = getattr(layer, "groups", 1)
    if not groups_apart(index, channels, groups):
        raise refusal(layer, f", whose {groups} groups would read channels of each other")
    size = channels // groups
    return [part - k * size for k, part in enumerate(np.array_split(index, groups))]


def groups_apart(index: Index, channels: int, groups: int) -> bool:
    """Whether equal groups of channels become equal groups of copies of their own."""
    parts = np.split(index, groups) if len(index) % groups == 0 else []
    return bool(parts) and all(
        (part // (channels // groups) == k).all() for k, part in enumerate(parts)
    )


def _depthwise(call: Call, weights: Weights, index: Index) -> tuple[Weights, Index]:
    made = _repeated(index, call.layer.depth_multiplier)
    changed = {"kernel": weights["kernel"][..., index, :]}
    if call.layer.use_bias:
        changed["bias"] = weights["bias"][made]
    return {**weights, **changed}, made


def _repeated(index: Index, times: int) -> Index:
    """The index of channels each of which became several."""
    return (index[:, None] * times + np.arange(times)).reshape(-1)


def read_per_channel(call: Call, weights: Weights, index: Index) -> tuple[Weights, Index]:
    """The rule of a layer all of whose weights have a value for each channel."""
    return {name: weight[..., index] for name, weight in weights.items()}, index


def keep(call: Call, weights: Weights, index: Index) -> tuple[Weights, Index]:
    """The rule of a layer without weights."""
    return weights, index


def _flatten(call: Call, weights: Weights, index: Index) -> tuple[Weights, Index]:
    """The index repeated for every pixel."""
    channels = call.inputs[0].shape[-1]
    pixels = call.outputs[0].shape[-1] // channels
    return weights, (np.arange(pixels)[:, None] * channels + index).reshape(-1)


#: Layers without weights that keep their channels, and treat each by itself.
_PASSING = (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Identity),
    *(layers.MaxPooling2D, layers.AveragePooling2D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.UpSampling2D),
    *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianDropout, layers.GaussianNoise),
)
_PER_CHANNEL = (layers.BatchNormalization, layers.PReLU)

READS: dict[type, Rule] = {
    layers.Conv2D: read_convolution,
    layers.Dense: read_convolution,
    classifier.Dense: read_convolution,
    layers.SeparableConv2D: _separable,
    layers.DepthwiseConv2D: _depthwise,
    layers.Flatten: _flatten,
    **dict.fromkeys(_PER_CHANNEL, read_per_channel),
    **dict.fromkeys(_PASSING, keep),
}


def read(call: Call, weights: Weights, index: Index) -> tuple[Weights, Index | None]:
    """Return a layer's weights, and the index of its output, for an input with an index.

    Raises:
        ValueError: If there is no rule for such a layer.
    """
    rule = READS.get(type(call.layer))
    if rule is None:
        raise refusal(call.layer)
    check_layout(call)
    weights, made = rule(call, weights, index)
    if made is not None:
        _check_elementwise(call.layer)
    return weights, made


def keeps_channels(layer: Any) -> bool:
    """Whether a layer's output has the index of its input."""
    multiplier = getattr(layer, "depth_multiplier", 1)
    rule = READS.get(type(layer))
    return rule in (read_per_channel, keep) or (rule is _depthwise and multiplier == 1)


# === Layers that write ===


@dataclass(frozen=True)
class Noise:
    """Normal noise on kernels.

    Args:
        ratio: Its standard deviation, as a share of the kernel's.
        generator: Random number generator.
    """

    ratio: float
    generator: np.random.Generator

    def on(self, kernel: np.ndarray) -> np.ndarray:
        """Return a kernel with noise."""
        return kernel + self.generator.normal(0, self.ratio * kernel.std(), kernel.shape)

    def on_copies(self, kernel: np.ndarray, index: Index) -> np.ndarray:
        """Return a kernel whose filters have an index, with noise on those that are copies."""
        _, first = np.unique(index, return_index=True)
        noisy = self.on(kernel)
        noisy[..., first] = kernel[..., first]
        return noisy


#: The argument that numbers the outputs, and the weights whose last axis they are, the kernel first.
WRITES: dict[type, tuple[str, tuple[str, ...]]] = {
    layers.Conv2D: ("filters", ("kernel", "bias")),
    layers.Dense: ("units", ("kernel", "bias")),
    layers.SeparableConv2D: ("filters", ("pointwise_kernel", "bias")),
}


def outputs_of(layer: Any) -> int:
    """Return the number of channels that a layer writes.

    Raises:
        ValueError: If it has no such number.
    """
    if type(layer) not in WRITES:
        kinds = ", ".join(kind.__name__ for kind in WRITES)
        raise ValueError(
            f"Expected a layer of class {kinds}. Received: {layer.name!r} of class "
            f"{type(layer).__name__}"
        )
    return getattr(layer, WRITES[type(layer)][0])


def write(
    call: Call, weights: Weights, index: Index, noise: Noise | None = None
) -> tuple[Weights, dict[str, int]]:
    """Return a layer's weights and other arguments for outputs of an index.

    Args:
        call: Call of the layer.
        weights: Its weights.
        index: The index.
        noise: Noise on the copies. Default: none.

    Raises:
        ValueError: If its outputs depend on each other.
    """
    check_layout(call)
    _check_elementwise(call.layer)
    argument, names = WRITES[type(call.layer)]
    changed = {name: weights[name][..., index] for name in names if name in weights}
    if noise:
        changed[names[0]] = noise.on_copies(changed[names[0]], index)
    return {**weights, **changed}, {argument: len(index)}


# === Layers of several inputs ===


def _alike(call: Call, indices: Sequence[Index | None]) -> Index:
    """The index that the inputs have; those without one are of a single channel."""
    known = [index for index in indices if index is not None]
    if any(not np.array_equal(known[0], index) for index in known[1:]):
        raise refusal(call.layer, ", whose inputs were copied in different ways")
    return known[0]


def _concatenated(call: Call, indices: Sequence[Index | None]) -> Index:
    check_layout(call)
    return joined(indices, [tensor.shape[-1] for tensor in call.inputs])


def joined(indices: Sequence[Index | None], channels: Sequence[int]) -> Index:
    """Return the index of a concatenation of tensors with indices, and so many channels before."""
    starts = np.cumsum([0, *channels[:-1]])
    parts = [np.arange(n) if k is None else k for k, n in zip(indices, channels, strict=True)]
    return np.concatenate([start + part for start, part in zip(starts, parts, strict=True)])


ELEMENTWISE_MERGES = (
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum),
)
#: From a call and the indices of its inputs to the index of its output.
MERGES: dict[type, Callable[[Call, Sequence[Index | None]], Index]] = {
    **dict.fromkeys(ELEMENTWISE_MERGES, _alike),
    layers.Concatenate: _concatenated,
}


def draw_copies(channels: int, units: int, blocks: int, generator: np.random.Generator) -> Index:
    """Draw an index: in each block all its channels, then copies of random ones.

    Args:
        channels: Number of channels.
        units: Number of channels with the copies.
        blocks: Number of equal parts that share no channels.
        generator: Random number generator.
    """
    size, wider = channels // blocks, units // blocks
    return np.concatenate(
        [
            k * size + np.append(np.arange(size), generator.integers(size, size=wider - size))
            for k in range(blocks)
        ]
    )
