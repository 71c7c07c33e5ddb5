"""What a picture shows, read back from its SVG."""

import re
from collections import Counter
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest
from hypothesis import given
from strategies import cells

from nasnet_zoo.cells import (
    COMBINATIONS,
    NASNET_A,
    NASNET_B,
    OPERATIONS,
    Block,
    CellGenotype,
    Genotype,
    register_operation,
)
from nasnet_zoo.cells.draw import INPUT, OUTPUT, cell_svg, genotype_svg

SVG = "{http://www.w3.org/2000/svg}"
_NUMBER = r"(-?[\d.]+)"


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float
    colour: str
    text: str

    def overlaps(self, other):
        beside = self.right <= other.left or other.right <= self.left
        return not beside and not (self.bottom <= other.top or other.bottom <= self.top)

    def contains(self, x, y):
        """Well inside: arrows touch the edges of the boxes that they join."""
        return self.left + 1 < x < self.right - 1 and self.top + 1 < y < self.bottom - 1


def read(svg):
    """The document, its boxes, its lines (as points along them) and its number of arrow heads."""
    root = ElementTree.fromstring(svg)
    boxes = []
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is None:
            continue
        x, y = map(
            float, re.fullmatch(rf"translate\({_NUMBER} {_NUMBER}\)", group.get("transform")).groups()
        )
        width, height = float(rect.get("width")), float(rect.get("height"))
        text = " ".join(t for text in group.iter(f"{SVG}text") for t in text.itertext())
        boxes.append(
            Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2, rect.get("fill"), text)
        )
    lines, heads = [], 0
    for path in root.iter(f"{SVG}path"):
        values = [float(value) for value in re.findall(r"-?[\d.]+", path.get("d"))]
        if path.get("fill") == "none":
            lines.append([_bezier(values, t / 40) for t in range(41)])
        else:
            heads += 1
    return root, boxes, lines, heads


def _bezier(values, t):
    weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    return tuple(sum(w * values[2 * k + axis] for k, w in enumerate(weights)) for axis in (0, 1))


@pytest.mark.parametrize("labelled", [False, True])
def test_any_cell_is_drawn_whole_without_overlap(labelled):
    @given(cells(max_blocks=8, labelled=labelled))
    def check(cell):
        root, boxes, lines, heads = read(cell_svg(cell, "any"))
        concatenates = not labelled and len(cell.outputs) > 1
        states = len(cell.outputs) if labelled else 1 + concatenates
        assert len(boxes) == cell.inputs + 3 * len(cell.blocks) + states
        # Two arrows reach every block's operations, two its combination, one comes from each output.
        assert heads == 4 * len(cell.blocks) + len(cell.outputs) + concatenates
        for k, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[k + 1 :])
        width, height = (float(size) for size in root.get("viewBox").split()[2:])
        for box in boxes:
            assert 0 <= box.left < box.right <= width
            assert 0 <= box.top < box.bottom <= height
        for line in lines:
            assert all(0 <= x <= width and 0 <= y <= height for x, y in line)
            assert not [box for box in boxes for x, y in line if box.contains(x, y)]

    check()


def test_boxes_carry_the_registry_s_labels_and_colours():
    for cell in (NASNET_A.normal, NASNET_A.reduction, NASNET_B.normal):
        _, boxes, _, _ = read(cell_svg(cell, "cell"))
        drawn = Counter((box.text, box.colour) for box in boxes)
        expected = Counter()
        for block in cell.blocks:
            combination = COMBINATIONS[block.combination]
            expected[combination.label, combination.colour] += 1
            for name in block.operations:
                expected[OPERATIONS[name].label, OPERATIONS[name].colour] += 1
        assert expected <= drawn


def test_inputs_are_at_the_bottom_and_what_leaves_is_at_the_top():
    _, boxes, _, _ = read(cell_svg(NASNET_A.normal, "cell"))
    lowest = max(box.bottom for box in boxes)
    assert [box.text for box in boxes if box.bottom == lowest] == ["h i−1", "h i"]
    assert all(box.colour == INPUT for box in boxes if box.bottom == lowest)
    by_height = sorted(boxes, key=lambda box: box.top)
    assert [box.text for box in by_height[:2]] == ["h i+1", "concat"]
    assert by_height[1].colour == OUTPUT


def test_labelled_outputs_are_not_concatenated():
    _, boxes, _, _ = read(cell_svg(NASNET_B.reduction, "cell"))
    outputs = [box for box in boxes if box.colour == OUTPUT]
    assert sorted(box.text for box in outputs) == ["h 0", "h 1", "h 2", "h 3"]
    assert len({box.top for box in outputs}) == 1


def test_a_chain_is_as_high_as_it_is_deep():
    chain = CellGenotype(tuple(Block((k, k + 1), ("sep_3x3", "identity")) for k in range(6)))
    _, boxes, _, _ = read(cell_svg(chain, "chain"))
    assert len({box.top for box in boxes if box.text == "add"}) == 6
    _, boxes, _, _ = read(cell_svg(NASNET_A.normal, "flat"))
    assert len({box.top for box in boxes if box.text == "add"}) == 1


def test_texts_are_escaped():
    name = "test_draw_label"
    register_operation(name, lambda stride, channels, filters: (), label="<b>&")
    try:
        root, boxes, _, _ = read(cell_svg(CellGenotype((Block((0, 1), (name, name)),)), "a < b & c"))
    finally:
        del OPERATIONS[name]
    assert [box.text for box in boxes].count("<b>&") == 2
    assert root.find(f"{SVG}title").text == "a < b & c"


def test_a_genotype_has_both_cells_side_by_side():
    genotype = Genotype("<A>", NASNET_A.normal, NASNET_A.reduction)
    root, boxes, _, heads = read(genotype_svg(genotype))
    single = [read(cell_svg(cell, "cell")) for cell in (genotype.normal, genotype.reduction)]
    assert len(boxes) == sum(len(picture[1]) for picture in single)
    assert heads == sum(picture[3] for picture in single)
    assert {"Normal cell", "Reduction cell"} <= {text.text for text in root.iter(f"{SVG}text")}
    widths = [float(picture[0].get("width")) for picture in single]
    assert float(root.get("width")) >= sum(widths)
    assert root.find(f"{SVG}title").text == "<A>"
