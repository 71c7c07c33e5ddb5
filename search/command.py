"""What the commands ``nasnet-zoo search best``, ``list`` and ``show`` do."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from nasnet_zoo.cells import CellGenotype, Genotype
from nasnet_zoo.cells.draw import genotype_svg
from nasnet_zoo.files import check_writable, write_text
from nasnet_zoo.tables import print_table

from .journal import Record
from .results import SearchResults, as_csv, as_json, read_results


def best_command(arguments: argparse.Namespace) -> None:
    """Prints the best child by the arguments of ``nasnet-zoo search best``."""
    results = read_results(arguments.folder)
    _check_written(arguments.out, results)
    best = results.best()
    genotype = results.genotype(best)
    _print_child(results, results.child(best.number), genotype)
    if arguments.out:
        genotype.save(arguments.out)


def list_command(arguments: argparse.Namespace) -> None:
    """Prints the children by the arguments of ``nasnet-zoo search list``."""
    results = read_results(arguments.folder)
    for path in (arguments.csv, arguments.json):
        _check_written(path, results)
    rows = results.rows(arguments.sort, arguments.top)
    table = Table(*_COLUMNS, box=None)
    for column in table.columns[2:9]:
        column.justify = "right"
    for row in rows:
        table.add_row(
            str(row.number),
            f"{row.state}, stopped early" if row.stopped else row.state,
            _reward(row.reward),
            _reward(row.retrained_reward),
            _count(row.parameters),
            _millions(row.mult_adds),
            _seconds(row.seconds),
            str(row.round),
            _count(row.same_as),
            " ".join((row.error or "").split()),
        )
    print_table(table)
    if arguments.csv:
        write_text(arguments.csv, as_csv(rows))
    if arguments.json:
        write_text(arguments.json, as_json(rows))


def show_command(arguments: argparse.Namespace) -> None:
    """Prints a child by the arguments of ``nasnet-zoo search show``."""
    results = read_results(arguments.folder)
    if arguments.picture and Path(arguments.picture).suffix.lower() != ".svg":
        raise ValueError(
            f"{arguments.picture}: expected a picture of type svg. Received: {arguments.picture}"
        )
    _check_written(arguments.picture, results)
    record = results.child(arguments.number)
    genotype = results.genotype(record)
    _print_child(results, record, genotype)
    if arguments.picture:
        write_text(arguments.picture, genotype_svg(genotype))


_COLUMNS = (
    *("child", "state", "reward", "trained anew", "parameters", "mult-adds", "seconds", "minibatch"),
    *("same as", "error"),
)


def _check_written(path: str | None, results: SearchResults) -> None:
    if path:
        check_writable(path, results.folder.iterdir())


def _print_child(results: SearchResults, record: Record, genotype: Genotype) -> None:
    """Prints a child of the search in full."""
    result, anew = results.result(record), results.trained_anew(record.number)
    facts = {
        "child": str(record.number),
        "state": record.state,
        "reward": _reward(record.reward),
        "parameters": _count(record.parameters),
        "mult-adds": _millions(record.mult_adds),
        "seconds": _seconds(record.seconds),
        "minibatch": str(record.round),
        "seed": str(record.seed),
        "same as": None if record.same_as is None else f"child {record.same_as}",
        "error": results.error(record),
        "learning curve": _curve(result),
        "stopped early": "yes" if result.get("stopped") else None,
    }
    if anew:
        facts |= {
            "trained anew": _reward(anew.reward),
            "its seconds": _seconds(anew.seconds),
            "its learning curve": _curve(anew.result or {}),
        }
    for name, value in facts.items():
        if value:
            print(f"{name:20} {' '.join(value.split())}")
    print()
    print_table(_blocks(genotype))


def _curve(result: dict) -> str:
    return ", ".join(map(_reward, result.get("rewards", ())))


def _reward(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _millions(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.2f} M"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def _blocks(genotype: Genotype) -> Table:
    """The blocks of a genotype's cells; equal cells once."""
    cells = {"normal": genotype.normal, "reduction": genotype.reduction}
    if genotype.normal == genotype.reduction:
        cells = {"normal, reduction": genotype.normal}
    table = Table("cell", "state", "left", "right", "combination", "leaves the cell", box=None)
    for name, cell in cells.items():
        for state, block in enumerate(cell.blocks, cell.inputs):
            left, right = (
                f"{operation} of {_state(cell, number)}"
                for operation, number in zip(block.operations, block.inputs, strict=True)
            )
            leaves = "yes" if state in cell.outputs else ""
            table.add_row(name, str(state), left, right, block.combination, leaves)
    return table


def _state(cell: CellGenotype, number: int) -> str:
    """The name of a state: of an initial one as in the papers, of a block's the number."""
    names = ("h_i", *(f"h_i-{k}" for k in range(1, cell.inputs)))
    return names[number] if number < cell.inputs else str(number)
