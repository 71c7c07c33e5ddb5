"""The search space ([N] section 3): what a cell may be made of, as tokens and as genotypes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nasnet_zoo.cells import SEARCH_COMBINATIONS, SEARCH_OPERATIONS, Block, CellGenotype, Genotype
from nasnet_zoo.cells.operations import COMBINATIONS, OPERATIONS

#: The choices of a block in the order in which they are made, by what is chosen from.
BLOCK_CHOICES = ("state", "state", "operation", "operation", "combination")

Tokens = np.ndarray


@dataclass(frozen=True)
class SearchSpace:
    """All cells of B blocks.

    A child is a sequence of tokens, five for each block: the two states it reads, an operation for
    each, and the combination. A token is the number of what is chosen among what can be chosen: a
    block chooses among the two states that the cell is given and the blocks before it.

    Args:
        blocks: B, at least 1.
        operations: names to choose from.
        combinations: names to choose from.
        cells: 2 for a normal and a reduction cell of their own, 1 for one cell that is both.

    Raises:
        ValueError: if there is nothing to choose from, or a name is not registered.
    """

    blocks: int = 5
    operations: tuple[str, ...] = SEARCH_OPERATIONS
    combinations: tuple[str, ...] = SEARCH_COMBINATIONS
    cells: int = 2

    def __post_init__(self) -> None:
        for name, registry in (("operations", OPERATIONS), ("combinations", COMBINATIONS)):
            names = tuple(getattr(self, name))
            object.__setattr__(self, name, names)
            if not names:
                raise ValueError(f"Expected at least one name in {name}. Received: {names!r}")
            unknown = [other for other in names if other not in registry]
            if unknown:
                raise ValueError(f"Expected {name} of {', '.join(registry)}. Received: {unknown}")
        if self.blocks < 1:
            raise ValueError(f"Expected blocks of at least 1. Received: {self.blocks}")
        if self.cells not in (1, 2):
            raise ValueError(f"Expected 1 or 2 cells. Received: {self.cells}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each token chooses: "state", "operation" or "combination"."""
        return BLOCK_CHOICES * (self.blocks * self.cells)

    @property
    def choices(self) -> tuple[int, ...]:
        """How many values each token can take."""
        fixed = {"operation": len(self.operations), "combination": len(self.combinations)}
        cell = [
            2 + block if kind == "state" else fixed[kind]
            for block in range(self.blocks)
            for kind in BLOCK_CHOICES
        ]
        return tuple(cell) * self.cells

    @property
    def size(self) -> int:
        """How many sequences of tokens there are."""
        return math.prod(self.choices)

    def sample(self, rng: np.random.Generator, count: int) -> Tokens:
        """Draws children uniformly: the paper's random search.

        Returns:
            int32 (count, tokens).
        """
        return rng.integers(self.choices, size=(count, len(self.choices)), dtype=np.int32)

    def check(self, tokens: Sequence[int] | Tokens) -> None:
        """Raises a `ValueError` if these are not the tokens of a child."""
        array = np.asarray(tokens)
        choices = np.array(self.choices)
        fits = array.shape == choices.shape and np.issubdtype(array.dtype, np.integer)
        if not fits or (array < 0).any() or (array >= choices).any():
            raise ValueError(
                f"Expected {len(choices)} ints from 0 to below {self.choices}. Received: {tokens}"
            )

    def genotype(self, tokens: Sequence[int] | Tokens, name: str = "child") -> Genotype:
        """The child of a sequence of tokens.

        Raises:
            ValueError: if these are not the tokens of a child.
        """
        self.check(tokens)
        cells = [
            CellGenotype(
                tuple(
                    Block(
                        (first, second),
                        (self.operations[left], self.operations[right]),
                        self.combinations[combination],
                    )
                    for first, second, left, right, combination in cell
                )
            )
            for cell in self._cells(tokens)
        ]
        return Genotype(name, cells[0], cells[-1])

    def tokens(self, genotype: Genotype) -> Tokens:
        """The tokens of a child: int32, the inverse of `genotype`.

        Raises:
            ValueError: if the genotype is not of this space.
        """
        cells = (genotype.normal, genotype.reduction)
        found: list[int] = []
        try:
            for cell in cells[: self.cells]:
                for block in cell.blocks:
                    found += block.inputs
                    found += (self.operations.index(name) for name in block.operations)
                    found.append(self.combinations.index(block.combination))
            tokens = np.array(found, np.int32)
            self.check(tokens)
        except ValueError:
            raise ValueError(f"Expected a genotype of {self}. Received: {genotype}") from None
        if self.genotype(tokens, genotype.name) != genotype:
            raise ValueError(
                "Expected cells whose output concatenates the blocks that no block reads"
                f"{', both alike' if self.cells == 1 else ''}. Received: {genotype}"
            )
        return tokens

    def canonical(self, tokens: Sequence[int] | Tokens) -> tuple[int, ...]:
        """The least of all sequences of tokens that make the same child.

        Blocks may stand in any order in which each comes after what it reads, and the two sides of
        a block may change places: concatenations then only permute channels.
        """
        self.check(tokens)
        return tuple(token for cell in self._cells(tokens) for token in min(_equal_cells(cell)))

    def _cells(self, tokens: Sequence[int] | Tokens) -> Iterator[list[tuple[int, ...]]]:
        """The blocks of each cell, each as its five tokens."""
        blocks = np.asarray(tokens).reshape(self.cells, self.blocks, len(BLOCK_CHOICES)).tolist()
        return ([tuple(block) for block in cell] for cell in blocks)


def _equal_cells(blocks: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """The tokens of a cell for every order of its blocks, the lesser side of a block first."""
    for order in itertools.permutations(range(len(blocks))):
        place = {old: new for new, old in enumerate(order)}
        written: list[int] = []
        for new, old in enumerate(order):
            *states, left, right, combination = blocks[old]
            moved = [s if s < 2 else 2 + place[s - 2] for s in states]
            if max(moved) >= 2 + new:
                break
            (first, left), (second, right) = sorted(zip(moved, (left, right), strict=True))
            written += (first, second, left, right, combination)
        else:
            yield tuple(written)
