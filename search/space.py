"""The search space ([N] section 3): what a cell may be made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasnet_zoo.cells import SEARCH_COMBINATIONS, SEARCH_OPERATIONS, Block, CellGenotype, Genotype


def random_genotype(
    rng: np.random.Generator,
    blocks: int = 5,
    operations: Sequence[str] = SEARCH_OPERATIONS,
    combinations: Sequence[str] = SEARCH_COMBINATIONS,
    name: str = "random",
) -> Genotype:
    """Draws a genotype whose every choice is uniform: the paper's random search.

    A block chooses two of the states that exist, an operation for each, and a combination.

    Args:
        rng: the source of the draws.
        blocks: B, blocks in each of the two cells, at least 1.
        operations: names to choose from.
        combinations: names to choose from.
        name: of the genotype.

    Raises:
        ValueError: if there is nothing to choose from, or a name is not registered.
    """
    for argument, choices in (("operations", operations), ("combinations", combinations)):
        if not choices:
            raise ValueError(f"Expected at least one name in {argument}. Received: {choices!r}")
    if blocks < 1:
        raise ValueError(f"Expected blocks of at least 1. Received: {blocks=}")

    def pick(names: Sequence[str]) -> str:
        return names[int(rng.integers(len(names)))]

    def cell() -> CellGenotype:
        drawn = []
        for states in range(2, 2 + blocks):
            first, second = (int(state) for state in rng.integers(states, size=2))
            drawn.append(
                Block((first, second), (pick(operations), pick(operations)), pick(combinations))
            )
        return CellGenotype(tuple(drawn))

    return Genotype(name, cell(), cell())
