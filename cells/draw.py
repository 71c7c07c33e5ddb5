"""Draw cells as SVG, in the style of the papers' figures ([N] Figure 4 and appendix).

The initial states are a row at the bottom (white), each block is two operations (yellow) under
their combination (green), and the output of the cell is at the top (pink). Blocks are placed in
layers by their depth. A state that is read above the next layer gets a *lane*, a gap that the
layers in between leave free for its arrow, so that no arrow crosses a box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .genotype import CellGenotype, Genotype
from .operations import COMBINATIONS, OPERATIONS
from .svg import (
    CAPTION,
    CHARACTER,
    INPUT,
    LINE,
    MARGIN,
    OUTPUT,
    arrow,
    box,
    caption,
    document,
    hidden_state,
    lines_of,
    text,
)

# All lengths are in pixels.
_STATE_WIDTH, _STATE_HEIGHT = 62, 34
_COMBINATION_HEIGHT = 26
_IN_BLOCK, _RISE = 8, 26
_LANE = 10
_BETWEEN = 22


@dataclass(eq=False)
class _Item:
    """An item of a layer: an initial state, a block, a lane or an output.

    Args:
        state: Number of the state that the item is or carries; the label of a labelled output.
        width: Width of the item.
        reads: Item below that each port reads, from left to right.
        operations: Names of the operations at the ports. Blocks only.
        lane: Whether the item is a lane.
    """

    state: int
    width: float
    reads: list[_Item] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    lane: bool = False
    x: float = 0.0


def cell_svg(cell: CellGenotype, title: str) -> str:
    """Draw a cell.

    Args:
        cell: Cell to draw. States that nothing reads have no arrow.
        title: Caption below the picture.

    Returns:
        A complete SVG document.
    """
    picture = _Picture(cell)
    width, height = picture.width, picture.height + CAPTION
    return document(width, height, title, [picture.svg(), caption(width / 2, height, title)])


def genotype_svg(genotype: Genotype) -> str:
    """Draw the normal and the reduction cell of a genotype side by side, as one SVG document."""
    pictures = [_Picture(genotype.normal), _Picture(genotype.reduction)]
    height = max(picture.height for picture in pictures) + CAPTION
    parts, left = [], 0.0
    for picture, title in zip(pictures, ("Normal cell", "Reduction cell"), strict=True):
        top = height - CAPTION - picture.height
        parts.append(f'<g transform="translate({left:.1f} {top:.1f})">{picture.svg()}</g>')
        parts.append(caption(left + picture.width / 2, height, title))
        left += picture.width + MARGIN
    return document(left - MARGIN, height, genotype.name, parts)


class _Picture:
    """A cell laid out: items in layers, with coordinates."""

    def __init__(self, cell: CellGenotype) -> None:
        self.cell = cell
        labels = {OPERATIONS[name].label for block in cell.blocks for name in block.operations}
        lines = [lines_of(label) for label in labels]
        longest = max(len(line) for wrapped in lines for line in wrapped)
        self.operation_width = max(46.0, longest * CHARACTER + 12)
        self.operation_height = max(map(len, lines)) * LINE + 12
        self.block_height = self.operation_height + _RISE + _COMBINATION_HEIGHT
        self.layers = self._layers()
        _order(self.layers)
        _place(self.layers)
        self._fit()

    def _layers(self) -> list[list[_Item]]:
        """The items of every layer, from the initial states up, with lanes for long arrows."""
        cell = self.cell
        depths = [0] * cell.inputs
        for block in cell.blocks:
            depths.append(1 + max(depths[state] for state in block.inputs))
        layers: list[list[_Item]] = [[] for _ in range(max(depths) + 2)]
        # The latest initial state stands on the right, as in the papers.
        layers[0] = [_Item(state, _STATE_WIDTH) for state in reversed(range(cell.inputs))]
        tops = {item.state: [item] for item in layers[0]}

        def carried(state: int, depth: int) -> _Item:
            """The item that carries a state to just below the layer ``depth``."""
            chain = tops[state]
            while depths[state] + len(chain) < depth:
                lane = _Item(state, _LANE, [chain[-1]], lane=True)
                layers[depths[state] + len(chain)].append(lane)
                chain.append(lane)
            return chain[depth - depths[state] - 1]

        for k, block in enumerate(cell.blocks, cell.inputs):
            item = _Item(k, 2 * self.operation_width + _IN_BLOCK, operations=list(block.operations))
            tops[k] = [item]
            layers[depths[k]].append(item)
        for k, block in enumerate(cell.blocks, cell.inputs):
            tops[k][0].reads = [carried(state, depths[k]) for state in block.inputs]
        top = len(layers) - 1
        outputs = [carried(state, top) for state in cell.outputs]
        if cell.labelled:
            layers[top] = [_Item(k, _STATE_WIDTH, [below]) for k, below in enumerate(outputs)]
        else:
            width = max(150.0, 30.0 * len(outputs)) if len(outputs) > 1 else _STATE_WIDTH
            layers[top] = [_Item(0, width, outputs)]
        return layers

    def _fit(self) -> None:
        """Move the items into the picture and find the height of every layer."""
        items = [item for layer in self.layers for item in layer]
        left = min(item.x - item.width / 2 for item in items) - MARGIN
        for item in items:
            item.x -= left
        self.width = max(item.x + item.width / 2 for item in items) + MARGIN

        # A wide cell needs more room between its layers, or its arrows run flat.
        self.bottoms, y = [], float(_STATE_HEIGHT)
        for layer in self.layers[1:]:
            reach = max(abs(x - below.x) for item in layer for below, x in self._ports(item))
            y += min(max(0.24 * reach, 46.0), 150.0)
            self.bottoms.append(y)
            y += self.block_height if layer is not self.layers[-1] else _STATE_HEIGHT
        if self._concatenates():
            y += _STATE_HEIGHT + _RISE
        self.height = y + 2 * MARGIN

    def _concatenates(self) -> bool:
        return not self.cell.labelled and len(self.cell.outputs) > 1

    def _ports(self, item: _Item) -> list[tuple[_Item, float]]:
        """What an item reads and the x at which it does so."""
        count = len(item.reads)
        step = item.width / count if count else 0.0
        if item.operations:
            step = self.operation_width + _IN_BLOCK
        start = item.x - step * (count - 1) / 2
        return [(below, start + k * step) for k, below in enumerate(item.reads)]

    def svg(self) -> str:
        """The picture's elements; boxes come after arrows."""
        base = self.height - MARGIN
        arrows: list[str] = []
        boxes: list[str] = []
        tops = dict.fromkeys(self.layers[0], base - _STATE_HEIGHT)
        for item in self.layers[0]:
            name = self._state_name(item.state)
            boxes.append(box(item.x, tops[item], _STATE_WIDTH, _STATE_HEIGHT, INPUT, name))
        for layer, bottom in zip(self.layers[1:], self.bottoms, strict=True):
            y = base - bottom
            for item in layer:
                tops[item] = y - self.block_height
                for below, x in self._ports(item):
                    arrows.append(arrow(below.x, tops[below], x, y, head=not item.lane))
                if item.lane:
                    arrows.append(arrow(item.x, y, item.x, tops[item], head=False))
                elif layer is self.layers[-1]:
                    boxes += self._output(item, y - _STATE_HEIGHT, arrows)
                else:
                    boxes += self._block(item, y, arrows)
        return "\n".join(arrows + boxes)

    def _state_name(self, state: int) -> str:
        if self.cell.labelled:
            return hidden_state(str(state))
        return hidden_state(f"i−{state}" if state else "i")

    def _output(self, item: _Item, top: float, arrows: list[str]) -> list[str]:
        if not self._concatenates():
            name = hidden_state(str(item.state) if self.cell.labelled else "i+1")
            return [box(item.x, top, item.width, _STATE_HEIGHT, OUTPUT, name)]
        above = top - _RISE - _STATE_HEIGHT
        arrows.append(arrow(item.x, top, item.x, above + _STATE_HEIGHT))
        concat = box(item.x, top, item.width, _STATE_HEIGHT, OUTPUT, text("concat"))
        return [concat, box(item.x, above, _STATE_WIDTH, _STATE_HEIGHT, INPUT, hidden_state("i+1"))]

    def _block(self, item: _Item, bottom: float, arrows: list[str]) -> list[str]:
        boxes = []
        top = bottom - self.block_height
        operation_top = bottom - self.operation_height
        combination = COMBINATIONS[self.cell.blocks[item.state - self.cell.inputs].combination]
        width = max(46.0, len(combination.label) * CHARACTER + 16)
        sides = zip(self._ports(item), item.operations, (-1, 1), strict=True)
        for (_, x), name, side in sides:
            operation = OPERATIONS[name]
            size = self.operation_width, self.operation_height
            boxes.append(box(x, operation_top, *size, operation.colour, text(operation.label)))
            foot = item.x + side * width / 5
            arrows.append(arrow(x, operation_top, foot, top + _COMBINATION_HEIGHT))
        label = text(combination.label, wrap=False)
        boxes.append(box(item.x, top, width, _COMBINATION_HEIGHT, combination.colour, label))
        return boxes


