"""Draw recurrent cells as SVG, as trees, in the style of the paper's figures ([Z] figures 5 and 8).

Leaves are at the bottom, above the two that each combines, x_t and h_{t-1}; the root is at the top,
below h_t. A node is a combination under an activation, and c_{t-1} enters by two more boxes on top of
one of the nodes. c_t leaves a combination sideways.
"""

from __future__ import annotations

from .operations import GREEN, YELLOW
from .recurrent import RecurrentGenotype, TreeNode
from .svg import (
    CAPTION,
    INPUT,
    MARGIN,
    OUTPUT,
    across,
    arrow,
    box,
    caption,
    document,
    symbol,
    text,
)

# All lengths are in pixels.
_WIDTH, _HEIGHT, _BETWEEN, _RISE = 78, 26, 18, 30
_STATE_WIDTH, _STATE_HEIGHT, _ASIDE = 36, 28, 14
# Boxes, and the arrows in a node.
_LINK = 12
_SIDE = _STATE_WIDTH + _ASIDE


def recurrent_svg(genotype: RecurrentGenotype) -> str:
    """Draw a recurrent cell as one SVG document."""
    tree = _Tree(genotype)
    width, height = tree.width, tree.height + CAPTION
    return document(
        width, height, genotype.name, [*tree.parts(), caption(width / 2, height, genotype.name)]
    )


class _Tree:
    """A tree laid out: the middle and the level of every node."""

    def __init__(self, genotype: RecurrentGenotype) -> None:
        self.genotype = genotype
        self.taken, self.entered = genotype.cell_indices
        root = len(genotype.nodes) - 1
        self.middles, self.levels = [0.0] * (root + 1), [0] * (root + 1)
        self._right = float(MARGIN)
        self._place(root)
        self.width = self._right - _BETWEEN + MARGIN
        heights = [0.0] * (self.levels[root] + 1)
        for number, level in enumerate(self.levels):
            heights[level] = max(heights[level], self._stack(number))
        # The lower edge of each level, counted from the bottom.
        self._lows = [float(MARGIN + _STATE_HEIGHT + _RISE)]
        for height in heights[:-1]:
            self._lows.append(self._lows[-1] + height + _RISE)
        self.height = self._lows[-1] + heights[-1] + _RISE + _STATE_HEIGHT + MARGIN

    def _place(self, number: int) -> None:
        children = self.genotype.children(number)
        if children is None:
            left = self._right + _SIDE * (number == self.entered)
            self.middles[number] = left + _WIDTH / 2
            self._right = left + _WIDTH + _SIDE * (number == self.taken) + _BETWEEN
            return
        for child in children:
            self._place(child)
        self.middles[number] = sum(self.middles[child] for child in children) / 2
        self.levels[number] = 1 + max(self.levels[child] for child in children)

    def _stack(self, number: int) -> float:
        """Height of a node."""
        boxes = 4 if number == self.entered else 2
        return boxes * _HEIGHT + (boxes - 1) * _LINK

    def _bottom(self, number: int) -> float:
        return self.height - self._lows[self.levels[number]]

    def parts(self) -> list[str]:
        """The arrows, and the boxes, which come after them."""
        arrows: list[str] = []
        boxes: list[str] = []
        for number, node in enumerate(self.genotype.nodes):
            bottom, middle = self._bottom(number), self.middles[number]
            children = self.genotype.children(number)
            for side, index in ((-1, 0), (1, 1)):
                foot = middle + side * _WIDTH / 4
                if children is None:
                    name = symbol("h", "t−1") if index else symbol("x", "t")
                    x = middle + side * (_STATE_WIDTH + 4) / 2
                    top = self.height - MARGIN - _STATE_HEIGHT
                    boxes.append(box(x, top, _STATE_WIDTH, _STATE_HEIGHT, INPUT, name))
                    arrows.append(arrow(x, top, foot, bottom))
                else:
                    child = children[index]
                    top = self._bottom(child) - self._stack(child)
                    arrows.append(arrow(self.middles[child], top, foot, bottom))
            self._node(node, middle, bottom, arrows, boxes)
            if number == self.taken:
                self._aside(middle, bottom, 1, symbol("c", "t"), arrows, boxes)
            if number == self.entered:
                above = bottom - 2 * (_HEIGHT + _LINK)
                arrows.append(arrow(middle, above + _LINK, middle, above))
                self._node(self.genotype.inject, middle, above, arrows, boxes)
                self._aside(middle, above, -1, symbol("c", "t−1"), arrows, boxes)
        root = len(self.genotype.nodes) - 1
        top = self._bottom(root) - self._stack(root)
        middle = self.middles[root]
        arrows.append(arrow(middle, top, middle, top - _RISE))
        above = top - _RISE - _STATE_HEIGHT
        boxes.append(box(middle, above, _STATE_WIDTH, _STATE_HEIGHT, OUTPUT, symbol("h", "t")))
        return arrows + boxes

    @staticmethod
    def _node(
        node: TreeNode, middle: float, bottom: float, arrows: list[str], boxes: list[str]
    ) -> None:
        top = bottom - _HEIGHT
        label = text(node.combination.replace("_", " "), wrap=False)
        boxes.append(box(middle, top, _WIDTH, _HEIGHT, GREEN, label))
        arrows.append(arrow(middle, top, middle, top - _LINK))
        above = top - _LINK - _HEIGHT
        boxes.append(box(middle, above, _WIDTH, _HEIGHT, YELLOW, text(node.activation, wrap=False)))

    @staticmethod
    def _aside(
        middle: float, bottom: float, side: int, name: str, arrows: list[str], boxes: list[str]
    ) -> None:
        """A cell state beside a combination: c_t on the right, c_{t-1} on the left."""
        y, edge = bottom - _HEIGHT / 2, middle + side * _WIDTH / 2
        beside = edge + side * _ASIDE
        arrows.append(across(edge, beside, y) if side > 0 else across(beside, edge, y))
        colour = OUTPUT if side > 0 else INPUT
        x = beside + side * _STATE_WIDTH / 2
        boxes.append(box(x, y - _STATE_HEIGHT / 2, _STATE_WIDTH, _STATE_HEIGHT, colour, name))
