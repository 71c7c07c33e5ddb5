"""Genotypes: cells as plain data.

States are numbered: 0 is ``h_i`` (the previous cell's output), 1 is ``h_{i-1}`` (the one before
it), and the outputs of the blocks follow in order. NASNet-B's cells start from four states, so
their blocks are numbered from 4.

All classes are frozen, validate themselves, and convert to JSON and back. Invalid data raises a
`ValueError` that names its place, such as ``normal.blocks[2].operations[0]``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .operations import COMBINATIONS, OPERATIONS
from .serialization import JsonData, check_keys, expect, expect_name, is_int

# Maximum number of blocks of a cell, and of initial states or projections.
_BLOCKS, _STATES = 100, 8


def _expect_count(value: Any, place: str) -> None:
    expected = f"an int of at least 1 and of at most {_STATES}"
    expect(is_int(value) and 1 <= value <= _STATES, place, expected, value)


@dataclass(frozen=True)
class Block:
    """One block: two states, an operation on each, and their combination ([N] section 3).

    Args:
        inputs: Numbers of the two states that the block reads.
        operations: Names from `nasnet_zoo.cells.OPERATIONS`, one for each input.
        combination: Name from `nasnet_zoo.cells.COMBINATIONS`. Default: ``"add"``.

    Raises:
        ValueError: If a name is unknown or a value has the wrong type.
    """

    inputs: tuple[int, int]
    operations: tuple[str, str]
    combination: str = "add"

    def __post_init__(self) -> None:
        self.check("block")
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "operations", tuple(self.operations))

    def check(self, place: str) -> None:
        """Raise a `ValueError` whose message starts with ``place`` if a field is invalid."""
        for field in ("inputs", "operations"):
            pair = getattr(self, field)
            is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
            expect(is_pair, f"{place}.{field}", "a pair", pair)
        for k, state in enumerate(self.inputs):
            expect(is_int(state), f"{place}.inputs[{k}]", "a state number", state)
        for k, operation in enumerate(self.operations):
            known = isinstance(operation, str) and operation in OPERATIONS
            choices = f"one of {', '.join(OPERATIONS)}"
            expect(known, f"{place}.operations[{k}]", choices, operation)
        known = isinstance(self.combination, str) and self.combination in COMBINATIONS
        choices = f"one of {', '.join(COMBINATIONS)}"
        expect(known, f"{place}.combination", choices, self.combination)


@dataclass(frozen=True)
class CellGenotype:
    """A cell: its blocks and its outputs.

    Args:
        blocks: From 1 to 100 `Block`s. Block k computes state ``inputs + k``.
        outputs: Numbers of the states that form the output. Default: the blocks that no block reads.
        inputs: Number of initial states, from 1 to 8: 2, or 4 in NASNet-B. Default: 2.
        labelled: Whether the outputs are kept apart instead of being concatenated. Output k is then
            read by the (k+1)-th cell after this one (NASNet-B), so there is one for each input.
        projections: Number of successive 1x1 convolutions that bring ``h_i`` to F filters, from 1 to 8:
            1, or 2 in ENAS. Labelled cells have no projection and need the default, 1.

    Raises:
        ValueError: If a block reads a state that does not exist before it, an output does not exist,
            or a value has the wrong type.
    """

    blocks: tuple[Block, ...]
    outputs: tuple[int, ...] = ()
    inputs: int = 2
    labelled: bool = False
    projections: int = 1

    def __post_init__(self) -> None:
        _expect_count(self.inputs, "cell.inputs")
        if isinstance(self.blocks, (tuple, list)) and not self.outputs:
            read = {i for b in self.blocks if isinstance(b, Block) for i in b.inputs}
            states = range(self.inputs, self.inputs + len(self.blocks))
            object.__setattr__(self, "outputs", tuple(s for s in states if s not in read))
        self.check("cell")
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "outputs", tuple(self.outputs))

    def check(self, place: str) -> None:
        """Raise a `ValueError` whose message starts with ``place`` if the cell is invalid."""
        some = isinstance(self.blocks, (tuple, list)) and 1 <= len(self.blocks) <= _BLOCKS
        expect(some, f"{place}.blocks", f"from 1 to {_BLOCKS} blocks", self.blocks)
        expect(isinstance(self.labelled, bool), f"{place}.labelled", "a bool", self.labelled)
        for k, block in enumerate(self.blocks):
            expect(isinstance(block, Block), f"{place}.blocks[{k}]", "a Block", block)
            block.check(f"{place}.blocks[{k}]")
            for j, state in enumerate(block.inputs):
                exists = f"a state that exists, 0 to {self.inputs + k - 1}"
                here = 0 <= state < self.inputs + k
                expect(here, f"{place}.blocks[{k}].inputs[{j}]", exists, state)
        states = self.inputs + len(self.blocks)
        is_list = isinstance(self.outputs, (tuple, list)) and len(self.outputs) > 0
        expect(is_list, f"{place}.outputs", "a list of states", self.outputs)
        for k, state in enumerate(self.outputs):
            exists = f"a state that exists, 0 to {states - 1}"
            expect(is_int(state) and 0 <= state < states, f"{place}.outputs[{k}]", exists, state)
        unique = len(set(self.outputs)) == len(self.outputs)
        expect(unique, f"{place}.outputs", "every state at most once", self.outputs)
        _expect_count(self.projections, f"{place}.projections")
        if self.labelled:
            fits = len(self.outputs) == self.inputs
            expect(fits, f"{place}.outputs", f"{self.inputs} states, one per input", self.outputs)
            single = self.projections == 1
            expect(single, f"{place}.projections", "1 in a labelled cell", self.projections)

    def replace_operations(self, names: Mapping[str, str], of_states: Sequence[int]) -> CellGenotype:
        """Return a copy in which ``names`` renames the operations on the states ``of_states``."""

        def renamed(state: int, operation: str) -> str:
            return names.get(operation, operation) if state in of_states else operation

        blocks = []
        for block in self.blocks:
            left, right = map(renamed, block.inputs, block.operations)
            blocks.append(dataclasses.replace(block, operations=(left, right)))
        return dataclasses.replace(self, blocks=tuple(blocks))

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as JSON-compatible lists and dicts."""
        return {
            "inputs": self.inputs,
            "blocks": [
                {
                    "inputs": list(block.inputs),
                    "operations": list(block.operations),
                    "combination": block.combination,
                }
                for block in self.blocks
            ],
            "outputs": list(self.outputs),
            "labelled": self.labelled,
            "projections": self.projections,
        }

    @classmethod
    def from_dict(cls, data: Any, place: str = "cell") -> CellGenotype:
        """Build a cell from the dict of `to_dict`. All keys but ``blocks`` are optional.

        Raises:
            ValueError: If the data is invalid. The message names the place, starting with ``place``.
        """
        optional = ("outputs", "inputs", "labelled", "projections")
        check_keys(data, place, required=("blocks",), optional=optional)
        blocks = data["blocks"]
        some = isinstance(blocks, list) and 1 <= len(blocks) <= _BLOCKS
        expect(some, f"{place}.blocks", f"a list of 1 to {_BLOCKS} blocks", blocks)
        inputs = data.get("inputs", 2)
        _expect_count(inputs, f"{place}.inputs")
        parsed = tuple(_block(block, f"{place}.blocks[{k}]") for k, block in enumerate(blocks))
        if "outputs" in data:
            expect(bool(data["outputs"]), f"{place}.outputs", "a list of states", data["outputs"])
        outputs, labelled = data.get("outputs", ()), data.get("labelled", False)
        return _at(place, cls, parsed, outputs, inputs, labelled, data.get("projections", 1))


