"""Path-level transformations ([P] section 3.1): one path becomes several, the same function."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import keras
import numpy as np
from annotated_types import Ge
from keras import layers

from nasnet_zoo.cells.layers import SequenceLayer
from nasnet_zoo.cells.operations import Primitives
from nasnet_zoo.cells.primitives import TakeChannels
from nasnet_zoo.checking import checked

from .calls import Call, Calls, Copy, in_order, weights_of
from .channels import WRITES, Index, outputs_of, read, write

Branches = Annotated[int, Ge(2)]


@checked
def replicate_add(
    model: keras.Model, layer: str | Sequence[str], branches: Branches = 2
) -> keras.Model:
    """Replace a layer by parallel copies of it, whose outputs are averaged.

    Args:
        model: Functional or sequential model.
        layer: Name of any layer of one input, or the names of several in a row, which become branches
            together.
        branches: Number of copies. Default: 2.

    Returns:
        A new model that computes the same. The copies of ``conv`` are named ``conv_branch_1``.. .

    Raises:
        ValueError: If there are no such layers.

    Example::

        model = replicate_add(model, ["norm_2", "relu_2", "conv_2"])
    """
    calls = Calls(model)
    row = _row(calls, layer)
    copies = [_branch(calls, row, k, None, None) for k in range(branches)]
    return _replaced(calls, row, copies, layers.Average)


@checked
def replicate_concat(
    model: keras.Model, layer: str | Sequence[str], branches: Branches = 2
) -> keras.Model:
    """Replace a layer by parallel ones, each with a part of its outputs, which are concatenated.

    Args:
        model: Functional or sequential model.
        layer: Name of a layer of class Conv2D without groups, SeparableConv2D or Dense, or the names of
            several in a row, one of them such a layer and the others batch norm, activations and the
            like.
        branches: Number of branches, whose shares of the outputs differ by one at most. Default: 2.

    Returns:
        A new model that computes the same.

    Raises:
        ValueError: If there are no such layers, or fewer outputs than branches.
    """
    calls = Calls(model)
    row = _row(calls, layer)
    mixing = _mixing(row)
    if mixing is None or _groups(mixing) > 1:
        raise ValueError(
            "Expected a Conv2D without groups, a SeparableConv2D or a Dense, with others around it or "
            f"not. Received: {_names(row)}"
        )
    parts = _parts(row, outputs_of(mixing.layer), branches)
    copies = [_branch(calls, row, k, None, part) for k, part in enumerate(parts)]
    return _replaced(calls, row, copies, layers.Concatenate)


@checked
def split_concat(model: keras.Model, layer: str | Sequence[str], branches: Branches = 2) -> keras.Model:
    """Replace a layer by parallel ones, each for a part of its channels, which are concatenated.

    Args:
        model: Functional or sequential model.
        layer: Name of an Identity, a pooling or another layer that treats its channels apart, or of a
            Conv2D with groups; or the names of several such layers in a row, one Conv2D among them at
            most.
        branches: Number of branches, whose shares of the channels differ by one at most. It divides the
            groups of a convolution. Default: 2.

    Returns:
        A new model that computes the same.

    Raises:
        ValueError: If there are no such layers, their input is no image, or the channels or groups
            cannot be split.
    """
    calls = Calls(model)
    row = _row(calls, layer)
    mixing = _mixing(row)
    if mixing is not None and _groups(mixing) % branches:
        raise ValueError(
            f"Expected branches that divide the {_groups(mixing)} groups of {mixing.layer.name!r}. "
            f"Received: branches={branches}"
        )
    parts = _parts(row, row[0].inputs[0].shape[-1], branches)
    made = _parts(row, outputs_of(mixing.layer), branches) if mixing else parts
    copies: list[list[Callable[[Any], Any]]] = []
    for k, (part, written) in enumerate(zip(parts, made, strict=True)):
        name = calls.new_name(f"{row[0].layer.name}_split_{k + 1}")
        take = ChannelSlice(int(part[0]), int(part[-1]) + 1, name=name)
        copies.append([take, *_branch(calls, row, k, part, written)])
    return _replaced(calls, row, copies, layers.Concatenate)


def _row(calls: Calls, layer: str | Sequence[str]) -> list[Call]:
    """The calls of layers that stand in a row.

    Raises:
        ValueError: If there are no such layers, one of them is no row, or the first has several inputs.
    """
    names = [layer] if isinstance(layer, str) else list(layer)
    row = [calls.find(name) for name in names]
    follow = all(calls.next(before) is after for before, after in itertools.pairwise(row))
    plain = all(len(call.inputs) == len(call.outputs) == 1 and not call.options for call in row)
    if not row or not follow or not plain:
        raise ValueError(
            "Expected layers of one input and nothing else, each of them alone behind the one before. "
            f"Received: {', '.join(map(repr, names)) or 'none'}"
        )
    return row


def _mixing(row: Sequence[Call]) -> Call | None:
    """The layer of a row, if there is one, that mixes its channels.

    Raises:
        ValueError: If there are several.
    """
    mixing = [call for call in row if type(call.layer) in WRITES]
    if len(mixing) > 1:
        raise ValueError(f"Expected at most one layer that mixes channels. Received: {_names(mixing)}")
    return mixing[0] if mixing else None


def _names(row: Sequence[Call]) -> str:
    return ", ".join(f"{call.layer.name!r} of class {type(call.layer).__name__}" for call in row)


def _groups(call: Call) -> int:
    return getattr(call.layer, "groups", 1)


def _parts(row: Sequence[Call], channels: int, branches: int) -> list[Index]:
    """The channels of each branch, in order."""
    if channels < branches:
        raise ValueError(
            f"Expected at most as many branches as channels, {channels} of {_names(row)}. "
            f"Received: branches={branches}"
        )
    return np.array_split(np.arange(channels), branches)


def _branch(
    calls: Calls, row: Sequence[Call], number: int, index: Index | None, written: Index | None
) -> list[Callable[[Any], Any]]:
    """Copy a row of layers for one branch.

    Args:
        calls: The calls of the model.
        row: The layers.
        number: Number of the branch, from 0.
        index: Channels that the branch reads; None for all.
        written: Channels that the layer which mixes channels writes; None for all.
    """
    copies: list[Callable[[Any], Any]] = []
    for call in row:
        layer, weights = call.layer, None
        config: dict[str, int] = {}
        if type(layer) in WRITES and written is not None:
            weights, config = write(call, weights_of(layer), written)
            if index is not None:
                config["groups"] = layer.groups * len(index) // call.inputs[0].shape[-1]
            index = written
        elif index is not None:
            if type(layer) is layers.Flatten:
                raise ValueError(
                    f"Expected layers that keep their channels apart. Received: {_names([call])}"
                )
            weights, index = read(call, weights_of(layer), index)
        name = calls.new_name(f"{layer.name}_branch_{number + 1}")
        copies.append(Copy(layer, weights, name=name, **config))
    return copies


def _replaced(
    calls: Calls,
    row: Sequence[Call],
    branches: Sequence[Sequence[Callable[[Any], Any]]],
    merge: Callable[..., Callable[[Any], Any]],
) -> keras.Model:
    """The model with branches, and the layer that merges them, in the place of a row of layers."""
    *firsts, last = (call.layer.name for call in row)
    join = merge(name=calls.new_name(f"{last}_{merge.__name__.lower()}"))
    # Keras passes options on that are None, such as a batch norm's mask.
    replacements: dict[str, Callable[..., Any]] = dict.fromkeys(firsts, lambda x, **none: x)
    replacements[last] = lambda x, **none: join([in_order(branch, x) for branch in branches])
    return calls.rebuilt(replacements)


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class ChannelSlice(SequenceLayer):
    """Some of the channels of images, side by side.

    Args:
        start: The first of them.
        stop: The one after the last.
        **kwargs: Arguments of `nasnet_zoo.cells.GraphLayer`.
    """

    def __init__(self, start: int, stop: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start, self.stop = start, stop

    def primitives(self) -> Primitives:
        """Return the slice."""
        return (TakeChannels(self.start, self.stop),)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "start": self.start, "stop": self.stop}
