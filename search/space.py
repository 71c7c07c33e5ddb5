"""The search space ([N] section 3): the cells that can be drawn, as tokens and as genotypes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Interval

from nasnet_zoo.cells import SEARCH_COMBINATIONS, SEARCH_OPERATIONS, Block, CellGenotype, Genotype
from nasnet_zoo.cells.operations import COMBINATIONS, OPERATIONS
from nasnet_zoo.checking import NonNegativeInt, check_fields, checked

#: Kind of each token of a block, in order.
BLOCK_CHOICES = ("state", "state", "operation", "operation", "combination")
#: Maximum number of blocks of a cell. It bounds the time that `SearchSpace.canonical` takes.
MOST_BLOCKS = 12

Tokens = np.ndarray


@dataclass(frozen=True)
class SearchSpace:
    """All cells of B blocks.

    A child is a sequence of tokens, five for each block: the two states that it reads, an operation for
    each, and the combination. A token is the index of a choice. A block reads one of the two inputs of
    the cell or one of the blocks before it.

    Args:
        blocks: Number of blocks of a cell, B, from 1 to 12.
        operations: Names of the operations to choose from.
        combinations: Names of the combinations to choose from.
        cells: 2 to search a normal and a reduction cell, 1 to search one cell that is both.

    Raises:
        ValueError: If a number is out of range, there are no names to choose from, or a name is not
            registered or is repeated.
    """

    blocks: Annotated[int, Interval(ge=1, le=MOST_BLOCKS)] = 5
    operations: tuple[str, ...] = SEARCH_OPERATIONS
    combinations: tuple[str, ...] = SEARCH_COMBINATIONS
    cells: Annotated[int, Interval(ge=1, le=2)] = 2

    def __post_init__(self) -> None:
        check_fields(self)
        for field, registry in (("operations", OPERATIONS), ("combinations", COMBINATIONS)):
            names = tuple(getattr(self, field))
            object.__setattr__(self, field, names)
            unknown = [name for name in names if name not in registry]
            if unknown:
                raise ValueError(f"Expected {field} of {', '.join(registry)}. Received: {unknown}")
            if not names or len(set(names)) < len(names):
                raise ValueError(
                    f"Expected {field}: at least one name, each once. "
                    f"Received: {', '.join(names) or 'none'}"
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kind of each token: "state", "operation" or "combination"."""
        return BLOCK_CHOICES * (self.blocks * self.cells)

    @property
    def choices(self) -> tuple[int, ...]:
        """Number of values of each token."""
        fixed = {"operation": len(self.operations), "combination": len(self.combinations)}
        cell = [
            2 + block if kind == "state" else fixed[kind]
            for block in range(self.blocks)
            for kind in BLOCK_CHOICES
        ]
        return tuple(cell) * self.cells

    @property
    def size(self) -> int:
        """Number of sequences of tokens."""
        return math.prod(self.choices)

    @checked
    def sample(self, rng: np.random.Generator, count: NonNegativeInt) -> Tokens:
        """Draw children uniformly, as the paper's random search does.

        Returns:
            int32 (count, tokens).
        """
        return rng.integers(self.choices, size=(count, len(self.choices)), dtype=np.int32)

    def check(self, tokens: Sequence[int] | Tokens) -> None:
        """Raise a `ValueError` if these are not the tokens of a child."""
        array = np.asarray(tokens)
        choices = np.array(self.choices)
        fits = array.shape == choices.shape and np.issubdtype(array.dtype, np.integer)
        if not fits or (array < 0).any() or (array >= choices).any():
            raise ValueError(
                f"Expected {len(choices)} ints from 0 to below {self.choices}. Received: {tokens}"
            )

    def genotype(self, tokens: Sequence[int] | Tokens, name: str = "child") -> Genotype:
        """Return the genotype of a sequence of tokens.

        Raises:
            ValueError: If these are not the tokens of a child.
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
        """Return the int32 tokens of a genotype, the inverse of `genotype`.

        Raises:
            ValueError: If the genotype is not of this space.
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
        """Return the lexicographically least of all sequences of tokens of the same child.

        Blocks may stand in any order in which each comes after what it reads, and the two sides of
        a block may change places: concatenations then only permute channels.
        """
        self.check(tokens)
        return tuple(token for cell in self._cells(tokens) for token in _least_tokens(cell))

    def _cells(self, tokens: Sequence[int] | Tokens) -> Iterator[list[tuple[int, ...]]]:
        """The blocks of each cell, each as its five tokens."""
        blocks = np.asarray(tokens).reshape(self.cells, self.blocks, len(BLOCK_CHOICES)).tolist()
        return ([tuple(block) for block in cell] for cell in blocks)


