"""Base networks whose 3x3 convolutions are tree cells, as data ([P] section 4; its release)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge

from nasnet_zoo.cells import (
    CIFAR,
    GROUPED_CONV_3X3,
    BaseBlock,
    ChainGenotype,
    CondenseHead,
    CondenseLayer,
    DenseLayer,
    Graph,
    Hyperparameters,
    PyramidBlock,
    TreeCell,
    TreeGenotype,
)
from nasnet_zoo.cells.base_blocks import BOTTLENECK, ConvStem, NormRelu, Transition
from nasnet_zoo.cells.networks import network_genotype
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, check_fields

from .architecture import IMAGE, STACKS, STEM, Dropout, Network, Plan, Source

Base = Literal["densenet", "pyramidnet"]
#: A number for each stage.
Stages = tuple[PositiveInt, ...]
StageCells = tuple[NonNegativeInt, ...]
#: Channels of a PyramidNet's first convolution.
PYRAMID_STEM = 16


@dataclass(frozen=True)
class BlockArchitecture(Network):
    """A network of blocks each of which reads the one before it.

    Subclasses have these fields and others, and define `blocks`.
    """

    genotype: TreeGenotype | ChainGenotype

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network, in order."""
        raise NotImplementedError

    def plan(self) -> Plan:
        """Lay out the stem, the blocks and the head."""
        parts: list[PlannedBlock] = []
        depth = 0
        for name, block in self.blocks():
            source = (parts[-1].name, 0) if parts else IMAGE
            number = depth if isinstance(block, TreeCell) else None
            depth += number is not None
            parts.append(PlannedBlock(name, source, block, number))
        return Plan(tuple(parts), (parts[-1].name, 0))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Create an architecture from the result of `to_dict`."""
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        return cls(
            **{
                **data,
                **lists,
                "genotype": network_genotype(data["genotype"]),
                "hyperparameters": Hyperparameters(**data["hyperparameters"]),
            }
        )


@dataclass(frozen=True)
class TreeArchitecture(BlockArchitecture):
    """A base network of tree cells as data: everything but its classifier.

    Args:
        genotype: Genotype of the cell in the place of every 3x3 convolution but the first.
        base: "densenet" (Huang et al., arXiv 1608.06993, DenseNet-BC) or "pyramidnet" (Han et al.,
            arXiv 1610.02915, with bottlenecks).
        cells: N, number of cells in each of the three stages.
        width: Of a DenseNet k, the channels that each layer adds; of a PyramidNet alpha, how many more
            channels its last cell has than its first convolution, 16.
        groups: G, groups of grouped convolutions. It divides the channels that they read and make, to
            which those of a PyramidNet are rounded down. Default: 2.
        root_norm: See `nasnet_zoo.cells.TreeCell`. Default: True.
        average: See `nasnet_zoo.cells.TreeCell`. Default: False.
        image_size: Height and width in pixels of the images that the architecture is meant for; other
            sizes can be used. Default: 32.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        hyperparameters: Constants of batch norm, regularizer and initializer. Default: those for
            CIFAR-10.
        channels: Channels of the images that the architecture is meant for; other numbers can be
            used. Default: 3.

    Raises:
        ValueError: If a value is out of range, or the cell does not fit the channels.
    """

    genotype: TreeGenotype
    base: Base
    cells: PositiveInt
    width: PositiveInt
    groups: PositiveInt = 2
    root_norm: bool = True
    average: bool = False
    image_size: PositiveInt = 32
    dropout: Dropout = 0.0
    hyperparameters: Hyperparameters = CIFAR
    channels: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.base == "pyramidnet" and self.groups > PYRAMID_STEM:
            raise ValueError(
                f"Expected at most {PYRAMID_STEM} groups of a PyramidNet, whose cells have so many "
                f"channels at least. Received: groups={self.groups}"
            )
        # The narrowest cell: it raises an error unless its channels fit.
        next(block for _, block in self.blocks() if isinstance(block, TreeCell)).graph((1,))

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network, each of which reads the one before it."""
        return (_densenet if self.base == "densenet" else _pyramidnet)(self)

    def cell(self, kind: type[TreeCell], filters: int, stride: int = 1) -> TreeCell:
        """Return a block around a cell of so many filters."""
        return kind(self.genotype.root, filters, stride, self.groups, self.root_norm, self.average)


