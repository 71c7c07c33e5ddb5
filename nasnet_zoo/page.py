"""HTML pages in one style: one file each, readable offline, that refers to nothing outside itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from nasnet_zoo.cells import Genotype
from nasnet_zoo.cells.draw import genotype_svg


def page(title: str, heading: str, lead: str, sections: Iterable[tuple[str, str]]) -> str:
    """A page.

    Args:
        title: text.
        heading: text.
        lead: HTML.
        sections: a heading (text) and HTML of each.
    """
    body = "\n".join(
        f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f'<body><header><h1>{escape(heading)}</h1><p class="lead">{lead}</p></header>\n{body}\n'
        "</body></html>\n"
    )


#: What the figures of cells show.
CELLS_NOTE = (
    "A cell reads the two cells before it, <i>h<sub>i−1</sub></i> and <i>h<sub>i</sub></i>. Yellow are "
    "operations, green are combinations, pink is what the next cell reads."
)


def cells_figure(place: int, genotype: Genotype, note: str) -> str:
    """The cells of a genotype with their place in a ranking."""
    return (
        f"<figure><figcaption><b>{place}. {escape(genotype.name)}</b> {escape(note)}</figcaption>"
        f"{genotype_svg(genotype)}</figure>"
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], shares: Sequence[float] | None = None
) -> str:
    """A table; ``shares`` in [0, 1] draw a bar behind the third column."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for number, row in enumerate(rows):
        cells = []
        for column, text in enumerate(row):
            bar = f' style="--share:{shares[number]:.3f}" class="bar"' if shares and column == 2 else ""
            cells.append(f"<td{bar}>{escape(text)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


@dataclass(frozen=True)
class Series:
    """What a chart shows: a line, or points if each has a name.

    Args:
        name: for the legend.
        x: of each point.
        y: of each point.
        colour: of the line or the points.
        dashed: whether the line is.
        names: of the points, shown under the pointer. Default: a line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dashed: bool = False
    names: Sequence[str] = ()


# Lengths of a chart in pixels.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM, _LEGEND = 500, 320, 66, 14, 12, 44, 18


def chart(series: Sequence[Series], x_title: str, y_title: str) -> str:
    """Lines and points over two axes as one SVG, with a legend where there are several."""
    x_ticks = _ticks([value for one in series for value in one.x])
    y_ticks = _ticks([value for one in series for value in one.y])
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def place_x(value: float) -> float:
        return _LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (right - _LEFT)

    def place_y(value: float) -> float:
        return bottom + (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (_TOP - bottom)

    parts = [_label((_LEFT + right) / 2, bottom + 38, x_title)]
    turned = f"rotate(-90) translate({-(_TOP + bottom) / 2:.1f} 12)"
    parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(y_title)}</text>')
    for tick in y_ticks:
        y = place_y(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#e4e6ec"/>')
        parts.append(_label(_LEFT - 8, y + 4, f"{tick:,.6g}", "end"))
    parts += [_label(place_x(tick), bottom + 18, f"{tick:,.6g}") for tick in x_ticks]
    for one in series:
        points = [(place_x(x), place_y(y)) for x, y in zip(one.x, one.y, strict=True)]
        if one.names:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{one.colour}" fill-opacity="0.55">'
                f"<title>{escape(name)}</title></circle>"
                for (x, y), name in zip(points, one.names, strict=True)
            ]
        elif points:
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            parts.append(f'<path d="{path}" {_stroke(one)}/>')
    rows = len(series) if len(series) > 1 else 0
    for one, y in zip(
        series[:rows], range(_HEIGHT + 8, _HEIGHT + 8 + rows * _LEGEND, _LEGEND), strict=True
    ):
        line = f'<path d="M{_LEFT} {y}h28" {_stroke(one)}/>'
        point = f'<circle cx="{_LEFT + 14}" cy="{y}" r="3" fill="{one.colour}"/>'
        parts += [point if one.names else line, _label(_LEFT + 36, y + 4, one.name, "start")]
    height = _HEIGHT + rows * _LEGEND
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" font-family="Helvetica, Arial, sans-serif" font-size="12" '
        f'fill="#22242b"><title>{escape(y_title)} against {escape(x_title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _stroke(one: Series) -> str:
    dashes = ' stroke-dasharray="5 3"' if one.dashed else ""
    return f'fill="none" stroke="{one.colour}" stroke-width="1.8"{dashes}'


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers at equal distances whose range holds all values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)]


_STYLE = """
:root { color-scheme: light; --ink: #22242b; --soft: #6b7080; --line: #e4e6ec; --bar: #cfe8c6; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 40px 24px 80px; color: var(--ink); background: #fff;
  font: 16px/1.55 Helvetica, Arial, sans-serif; }
h1 { font-size: 30px; margin: 0 0 8px; } h2 { font-size: 20px; margin: 48px 0 8px; }
p { max-width: 74ch; margin: 0 0 16px; } .lead { font-size: 19px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: normal; font-size: 14px; }
th, td { text-align: right; padding: 7px 18px 7px 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
.bar { min-width: 180px; padding-right: 8px; background:
  linear-gradient(var(--bar) 0 0) left center / calc(100% * var(--share)) 70% no-repeat; }
figure { margin: 0 0 32px; padding: 16px; border: 1px solid var(--line); border-radius: 8px; }
figcaption { color: var(--soft); } figcaption b { color: var(--ink); }
figure svg { display: block; max-width: 100%; height: auto; margin: 8px auto 0; }
.side { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: flex-start; }
.side svg { max-width: 100%; height: auto; }
details { margin-top: 16px; } summary { cursor: pointer; color: var(--soft); }
pre { font-size: 13px; line-height: 1.35; }
"""