# === Layout ===


def _order(layers: Sequence[list[_Item]]) -> None:
    """Order the items of every layer so that few arrows cross, and the ports of every item.

    Sweeps up and down put every item at the mean place of its neighbours (the barycentre
    heuristic); then neighbours change places while that helps.
    """
    readers: dict[_Item, list[_Item]] = {item: [] for layer in layers for item in layer}
    for layer in layers:
        for item in layer:
            for below in item.reads:
                readers[below].append(item)

    def places(layer: Sequence[_Item]) -> dict[_Item, float]:
        return {item: (k + 0.5) / len(layer) for k, item in enumerate(layer)}

    def sort(layer: list[_Item], other: Sequence[_Item], neighbours: dict[_Item, list[_Item]]) -> None:
        own, place = places(layer), places(other)

        def mean(item: _Item) -> float:
            known = [place[n] for n in neighbours[item]]
            return sum(known) / len(known) if known else own[item]

        layer.sort(key=mean)

    read = {item: item.reads for layer in layers for item in layer}
    best, fewest = [list(layer) for layer in layers], math.inf
    for _ in range(8):
        for lower, upper in pairwise(layers):
            sort(upper, lower, read)
        _swap_neighbours(layers)
        crossings = sum(_crossings(*pair) for pair in pairwise(layers))
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
        for lower, upper in reversed(list(pairwise(layers[1:]))):
            sort(lower, upper, readers)
    for layer, found in zip(layers, best, strict=True):
        layer[:] = found
    for lower, upper in pairwise(layers):
        _sort_ports(lower, upper)