class _Group(NamedTuple):
    """Blocks of a cell that have the same tokens, the first of them placed.

    Which of them has which number is left open until a block that reads one of them is placed.

    Args:
        members: the blocks.
        numbers: of the states that they are so far, at most one for each.
        tokens: of each of them.
    """

    members: frozenset[int]
    numbers: tuple[int, ...]
    tokens: tuple[int, ...]


# The sides of a block, as states and operations, and its combination; states in the order given.
_Kind = tuple[tuple[tuple[int, int], ...], int]


def _least_tokens(blocks: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The least tokens of a cell, over every order of its blocks and of the sides of each.

    Each block in turn is the one of the least tokens. Where several blocks have these and differ only
    in what reads them, every choice is followed. A polynomial bound would be one for the isomorphism
    of graphs; the worst cell of `MOST_BLOCKS` that is known has 720 choices, and most have one.
    """
    kinds: list[_Kind] = [
        (tuple(sorted([(first, left), (second, right)])), combination)
        for first, second, left, right, combination in blocks
    ]
    written: list[int] = []
    ways: set[frozenset[_Group]] = {frozenset()}
    for number in range(2, 2 + len(kinds)):
        found = [placed for groups in ways for placed in _placements(kinds, groups, number)]
        least = min(tokens for tokens, _ in found)
        ways = {groups for tokens, groups in found if tokens == least}
        written += least
    return tuple(written)


def _placements(
    kinds: Sequence[_Kind], groups: frozenset[_Group], number: int
) -> Iterator[tuple[tuple[int, ...], frozenset[_Group]]]:
    """What can be state ``number``: its tokens, and the groups with it."""
    for group in groups:
        if len(group.numbers) < len(group.members):
            yield group.tokens, groups - {group} | {group._replace(numbers=(*group.numbers, number))}
    placed = {block for group in groups for block in group.members}
    for kind in {kind for block, kind in enumerate(kinds) if block not in placed}:
        sides, combination = kind
        read = {state for state, _ in sides if state >= 2}
        members = frozenset(block for block, other in enumerate(kinds) if other == kind)
        for order in itertools.permutations(read):
            if (taken := _taken(order, groups)) is None:
                continue
            states, rest = taken
            (first, left), (second, right) = sorted((states.get(s, s), name) for s, name in sides)
            tokens = (first, second, left, right, combination)
            yield tokens, rest | {_Group(members, (number,), tokens)}


def _taken(
    order: Sequence[int], groups: frozenset[_Group]
) -> tuple[dict[int, int], frozenset[_Group]] | None:
    """The least states that blocks can be, each in its turn, and the groups when they are these."""
    states: dict[int, int] = {}
    for state in order:
        block = state - 2
        group = next((group for group in groups if block in group.members), None)
        if group is None or not group.numbers:
            return None
        states[state], *numbers = group.numbers
        apart = {group._replace(members=frozenset([block]), numbers=(states[state],))}
        if others := group.members - {block}:
            apart.add(group._replace(members=others, numbers=tuple(numbers)))
        groups = groups - {group} | apart
    return states, groups
