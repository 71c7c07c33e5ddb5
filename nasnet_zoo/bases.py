"""Base networks whose 3x3 convolutions are tree cells, as data ([P] section 4; its release)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nasnet_zoo.cells import (
    CIFAR,
    BaseBlock,
    DenseLayer,
    Graph,
    Hyperparameters,
    PyramidBlock,
    TreeCell,
    TreeGenotype,
)
from nasnet_zoo.cells.base_blocks import ConvStem, NormRelu, Transition
from nasnet_zoo.checking import PositiveInt, check_fields

from .architecture import IMAGE, STACKS, STEM, Dropout, Network, Plan, Source

Base = Literal["densenet", "pyramidnet"]
#: Channels of a PyramidNet's first convolution.
PYRAMID_STEM = 16


@dataclass(frozen=True)
class TreeArchitecture(Network):
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

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network, each of which reads the one before it."""
        return (_densenet if self.base == "densenet" else _pyramidnet)(self)

    def cell(self, kind: type[TreeCell], filters: int, stride: int = 1) -> TreeCell:
        """Return a block around a cell of so many filters."""
        return kind(self.genotype.root, filters, stride, self.groups, self.root_norm, self.average)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TreeArchitecture:
        """Create an architecture from the result of `to_dict`."""
        return cls(
            **{
                **data,
                "genotype": TreeGenotype.from_dict(data["genotype"]),
                "hyperparameters": Hyperparameters(**data["hyperparameters"]),
            }
        )


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


def read_architecture(name: str, blocks: Sequence[BaseBlock], **fields: Any) -> TreeArchitecture:
    """Read off the blocks of a network the architecture that they are of.

    Args:
        name: Name of its genotype.
        blocks: Blocks in order.
        **fields: Fields of the architecture that blocks do not hold.

    Raises:
        ValueError: If there is none.
    """
    cells = [block for block in blocks if isinstance(block, TreeCell)]
    for spare in range(cells[-1].groups if cells else 0):
        first, last = cells[0], cells[-1]
        dense = isinstance(first, DenseLayer)
        a = TreeArchitecture(
            TreeGenotype(name, first.tree),
            "densenet" if dense else "pyramidnet",
            max(len(cells) // STACKS, 1),
            # A PyramidNet's channels have been rounded down.
            first.filters if dense else max(last.filters - PYRAMID_STEM + spare, 1),
            *(first.groups, first.root_norm, first.average),
            **fields,
        )
        if [block for _, block in a.blocks()] == list(blocks):
            return a
    raise ValueError(
        "Expected the blocks of a network that a TreeArchitecture describes. "
        f"Received: {[type(block).__name__ for block in blocks]}"
    )