def _at(place: str, cls: type, *args: Any) -> Any:
    """Build ``cls(*args)`` with errors that start with ``place`` instead of the class's name."""
    try:
        return cls(*args)
    except ValueError as error:
        own = "block" if cls is Block else "cell"
        raise ValueError(place + str(error).removeprefix(own)) from None


def _block(data: Any, place: str) -> Block:
    check_keys(data, place, required=("inputs", "operations"), optional=("combination",))
    return _at(place, Block, data["inputs"], data["operations"], data.get("combination", "add"))


@dataclass(frozen=True)
class Genotype(JsonData):
    """A normal and a reduction cell: the result of a search, from which networks are built.

    Args:
        name: Name of the genotype, without control characters.
        normal: Cell that keeps the resolution.
        reduction: Cell that halves the resolution.

    Raises:
        ValueError: If the two cells differ in ``inputs`` or ``labelled``.

    Example::

        genotype = Genotype.load("winner.json")
        model = nasnet_zoo.NASNet(genotype, cells=2, filters=16, stem="cifar", classes=10)
    """

    name: str
    normal: CellGenotype
    reduction: CellGenotype

    def __post_init__(self) -> None:
        expect_name(self.name)
        for kind in ("normal", "reduction"):
            cell = getattr(self, kind)
            expect(isinstance(cell, CellGenotype), kind, "a CellGenotype", cell)
        ways = [(cell.inputs, cell.labelled) for cell in (self.normal, self.reduction)]
        expect(ways[0] == ways[1], "reduction", "the inputs and labelled of the normal cell", ways)

    def with_zero_padded_pools(self) -> Genotype:
        """Return the genotype of `keras.applications`: zeros pad the reduction cell's pools."""
        names = {"avg_3x3": "zero_avg_3x3", "max_3x3": "zero_max_3x3"}
        cell = self.reduction.replace_operations(names, range(self.reduction.inputs))
        return dataclasses.replace(self, reduction=cell)

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as JSON-compatible lists and dicts."""
        cells = {"normal": self.normal.to_dict(), "reduction": self.reduction.to_dict()}
        return {"name": self.name, **cells}

    @classmethod
    def from_dict(cls, data: Any) -> Genotype:
        """Build a genotype from the dict of `to_dict`.

        Raises:
            ValueError: If the data is invalid. The message names the place.
        """
        check_keys(data, "genotype", required=("normal", "reduction"), optional=("name",))
        cells = (CellGenotype.from_dict(data[kind], kind) for kind in ("normal", "reduction"))
        return cls(data.get("name", "genotype"), *cells)
