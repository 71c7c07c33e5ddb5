from pathlib import Path

from nasnet_zoo.tables import models_markdown, models_table


def test_the_page_in_the_docs_is_the_commands_output():
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert page.read_text(encoding="utf-8") == models_markdown(), "run `make docs`"


def test_a_row_shows_published_and_built_side_by_side():
    row = next(row for row in models_table() if row.model == "nasnet_large")
    assert (row.published_parameters, row.parameters) == ("88.9 M", "88,753,150")
    assert (row.published_mult_adds, row.mult_adds) == ("23,800 M", "23,783.4 M")
