"""The main job once through, small enough for a coffee break.

Searches cells for a while, trains the best child for longer, exports it, and checks every file in
its own runtime on images that it has not seen.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from nasnet_zoo.architecture import architecture_cost
from nasnet_zoo.cells import Genotype
from nasnet_zoo.cells.draw import cell_svg, genotype_svg
from nasnet_zoo.data import ImageData, in_memory, open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.export import export
from nasnet_zoo.export.formats import load_runtime
from nasnet_zoo.export.official import check_backend
from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import check_ours, write_text
from nasnet_zoo.report import (
    EXPORT_COLUMNS,
    RANKING_COLUMNS,
    Candidate,
    DemoResult,
    ExportedFile,
    export_rows,
    ranking_rows,
    report_html,
)
from nasnet_zoo.search.folder import search_folder
from nasnet_zoo.search.journal import Record
from nasnet_zoo.search.settings import Budget, Settings
from nasnet_zoo.training import RECIPES, changed, train

_TOLERANCE = 1e-4
_FORMATS = (("SavedModel", "saved_model"), ("TFLite", "model.tflite"), ("ONNX", "model.onnx"))

#: A search of a minute or two on two cores: so few minibatches need a higher learning rate.
SEARCH = Settings(
    options={"learning_rate": 0.01},
    budget=Budget(filters=8, stem_filters=8, steps=60, batch_size=32, evaluations=1),
    minibatch=4,
    images=1500,
    image_size=16,
)


def run_demo(
    source: str | os.PathLike[str] = "digits",
    out: str | os.PathLike[str] = "demo-out",
    seed: int = 0,
    settings: Settings = SEARCH,
    children: int = 12,
    epochs: int = 6,
    console: Console | None = None,
) -> DemoResult:
    """Runs the demo.

    Args:
        source: Data set, see `nasnet_zoo.data.open_dataset`.
        out: folder for the report, pictures, genotype and models; made if it is not there.
        seed: of the search and of the winner's training.
        settings: of the search.
        children: that it samples.
        epochs: of the winner's training.
        console: to print to.

    Raises:
        ValueError: if the source does not hold images, ``out`` holds other files, or a file computes
            something else than Keras.
        ImportError: if an optional package is not installed.
    """
    check_ours(out, "winner.json", "a demo")
    console = console or Console()
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        """Tells what is done and keeps its time."""
        console.print(f"{name} ...", style="dim")
        begun = time.perf_counter()
        yield
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun

    with step("Load the images"):
        data = in_memory(open_dataset(source, settings.image_size, settings.images))
    # What the last steps need is asked for before the minutes that come first.
    check_backend()
    for module in ("onnx", "onnxruntime", "ai_edge_litert"):
        import_extra(module, "export")
    out, settings = Path(out), dataclasses.replace(settings, seed=seed)
    description = _describe(data, settings)
    console.print(description, style="dim")
    with tempfile.TemporaryDirectory() as folder:
        with step("Search"):
            ranking = search_folder(data, Path(folder) / "search", settings, children, console=console)
        candidates = tuple(_candidate(record, data, settings) for record in ranking)
        winner = candidates[0].genotype
        recipe = changed(
            RECIPES["digits"],
            model={"genotype": winner, "image_size": settings.image_size},
            run={"epochs": epochs},
        )
        with step(f"Train {winner.name} for longer"):
            model = train(recipe, data, Path(folder) / "winner", seed=seed, verbose=0)
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
        f"filters, trained for {settings.budget.steps} steps and ranked by its accuracy on the "
        f"held-out images; the best was then trained anew for {epochs} epochs.",
        candidates,
        test.accuracy(test.expected),
        tuple(exports),
        tuple(seconds.items()),
        seed,
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


def _candidate(record: Record, data: ImageData, settings: Settings) -> Candidate:
    genotype = Genotype.from_dict(record.genotype)
    size, channels = settings.image_size or data.train_images.shape[1], data.train_images.shape[-1]
    architecture = settings.budget.architecture(genotype, size, channels)
    cost = architecture_cost(architecture, len(data.class_names))
    assert record.reward is not None
    assert record.seconds is not None
    return Candidate(genotype, cost, record.reward, record.seconds)


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
    """Writes one format and measures it in its runtime."""
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


# === Terminal ===


def _print(result: DemoResult, out: Path, console: Console) -> None:
    console.print(_table("Ranking", RANKING_COLUMNS, ranking_rows(result)))
    console.print(_table(f"{result.winner.name}, exported", EXPORT_COLUMNS, export_rows(result)))
    took = sum(seconds for _, seconds in result.steps)
    console.print(
        f"In Keras the winner names {result.accuracy:.1%} of the test images. Took {took:.0f} s. "
        f"Report: {out / 'report.html'}"
    )


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right")
    for row in rows:
        table.add_row(*row)
    return table
