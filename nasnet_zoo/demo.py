"""The main job once through, small enough for a coffee break.

Searches cells for a while, exports those that trade accuracy for latency best, trains the best child
for longer, exports it, too, and checks every file in its own runtime on images that it has not seen.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from nasnet_zoo.cells import Genotype
from nasnet_zoo.cells.draw import cell_svg, genotype_svg
from nasnet_zoo.data import ImageData, open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.export import export
from nasnet_zoo.export.formats import load_runtime
from nasnet_zoo.export.official import check_backend
from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import check_ours, write_text
from nasnet_zoo.reports.pages import render
from nasnet_zoo.search.images.settings import LatencySettings
from nasnet_zoo.search.journal import Journal, Record
from nasnet_zoo.search.nasnet.search import search_cells
from nasnet_zoo.search.nasnet.settings import Budget, Settings
from nasnet_zoo.search.report import report_values
from nasnet_zoo.search.results import JOURNAL, exported_files
from nasnet_zoo.training import RECIPES, changed, train

_TOLERANCE = 1e-4
# Columns that a terminal has no room for.
_WIDE = ("mult-adds", "activation-memory (bytes)", "latency-ratio", "seconds")
_FORMATS = (("SavedModel", "saved_model"), ("TFLite", "model.tflite"), ("ONNX", "model.onnx"))

#: A search of a minute or two on two cores: so few minibatches need a higher learning rate.
SEARCH = Settings(
    options={"learning_rate": 0.01},
    budget=Budget(filters=8, stem_filters=8, steps=60, batch_size=32, evaluations=1),
    minibatch=4,
    images=1500,
    image_size=16,
)


@dataclass(frozen=True)
class ExportedFile:
    """A file made from the winner, measured in its own runtime on the test images.

    Args:
        name: Name of the file.
        format: "SavedModel", "TFLite" or "ONNX".
        runtime: Name of the runtime.
        size: Size in bytes.
        latency: Median time for one image, in seconds.
        accuracy: Accuracy, in [0, 1].
        difference: Greatest absolute difference between its probabilities and Keras's.
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
    """The results of a demo.

    Args:
        data: A sentence on the images.
        training: A sentence on how the networks were trained.
        ranking: The different children of the search, best first.
        search: Values of the search's report, see `nasnet_zoo.search.report.report_values`.
        accuracy: Accuracy of the winner on the test images, in Keras, in [0, 1].
        exports: The winner's files.
        steps: Name of each step and the seconds it took, in order.
    """

    data: str
    training: str
    ranking: tuple[Record, ...]
    search: dict[str, Any]
    accuracy: float
    exports: tuple[ExportedFile, ...]
    steps: tuple[tuple[str, float], ...]

    @property
    def winner(self) -> Genotype:
        """The best child's cells."""
        return _genotype(self.ranking[0])

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON takes them."""
        return {
            "best": self.winner.name,
            "accuracy": self.accuracy,
            "files": [dataclasses.asdict(file) for file in self.exports],
            "seconds": dict(self.steps),
        }


def _genotype(record: Record) -> Genotype:
    return Genotype.from_dict(record.named_architecture)


def run_demo(
    source: str | os.PathLike[str] = "digits",
    out: str | os.PathLike[str] = "demo-out",
    seed: int = 0,
    settings: Settings = SEARCH,
    children: int = 12,
    epochs: int = 6,
    console: Console | None = None,
) -> DemoResult:
    """Run the demo.

    Args:
        source: Data set, see `nasnet_zoo.data.open_dataset`.
        out: Folder for the report, pictures, genotype and models; made if it does not exist.
        seed: Seed of the search and of the winner's training.
        settings: Settings of the search.
        children: Number of children that the search samples.
        epochs: Number of epochs of the winner's training.
        console: Console to print to. Default: standard output.

    Raises:
        ValueError: If the source does not hold images, ``out`` holds other files, or the outputs of a
            file differ from Keras's.
        ImportError: If an optional package is not installed.
    """
    check_ours(out, "winner.json", "a demo")
    console = console or Console()
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        """Print the step and record its time."""
        console.print(f"{name} ...", style="dim")
        begun = time.perf_counter()
        yield
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun

    with step("Load the images"):
        data = open_dataset(source, settings.image_size, settings.images).in_memory()
    # What the last steps need is asked for before the minutes that come first.
    check_backend()
    for module in ("onnx", "onnxruntime", "ai_edge_litert"):
        import_extra(module, "export")
    out, settings = Path(out), dataclasses.replace(settings, seed=seed)
    description = _describe(data, settings)
    console.print(description, style="dim")
    with tempfile.TemporaryDirectory() as folder:
        search = Path(folder) / "search"
        with step("Search, and export the Pareto front"):
            ranking = search_cells(
                data,
                search,
                settings,
                children,
                latency=LatencySettings("litert"),
                export_front=True,
                console=console,
            )
            shutil.copytree(search / "front", out / "front", dirs_exist_ok=True)
        with closing(Journal(search / JOURNAL)) as journal:
            files = exported_files(search)
            searched = report_values(journal, settings.space, objective="accuracy", files=files)
        winner = _genotype(ranking[0])
        recipe = changed(
            RECIPES["digits"],
            model={"genotype": winner, "image_size": settings.image_size},
            run={"epochs": epochs},
        )
        with step(f"Train {winner.name} for longer"):
            bar = int(console.is_terminal)
            model = train(recipe, data, Path(folder) / "winner", seed=seed, verbose=bar)
    test_images = normalize(data.test_images).numpy()
    test = _Test(test_images, data.test_labels, _predict(model, test_images))
    exports = []
    out.mkdir(parents=True, exist_ok=True)
    for kind, name in _FORMATS:
        with step(f"Export to {kind} and run it"):
            exports.append(_exported(model, test, kind, out / name))

    result = DemoResult(
        description,
        f"Every child became a network with one normal cell a stack and {settings.budget.filters} "
        f"filters, trained for {settings.budget.steps} steps. Its reward is its accuracy on the "
        f"held-out images. The best child was then retrained for {epochs} epochs.",
        tuple(ranking),
        searched,
        test.accuracy(test.expected),
        tuple(exports),
        tuple(seconds.items()),
    )
    _write(result, out)
    _print(result, out, console)
    for file in exports:
        if not file.difference <= _TOLERANCE:
            raise ValueError(
                f"{out / file.name}: expected probabilities within {_TOLERANCE} of Keras's. "
                f"Received: a difference of {file.difference}"
            )
    return result


def _describe(data: ImageData, settings: Settings) -> str:
    train_images, test_images = len(data.train_labels), len(data.test_labels)
    used = train_images + test_images
    whole = f"all {used:,}" if used == data.found else f"a sample of {used:,} out of {data.found:,}"
    size = settings.image_size
    return (
        f"Data set {data.name}: {whole} images, {len(data.class_names)} classes, scaled to "
        f"{size}x{size} pixels; {train_images:,} to search and train, {settings.held_out:.0%} of them "
        f"held out to rank on; {test_images:,} to test."
    )


# === Files ===


@dataclass(frozen=True, eq=False)
class _Test:
    """Test images in [-1, 1], their labels, and the probabilities that Keras gives them."""

    images: np.ndarray
    labels: np.ndarray
    expected: np.ndarray

    def accuracy(self, probabilities: np.ndarray) -> float:
        return float(np.mean(probabilities.argmax(-1) == self.labels))


def _predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """The model's probabilities. Run eagerly: for few images, tracing takes longer than running."""
    batches = np.array_split(images, math.ceil(len(images) / 250))
    return np.concatenate(
        [keras.ops.convert_to_numpy(model(batch, training=False)) for batch in batches]
    )


