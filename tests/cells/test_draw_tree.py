import itertools
import re

import pytest
from hypothesis import given
from strategies import examples, tree_genotypes

from nasnet_zoo.cells import CONV_3X3, TREECELL_A, TREECELL_B, PathNode, TreeGenotype
from nasnet_zoo.cells.draw_tree import tree_svg

BOX = re.compile(r'translate\(([\d.]+) ([\d.]+)\)"><rect x="[-\d.]+" y="[-\d.]+" width="([\d.]+)"')


@pytest.mark.parametrize(("genotype", "edges"), [(TREECELL_A, 15), (TREECELL_B, 11), (CONV_3X3, 1)])
def test_the_picture_has_a_box_for_each_edge_and_each_node(genotype, edges):
    picture = tree_svg(genotype)
    # The input, the root, and an edge and a child for each branch.
    assert len(BOX.findall(picture)) == 2 + 2 * edges
    # From the input to the root, and two for each branch.
    assert picture.count("<path") == 1 + 2 * edges
    assert genotype.name in picture


def test_the_picture_says_what_figure_6_does():
    picture = tree_svg(TREECELL_A)
    labels = re.findall(r"<tspan[^>]*>([^<]*)<", picture)
    assert labels.count("3x3 group conv") == 2
    assert labels.count("3x3 avg") == 4
    assert labels.count("split, concat") == 1
    assert labels.count("replicate, add") == 6
    assert labels.count("leaf") == 9


@examples(30)
@given(genotype=tree_genotypes())
def test_boxes_are_inside_the_picture_and_apart(genotype):
    picture = tree_svg(genotype)
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', picture).groups())
    rows = {}
    for x, y, size in BOX.findall(picture):
        assert float(size) / 2 <= float(x) <= width - float(size) / 2
        assert 14 <= float(y) <= height - 14
        rows.setdefault(y, []).append((float(x) - float(size) / 2, float(x) + float(size) / 2))
    for row in rows.values():
        row.sort()
        assert all(left[1] < right[0] for left, right in itertools.pairwise(row))


def test_names_are_escaped():
    genotype = TreeGenotype("<a & b>", PathNode((("conv1", None),)))
    assert "&lt;a &amp; b&gt;" in tree_svg(genotype)
