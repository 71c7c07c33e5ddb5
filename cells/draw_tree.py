"""Draw tree cells as SVG, in the style of the paper's figure ([P] figure 6).

The input is at the top, above the root. Nodes say how they allocate their input and merge the results
of their branches; edges, between a node and its children, carry their layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .operations import GREEN, YELLOW
from .svg import (
    CAPTION,
    CHARACTER,
    INPUT,
    MARGIN,
    OUTPUT,
    arrow,
    box,
    caption,
    document,
    text,
)
from .tree import EDGES, PathNode, TreeGenotype

# All lengths are in pixels.
_HEIGHT, _BETWEEN, _LINE, _LEAF = 28, 16, 20, 44
_WIDTH = max(len(edge.label) for edge in EDGES.values()) * CHARACTER + 12
# From the top of a node to that of its children.
_LEVEL = 2 * (_HEIGHT + _LINE)


@dataclass
class _Place:
    """A node or a leaf laid out: its middle, its depth and its branches."""

    label: str
    depth: int
    middle: float = 0.0
    branches: list[tuple[str, _Place]] = field(default_factory=list)

    @property
    def width(self) -> float:
        return len(self.label) * CHARACTER + 20 if self.branches else _LEAF


def tree_svg(genotype: TreeGenotype) -> str:
    """Draw a tree cell as one SVG document."""
    right = float(MARGIN)

    def place(node: PathNode | None, depth: int) -> _Place:
        """Lay out a node, children before it, each leaf to the right of the one before."""
        nonlocal right
        if node is None:
            made = _Place("leaf", depth, right + _WIDTH / 2)
            right += _WIDTH + _BETWEEN
            return made
        words = {"copy": "replicate", None: "pass on"}.get(node.allocation, node.allocation)
        made = _Place(f"{words}, {node.merge}" if node.merge else str(words), depth)
        made.branches = [(edge, place(child, depth + 1)) for edge, child in node.edges]
        first, last = made.branches[0][1], made.branches[-1][1]
        made.middle = (first.middle + last.middle) / 2
        return made

    root = place(genotype.root, 0)
    width = max(right - _BETWEEN, root.middle + root.width / 2) + MARGIN
    height = MARGIN + _HEIGHT + _LINE + genotype.root.depth * _LEVEL + _HEIGHT + CAPTION
    lines, boxes = [], [box(root.middle, MARGIN, _LEAF + 20, _HEIGHT, INPUT, text("input"))]
    lines.append(arrow(root.middle, MARGIN + _HEIGHT, root.middle, _top(root), head=False))
    _draw(root, lines, boxes)
    parts = [*lines, *boxes, caption(width / 2, height, genotype.name)]
    return document(width, height, genotype.name, parts)


def _top(place: _Place) -> float:
    return MARGIN + _HEIGHT + _LINE + place.depth * _LEVEL


def _draw(place: _Place, lines: list[str], boxes: list[str]) -> None:
    """Draw a node and all below it; boxes hide the ends of lines."""
    top, colour = _top(place), GREEN if place.branches else OUTPUT
    boxes.append(box(place.middle, top, place.width, _HEIGHT, colour, text(place.label, wrap=False)))
    for edge, child in place.branches:
        above = _top(child) - _LINE - _HEIGHT
        lines.append(arrow(place.middle, top + _HEIGHT, child.middle, above, head=False))
        lines.append(arrow(child.middle, above + _HEIGHT, child.middle, _top(child), head=False))
        label = text(EDGES[edge].label, wrap=False)
        boxes.append(box(child.middle, above, _WIDTH, _HEIGHT, YELLOW, label))
        _draw(child, lines, boxes)
