"""What a demo found, and the HTML page that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from nasnet_zoo.cells import Cost, Genotype
from nasnet_zoo.page import CELLS_NOTE, cells_figure, page, table


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
    ranking = table(
        RANKING_COLUMNS, ranking_rows(result), shares=[c.accuracy for c in result.candidates]
    )
    cells = "".join(
        cells_figure(place, candidate.genotype, f"{candidate.accuracy:.1%}")
        for place, candidate in enumerate(result.candidates, 1)
    )
    sections = (
        ("Ranking", f"<p>{escape(result.training)}</p>{ranking}"),
        ("The winner's files", f"<p>{_EXPORT_NOTE}</p>{table(EXPORT_COLUMNS, export_rows(result))}"),
        ("The cells", f"<p>{CELLS_NOTE}</p>{cells}"),
        (
            "How it was done",
            f"<p>{escape(result.data)} Seed {result.seed}.</p>{table(('step', 'time'), steps)}"
            "<details><summary>The winner as JSON</summary>"
            f"<pre>{escape(result.winner.to_json())}</pre></details>",
        ),
    )
    return page(f"nasnet-zoo demo: {name}", "nasnet-zoo demo", lead, sections)


_EXPORT_NOTE = (
    "Each file ran in its own runtime on the test images, which no network was trained or ranked on. "
    "Latency is the median for one image on the CPU; the difference is the greatest of any probability."
)
