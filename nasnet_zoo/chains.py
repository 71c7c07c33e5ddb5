"""Networks that are chains of layers, as data ([E])."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nasnet_zoo.cells import CIFAR, BaseBlock, ChainGenotype, Hyperparameters
from nasnet_zoo.cells.chain import read_blocks
from nasnet_zoo.checking import PositiveInt, check_fields

from .architecture import Dropout
from .bases import BlockArchitecture


@dataclass(frozen=True)
class ChainArchitecture(BlockArchitecture):
    """A chain of layers as data: everything but its classifier.

    Args:
        genotype: `PlainGenotype` or `DenseNetGenotype`.
        image_size: Height and width in pixels of the images that the architecture is meant for; other
            sizes can be used. Default: 32.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        hyperparameters: Constants of batch norm, regularizer and initializer. Default: those for
            CIFAR-10.
        channels: Channels of the images that the architecture is meant for; other numbers can be
            used. Default: 3.

    Raises:
        ValueError: If a value is out of range.
    """

    genotype: ChainGenotype
    image_size: PositiveInt = 32
    dropout: Dropout = 0.0
    hyperparameters: Hyperparameters = CIFAR
    channels: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)

    def blocks(self) -> Iterator[tuple[str, BaseBlock]]:
        """Yield the end points and the blocks of the network, in order."""
        return iter(self.genotype.blocks())


def read_chain(name: str, blocks: Sequence[BaseBlock], **fields: Any) -> ChainArchitecture | None:
    """Read off the blocks of a network the chain that they are of, None if there is none.

    Args:
        name: Name of its genotype.
        blocks: Blocks in order.
        **fields: Fields of the architecture that blocks do not hold.
    """
    genotype = read_blocks(name, blocks)
    return ChainArchitecture(genotype, **fields) if genotype else None
