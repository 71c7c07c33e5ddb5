"""The pictures of README and docs are those that `make pictures` draws."""

import re
import runpy

import pytest
from doc_pages import PAGES, ROOT

DOCS = ROOT / "docs"
PICTURES = runpy.run_path(str(DOCS / "pictures.py"))


@pytest.mark.parametrize("name", PICTURES["CELLS"])
def test_cells_are_drawn_from_their_genotypes(name):
    draw, genotype = PICTURES["CELLS"][name]
    drawn = (DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn == draw(genotype), "run `make pictures`"


def test_the_chart_has_the_figures_of_the_table():
    times = PICTURES["milliseconds"]((DOCS / "export.md").read_text(encoding="utf-8"))
    shown = {times[file] for files in PICTURES["LATENCIES"].values() for file in files}
    chart = (DOCS / "pictures" / "latency.svg").read_text(encoding="utf-8")
    values = set(re.findall(r">(\d+\.\d)</text>", chart))
    assert {f"{time:.1f}" for time in shown} == values, "run `make pictures`"


def test_pictures_are_small_and_each_is_shown():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    pictures = [*(DOCS / "pictures").iterdir(), *DOCS.glob("*.png"), *DOCS.glob("*.svg")]
    assert {path.stem for path in (DOCS / "pictures").iterdir()} == {*PICTURES["CELLS"], "latency"}
    for path in pictures:
        assert path.stat().st_size < 300_000, path
        assert path.relative_to(DOCS).as_posix() in pages, path
