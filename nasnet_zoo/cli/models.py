"""``nasnet-zoo models``."""

from __future__ import annotations

from typing import Any

from .shared import Json


def models(*, markdown: str | None = None, json: Json = None) -> list[dict[str, Any]]:
    """List the papers' models, published and as built here.

    Args:
        markdown: File for a Markdown page, which is written instead of a list on the terminal.

    Example:
        nasnet-zoo models --json models.json
    """
    from nasnet_zoo.reports.tables import models_figures, models_markdown, models_table, print_table

    if markdown:
        from nasnet_zoo.files import write_text

        write_text(markdown, models_markdown())
        return models_figures()
    from rich.table import Table

    table = Table("model", "image", "parameters", "published", "mult-adds", "published", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in models_table():
        cells = (row.model, row.image, row.parameters, row.published_parameters)
        table.add_row(*cells, row.mult_adds, row.published_mult_adds)
    print_table(table)
    return models_figures()
