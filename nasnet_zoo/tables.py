"""The table of models: what the papers published beside what is built here."""

from __future__ import annotations

from typing import NamedTuple

from nasnet_zoo.models import PRESETS
from nasnet_zoo.network import architecture_cost


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
                str(a.cells),
                str(a.filters),
                f"{preset.parameters} M" if preset.parameters else "-",
                f"{cost.parameters:,}",
                f"{preset.mult_adds:,} M" if preset.mult_adds else "-",
                f"{cost.mult_adds / 1e6:,.1f} M",
                preset.accuracy,
            )
        )
    return rows


def models_markdown() -> str:
    """The table and the readings behind it as a Markdown page."""
    lines = [
        "# Models",
        "",
        "Written by `make docs`. Accuracies are the papers' own.",
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
