"""Charts, drawn by Matplotlib."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nasnet_zoo.files import check_writable, replacing

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)

# Names are texts, and no formulas; the same figure gives the same bytes.
_styled = matplotlib.rc_context(
    {
        "font.family": "DejaVu Sans",  # comes with Matplotlib
        "font.size": 9,
        "text.parse_math": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "nasnet-zoo",
        "axes.edgecolor": "gray",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


@dataclass(frozen=True)
class Series:
    """A line of a chart, or points if each has a name.

    Args:
        name: Name in the legend.
        x: Place of each point on the horizontal axis.
        y: Place of each point on the vertical axis.
        colour: Colour of the line or the points.
        line: Matplotlib's style of the line, such as "--".
        names: Name of each point, shown under the pointer. Default: a line.
        mark: Matplotlib's marker of the points. Circles are transparent, others are not.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "C0"
    line: str = "-"
    names: Sequence[str] = ()
    mark: str = "o"


@_styled
@matplotlib.rc_context({"font.size": 10})  # as large as text on a phone, too
def chart(series: Sequence[Series], x_title: str, y_title: str) -> str:
    """Draw lines or points over two axes, in their order, with a legend where there are several.

    Returns:
        An SVG element for a page. Its text has the colour and the font of the page.
    """
    figure = Figure((4.4, 3.1 + 0.22 * len(series)), layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set(facecolor="none", xlabel=x_title, ylabel=y_title)
    axes.grid(axis="y", color="gray", alpha=0.3)
    axes.tick_params(length=0)
    for one in series:
        if one.names:
            style: dict[str, Any] = {
                "marker": one.mark,
                "alpha": 0.6 if one.mark == "o" else 1.0,
                "linewidths": 0,
                "zorder": Line2D.zorder,
                "gid": "points",
            }
            axes.scatter(one.x, one.y, 18, one.colour, label=one.name, **style)
        else:
            axes.plot(one.x, one.y, one.line, color=one.colour, linewidth=1.4, label=one.name)
    if len(series) > 1:
        figure.legend(loc="outside lower left", frameon=False)
    title, names = f"{y_title} against {x_title}", [name for one in series for name in one.names]
    # Marks that charts of a page refer to have different names.
    with io.StringIO() as written, matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(written, format="svg")
        return _inline(ElementTree.fromstring(written.getvalue()), title, names)


def _inline(root: ElementTree.Element, title: str, names: Sequence[str]) -> str:
    """The SVG element of Matplotlib's document, with titles, and nothing that reaches out of it."""
    for part in ("metadata", "defs"):  # the first definition is a style of all elements of a page
        root.remove(root.find(f"{{{_SVG}}}{part}"))  # type: ignore[arg-type]
    root.attrib |= {"role": "img", "fill": "currentColor", "stroke-linejoin": "round"}
    root.insert(0, _title(title))
    points = iter(names)
    for element in root.iter(f"{{{_SVG}}}g"):
        if element.attrib.pop("id", None) == "points":
            for point in element.iter(f"{{{_SVG}}}use"):
                point.append(_title(next(points)))
    for element in root.iter(f"{{{_SVG}}}use"):
        element.set("href", element.attrib.pop(f"{{{_XLINK}}}href"))
    return ElementTree.tostring(root, encoding="unicode")


def _title(text: str) -> ElementTree.Element:
    element = ElementTree.Element(f"{{{_SVG}}}title")
    element.text = text
    return element


@_styled
def bar_chart(names: Sequence[str], groups: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Draw horizontal bars with their values.

    Args:
        names: Name of each row.
        groups: Bars by their name in the legend, one for each row.
        title: Title of the chart, with the unit.
    """
    figure = Figure((8, 1 + 0.28 * len(names) * len(groups)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(groups)
    for k, (label, values) in enumerate(groups.items()):
        bars = axes.barh(np.arange(len(names)) + k * height, values, height, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=4)
    axes.set_yticks(np.arange(len(names)) + (0.8 - height) / 2, names)
    axes.invert_yaxis()
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower left", ncols=len(groups), frameon=False)
    return figure


@_styled
def confusion_chart(confusion: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix; colours are shares of the true class.

    Args:
        confusion: Number of images, shape (classes, classes), by true class and prediction.
        class_names: Name of each class.
        title: Title of the chart.
    """
    classes = len(class_names)
    figure = Figure((2 + 0.45 * classes, 1.5 + 0.45 * classes), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(classes), class_names, rotation=60, ha="right")
    axes.set_yticks(range(classes), class_names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize="medium")
    if classes <= 30:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, fontsize=7)
    return figure


@_styled
def save_chart(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a chart in the format of the path's suffix; an existing file is replaced atomically."""
    with replacing(path) as temporary:
        metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else None
        figure.savefig(temporary, dpi=150, metadata=metadata)


def check_chart(path: str | os.PathLike[str]) -> None:
    """Check, before work begins, that `save_chart` can write a file.

    Raises:
        ValueError: If the suffix is of no format that Matplotlib writes.
        OSError: If the file cannot be written.
    """
    formats = FigureCanvasBase.filetypes
    if Path(path).suffix[1:].lower() not in formats:
        raise ValueError(f"{path}: expected a picture of type {', '.join(formats)}. Received: {path}")
    check_writable(path)
