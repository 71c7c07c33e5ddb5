"""Net2DeeperNet ([NET]): more layers, the same function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from nasnet_zoo.cells import BlockLayer
from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, checked

from .blocks import deeper_block
from .calls import Call, Calls, Copy, in_order
from .channels import Noise, activation_of, check_layout
from .identities import IDENTITIES, Pair, Ranges, identity_layer, identity_norm, measure

_ACTIVATIONS = (
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU, layers.Softmax),
)


@checked
def net2deeper(
    model: keras.Model,
    layer: str,
    *,
    kernel_size: PositiveInt | None = None,
    images: Any = None,
    noise: NonNegativeFloat = 0.0,
    seed: Seed | None = None,
) -> keras.Model:
    """Insert a layer that computes the identity behind a layer of a model.

    The new layer is of the same class and has as many channels. If batch norm or an activation follow
    ``layer``, copies of them follow the new one, and all stand behind those; the activation must change
    nothing when it is applied again, as ReLU does. If a ReLU comes before ``layer`` instead, so it does
    before the new one, which is then exact for values that are not below those of ``images``: batch
    norm lifts these above 0, and the new layer's bias takes them back.

    Args:
        model: Functional or sequential model.
        layer: Name of a layer of class Conv2D, SeparableConv2D, DepthwiseConv2D or Dense, or of a
            convolution or dense layer of a plain network of this package (`nasnet_zoo.ChainNet`).
        kernel_size: Height and width of the new kernel; unused for Dense. Default: those of ``layer``.
        images: Sample images, whose statistics a new batch norm has, so that the model computes nearly
            the same in training too. Needed where ReLU comes before ``layer``. Default: none, with
            which a new batch norm starts with mean 0 and variance 1.
        noise: Standard deviation of the noise on the new kernels, as a share of the kernels'. [E] has
            1e-3, [P] 6e-3. Default: 0, the same function.
        seed: Seed of the noise. Default: another one at each call.

    Returns:
        A new model. ``model`` is not changed.

    Raises:
        ValueError: If there is no such layer, or no such layer can compute the identity there.

    Example::

        deeper = net2deeper(model, "conv_2", kernel_size=3)
    """
    calls, generator = Calls(model), np.random.default_rng(seed)
    call = calls.find(layer)
    if isinstance(call.layer, BlockLayer):
        return deeper_block(calls, call, kernel_size, images, Noise(noise, generator))
    block = _block(calls, call)
    _check(block)
    behind = block.call if block.preactivation else block.activation or block.norm or block.call
    read = calls.find(behind.layer.name).outputs[0]
    if block.preactivation and images is None:
        raise ValueError(
            f"Expected images, on which what {layer!r} makes is measured, since a ReLU comes before it "
            "and would cut off what is below 0. Received: none"
        )
    measured = images is not None and (block.norm or block.preactivation)
    ranges = measure(calls, read, images) if measured else None
    size = None if kernel_size is None else (kernel_size, kernel_size)
    parts = _identities(calls, block, ranges, size, Noise(noise, generator))
    kept = Copy(behind.layer)
    return calls.rebuilt(
        {behind.layer.name: lambda *args, **kwargs: in_order(parts, kept(*args, **kwargs))}
    )


@dataclass(frozen=True)
class _Block:
    """A layer, and the batch norm and the activation that belong to it.

    Args:
        call: The layer.
        norm: The batch norm, if there is one.
        activation: The activation, if it is a layer of its own.
        preactivation: Whether they come before the layer.
    """

    call: Call
    norm: Call | None = None
    activation: Call | None = None
    preactivation: bool = False


def _block(calls: Calls, call: Call) -> _Block:
    """Find the batch norm and the activation of a layer: those that follow it, else those before it."""
    if activation_of(call.layer) != "linear":
        return _Block(call)
    norm, after = None, calls.next(call)
    if after and type(after.layer) is layers.BatchNormalization:
        norm, after = after, calls.next(after)
    if after and isinstance(after.layer, _ACTIVATIONS):
        return _Block(call, norm, after)
    before = calls.maker(call.inputs[0])
    if norm or not isinstance(before.layer, _ACTIVATIONS):
        return _Block(call, norm)
    above = calls.maker(before.inputs[0])
    is_norm = type(above.layer) is layers.BatchNormalization
    return _Block(call, above if is_norm else None, before, preactivation=True)


def _check(block: _Block) -> None:
    """Check that the parts of a block have identities.

    Raises:
        ValueError: If they do not.
    """
    layer = block.call.layer
    if type(layer) not in IDENTITIES:
        kinds = ", ".join(kind.__name__ for kind in IDENTITIES)
        raise ValueError(
            f"Expected a layer of class {kinds}. Received: {layer.name!r} of class "
            f"{type(layer).__name__}"
        )
    for call in filter(None, (block.call, block.norm)):
        check_layout(call)
    activated = block.activation.layer if block.activation else layer
    unchanging = ("relu",) if block.preactivation else ("linear", "relu", "relu6")
    if _activation(activated) not in unchanging:
        raise ValueError(
            "Expected an activation that changes nothing when it is applied again, such as relu. "
            f"Received: {_activation(activated)} of {activated.name!r}"
        )


def _activation(layer: Any) -> str:
    """The name of an activation, which is a layer of its own or part of one."""
    if isinstance(layer, layers.ReLU):
        leaky = layer.negative_slope or layer.threshold
        return "a leaky relu" if leaky else "relu" if layer.max_value is None else "relu6"
    own = isinstance(layer, _ACTIVATIONS) and not isinstance(layer, layers.Activation)
    return type(layer).__name__ if own else activation_of(layer)


def _identities(
    calls: Calls,
    block: _Block,
    ranges: Ranges | None,
    size: Pair | None,
    noise: Noise,
) -> list[Copy]:
    """The parts of a block again, so that together they compute the identity."""

    def name(part: str) -> str:
        return calls.new_name(f"{part}_deeper")

    layer, channels = block.call.layer, block.call.outputs[0].shape[-1]
    pair: Pair = getattr(layer, "kernel_size", (1, 1)) if size is None else size
    shift = ranges.shift if ranges and block.preactivation else None
    parts = [identity_layer(layer, channels, name(layer.name), pair, shift, noise)]
    if block.norm or block.preactivation:
        norm = block.norm.layer if block.norm else layers.BatchNormalization(name=f"{layer.name}_norm")
        copy = identity_norm(norm, channels, name(norm.name), ranges, shift)
        parts.insert(0 if block.preactivation else 1, copy)
    if block.activation:
        activation = Copy(block.activation.layer, name=name(block.activation.layer.name))
        parts.insert(1 if block.preactivation else len(parts), activation)
    return parts
