"""Draw layer-wise networks as SVG, in the style of the paper's figure ([Z] figure 7).

The layers are a column, the image at the bottom and the classifier at the top. An arrow from the layer
below is straight; skip connections are arcs, those into even layers on the left, into odd ones on the
right.
"""

from __future__ import annotations

from .layerwise import LayerGenotype, LayerwiseGenotype
from .operations import GREEN, YELLOW
from .svg import CAPTION, CHARACTER, INPUT, MARGIN, OUTPUT, arc, arrow, box, caption, document, text

# All lengths are in pixels.
_HEIGHT, _GAP = 30, 18
# Of an arc: how far it reaches out, and how much farther for each layer that it passes.
_REACH, _FARTHER = 20, 15


def layers_svg(genotype: LayerwiseGenotype) -> str:
    """Draw a layer-wise network as one SVG document."""
    layers = genotype.layers
    labels = [
        "image",
        *(f"{k}: {layer_text(layer)}" for k, layer in enumerate(layers, 1)),
        "classifier",
    ]
    colours = [INPUT, *(YELLOW if layer.kind == "conv" else GREEN for layer in layers), OUTPUT]
    reads = [(), *(layer.inputs or (0,) for layer in layers), genotype.loose_ends]
    width = max(map(len, labels)) * CHARACTER + 20
    spans = [(k - j, k % 2) for k, read in enumerate(reads) for j in read if j < k - 1]
    # A cubic curve comes as far as three quarters of the way to its control points.
    room = [
        0.75 * max((_bulge(span) for span, side in spans if side == own), default=0) for own in (0, 1)
    ]
    middle = MARGIN + room[0] + width / 2
    bottom = MARGIN + len(labels) * (_HEIGHT + _GAP) - _GAP

    def top(row: int) -> float:
        return bottom - row * (_HEIGHT + _GAP) - _HEIGHT

    arrows = []
    for row, read in enumerate(reads):
        skipped = [other for other in read if other < row - 1]
        way = 1 if row % 2 else -1
        for place, other in enumerate(skipped, 1):
            # The outermost arc arrives highest: it encloses the others.
            to_y = top(row) + _HEIGHT * place / (len(skipped) + 1)
            start = top(other) + _HEIGHT / 3
            arrows.append(arc(middle + way * width / 2, start, to_y, way * _bulge(row - other)))
        if row - 1 in read:
            arrows.append(arrow(middle, top(row - 1), middle, top(row) + _HEIGHT))
    boxes = [
        box(middle, top(row), width, _HEIGHT, colour, text(label, wrap=False))
        for row, (label, colour) in enumerate(zip(labels, colours, strict=True))
    ]
    size = middle + width / 2 + room[1] + MARGIN, bottom + CAPTION
    return document(*size, genotype.name, [*arrows, *boxes, caption(middle, size[1], genotype.name)])


def _bulge(span: int) -> float:
    """How far the control points of an arc over so many layers are from the boxes."""
    return _REACH + _FARTHER * span


def layer_text(layer: LayerGenotype) -> str:
    """Return a layer in a few words, such as "7×5 conv, 48"."""
    size = "×".join(map(str, layer.kernel))
    stride = "" if layer.stride == (1, 1) else f", stride {'×'.join(map(str, layer.stride))}"
    filters = f", {layer.filters}" if layer.filters else ""
    return f"{size} {layer.kind.replace('_', ' ')}{filters}{stride}"
