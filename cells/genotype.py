"""Genotypes: cells as plain data.

States are numbered: 0 is ``h_i`` (the previous cell's output), 1 is ``h_{i-1}`` (the one before
it), and the outputs of the blocks follow in order. NASNet-B's cells start from four states, so
their blocks are numbered from 4.

All classes are frozen, validate themselves, and convert to JSON and back. Invalid data raises a
`ValueError` that names its place, such as ``normal.blocks[2].operations[0]``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasnet_zoo.files import parse_json, read_text, write_text

from .operations import COMBINATIONS, OPERATIONS

# Maximum number of blocks of a cell, and of initial states or projections.
_BLOCKS, _STATES = 100, 8


def _expect(condition: bool, place: str, expected: str, received: Any) -> None:
    if not condition:
        text = repr(received)
        shown = text if len(text) <= 200 else f"{text[:200]} ..."
        raise ValueError(f"{place}: expected {expected}. Received: {shown}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _expect_count(value: Any, place: str) -> None:
    expected = f"an int of at least 1 and of at most {_STATES}"
    _expect(_is_int(value) and 1 <= value <= _STATES, place, expected, value)


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
            _expect(is_pair, f"{place}.{field}", "a pair", pair)
        for k, state in enumerate(self.inputs):
            _expect(_is_int(state), f"{place}.inputs[{k}]", "a state number", state)
        for k, operation in enumerate(self.operations):
            known = isinstance(operation, str) and operation in OPERATIONS
            choices = f"one of {', '.join(OPERATIONS)}"
            _expect(known, f"{place}.operations[{k}]", choices, operation)
        known = isinstance(self.combination, str) and self.combination in COMBINATIONS
        choices = f"one of {', '.join(COMBINATIONS)}"
        _expect(known, f"{place}.combination", choices, self.combination)


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
        _expect(some, f"{place}.blocks", f"from 1 to {_BLOCKS} blocks", self.blocks)
        _expect(isinstance(self.labelled, bool), f"{place}.labelled", "a bool", self.labelled)
        for k, block in enumerate(self.blocks):
            _expect(isinstance(block, Block), f"{place}.blocks[{k}]", "a Block", block)
            block.check(f"{place}.blocks[{k}]")
            for j, state in enumerate(block.inputs):
                exists = f"a state that exists, 0 to {self.inputs + k - 1}"
                here = 0 <= state < self.inputs + k
                _expect(here, f"{place}.blocks[{k}].inputs[{j}]", exists, state)
        states = self.inputs + len(self.blocks)
        is_list = isinstance(self.outputs, (tuple, list)) and len(self.outputs) > 0
        _expect(is_list, f"{place}.outputs", "a list of states", self.outputs)
        for k, state in enumerate(self.outputs):
            exists = f"a state that exists, 0 to {states - 1}"
            _expect(_is_int(state) and 0 <= state < states, f"{place}.outputs[{k}]", exists, state)
        unique = len(set(self.outputs)) == len(self.outputs)
        _expect(unique, f"{place}.outputs", "every state at most once", self.outputs)
        _expect_count(self.projections, f"{place}.projections")
        if self.labelled:
            fits = len(self.outputs) == self.inputs
            _expect(fits, f"{place}.outputs", f"{self.inputs} states, one per input", self.outputs)
            single = self.projections == 1
            _expect(single, f"{place}.projections", "1 in a labelled cell", self.projections)

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
        _check_keys(data, place, required=("blocks",), optional=optional)
        blocks = data["blocks"]
        some = isinstance(blocks, list) and 1 <= len(blocks) <= _BLOCKS
        _expect(some, f"{place}.blocks", f"a list of 1 to {_BLOCKS} blocks", blocks)
        inputs = data.get("inputs", 2)
        _expect_count(inputs, f"{place}.inputs")
        parsed = tuple(_block(block, f"{place}.blocks[{k}]") for k, block in enumerate(blocks))
        if "outputs" in data:
            _expect(bool(data["outputs"]), f"{place}.outputs", "a list of states", data["outputs"])
        outputs, labelled = data.get("outputs", ()), data.get("labelled", False)
        return _at(place, cls, parsed, outputs, inputs, labelled, data.get("projections", 1))


def _at(place: str, cls: type, *args: Any) -> Any:
    """Build ``cls(*args)`` with errors that start with ``place`` instead of the class's name."""
    try:
        return cls(*args)
    except ValueError as error:
        own = "block" if cls is Block else "cell"
        raise ValueError(place + str(error).removeprefix(own)) from None


def _check_keys(data: Any, place: str, required: Sequence[str], optional: Sequence[str]) -> None:
    _expect(isinstance(data, dict), place, "an object", data)
    for key in required:
        _expect(key in data, place, f"the key {key!r}", sorted(data))
    unknown = sorted(set(data) - {*required, *optional})
    _expect(not unknown, place, f"only the keys {[*required, *optional]}", unknown)


def _block(data: Any, place: str) -> Block:
    _check_keys(data, place, required=("inputs", "operations"), optional=("combination",))
    return _at(place, Block, data["inputs"], data["operations"], data.get("combination", "add"))


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell: the result of a search, from which networks are built.

    Args:
        name: Name of the genotype.
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
        _expect(isinstance(self.name, str), "name", "a string", self.name)
        for kind in ("normal", "reduction"):
            cell = getattr(self, kind)
            _expect(isinstance(cell, CellGenotype), kind, "a CellGenotype", cell)
        ways = [(cell.inputs, cell.labelled) for cell in (self.normal, self.reduction)]
        _expect(ways[0] == ways[1], "reduction", "the inputs and labelled of the normal cell", ways)

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
        _check_keys(data, "genotype", required=("normal", "reduction"), optional=("name",))
        cells = (CellGenotype.from_dict(data[kind], kind) for kind in ("normal", "reduction"))
        return cls(data.get("name", "genotype"), *cells)

    def to_json(self) -> str:
        """Return the genotype as indented JSON."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Build a genotype from the JSON text of `to_json`.

        Raises:
            ValueError: If the text is not JSON (with line and column), or is not a genotype (with the
                place of the error).
        """
        return cls.from_dict(parse_json(text, "genotype: expected JSON"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the genotype as JSON. An existing file is replaced atomically."""
        write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Genotype:
        """Read a genotype from a JSON file.

        Raises:
            ValueError: If the file is not a genotype. The message names the file and the place.
            OSError: If the file cannot be read.
        """
        text = read_text(path, "a genotype in JSON")
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
