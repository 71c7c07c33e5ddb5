"""The table of models, what the papers published beside what is built here; tables on a terminal."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from nasnet_zoo.architecture import architecture_cost
from nasnet_zoo.presets import PRESETS


class ModelRow(NamedTuple):
    """A model's texts: its name, what the paper published, what is counted here.

    Parameters are the trainable ones, batch norm's scale and offset and the classifier included;
    mult-adds are those of convolutions and dense layers on one image.
    """

    model: str
    title: str
    image: str
    cells: str
    filters: str
    published_parameters: str
    parameters: str
    published_mult_adds: str
    mult_adds: str
    accuracy: str


_HEADINGS = ModelRow(
    "model",
    "in the papers",
    "image",
    "N",
    "F",
    "parameters (published)",
    "parameters (built)",
    "mult-adds (published)",
    "mult-adds (built)",
    "top-1 / top-5 or error (published)",
)


def models_table() -> list[ModelRow]:
    """One row per model."""
    rows = []
    for name, preset in PRESETS.items():
        a = preset.architecture
        cost = architecture_cost(a, preset.classes)
        rows.append(
            ModelRow(
                name,
                preset.title,
                str(a.image_size),
                str(getattr(a, "cells", "-")),
                str(getattr(a, "filters", "-")),
                f"{preset.parameters} M" if preset.parameters else "-",
                f"{cost.parameters:,}",
                f"{preset.mult_adds:,} M" if preset.mult_adds else "-",
                f"{cost.mult_adds / 1e6:,.1f} M",
                preset.accuracy,
            )
        )
    return rows


def models_figures() -> list[dict[str, Any]]:
    """The models as JSON takes them: numbers in full, None where nothing was published."""
    rows = []
    for name, preset in PRESETS.items():
        cost = architecture_cost(preset.architecture, preset.classes)
        parameters, mult_adds = preset.parameters, preset.mult_adds
        rows.append(
            {
                "model": name,
                "title": preset.title,
                "paper": preset.paper,
                "image_size": preset.architecture.image_size,
                "classes": preset.classes,
                "parameters": cost.parameters,
                "published_parameters": parameters and round(parameters * 1e6),
                "mult_adds": cost.mult_adds,
                "published_mult_adds": mult_adds and round(mult_adds * 1e6),
                "published_accuracy": preset.accuracy,
            }
        )
    return rows


def models_markdown() -> str:
    """The table and the readings behind it as a Markdown page."""
    lines = [
        "# Models",
        "",
        "Written by `make docs`. Accuracies are the papers' own. Parameters are the trainable ones:",
        "`count_params()` of Keras counts batch norm's moving means and variances too.",
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "|" + " --- |" * len(_HEADINGS),
        *("| " + " | ".join(row) + " |" for row in models_table()),
        "",
        "N and F, as built, are the cells in a stack (normal cells; in PNASNet all) and the filters of",
        "the first stack. Where the papers leave something open:",
        "",
        *(f"- `{name}`: {preset.reading}" for name, preset in PRESETS.items() if preset.reading),
    ]
    return "\n".join(lines) + "\n"


# What a column other than the first needs, at least, before its cells are hard to read.
_NARROW = 12


def print_table(table: Table) -> None:
    """Print a table whole: names in its first column stay in one line, no cell is cut off.

    Where standard output is no terminal, lines are as long as they need to be.

    Args:
        table: to print.
    """
    names, *others = table.columns
    names.no_wrap = True
    for column in others:
        column.overflow = "fold"
    console = Console(markup=False, emoji=False)
    natural = console.measure(table, options=console.options.update_width(10_000)).maximum
    least = max((len(str(name)) for name in names.cells), default=0) + _NARROW * len(others)
    width = max(console.width, min(natural, least)) if console.is_terminal else natural
    # A class may be called "[red]" or ":cat:".
    Console(width=width, markup=False, emoji=False).print(table)