def _densenet(a: TreeArchitecture) -> Iterator[tuple[str, BaseBlock]]:
    channels, number = 2 * a.width, 0
    yield STEM, ConvStem(channels, norm=False)
    for stage in range(STACKS):
        if stage:
            channels //= 2
            yield f"Transition_{stage}", Transition(channels)
        for _ in range(a.cells):
            number += 1
            yield f"Block_{number}", a.cell(DenseLayer, a.width)
        channels += a.cells * a.width
    yield "Head", NormRelu()


def _pyramidnet(a: TreeArchitecture) -> Iterator[tuple[str, BaseBlock]]:
    yield STEM, ConvStem(PYRAMID_STEM, norm=True)
    blocks = STACKS * a.cells
    for number in range(1, blocks + 1):
        filters = round(PYRAMID_STEM + a.width * number / blocks)
        stride = 2 if number > 1 and number % a.cells == 1 % a.cells else 1
        yield f"Block_{number}", a.cell(PyramidBlock, filters - filters % a.groups, stride)
    yield "Head", NormRelu()


@dataclass(frozen=True)
class CondenseArchitecture(BlockArchitecture):
    """A CondenseNet whose last layers have tree cells, as data: everything but its classifier.

    Every 1x1 convolution learns in training which channels its groups read (Huang et al., arXiv
    1711.09224); a 2x2 average stands between two stages.

    Args:
        genotype: Genotype of the cells.
        stages: Number of layers in each stage. Default: those of the ImageNet network.
        growth: Channels that a layer of each stage adds. Default: likewise.
        cell_layers: How many layers of each stage, the last ones, have cells; the others have a grouped
            3x3 convolution. Default: those of the released network.
        groups: Groups of grouped convolutions. Default: 8.
        learned_groups: Groups of the 1x1 convolutions. Default: 4.
        condense: Of how many channels these groups read one at the end of training. Default: 4.
        condensed: Whether the network is what is left at the end (`nasnet_zoo.transform.condense`).
            Default: False.
        root_norm: See `nasnet_zoo.cells.TreeCell`. Default: True.
        average: See `nasnet_zoo.cells.TreeCell`. Default: True.
        stem_stride: Stride of the first convolution. Default: 2.
        image_size: Height and width in pixels of the images that the architecture is meant for; other
            sizes can be used. Default: 224.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        hyperparameters: Constants of batch norm, regularizer and initializer. Default: those for
            CIFAR-10.
        channels: Channels of the images that the architecture is meant for; other numbers can be
            used. Default: 3.

    Raises:
        ValueError: If a value is out of range, or numbers of channels cannot be shared out.
    """

    genotype: TreeGenotype
    stages: Stages = (4, 6, 8, 10, 8)
    growth: Stages = (8, 16, 32, 64, 128)
    cell_layers: StageCells = (0, 0, 6, 7, 6)
    groups: PositiveInt = 8
    learned_groups: PositiveInt = 4
    condense: Annotated[int, Ge(2)] = 4
    condensed: bool = False
    root_norm: bool = True
    average: bool = True
    stem_stride: PositiveInt = 2
    image_size: PositiveInt = 224
    dropout: Dropout = 0.0
    hyperparameters: Hyperparameters = CIFAR
    channels: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)
        each = 1 <= len(self.stages) == len(self.growth) == len(self.cell_layers)
        if not each or any(n > m for n, m in zip(self.cell_layers, self.stages, strict=True)):
            raise ValueError(
                "Expected growth and cell_layers for each stage, at most as many as layers. "
                f"Received: stages={self.stages}, growth={self.growth}, cell_layers={self.cell_layers}"
            )
        layers = [block for _, block in self.blocks() if isinstance(block, CondenseLayer)]
        channels = 2 * self.growth[0]
        # Both raise errors unless the channels fit.
        for layer in layers:
            layer.learned.weights(channels, 0)
            channels += layer.filters
        for layer in {(layer.tree, layer.filters): layer for layer in layers}.values():
            layer.nodes("", BOTTLENECK * layer.filters)

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network, each of which reads the one before it."""
        yield STEM, ConvStem(2 * self.growth[0], norm=False, stride=self.stem_stride)
        number = 0
        trios = zip(self.stages, self.growth, self.cell_layers, strict=True)
        for stage, (layers, growth, cells) in enumerate(trios):
            if stage:
                yield f"Transition_{stage}", Transition()
            for layer in range(layers):
                number += 1
                tree = self.genotype if layer >= layers - cells else GROUPED_CONV_3X3
                cell = tree.root, growth, 1, self.groups, self.root_norm, self.average
                learned = self.learned_groups, self.condense, self.condensed
                yield f"Block_{number}", CondenseLayer(*cell, *learned)
        yield "Head", CondenseHead(self.condensed)


@dataclass(frozen=True)
class PlannedBlock:
    """A block of a base network.

    Args:
        name: Its end point.
        source: The state that it reads.
        block: The block.
        depth: Number of its cell among all cells of the network, None without a cell.
    """

    name: str
    source: Source
    block: BaseBlock
    depth: int | None

    @property
    def sources(self) -> tuple[Source, ...]:
        """The state that it reads."""
        return (self.source,)

    def graph(self, channels: Sequence[int]) -> Graph:
        """Return its graph for an input of so many channels."""
        return self.block.graph(channels)


def read_architecture(name: str, blocks: Sequence[BaseBlock], **fields: Any) -> BlockArchitecture:
    """Read off the blocks of a network the architecture that they are of.

    Args:
        name: Name of its genotype.
        blocks: Blocks in order.
        **fields: Fields of the architecture that blocks do not hold.

    Raises:
        ValueError: If there is none.
    """
    condensenet = any(isinstance(block, CondenseLayer) for block in blocks)
    for a in (_condensenets if condensenet else _others)(name, blocks, fields):
        if [block for _, block in a.blocks()] == list(blocks):
            return a
    raise ValueError(
        "Expected the blocks of a network that a TreeArchitecture or a CondenseArchitecture describes. "
        f"Received: {[type(block).__name__ for block in blocks]}"
    )


def _others(
    name: str, blocks: Sequence[BaseBlock], fields: dict[str, Any]
) -> Iterator[TreeArchitecture]:
    """Yield the DenseNets and PyramidNets that blocks may be of."""
    cells = [block for block in blocks if isinstance(block, TreeCell)]
    for spare in range(cells[-1].groups if cells else 0):
        first, last = cells[0], cells[-1]
        dense = isinstance(first, DenseLayer)
        yield TreeArchitecture(
            TreeGenotype(name, first.tree),
            "densenet" if dense else "pyramidnet",
            max(len(cells) // STACKS, 1),
            # A PyramidNet's channels have been rounded down.
            first.filters if dense else max(last.filters - PYRAMID_STEM + spare, 1),
            *(first.groups, first.root_norm, first.average),
            **fields,
        )


def _condensenets(
    name: str, blocks: Sequence[BaseBlock], fields: dict[str, Any]
) -> Iterator[CondenseArchitecture]:
    """Yield the CondenseNets that blocks may be of."""
    stages: list[list[CondenseLayer]] = [[]]
    for block in blocks:
        if isinstance(block, Transition):
            stages.append([])
        elif isinstance(block, CondenseLayer):
            stages[-1].append(block)
    stem, last = blocks[0], next((stage[-1] for stage in reversed(stages) if stage), None)
    trees = [layer.tree for stage in stages for layer in stage if layer.tree != GROUPED_CONV_3X3.root]
    if all(stages) and isinstance(stem, ConvStem) and last:
        tree = trees[-1] if trees else last.tree
        yield CondenseArchitecture(
            TreeGenotype(name, tree),
            tuple(len(stage) for stage in stages),
            tuple(stage[0].filters for stage in stages),
            tuple(sum(layer.tree == tree for layer in stage) for stage in stages),
            *(last.groups, last.learned_groups, last.condense, last.condensed),
            *(last.root_norm, last.average, stem.stride),
            **fields,
        )
