"""Blocks of the networks that tree cells are used in, as plain data ([P] section 4; its release)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .graph import Graph, Node, sequence_graph
from .operations import Primitives
from .primitives import (
    BatchNorm,
    Conv,
    GlobalAveragePool,
    LearnedGroupConv,
    MaskChannels,
    PadChannels,
    Pool,
    Relu,
    SelectChannels,
    Shuffle,
)
from .tree import PathNode, TreeGenotype, tree_nodes

#: Channels of a block's widest states as a multiple of those of its cell's output.
BOTTLENECK = 4


@dataclass(frozen=True)
class BaseBlock:
    """A block of a base network, from which its graph follows."""

    @property
    def factor(self) -> int:
        """How many times smaller its output is than its input; 0 if it is one pixel of any input."""
        return 1

    def graph(self, channels: Sequence[int]) -> Graph:
        """Return its graph for an input of so many channels."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the block as JSON-compatible lists and dicts."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data = {k: v.to_dict() if isinstance(v, PathNode) else v for k, v in fields.items()}
        return {"kind": type(self).__name__, **data}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> BaseBlock:
        """Create a block from the result of `to_dict`."""
        fields = dict(data)
        kind = KINDS[fields.pop("kind")]
        if "tree" in fields:
            fields["tree"] = PathNode.from_dict(fields["tree"])
        return kind(**fields)


@dataclass(frozen=True)
class ConvStem(BaseBlock):
    """The first 3x3 convolution.

    Args:
        filters: Its filters.
        norm: Whether batch norm follows.
        stride: Its stride. Default: 1.
    """

    filters: int
    norm: bool
    stride: int = 1

    @property
    def factor(self):
        return self.stride

    def graph(self, channels):
        norm = (BatchNorm(),) if self.norm else ()
        return sequence_graph((Conv(3, self.stride, filters=self.filters), *norm), 0)


@dataclass(frozen=True)
class Transition(BaseBlock):
    """Between two stages of a DenseNet: batch norm, ReLU, 1x1 convolution, 2x2 average.

    Args:
        filters: Channels of the output. Default: None, the average alone.
    """

    filters: int | None = None

    @property
    def factor(self):
        return 2

    def graph(self, channels):
        squeeze = (BatchNorm(), Relu(), Conv(1, filters=self.filters)) if self.filters else ()
        return sequence_graph((*squeeze, Pool("avg", 2, 2)), 0)


@dataclass(frozen=True)
class NormRelu(BaseBlock):
    """Batch norm and ReLU, before the classifier."""

    def graph(self, channels):
        return sequence_graph((BatchNorm(), Relu()), 0)


@dataclass(frozen=True)
class TreeCell(BaseBlock):
    """A tree cell by itself.

    Args:
        tree: Root of a `TreeGenotype`.
        filters: Channels of its output.
        stride: Stride of the root's edges. Default: 1.
        groups: Groups of grouped convolutions. Default: 2.
        root_norm: Whether a branch of an addition at the root is ``e + BN(N(e))`` of its edge's result
            e, instead of N(e). Default: True.
        average: Whether additions are means. Default: False.

    Example::

        layer = BlockLayer(TreeCell(TREECELL_A.root, filters=48))
        y = layer(x)  # (batch, height, width, 48)
    """

    tree: PathNode
    filters: int
    stride: int = 1
    groups: int = 2
    root_norm: bool = True
    average: bool = False

    def __post_init__(self) -> None:
        TreeGenotype("", self.tree)

    @property
    def factor(self):
        return self.stride

    def nodes(self, source: str, channels: int) -> tuple[Node, ...]:
        """Build the nodes of the cell; the last one makes its result."""
        rules = self.stride, self.groups, self.root_norm, self.average
        return tree_nodes(self.tree, source, channels, self.filters, *rules)

    def graph(self, channels):
        nodes = self.nodes("input_0", channels[0])
        return Graph(("input_0",), nodes, (nodes[-1].name,))


