import re
from pathlib import Path

import pytest
from rich.table import Table

from nasnet_zoo.cli import main
from nasnet_zoo.reports.tables import models_markdown, models_table, print_table


def test_the_page_in_the_docs_is_the_commands_output():
    page = Path(__file__).parents[2] / "docs" / "models.md"
    assert page.read_text(encoding="utf-8") == models_markdown(), "run `make docs`"


def test_a_row_shows_published_and_built_side_by_side():
    row = next(row for row in models_table() if row.model == "nasnet_large")
    assert (row.published_parameters, row.parameters) == ("88.9 M", "88,753,150")
    assert (row.published_mult_adds, row.mult_adds) == ("23,800 M", "23,783.4 M")


def test_names_of_models_are_whole_off_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [row.model for row in models_table()]
    assert [line.split()[2] for line in lines] == [row.parameters for row in models_table()]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("columns", [20, 40, 80])
def test_no_cell_is_cut_off(capsys, monkeypatch, terminal, columns):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    names = ["a name that is rather long for a class", "[red]", ":cat:"]
    table = Table("class", *("column" for _ in range(4)), box=None)
    for name in names:
        table.add_row(name, *(f"{10**k * 1234567:,}" for k in range(4)))
    print_table(table)
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    for name in names:
        assert any(line.strip().startswith(name) for line in lines)
    assert "…" not in "".join(lines)
    digits = "".join(c for line in lines for c in line if c.isdigit())
    assert len(digits) == 3 * (7 + 8 + 9 + 10)
