"""Copies the weights of a source, which names and lays them out its own way, into a model of ours.

Each kind of source is one file beside this one. It holds a table from our names to its names, which
a person can read, and opens a file as a `Source`; `copy_weights` does the rest for all of them.

Our names are ``<layer>/<node>-<position>-<weight>``, by the nodes of `nasnet_zoo.cells.graph`:
``Cell_3/block_0_left-1-depthwise_kernel``. In a table ``{cell}`` stands for any cell's layer,
``{block}`` and ``{side}`` for a block and its left or right operation, ``{size}`` for the kernel of
that operation (``5x5``), and ``{bn}`` for each of the four weights of a batch norm.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from nasnet_zoo.architecture import Place
from nasnet_zoo.cells import Cell
from nasnet_zoo.cells.layers import GraphLayer
from nasnet_zoo.network import AuxiliaryHead, places_of

Shape = tuple[int, ...]

#: Batch norm's weights as Keras and TF-Slim call them.
TENSORFLOW_BATCH_NORM = {
    "scale": "gamma",
    "offset": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
}

_BLOCK = re.compile(r"block_(\d+)_(left|right)")
_GRAPH_WEIGHT = re.compile(r"(?P<node>\w+)-(?P<position>\d+)-(?P<weight>\w+)")


@dataclass(frozen=True)
class Target:
    """A weight of a model of ours.

    Args:
        name: ``<layer>/<node>-<position>-<weight>``, or ``<layer>/<weight>``.
        variable: The weight itself.
        key: The name with placeholders, as in a table.
        fields: Values of the key's placeholders; ``bn`` is "scale", "offset", "mean" or "variance".
        index: Position among the weights of its layer.
        part: "network", "auxiliary" or "classifier" (the dense layers). The network must be
            loaded whole, other parts need not.
        place: Place of its cell in the network. Default: None, for weights outside cells.
    """

    name: str
    variable: keras.Variable
    key: str
    fields: Mapping[str, str]
    index: int
    part: str
    place: Place | None = None

    @property
    def layer(self) -> str:
        """The name of its layer."""
        return self.name.split("/")[0]


def targets(model: keras.Model) -> Iterator[Target]:
    """Yield every weight of a model, in the order of its layers.

    Counters of ScheduledDropPath are left out: they belong to a training run.

    Raises:
        ValueError: If the model is not of this package.
    """
    places = places_of(model)
    for layer in model.layers:
        for index, variable in enumerate(layer.weights):
            target = _target(layer, places.get(layer), index, variable)
            if target is not None:
                yield target


def _target(
    layer: keras.Layer, place: Place | None, index: int, variable: keras.Variable
) -> Target | None:
    name = f"{layer.name}/{variable.name}"
    if not isinstance(layer, GraphLayer):
        return Target(name, variable, name, {}, index, "classifier")
    match = _GRAPH_WEIGHT.fullmatch(variable.name)
    if match is None:
        return None
    node, weight = match["node"], match["weight"]
    fields: dict[str, str] = {}
    block = _BLOCK.fullmatch(node)
    if block and isinstance(layer, Cell):
        number, side = block.groups()
        operation = layer.cell.blocks[int(number)].operations[side == "right"]
        fields |= {"block": number, "side": side, "size": operation.rsplit("_", 1)[-1]}
        node = "block_{block}_{side}"
    if weight.startswith("bn_"):
        fields["bn"] = weight.removeprefix("bn_")
        weight = "bn_{bn}"
    prefix = "{cell}" if place else layer.name
    part = "network"
    if isinstance(layer, AuxiliaryHead):
        # Two axes or one are the dense layer's: convolutions have four, batch norm's are named.
        part = "classifier" if len(variable.shape) < 4 and "bn" not in fields else "auxiliary"
    key = f"{prefix}/{node}-{match['position']}-{weight}"
    return Target(name, variable, key, fields, index, part, place)


@dataclass(frozen=True)
class Source:
    """Weights to load from.

    Args:
        title: Kind and path of the source, for messages.
        shapes: Shape of every weight, in our layout, by the source's name.
        read: Function that returns a weight by its name, in our layout; it raises ValueError if the
            weight is no array of floating-point numbers.
        name_of: Function that returns the source's name for one of our weights; None if it can have
            none.
        heads: Beginnings of the names of classifiers and auxiliary heads, which a model may leave
            unused.
        has_background: Whether a classifier of 1001 outputs is ImageNet's 1000 classes after a
            background class. Default: False.
    """

    title: str
    shapes: Mapping[str, Shape]
    read: Callable[[str], np.ndarray]
    name_of: Callable[[Target], str | None]
    heads: tuple[str, ...]
    has_background: bool = False


def by_table(
    table: Mapping[str, str],
    batch_norm: Mapping[str, str],
    fields: Callable[[Target], Mapping[str, str]],
) -> Callable[[Target], str | None]:
    """Make a `Source.name_of` that looks up a table.

    Args:
        table: The source's names by our keys; both with placeholders.
        batch_norm: The source's words for "scale", "offset", "mean" and "variance".
        fields: Function that returns the values of placeholders which `Target.fields` lacks or which
            the source spells in another way.
    """

    def name_of(target: Target) -> str | None:
        theirs = table.get(target.key)
        if theirs is None:
            return None
        values = {**target.fields, **fields(target)}
        if "bn" in target.fields:
            values["bn"] = batch_norm[target.fields["bn"]]
        return theirs.format(**values)

    return name_of


@dataclass(frozen=True)
class Report:
    """What became of the weights of a source.

    Args:
        source: what and where it is.
        loaded: from our names to the source's, for every weight that was loaded.
        missing: from our names to the reason, for every weight that kept its initial value.
        unused: the source's names of weights that the model has no place for.
        unexpected: those of ``unused`` that are not of a classifier or an auxiliary head.
    """

    source: str
    loaded: Mapping[str, str]
    missing: Mapping[str, str]
    unused: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        """A short table: one line for each outcome and reason."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.missing.items():
            reasons.setdefault(reason, []).append(name)
        rows = [("loaded", len(self.loaded), f"from {self.source}")]
        rows += [("missing", len(names), f"{_some(names)}: {why}") for why, names in reasons.items()]
        if self.unused:
            rows.append(("unused", len(self.unused), _some(self.unused)))
        return "\n".join(f"{outcome:<10}{count:>6}  {what}" for outcome, count, what in rows)

    def warn(self, stacklevel: int = 2) -> None:
        """Warn if part of the model was not loaded, or the source had more than heads to spare."""
        if self.missing or self.unexpected:
            warnings.warn(f"Not all weights were used:\n{self}", stacklevel=stacklevel + 1)


