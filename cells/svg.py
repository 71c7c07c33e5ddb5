"""Elements of pictures as SVG: boxes, arrows, texts and the document around them."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

#: Colours of boxes; of lines and texts; of the ground.
INPUT, OUTPUT, INK, PAPER = "#ffffff", "#f8cbd3", "#2b2b33", "#ffffff"

# All lengths are in pixels.
FONT = 13
#: Width of a character and height of a line.
CHARACTER, LINE = 7.4, 15
MARGIN, CAPTION = 18, 34
_ARROW = 7


def document(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A whole picture of parts, which are drawn in order."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT}" fill="{INK}" '
        f'text-anchor="middle">\n<title>{escape(title)}</title>\n'
        f'<rect width="100%" height="100%" fill="{PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def caption(x: float, height: float, title: str) -> str:
    """The line at the bottom of a picture of this height."""
    return f'<text x="{x:.1f}" y="{height - 14}" font-size="16">{escape(title)}</text>'


def lines_of(label: str) -> list[str]:
    """The lines of a label that is wrapped: its words."""
    return label.split() or [label]


def text(label: str, wrap: bool = True) -> str:
    """Text about the origin: a box moves it to its middle."""
    lines = lines_of(label) if wrap else [label]
    first = -(len(lines) - 1) / 2 * LINE + 0.35 * FONT
    spans = (
        f'<tspan x="0" y="{first + k * LINE:.1f}">{escape(line)}</tspan>'
        for k, line in enumerate(lines)
    )
    return f"<text>{''.join(spans)}</text>"


def hidden_state(index: str) -> str:
    """The name of a hidden state, about the origin."""
    return symbol("h", index)


def symbol(letter: str, index: str) -> str:
    """A letter with an index, about the origin; two texts, as renderers differ on subscripts."""
    x = 4.5 - 3.2 * len(index)
    return (
        f'<text x="{x:.1f}" y="4" font-size="16" font-style="italic" text-anchor="end">{letter}</text>'
        f'<text x="{x + 1:.1f}" y="8" font-size="11" font-style="italic" text-anchor="start">'
        f"{escape(index)}</text>"
    )


def box(x: float, top: float, width: float, height: float, colour: str, text: str) -> str:
    """A rectangle with a text, centred at x."""
    return (
        f'<g transform="translate({x:.1f} {top + height / 2:.1f})"><rect x="{-width / 2:.1f}" '
        f'y="{-height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" '
        f'fill="{escape(colour)}" stroke="{INK}"/>{text}</g>'
    )


def arrow(x: float, y: float, to_x: float, to_y: float, head: bool = True) -> str:
    """A line that leaves and arrives vertically, from (x, y) up to (to_x, to_y)."""
    end = to_y + _ARROW if head else to_y
    bend = (y - end) * 0.5
    line = (
        f'<path d="M{x:.1f} {y:.1f}C{x:.1f} {y - bend:.1f} {to_x:.1f} {end + bend:.1f} '
        f'{to_x:.1f} {end:.1f}" fill="none" stroke="{INK}" stroke-width="1.1"/>'
    )
    if not head:
        return line
    half = _ARROW / 2
    point = f"M{to_x:.1f} {to_y:.1f}l{-half} {_ARROW}h{_ARROW}z"
    return f'{line}<path d="{point}"/>'


def across(x: float, to_x: float, y: float) -> str:
    """A horizontal line with a head at ``to_x``."""
    back = _ARROW if to_x < x else -_ARROW
    end = to_x + back
    line = (
        f'<path d="M{x:.1f} {y:.1f}C{x:.1f} {y:.1f} {end:.1f} {y:.1f} {end:.1f} {y:.1f}" '
        f'fill="none" stroke="{INK}" stroke-width="1.1"/>'
    )
    return f'{line}<path d="M{to_x:.1f} {y:.1f}l{back} {-_ARROW / 2}v{_ARROW}z"/>'


def arc(x: float, y: float, to_y: float, bulge: float) -> str:
    """A line that leaves and arrives horizontally at x, by way of x + bulge, with a head."""
    way = 1 if bulge > 0 else -1
    line = (
        f'<path d="M{x:.1f} {y:.1f}C{x + bulge:.1f} {y:.1f} {x + bulge:.1f} {to_y:.1f} '
        f'{x + way * _ARROW:.1f} {to_y:.1f}" fill="none" stroke="{INK}" stroke-width="1.1"/>'
    )
    half = _ARROW / 2
    point = f"M{x:.1f} {to_y:.1f}l{way * _ARROW} {-half}v{_ARROW}z"
    return f'{line}<path d="{point}"/>'
