"""Draw networks that are chains of layers as SVG: a column, the image at the bottom."""

from __future__ import annotations

from .chain import ChainGenotype, ChainLayer
from .operations import GREEN, YELLOW
from .svg import CAPTION, CHARACTER, INPUT, MARGIN, OUTPUT, arrow, box, caption, document, text

# In pixels.
_HEIGHT, _GAP = 26, 14


def chain_svg(genotype: ChainGenotype) -> str:
    """Draw a chain of layers as one SVG document."""
    rows = [
        ("image", INPUT),
        *((layer_text(layer), GREEN if layer.parts else YELLOW) for layer in genotype.layers),
        ("classifier", OUTPUT),
    ]
    width = max(len(label) for label, _ in rows) * CHARACTER + 20
    middle = MARGIN + max(width, len(genotype.name) * CHARACTER) / 2
    bottom = MARGIN + len(rows) * (_HEIGHT + _GAP) - _GAP
    parts: list[str] = []
    for row, (label, colour) in enumerate(rows):
        top = bottom - row * (_HEIGHT + _GAP) - _HEIGHT
        if row:
            parts.append(arrow(middle, top + _HEIGHT + _GAP, middle, top + _HEIGHT))
        parts.append(box(middle, top, width, _HEIGHT, colour, text(label, wrap=False)))
    size = middle + middle, bottom + CAPTION
    return document(*size, genotype.name, [*parts, caption(middle, size[1], genotype.name)])


def layer_text(layer: ChainLayer) -> str:
    """Return a layer in a few words, such as "3×3 conv, 16"."""
    match layer:
        case ChainLayer("conv", units, kernel):
            return f"{kernel}×{kernel} conv, {units}"
        case ChainLayer("fc", units):
            return f"dense, {units}"
        case ChainLayer("g", units):
            return f"miniblock, {units}"
    return "pooling" if layer.kind == "pool" else "transition"