def _some(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def copy_weights(model: keras.Model, source: Source, background: str = "drop") -> Report:
    """Copy everything that fits, or nothing at all if the network does not fit.

    Args:
        model: Model of this package. Names, shapes and values are checked before the first of its
            weights changes.
        source: Weights to copy.
        background: "drop" leaves out class 0 of a 1001-class classifier whose class 0 is the
            background; "keep" takes all 1001.

    Raises:
        ValueError: If the source lacks a weight of the network or has it in another shape, or if a
            weight is not finite or a variance is negative.
    """
    fits: list[tuple[Target, str, bool]] = []
    missing: dict[str, str] = {}
    absent, unlike = [], []
    for target in targets(model):
        name, wanted = source.name_of(target), tuple(target.variable.shape)
        if name is None or name not in source.shapes:
            missing[target.name] = "not in the source"
            if target.part == "network":
                absent.append(f"{name or 'nothing'} for {target.name}")
            continue
        shape = source.shapes[name]
        cut = (
            background == "drop"
            and source.has_background
            and target.part == "classifier"
            and shape[-1] == 1001
        )
        offered = (*shape[:-1], 1000) if cut else shape
        if offered == wanted:
            fits.append((target, name, cut))
        elif target.part == "network":
            unlike.append(f"{name} of shape {shape} for {target.name} of shape {wanted}")
        elif target.part == "classifier" and offered[:-1] == wanted[:-1]:
            missing[target.name] = f"{offered[-1]} classes in the source, {wanted[-1]} in the model"
        else:
            missing[target.name] = f"shape {offered} in the source, {wanted} in the model"
    if unlike or absent:
        found = [f"other shapes: {_some(unlike)}"] if unlike else []
        found += [f"missing weights: {_some(absent)}"] if absent else []
        raise ValueError(
            f"Expected the weights of model {model.name!r} in {source.title}. "
            f"Received: {'; '.join(found)}"
        )
    values = [_read(source, name, target) for target, name, _ in fits]
    for (target, _, cut), value in zip(fits, values, strict=True):
        target.variable.assign(value[..., 1:] if cut else value)
    loaded = {target.name: name for target, name, _ in fits}
    unused = tuple(sorted(set(source.shapes) - set(loaded.values())))
    unexpected = tuple(name for name in unused if not name.startswith(source.heads))
    return Report(source.title, loaded, missing, unused, unexpected)


def _read(source: Source, name: str, target: Target) -> np.ndarray:
    """Read a weight in the precision of the model.

    Raises:
        ValueError: If it is not finite, or is a negative variance.
    """
    value = source.read(name)
    with np.errstate(over="ignore"):
        value = value.astype(target.variable.dtype)
    received = None
    if not np.isfinite(value).all():
        received = "NaN" if np.isnan(value).any() else "infinity"
        received = f"{received} in {name}"
    elif target.fields.get("bn") == "variance" and (value < 0).any():
        received = f"the variance {value.min()} in {name}"
    if received:
        raise ValueError(
            f"Expected finite weights, and variances of at least 0, in {source.title}. "
            f"Received: {received}"
        )
    return value
