"""NASNet's search space ([N] section 3): the cells that can be drawn, as actions and as genotypes."""

from __future__ import annotations

import functools
import itertools
import json
import math
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from annotated_types import Interval

from nasnet_zoo.cells import SEARCH_COMBINATIONS, SEARCH_OPERATIONS, Block, CellGenotype, Genotype
from nasnet_zoo.cells.draw import genotype_svg
from nasnet_zoo.cells.operations import COMBINATIONS, OPERATIONS
from nasnet_zoo.checking import check_fields
from nasnet_zoo.search.space import Actions, SequenceSpace, Step

#: Kind of each action of a block, in order.
BLOCK_CHOICES = ("state", "state", "operation", "operation", "combination")
#: Maximum number of blocks of a cell. It bounds the time that `NASNetSpace.canonical` takes.
MOST_BLOCKS = 12


@dataclass(frozen=True)
class NASNetSpace(SequenceSpace[Genotype]):
    """All cells of B blocks.

    A child is a sequence of actions, five for each block: the two states that it reads, an
    operation for each, and the combination. An action is the index of a choice. A block reads one
    of the two inputs of the cell or one of the blocks before it.

    Args:
        blocks: Number of blocks of a cell, B, from 1 to 12.
        operations: Names of the operations to choose from.
        combinations: Names of the combinations to choose from.
        cells: 2 to search a normal and a reduction cell, 1 to search one cell that is both.

    Raises:
        ValueError: If a number is out of range, there are no names to choose from, or a name is not
            registered or is repeated.
    """

    legend: ClassVar[str] = (
        "A cell reads the outputs of the two cells before it, h(i-1) and h(i). Operations are yellow, "
        "combinations green, the output pink."
    )

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

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """Kind and number of choices of each action."""
        fixed = {"operation": len(self.operations), "combination": len(self.combinations)}
        cell = [
            Step(kind, 2 + block if kind == "state" else fixed[kind])
            for block in range(self.blocks)
            for kind in BLOCK_CHOICES
        ]
        return tuple(cell) * self.cells

    @property
    def size(self) -> int:
        """Number of sequences of actions."""
        return math.prod(self.choices)

    def genotype(self, actions: Sequence[int], name: str = "child") -> Genotype:
        """Return the genotype of a sequence of actions, block by block.

        Raises:
            ValueError: If these are not the actions of a child.
        """
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
            for cell in self._cells(actions)
        ]
        return Genotype(name, cells[0], cells[-1])

    def actions(self, genotype: Genotype) -> Actions:
        """Return the actions of a genotype, the inverse of `genotype`.

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
            actions = self.check(found)
        except ValueError:
            raise ValueError(f"Expected a genotype of {self}. Received: {genotype}") from None
        if self.genotype(actions, genotype.name) != genotype:
            raise ValueError(
                "Expected cells whose output concatenates the blocks that no block reads"
                f"{', both alike' if self.cells == 1 else ''}. Received: {genotype}"
            )
        return actions

    def canonical(self, actions: Sequence[int]) -> Actions:
        """Return the lexicographically least of all sequences of actions of the same child.

        Blocks may stand in any order in which each comes after what it reads, and the two sides of
        a block may change places: concatenations then only permute channels.
        """
        return tuple(action for cell in self._cells(actions) for action in _least_actions(cell))

    def _cells(self, actions: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
        """The blocks of each cell, each as its five actions."""
        flat, width = self.check(actions), len(BLOCK_CHOICES)
        blocks = tuple(flat[k : k + width] for k in range(0, len(flat), width))
        return (blocks[k * self.blocks : (k + 1) * self.blocks] for k in range(self.cells))

    # === What the search asks of a space ===

    def decode(self, actions: Sequence[int]) -> Genotype:
        """Return the genotype of the canonical actions, the same for equal children."""
        return self.genotype(self.canonical(actions))

    def to_json(self, architecture: Genotype) -> dict[str, Any]:
        """Return the two cells of a genotype."""
        return {name: cell for name, cell in architecture.to_dict().items() if name != "name"}

    def from_json(self, data: dict[str, Any]) -> Genotype:
        """Return the genotype of two cells."""
        return Genotype.from_dict(data)

    def key(self, architecture: Genotype) -> str:
        """Return the canonical actions of a genotype."""
        return json.dumps(self.canonical(self.actions(architecture)))

    def seed(self, key: str, seed: int) -> int:
        """Return the seed of a child, that which it had in searches of earlier versions, too."""
        return zlib.crc32(np.array([seed, *json.loads(key)], np.uint32).tobytes())

    def about(self) -> dict[str, Any]:
        """Return that the children are cells; the settings of the search hold the rest."""
        return {"kind": "nasnet"}

    def traits(self, actions: Actions) -> Iterable[Hashable]:
        """Return the canonical actions, each at its place."""
        return super().traits(self.canonical(actions))

    def features(self, architecture: Genotype) -> Mapping[str, float]:
        """Return the share of each operation in each of the two cells."""
        return {
            f"{kind} cell: {name}": count / (2 * len(cell.blocks))
            for kind, cell in (("normal", architecture.normal), ("reduction", architecture.reduction))
            for name, count in Counter(n for b in cell.blocks for n in b.operations).items()
        }

    def describe(self, architecture: Genotype) -> str:
        """Return the blocks of the two cells: what each state is computed from."""
        return "\n".join(
            f"{kind} cell: {_blocks(cell)}"
            for kind, cell in (("normal", architecture.normal), ("reduction", architecture.reduction))
        )

    def draw(self, architecture: Genotype) -> str:
        """Return a picture of the two cells."""
        return genotype_svg(architecture)


def _blocks(cell: CellGenotype) -> str:
    return "; ".join(
        f"{number} = {block.combination}({left} of {first}, {right} of {second})"
        for number, block in enumerate(cell.blocks, 2)
        for (first, second), (left, right) in [(block.inputs, block.operations)]
    )


class _Group(NamedTuple):
    """Blocks of a cell that have the same actions, the first of them placed.

    Which of them has which number is left open until a block that reads one of them is placed.

    Args:
        members: the blocks.
        numbers: of the states that they are so far, at most one for each.
        actions: of each of them.
    """

    members: frozenset[int]
    numbers: tuple[int, ...]
    actions: tuple[int, ...]


# The sides of a block, as states and operations, and its combination; states in the order given.
_Kind = tuple[tuple[tuple[int, int], ...], int]


@functools.lru_cache(maxsize=4096)
def _least_actions(blocks: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """The least actions of a cell, over every order of its blocks and of the sides of each.

    Each block in turn is the one of the least actions. Where several blocks have these and differ only
    in what reads them, every choice is followed. Without a bound on the blocks no polynomial algorithm
    is known: blocks that read two of several equal ones are the edges of a graph, and equal cells are
    isomorphic graphs. The worst cell of `MOST_BLOCKS` that is known has 720 choices and takes 30 ms;
    most have one.
    """
    kinds: list[_Kind] = [
        (tuple(sorted([(first, left), (second, right)])), combination)
        for first, second, left, right, combination in blocks
    ]
    written: list[int] = []
    ways: set[frozenset[_Group]] = {frozenset()}
    for number in range(2, 2 + len(kinds)):
        found = [placed for groups in ways for placed in _placements(kinds, groups, number)]
        least = min(actions for actions, _ in found)
        ways = {groups for actions, groups in found if actions == least}
        written += least
    return tuple(written)


def _placements(
    kinds: Sequence[_Kind], groups: frozenset[_Group], number: int
) -> Iterator[tuple[tuple[int, ...], frozenset[_Group]]]:
    """What can be state ``number``: its actions, and the groups with it."""
    for group in groups:
        if len(group.numbers) < len(group.members):
            yield group.actions, groups - {group} | {group._replace(numbers=(*group.numbers, number))}
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
            actions = (first, second, left, right, combination)
            yield actions, rest | {_Group(members, (number,), actions)}


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
