"""``nasnet-zoo search best``, ``list`` and ``show``: reports on the folder of a search."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.table import Table
from tyro.conf import arg

from nasnet_zoo.cells.genotype import CellGenotype, Genotype
from nasnet_zoo.checking import NonNegativeInt, PositiveInt
from nasnet_zoo.files import check_writable, write_text

from .shared import Json

if TYPE_CHECKING:
    from nasnet_zoo.search.journal import Record
    from nasnet_zoo.search.results import SearchResults
    from nasnet_zoo.search.space import Space

    from .figures import JsonFile

Folder = Annotated[
    str, arg(metavar="FOLDER", help="Folder of a search, which may be running. It is not changed.")
]


def best_child(folder: Folder, /, *, out: str | None = None, json: Json = None) -> dict[str, Any]:
    """Show the best child of a search so far.

    Args:
        out: JSON file for its architecture, such as a genotype.

    Example:
        nasnet-zoo search best runs/search --out best.json
    """
    from nasnet_zoo.search.results import read_results

    results = read_results(folder)
    _check_written(out, json, results)
    best = results.best()
    child = results.child(best.number)
    _print_child(results, child)
    if out:
        write_text(out, dumps(best.named_architecture, indent=2) + "\n")
    return _figures(results, child)


def list_children(
    folder: Folder,
    /,
    *,
    top: PositiveInt | None = None,
    sort: str = "reward",
    csv: str | None = None,
    json: Json = None,
) -> list[dict[str, Any]]:
    """List the children of a search, with rewards and costs.

    Args:
        top: Largest number of children to list. Default: all.
        sort: Order of the list: reward, best first; number; or the name of a cost, such as parameters,
            least first.
        csv: CSV file for the list.

    Example:
        nasnet-zoo search list runs/search --top 10 --sort parameters
    """
    from nasnet_zoo.reports.tables import print_table
    from nasnet_zoo.search.report import format_cost, title
    from nasnet_zoo.search.results import as_csv, read_results

    results = read_results(folder)
    _check_written(csv, json, results)
    rows = results.rows(sort, top)
    texts = ("state", "message")
    table = Table(box=None)
    for name in results.columns:
        justify: Literal["left", "right"] = "left" if name in texts else "right"
        table.add_column(_TITLES.get(name, title(name)), justify=justify)
    for row in rows:
        shown = {
            "reward": _reward(row["reward"]),
            "retrained_reward": _reward(row["retrained_reward"]),
            "seconds": _seconds(row["seconds"]),
        }
        table.add_row(
            *(
                shown.get(name)
                or (" ".join((value or "").split()) if name in texts else format_cost(value))
                for name, value in row.items()
            )
        )
    print_table(table)
    if csv:
        write_text(csv, as_csv(results.columns, rows))
    return rows


def show_child(
    folder: Folder, number: NonNegativeInt, /, *, picture: str | None = None, json: Json = None
) -> dict[str, Any]:
    """Show a child of a search: what it consists of, and how its training went.

    Args:
        number: Number of the child.
        picture: SVG file for a drawing of it.

    Example:
        nasnet-zoo search show runs/search 17 --picture child.svg
    """
    from nasnet_zoo.search.results import read_results

    results = read_results(folder)
    if picture and Path(picture).suffix.lower() != ".svg":
        raise ValueError(f"{picture}: expected a picture of type svg. Received: {picture}")
    _check_written(picture, json, results)
    record = results.child(number)
    space = _space(results)
    if picture and space is None:
        raise ValueError(
            f"{folder}: expected a search of one of the command's spaces to draw a child. "
            "Received: another search"
        )
    _print_child(results, record)
    if picture and space:
        drawn = space.draw(_architecture(results, record, space))
        assert drawn is not None
        write_text(picture, drawn)
    return _figures(results, record)


_TITLES = {
    "number": "child",
    "retrained_reward": "retrained",
    "version": "minibatch",
    "same_as": "same as",
    "message": "error",
}


def _check_written(path: str | None, json: JsonFile | None, results: SearchResults) -> None:
    if path:
        check_writable(path, results.folder.iterdir())
    if json:
        json.check(results.folder.iterdir())


def _figures(results: SearchResults, record: Record) -> dict[str, Any]:
    """A child of the search in full."""
    retrained = results.retrained_child(record.number)
    return {
        **results.row(record),
        "seed": record.seed,
        "curve": results.evaluated(record).curve,
        "retraining_curve": retrained and retrained.curve,
        "architecture": record.named_architecture,
    }


def _space(results: SearchResults) -> Space | None:
    """The space of a search, to describe and draw its children; None of a space of a user's own."""
    from .search import SPACES

    kind = results.settings.get("space.kind")
    return SPACES[kind].settings().space if kind in SPACES else None


def _architecture(results: SearchResults, record: Record, space: Space) -> Any:
    """The architecture of a child."""
    try:
        return space.from_json(record.named_architecture)
    except ValueError as error:
        raise ValueError(f"{results.folder}: {record.name}: {error}") from None


def _print_child(results: SearchResults, record: Record) -> None:
    """Print a child of the search in full."""
    from nasnet_zoo.reports.tables import print_table
    from nasnet_zoo.search.report import format_cost, title

    space = _space(results)
    architecture = space and _architecture(results, record, space)
    evaluated, retrained = results.evaluated(record), results.retrained_child(record.number)
    row = results.row(record)
    facts = {
        "child": str(record.number),
        "state": record.state,
        "reward": _reward(record.reward),
        **{title(name): format_cost(row[name]) for name in results.metrics},
        **{title(name): format_cost(value) for name, value in record.costs.items()},
        "seconds": _seconds(record.seconds),
        "minibatch": str(record.version),
        "seed": str(record.seed),
        "parent": None if record.parent is None else f"child {record.parent}",
        "same as": None if record.same_as is None else f"child {record.same_as}",
        "error": evaluated.message,
        "learning curve": _curve(evaluated),
    }
    if retrained:
        facts |= {
            "retrained": _reward(retrained.reward),
            "retraining seconds": _seconds(retrained.seconds),
            "retraining curve": _curve(retrained),
        }
    for name, value in facts.items():
        if value:
            print(f"{name:20} {' '.join(value.split())}")
    print()
    if space is None:
        print(dumps(record.architecture, indent=2))
    elif isinstance(architecture, Genotype):
        print_table(_blocks(architecture))
    else:
        print(space.describe(architecture))


def _curve(record: Record) -> str:
    return ", ".join(map(_reward, record.curve))


def _reward(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


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