def _sort_ports(lower: Sequence[_Item], upper: Sequence[_Item]) -> None:
    """Put the ports of the upper items into the order of what they read."""
    place = {item: k for k, item in enumerate(lower)}
    for item in upper:
        feet = [place[below] for below in item.reads]
        order = sorted(range(len(feet)), key=feet.__getitem__)
        item.reads = [item.reads[k] for k in order]
        item.operations = [item.operations[k] for k in order if item.operations]


def _crossings(lower: Sequence[_Item], upper: Sequence[_Item]) -> int:
    """How many arrows between two layers cross; those into one item never do."""
    place = {item: k for k, item in enumerate(lower)}
    feet = [[place[below] for below in item.reads] for item in upper]
    pairs = (
        (a, b) for k, left in enumerate(feet) for right in feet[k + 1 :] for a in left for b in right
    )
    return sum(a > b for a, b in pairs)


def _swap_neighbours(layers: Sequence[list[_Item]]) -> None:
    """Swap neighbours above the initial states, whose order is fixed, while fewer arrows cross."""

    def crossings(depth: int) -> int:
        return sum(_crossings(*pair) for pair in pairwise(layers[depth - 1 : depth + 2]))

    improved = True
    while improved:
        improved = False
        for depth in range(1, len(layers)):
            layer = layers[depth]
            for k in range(len(layer) - 1):
                before = crossings(depth)
                layer[k], layer[k + 1] = layer[k + 1], layer[k]
                if crossings(depth) < before:
                    improved = True
                else:
                    layer[k], layer[k + 1] = layer[k + 1], layer[k]


def _place(layers: Sequence[list[_Item]]) -> None:
    """Give every item an x: near what it is joined to, in order and without overlap."""
    joined: dict[_Item, list[tuple[_Item, float]]] = {item: [] for layer in layers for item in layer}
    for layer in layers:
        for item in layer:
            for below in item.reads:
                # Lanes keep each other straight, and do not drag blocks after them.
                weight = {0: 1.0, 1: 0.3, 2: 8.0}[item.lane + below.lane]
                joined[item].append((below, weight))
                joined[below].append((item, weight))
    for layer in layers:
        _spread(layer, [0.0] * len(layer))
    for _ in range(40):
        for layer in layers:
            targets = []
            for item in layer:
                total = sum(weight for _, weight in joined[item])
                pull = sum(other.x * weight for other, weight in joined[item])
                targets.append(pull / total if total else item.x)
            _spread(layer, targets)


def _spread(layer: Sequence[_Item], targets: Sequence[float]) -> None:
    """Put the items as near to their targets as order and distance allow (least squares).

    With the least distances subtracted this is isotonic regression: neighbours that want to
    overlap are pooled at their mean.
    """
    offsets, offset = [], 0.0
    for k, item in enumerate(layer):
        if k:
            offset += (layer[k - 1].width + item.width) / 2 + _BETWEEN
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for target, offset in zip(targets, offsets, strict=True):
        total, count = target - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            last_total, last_count = pools.pop()
            total, count = total + last_total, count + last_count
        pools.append((total, count))
    positions = [total / count for total, count in pools for _ in range(count)]
    for item, position, offset in zip(layer, positions, offsets, strict=True):
        item.x = position + offset