@dataclass(frozen=True)
class DenseLayer(TreeCell):
    """A layer of a DenseNet: a 1x1 convolution, and a cell whose output is joined to the input."""

    def bottleneck(self, channels: int, wide: int) -> Primitives:
        """Return the 1x1 convolution of so many channels to ``wide``."""
        return (Conv(1, filters=wide),)

    def graph(self, channels):
        wide = BOTTLENECK * self.filters
        steps = BatchNorm(), Relu(), *self.bottleneck(channels[0], wide)
        nodes = (
            Node("bottleneck", ("input_0",), None, steps),
            *self.nodes("bottleneck", wide),
        )
        output = Node("output", ("input_0", nodes[-1].name), "concat")
        return Graph(("input_0",), (*nodes, output), ("output",))


@dataclass(frozen=True)
class CondenseLayer(DenseLayer):
    """A layer of a CondenseNet: its 1x1 convolution is a `LearnedGroupConv` ([CN]).

    Args:
        learned_groups: Groups of the 1x1 convolution. Default: 4.
        condense: Of how many channels a group reads one at the end. Default: 4.
        condensed: Whether the 1x1 convolution is what is left of it at the end: an index and a grouped
            convolution. Default: False.
    """

    learned_groups: int = 4
    condense: int = 4
    condensed: bool = False

    @property
    def learned(self) -> LearnedGroupConv:
        """The 1x1 convolution before it is condensed."""
        return LearnedGroupConv(BOTTLENECK * self.filters, self.learned_groups, self.condense)

    def bottleneck(self, channels, wide):
        groups = self.learned_groups
        if not self.condensed:
            return (self.learned,)
        read = SelectChannels(groups * (channels // self.condense))
        return read, Conv(1, filters=wide, groups=groups), Shuffle(groups)


@dataclass(frozen=True)
class CondenseHead(BaseBlock):
    """Batch norm, ReLU, and a choice of half the channels for the classifier ([CN]).

    Args:
        condensed: Whether only that half is left. Default: False.
    """

    condensed: bool = False

    def graph(self, channels):
        choice = SelectChannels(channels[0] // 2) if self.condensed else MaskChannels()
        return sequence_graph((BatchNorm(), Relu(), choice), 0)


@dataclass(frozen=True)
class PyramidBlock(TreeCell):
    """A block of a PyramidNet: a cell between 1x1 convolutions, beside a shortcut of more channels."""

    def graph(self, channels):
        wide, nodes = BOTTLENECK * self.filters, []
        if channels[0] > wide:
            raise ValueError(f"Expected at most {wide} channels. Received: {channels[0]}")
        nodes.append(Node("narrow", ("input_0",), None, (BatchNorm(), Conv(1, filters=self.filters))))
        nodes += self.nodes("narrow", self.filters)
        steps = BatchNorm(), Relu(), Conv(1, filters=wide), BatchNorm()
        nodes.append(Node("wide", (nodes[-1].name,), None, steps))
        shortcut = (Pool("avg", self.stride, self.stride),) if self.stride > 1 else ()
        shortcut += (PadChannels(wide),) if channels[0] < wide else ()
        if shortcut:
            nodes.append(Node("shortcut", ("input_0",), None, shortcut))
        beside = "shortcut" if shortcut else "input_0"
        nodes.append(Node("output", (beside, "wide"), "add"))
        return Graph(("input_0",), tuple(nodes), ("output",))


@dataclass(frozen=True)
class ConvBlock(BaseBlock):
    """A convolution without bias, batch norm, ReLU.

    Args:
        filters: Its filters.
        kernel: Height and width of the kernel.
    """

    filters: int
    kernel: int

    def graph(self, channels):
        return sequence_graph((Conv(self.kernel, filters=self.filters), BatchNorm(), Relu()), 0)


@dataclass(frozen=True)
class MaxPool(BaseBlock):
    """Maximum over 2x2 pixels."""

    @property
    def factor(self):
        return 2

    def graph(self, channels):
        return sequence_graph((Pool("max", 2, 2),), 0)


@dataclass(frozen=True)
class GlobalPool(BaseBlock):
    """Mean over all pixels, kept as an image of one pixel."""

    @property
    def factor(self):
        return 0

    def graph(self, channels):
        return sequence_graph((GlobalAveragePool(),), 0)


#: The blocks by their names in configurations.
KINDS: dict[str, type[BaseBlock]] = {
    kind.__name__: kind
    for kind in (
        *(ConvStem, Transition, NormRelu, CondenseHead),
        *(TreeCell, DenseLayer, CondenseLayer, PyramidBlock),
        *(ConvBlock, MaxPool, GlobalPool),
    )
}
