"""Networks that are chains of layers, as plain data ([E]): plain convolutional networks and DenseNets.

Both are written as tokens, such as ``conv-16-3_pool_conv-32-3_pool_fc-256`` and ``g12_g12_t_g12``.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from .base_blocks import (
    BaseBlock,
    ConvBlock,
    ConvStem,
    DenseLayer,
    GlobalPool,
    MaxPool,
    NormRelu,
    Transition,
)
from .serialization import JsonData, check_keys, expect, expect_name, is_int
from .treecells import CONV_3X3

# Maximum number of layers, of units, and of pixels along a side of a kernel.
_LAYERS, _UNITS, _KERNEL = 1000, 100_000, 99
_TOKEN = re.compile(r"conv-\d{1,9}-\d{1,9}|fc-\d{1,9}|g\d{1,9}|pool|t")

# Of a DenseNet ([E]): channels of the stem as a multiple of the mean growth, and the share of channels
# that a transition keeps.
_FIRST_RATIO, _REDUCTION = 2, 0.5


@dataclass(frozen=True)
class ChainLayer:
    """A layer of a chain.

    Args:
        kind: "conv", "fc" or "pool" in a plain network, "g", a miniblock, or "t", a transition, in a
            DenseNet.
        units: Filters of a convolution, units of a fully connected layer, channels that a miniblock
            adds. 0 of the others. Default: 0.
        kernel: Height and width of a convolution's kernel, 0 of the others. Default: 0.

    Raises:
        ValueError: If a value is out of range.
    """

    kind: str
    units: int = 0
    kernel: int = 0

    def __post_init__(self) -> None:
        kinds = ("conv", "fc", "pool", "g", "t")
        expect(self.kind in kinds, "layer.kind", f"one of {', '.join(kinds)}", self.kind)
        most = {"units": 0 if self.parts else _UNITS, "kernel": _KERNEL if self.kind == "conv" else 0}
        for name, limit in most.items():
            value, least = getattr(self, name), min(limit, 1)
            expected = f"an int from 1 to {limit}" if limit else f"0 of a {self.kind}"
            inside = is_int(value) and least <= value <= limit
            expect(inside, f"layer.{name}", expected, value)

    @property
    def parts(self) -> bool:
        """Whether it parts two blocks of layers: a pooling or a transition."""
        return self.kind in ("pool", "t")

    def __str__(self) -> str:
        numbers = [str(number) for number in (self.units, self.kernel) if number]
        return "".join([self.kind, *numbers]) if self.kind == "g" else "-".join([self.kind, *numbers])

    @classmethod
    def parse(cls, token: str, place: str = "layer") -> ChainLayer:
        """Read the text of a layer.

        Raises:
            ValueError: If it is none. The message names the place.
        """
        expect(bool(_TOKEN.fullmatch(token)), place, "conv-F-K, pool, fc-U, gK or t", token)
        kind, *numbers = re.findall(r"[a-z]+|\d+", token)
        try:
            return cls(kind, *map(int, numbers))
        except ValueError as error:
            raise ValueError(place + str(error).removeprefix("layer")) from None


@dataclass(frozen=True)
class ChainGenotype(JsonData):
    """Base class of networks that are chains of layers, parted into blocks by poolings or transitions.

    Args:
        name: Name of the genotype.
        layers: From 1 to 1,000 layers.

    Raises:
        ValueError: If the layers are not those of such a network. The message names the place.
    """

    name: str
    layers: tuple[ChainLayer, ...]

    #: Kinds of layers, and what is said of them.
    kinds: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        expect_name(self.name)
        some = isinstance(self.layers, (tuple, list)) and 1 <= len(self.layers) <= _LAYERS
        expect(some, "layers", f"from 1 to {_LAYERS:,} layers", self.layers)
        object.__setattr__(self, "layers", tuple(self.layers))
        for k, layer in enumerate(self.layers):
            expect(isinstance(layer, ChainLayer), f"layers[{k}]", "a ChainLayer", layer)
        before = None
        for k, kind in enumerate([*(layer.kind for layer in self.layers), None]):
            allowed = self.after(before, k)
            words = " or ".join("the end" if kind is None else kind for kind in allowed)
            expect(kind in allowed, f"layers[{k}]", words, kind or "the end")
            before = kind

    def after(self, before: str | None, number: int) -> tuple[str | None, ...]:
        """Return the kinds of layers that can follow; None stands for the end.

        Args:
            before: Kind of the layer before, None before the first one.
            number: Number of the layer that follows.
        """
        raise NotImplementedError

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network, each of which reads the one before it."""
        raise NotImplementedError

    def grown(self, layers: Sequence[ChainLayer]) -> Self:
        """Return the network with wider layers, or more."""
        return dataclasses.replace(self, layers=tuple(layers))

    @property
    def text(self) -> str:
        """The layers as tokens."""
        return "_".join(map(str, self.layers))

    @property
    def parted(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of the layers of each block, from 0, without what parts the blocks."""
        blocks: list[list[int]] = [[]]
        for k, layer in enumerate(self.layers):
            if layer.parts:
                blocks.append([])
            else:
                blocks[-1].append(k)
        return tuple(tuple(block) for block in blocks if block)

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as a JSON-compatible dict."""
        return {"name": self.name, "chain": self.text}

    @staticmethod
    def from_dict(data: Any) -> ChainGenotype:
        """Build a genotype of either kind from the dict of `to_dict`.

        Raises:
            ValueError: If the data is invalid. The message names the place.
        """
        check_keys(data, "genotype", required=("chain",), optional=("name", "stem", "transitions"))
        expect(isinstance(data["chain"], str), "chain", "a string", data["chain"])
        fields = {**data, "name": data.get("name", "genotype")}
        layers = parse_layers(fields.pop("chain"))
        dense = layers[0].kind in DenseNetGenotype.kinds
        if not dense:
            check_keys(data, "genotype", required=("chain",), optional=("name",))
        kind = DenseNetGenotype if dense else PlainGenotype
        return kind(layers=layers, **fields)

    @classmethod
    def parse(cls, text: str, name: str = "genotype") -> Self:
        """Read a network from its tokens.

        Raises:
            ValueError: If they are not those of such a network. The message names the place.
        """
        return cls(name, parse_layers(text))


def parse_layers(text: str) -> tuple[ChainLayer, ...]:
    """Read layers from their tokens.

    Raises:
        ValueError: If a token is none. The message names the place.
    """
    return tuple(ChainLayer.parse(token, f"layers[{k}]") for k, token in enumerate(text.split("_")))


@dataclass(frozen=True)
class PlainGenotype(ChainGenotype):
    """A plain convolutional network.

    Convolutions and fully connected layers have no bias, and batch norm and ReLU follow them. Every
    block of convolutions ends with a pooling: a maximum over 2x2 pixels, the last one a mean over all
    that is left. Fully connected layers come after it.

    Args:
        name: Name of the genotype.
        layers: Its layers.

    Raises:
        ValueError: If the layers are not those of such a network. The message names the place.

    Example::

        genotype = PlainGenotype.parse("conv-4-3_pool_conv-8-3_pool_fc-8")
        model = nasnet_zoo.ChainNet(genotype, classes=10)
    """

    kinds: ClassVar[tuple[str, ...]] = ("conv", "pool", "fc")

    def after(self, before: str | None, number: int) -> tuple[str | None, ...]:
        """Return the kinds of layers that can follow."""
        if before == "conv":
            return "conv", "pool"
        later = any(layer.kind == "conv" for layer in self.layers[number:])
        if before is None or (before == "pool" and later):
            return ("conv",)
        return "fc", None

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network."""
        numbers = dict.fromkeys(self.kinds, 0)
        last = max(k for k, layer in enumerate(self.layers) if layer.kind == "pool")
        for k, layer in enumerate(self.layers):
            numbers[layer.kind] += 1
            name = f"{layer.kind.capitalize()}_{numbers[layer.kind]}"
            if layer.kind == "pool":
                yield name, GlobalPool() if k == last else MaxPool()
            else:
                yield name, ConvBlock(layer.units, layer.kernel or 1)


@dataclass(frozen=True)
class DenseNetGenotype(ChainGenotype):
    """A DenseNet-BC whose miniblocks may differ in growth.

    A miniblock ``gK`` adds K channels to what it reads: batch norm, ReLU, 1x1 convolution to 4 K, batch
    norm, ReLU, 3x3 convolution to K. A transition ``t`` parts two dense blocks.

    Args:
        name: Name of the genotype.
        layers: Its miniblocks and transitions.
        stem: Channels of the first convolution. Default: twice the mean growth.
        transitions: Channels of each transition's output. Default: half of those of its input.

    Raises:
        ValueError: If the layers are not those of such a network, or a number is out of range. The
            message names the place.

    Example::

        genotype = DenseNetGenotype.parse("g12_g12_t_g12_g12_t_g12_g12")
    """

    kinds: ClassVar[tuple[str, ...]] = ("g", "t")

    stem: int = 0
    transitions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.transitions
        expect(isinstance(given, (tuple, list)), "transitions", "a list", given)
        count = len(self.parted) - 1
        fits = len(given) in (0, count)
        expect(fits, "transitions", f"{count} numbers of channels", given)
        places = ["stem", *(f"transitions[{k}]" for k in range(count))]
        for place, channels in zip(places, (self.stem or 1, *given), strict=False):
            inside = is_int(channels) and 1 <= channels <= _UNITS
            expect(inside, place, f"an int from 1 to {_UNITS}", channels)
        if not self.stem:
            growths = [layer.units for layer in self.layers if not layer.parts]
            object.__setattr__(self, "stem", int(_FIRST_RATIO * sum(growths) / len(growths)))
        object.__setattr__(self, "transitions", tuple(given) or self._reduced([0] * count))

    def _reduced(self, least: Sequence[int]) -> tuple[int, ...]:
        """The channels that transitions keep, but no fewer than ``least``."""
        channels, found = self.stem, []
        for block, fewest in zip(self.parted, least, strict=False):
            channels += sum(self.layers[number].units for number in block)
            channels = max(int(_REDUCTION * channels), fewest)
            found.append(channels)
        return tuple(found)

    def after(self, before: str | None, number: int) -> tuple[str | None, ...]:
        """Return the kinds of layers that can follow."""
        return ("g", "t", None) if before == "g" else ("g",)

    def grown(self, layers: Sequence[ChainLayer]) -> Self:
        """Return the network with wider miniblocks, or more.

        The stem and the transitions become as wide as by default, where they are not wider.
        """
        wider = type(self)(self.name, tuple(layers))
        wider = dataclasses.replace(wider, stem=max(self.stem, wider.stem))
        return dataclasses.replace(wider, transitions=wider._reduced(self.transitions))

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network."""
        yield "Stem_Conv", ConvStem(self.stem, norm=False)
        number = stage = 0
        for layer in self.layers:
            if layer.parts:
                stage += 1
                yield f"Transition_{stage}", Transition(self.transitions[stage - 1])
            else:
                number += 1
                yield f"Block_{number}", DenseLayer(CONV_3X3.root, layer.units)
        yield "Head", NormRelu()

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as a JSON-compatible dict."""
        return {**super().to_dict(), "stem": self.stem, "transitions": list(self.transitions)}


def read_blocks(name: str, blocks: Sequence[BaseBlock]) -> ChainGenotype | None:
    """Read off the blocks of a network the chain that they are of, None if there is none.

    Args:
        name: Name of the genotype.
        blocks: Blocks in order.
    """
    layers: list[ChainLayer] = []
    widths: list[int] = []
    convolution = "conv"
    genotype: ChainGenotype
    for block in blocks:
        match block:
            case ConvBlock(filters, kernel):
                size = kernel if convolution == "conv" else 0
                layers.append(ChainLayer(convolution, filters, size))
            case DenseLayer(filters=filters):
                layers.append(ChainLayer("g", filters))
            case MaxPool() | GlobalPool():
                layers.append(ChainLayer("pool"))
                convolution = "fc" if isinstance(block, GlobalPool) else "conv"
            case Transition(int(filters)):
                layers.append(ChainLayer("t"))
                widths.append(filters)
            case ConvStem(filters):
                widths.append(filters)
    try:
        if widths:
            genotype = DenseNetGenotype(name, tuple(layers), widths[0], tuple(widths[1:]))
        else:
            genotype = PlainGenotype(name, tuple(layers))
    except ValueError:
        return None
    return genotype if [block for _, block in genotype.blocks()] == list(blocks) else None


def origins(base: ChainGenotype, grown: ChainGenotype) -> tuple[int, ...]:
    """Find in a network the layers of one that it grew from, wider perhaps, with new ones behind them.

    Returns:
        For each layer the number of the layer of ``base`` that it is, or is new behind.

    Raises:
        ValueError: If the one cannot have grown from the other.
    """
    own, new = base.layers, grown.layers

    @functools.cache
    def after(source: int, place: int) -> tuple[int, ...] | None:
        """The origins from a place on, when the layer before it comes from a source."""
        if place == len(new):
            return () if source == len(own) - 1 else None
        layer, rest = new[place], None
        if source + 1 < len(own) and _widens(own[source + 1], layer):
            rest = after(source + 1, place + 1)
            source += rest is not None
        if rest is None and place and not layer.parts and _is_copy(new[place - 1], layer):
            rest = after(source, place + 1)
        return None if rest is None else (source, *rest)

    found = after(-1, 0)
    widths = [[g.stem, *g.transitions] for g in (base, grown) if isinstance(g, DenseNetGenotype)]
    if found is None or (widths and any(a > b for a, b in zip(*widths, strict=True))):
        raise ValueError(f"Expected a network that grows from {base.text}. Received: {grown.text}")
    return found


def _widens(layer: ChainLayer, wider: ChainLayer) -> bool:
    kind = (layer.kind, layer.kernel) == (wider.kind, wider.kernel)
    return kind and layer.units <= wider.units


def _is_copy(layer: ChainLayer, new: ChainLayer) -> bool:
    return (layer.kind, layer.units) == (new.kind, new.units)


#: The networks that the search of [E] starts from: that of its small demonstration, and the paper's.
EAS_SMALL = PlainGenotype.parse(
    "conv-4-3_pool_conv-4-3_pool_conv-4-3_pool_conv-4-3_pool_fc-8", "EAS small start"
)
EAS_PLAIN = PlainGenotype.parse(
    "conv-16-3_pool_conv-32-3_pool_conv-64-3_pool_conv-128-3_pool_fc-256", "EAS start"
)