def _exported(model: keras.Model, test: _Test, kind: str, path: Path) -> ExportedFile:
    """Write one format and measure it in its runtime."""
    export(model, path, representative=test.images[:100])
    runtime = load_runtime(path)
    probabilities = runtime.predict(test.images)
    latency = runtime.latency(test.images[:1])
    difference = float(np.abs(probabilities - test.expected).max())
    accuracy = test.accuracy(probabilities)
    return ExportedFile(path.name, kind, runtime.name, runtime.size, latency, accuracy, difference)


def _write(result: DemoResult, out: Path) -> None:
    winner = result.winner
    winner.save(out / "winner.json")
    write_text(out / "winner.svg", genotype_svg(winner))
    write_text(out / "winner-normal.svg", cell_svg(winner.normal, f"{winner.name}: normal cell"))
    write_text(
        out / "winner-reduction.svg", cell_svg(winner.reduction, f"{winner.name}: reduction cell")
    )
    write_text(out / "report.html", report_html(result))


def report_html(result: DemoResult) -> str:
    """The report of a demo: that of its search, with the winner's training and files."""
    return render(
        "nasnet_zoo/demo.html.j2",
        **result.search,
        data=result.data,
        training=result.training,
        accuracy=result.accuracy,
        seconds=sum(seconds for _, seconds in result.steps),
        exports_table=_exports_table(result),
        steps=[(step, f"{seconds:.1f} s") for step, seconds in result.steps],
    )


def _exports_table(result: DemoResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = [
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
    return ("format", "runtime", "size", "latency", "test accuracy", "difference from Keras"), rows


# === Terminal ===


def _print(result: DemoResult, out: Path, console: Console) -> None:
    for title, name in (("Ranking", "ranking_table"), ("Pareto front", "front_table")):
        console.print(_table(title, *_narrow(*result.search[name][:2])))
    console.print(_table(f"{result.winner.name}, exported", *_exports_table(result)))
    took = sum(seconds for _, seconds in result.steps)
    console.print(
        f"The winner's accuracy on the test images, in Keras: {result.accuracy:.1%}. "
        f"Took {took:.0f} s. Report: {out / 'report.html'}"
    )


def _narrow(
    columns: tuple[str, ...], rows: list[tuple[str, ...]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What a terminal has room for of a table of the report."""
    kept = [k for k, name in enumerate(columns) if name not in _WIDE]
    return tuple(columns[k] for k in kept), [tuple(row[k] for k in kept) for row in rows]


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(*row)
    return table
