"""What a demo found, and the HTML page that shows it: one file, readable offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from nasnet_zoo.cells import Cost, Genotype
from nasnet_zoo.cells.draw import genotype_svg


@dataclass(frozen=True)
class Candidate:
    """Cells that were tried.

    Args:
        genotype: the cells.
        cost: of the small network made from them.
        accuracy: on the held-out images, in [0, 1].
        seconds: that building and training took.
    """

    genotype: Genotype
    cost: Cost
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class ExportedFile:
    """A file made from the winner, measured in its own runtime on the test images.

    Args:
        name: of the file.
        format: "SavedModel", "TFLite" or "ONNX".
        runtime: that ran it.
        size: in bytes.
        latency: median for one image, in seconds.
        accuracy: in [0, 1].
        difference: greatest absolute difference of a probability from Keras's.
    """

    name: str
    format: str
    runtime: str
    size: int
    latency: float
    accuracy: float
    difference: float


@dataclass(frozen=True)
class DemoResult:
    """All that a demo found.

    Args:
        data: a sentence on the images.
        training: a sentence on how the networks were trained.
        candidates: the children of the search, best first.
        accuracy: of the winner on the test images, in Keras, in [0, 1].
        exports: the winner's files.
        steps: names of the steps with the seconds they took, in order.
        seed: of all draws.
    """

    data: str
    training: str
    candidates: tuple[Candidate, ...]
    accuracy: float
    exports: tuple[ExportedFile, ...]
    steps: tuple[tuple[str, float], ...]
    seed: int

    @property
    def winner(self) -> Genotype:
        """The best candidate's cells."""
        return self.candidates[0].genotype


RANKING_COLUMNS = ("", "cells", "held-out accuracy", "parameters", "mult-adds", "seconds")
EXPORT_COLUMNS = ("format", "runtime", "size", "latency", "test accuracy", "difference from Keras")


def ranking_rows(result: DemoResult) -> list[tuple[str, ...]]:
    """One row of texts per candidate, by `RANKING_COLUMNS`."""
    return [
        (
            str(place),
            candidate.genotype.name,
            f"{candidate.accuracy:.1%}",
            f"{candidate.cost.parameters:,}",
            f"{candidate.cost.mult_adds / 1e6:.1f} M",
            f"{candidate.seconds:.0f}",
        )
        for place, candidate in enumerate(result.candidates, 1)
    ]


def export_rows(result: DemoResult) -> list[tuple[str, ...]]:
    """One row of texts per exported file, by `EXPORT_COLUMNS`."""
    return [
        (
            export.format,
            export.runtime,
            f"{export.size / 1e6:.2f} MB",
            f"{export.latency * 1e3:.2f} ms",
            f"{export.accuracy:.1%}",
            f"{export.difference:.1e}",
        )
        for export in result.exports
    ]


def report_html(result: DemoResult) -> str:
    """The report as one HTML page that refers to nothing outside itself."""
    name = result.winner.name
    time = sum(seconds for _, seconds in result.steps)
    lead = (
        f"Out of {len(result.candidates)} pairs of cells, <b>{escape(name)}</b> did best. Trained for "
        f"longer it names {result.accuracy:.1%} of the test images. All took "
        f"{time / 60:.1f} minutes."
    )
    steps = [(step, f"{seconds:.1f} s") for step, seconds in result.steps]
    ranking = _table(
        RANKING_COLUMNS, ranking_rows(result), shares=[c.accuracy for c in result.candidates]
    )
    cells = "".join(
        f"<figure><figcaption><b>{place}. {escape(candidate.genotype.name)}</b> "
        f"{candidate.accuracy:.1%}</figcaption>{genotype_svg(candidate.genotype)}</figure>"
        for place, candidate in enumerate(result.candidates, 1)
    )
    sections = (
        ("Ranking", f"<p>{escape(result.training)}</p>{ranking}"),
        ("The winner's files", f"<p>{_EXPORT_NOTE}</p>{_table(EXPORT_COLUMNS, export_rows(result))}"),
        ("The cells", f"<p>{_CELLS_NOTE}</p>{cells}"),
        (
            "How it was done",
            f"<p>{escape(result.data)} Seed {result.seed}.</p>{_table(('step', 'time'), steps)}"
            "<details><summary>The winner as JSON</summary>"
            f"<pre>{escape(result.winner.to_json())}</pre></details>",
        ),
    )
    body = "\n".join(f"<section><h2>{title}</h2>{text}</section>" for title, text in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>nasnet-zoo demo: {escape(name)}</title><style>{_STYLE}</style></head>\n"
        f'<body><header><h1>nasnet-zoo demo</h1><p class="lead">{lead}</p></header>\n{body}\n'
        "</body></html>\n"
    )


_EXPORT_NOTE = (
    "Each file ran in its own runtime on the test images, which no network was trained or ranked on. "
    "Latency is the median for one image on the CPU; the difference is the greatest of any probability."
)
_CELLS_NOTE = (
    "A cell reads the two cells before it, <i>h<sub>i−1</sub></i> and <i>h<sub>i</sub></i>. Yellow are "
    "operations, green are combinations, pink is what the next cell reads."
)


def _table(
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
details { margin-top: 16px; } summary { cursor: pointer; color: var(--soft); }
pre { font-size: 13px; line-height: 1.35; }
"""
