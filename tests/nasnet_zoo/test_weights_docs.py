"""docs/weights.md shows the tables that the code uses."""

from pathlib import Path

import pytest

from nasnet_zoo.weights import keras_hdf5, slim, timm

PAGE = Path(__file__).parents[2] / "docs" / "weights.md"


@pytest.mark.parametrize("source", [keras_hdf5, slim, timm], ids=lambda source: source.__name__)
def test_the_page_shows_every_row(source):
    page = PAGE.read_text()
    for ours, theirs in source.TABLE.items():
        assert f"| `{ours}` | `{theirs}` |" in page
