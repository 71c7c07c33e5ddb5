import dataclasses

import pytest
from hypothesis import given
from strategies import examples, recurrent_genotypes
from test_draw import read

from nasnet_zoo.cells import NASCELL, RecurrentGenotype, TreeNode
from nasnet_zoo.cells.draw_recurrent import recurrent_svg
from nasnet_zoo.cells.operations import GREEN, YELLOW


def test_the_picture_of_the_found_cell_has_its_nodes():
    _, boxes, _, heads = read(recurrent_svg(NASCELL))
    combinations = [box.text for box in boxes if box.colour == GREEN]
    activations = [box.text for box in boxes if box.colour == YELLOW]
    assert len(combinations) == len(activations) == 15 + 1
    assert combinations.count("elem mult") == 5
    assert activations.count("tanh") == 8
    assert [box.text for box in boxes].count("x t") == 8
    # Two into each node, one in it; two of the injection, c in and c out, and h.
    assert heads == 15 * 3 + 2 + 2 + 1


@examples(40)
@given(recurrent_genotypes())
def test_any_recurrent_cell_is_drawn_whole_without_overlap(genotype):
    root, boxes, lines, heads = read(recurrent_svg(dataclasses.replace(genotype, name="any")))
    leaves = genotype.base
    assert len(boxes) == 2 * (2 * leaves - 1) + 2 + 2 * leaves + 3
    assert heads == 3 * (2 * leaves - 1) + 5
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])
    width, height = (float(size) for size in root.get("viewBox").split()[2:])
    assert all(
        0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height for box in boxes
    )
    for line in lines:
        assert not [box for box in boxes for x, y in line if box.contains(x, y)]


@pytest.mark.parametrize("name", ["<cell & co>"])
def test_the_name_of_a_recurrent_cell_is_escaped(name):
    node = TreeNode("add", "tanh")
    picture = recurrent_svg(RecurrentGenotype(name, (node,), node, (0, 0)))
    assert "&lt;cell &amp; co&gt;" in picture
