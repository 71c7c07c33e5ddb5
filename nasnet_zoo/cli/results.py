"""``nasnet-zoo search best``, ``list`` and ``show``: reports on the folder of a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.table import Table
from tyro.conf import arg

from nasnet_zoo.checking import NonNegativeInt, PositiveInt
from nasnet_zoo.files import check_writable, write_text

if TYPE_CHECKING:
    from nasnet_zoo.cells.genotype import CellGenotype, Genotype
    from nasnet_zoo.search.journal import Record
    from nasnet_zoo.search.results import SearchResults

Folder = Annotated[
    str, arg(metavar="FOLDER", help="Folder of a search, which may be running. It is not changed.")
]


def best_child(folder: Folder, /, *, out: str | None = None) -> None:
    """Show the best child of a search so far.

    Args:
        out: JSON file for its genotype.
    """
    from nasnet_zoo.search.results import read_results

    results = read_results(folder)
    _check_written(out, results)
    best = results.best()
    genotype = results.genotype(best)
    _print_child(results, results.child(best.number), genotype)
    if out:
        genotype.save(out)


def list_children(
    folder: Folder,
    /,
    *,
    top: PositiveInt | None = None,
    sort: Literal["reward", "number", "parameters"] = "reward",
    csv: str | None = None,
    json: str | None = None,
) -> None:
    """List the children of a search, with rewards and costs.

    Args:
        top: Largest number of children to list. Default: all.
        sort: Order of the list: by reward, best first, by number, or by parameters, fewest first.
        csv: CSV file for the list.
        json: JSON file for the list.
    """
    from nasnet_zoo.reports.tables import print_table
    from nasnet_zoo.search.results import as_csv, as_json, read_results

    results = read_results(folder)
    for path in (csv, json):
        _check_written(path, results)
    rows = results.rows(sort, top)
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
    if csv:
        write_text(csv, as_csv(rows))
    if json:
        write_text(json, as_json(rows))


def show_child(folder: Folder, number: NonNegativeInt, /, *, picture: str | None = None) -> None:
    """Show a child of a search: its cells, and how its training went.

    Args:
        number: Number of the child.
        picture: SVG file for a drawing of its cells.
    """
    from nasnet_zoo.cells.draw import genotype_svg
    from nasnet_zoo.search.results import read_results

    results = read_results(folder)
    if picture and Path(picture).suffix.lower() != ".svg":
        raise ValueError(f"{picture}: expected a picture of type svg. Received: {picture}")
    _check_written(picture, results)
    record = results.child(number)
    genotype = results.genotype(record)
    _print_child(results, record, genotype)
    if picture:
        write_text(picture, genotype_svg(genotype))


_COLUMNS = (
    *("child", "state", "reward", "retrained", "parameters", "mult-adds", "seconds", "minibatch"),
    *("same as", "error"),
)


def _check_written(path: str | None, results: SearchResults) -> None:
    if path:
        check_writable(path, results.folder.iterdir())


def _print_child(results: SearchResults, record: Record, genotype: Genotype) -> None:
    """Print a child of the search in full."""
    from nasnet_zoo.reports.tables import print_table

    result, retrained = results.result(record), results.retrained_child(record.number)
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
    if retrained:
        facts |= {
            "retrained": _reward(retrained.reward),
            "retraining seconds": _seconds(retrained.seconds),
            "retraining curve": _curve(retrained.result or {}),
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
