"""The main job once through, small enough for a coffee break.

Draws cells, trains and ranks them, trains the best a little longer, exports it, and checks every
file in its own runtime on images that it has not seen.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nasnet_zoo.cells import NASNET_A, Genotype, graph_cost
from nasnet_zoo.cells.draw import cell_svg, genotype_svg
from nasnet_zoo.cells.files import write_text
from nasnet_zoo.data import ImageData, load_data, split
from nasnet_zoo.export import export
from nasnet_zoo.export.plain import check_backend
from nasnet_zoo.export.runtimes import load_runtime
from nasnet_zoo.extras import import_extra
from nasnet_zoo.models import NASNet
from nasnet_zoo.network import Architecture, network_graph
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
from nasnet_zoo.search import SearchSpace

_VALIDATION_SHARE = 0.2
_TOLERANCE = 1e-4
_FORMATS = (("SavedModel", "saved_model"), ("TFLite", "model.tflite"), ("ONNX", "model.onnx"))


@dataclass(frozen=True)
class Budget:
    """How much work a demo does; the default takes about three minutes on two cores.

    Args:
        random_cells: candidates drawn from the search space, besides NASNet-A's.
        images: the most images to train and rank on, and the most to test on.
        image_size: height and width in pixels to which images are scaled.
        filters: F of the networks, which have one normal cell a stack.
        epochs: of every candidate's training.
        more_epochs: of the winner's further training.
        batch_size: images per step.
        learning_rate: at the start of the cosine.
    """

    random_cells: int = 3
    images: int = 1500
    image_size: int = 16
    filters: int = 8
    epochs: int = 3
    more_epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 0.05


@dataclass(frozen=True, eq=False)
class _Images:
    """Float images in [-1, 1] and their labels."""

    images: np.ndarray
    labels: np.ndarray

    def accuracy(self, probabilities: np.ndarray) -> float:
        return float(np.mean(probabilities.argmax(-1) == self.labels))


class _Steps:
    """Names the steps as they come and keeps the time of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run_demo(
    source: str | os.PathLike[str] = "digits",
    out: str | os.PathLike[str] = "demo-out",
    seed: int = 0,
    budget: Budget = Budget(),
    console: Console | None = None,
) -> DemoResult:
    """Runs the demo.

    Args:
        source: of the images, see `nasnet_zoo.data.load_data`.
        out: folder for the report, pictures, genotype and models; made if it is not there.
        seed: of the cells drawn, the initial weights and the order of the images.
        budget: how much to do.
        console: to print to.

    Raises:
        ValueError: if the source does not hold images, or a file computes something else than Keras.
        ImportError: if an optional package is not installed.
    """
    console = console or Console()
    steps = _Steps()
    with steps.step("load the images"):
        data = load_data(source, limit=budget.images)
        train, validation, test = _parts(data, budget)
    # What the last steps need is asked for before the minutes that come first.
    check_backend()
    for module in ("onnx", "onnxruntime", "ai_edge_litert"):
        import_extra(module, "export")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    description = _describe(data, train, validation, test, budget)
    console.print(description, style="dim")

    rng = np.random.default_rng(seed)
    space = SearchSpace()
    drawn = space.sample(rng, budget.random_cells)
    genotypes = [space.genotype(tokens, f"Random {k + 1}") for k, tokens in enumerate(drawn)]
    genotypes.append(NASNET_A)
    classes = len(data.class_names)
    tried: list[tuple[Candidate, keras.Model]] = []
    with _progress(console) as progress:
        for genotype in genotypes:
            with steps.step("train the candidates"):
                start = time.perf_counter()
                model = _build(genotype, train, classes, seed, budget)
                _train(model, train, budget.epochs, budget, progress, genotype.name)
                accuracy = validation.accuracy(_predict(model, validation.images))
                seconds = time.perf_counter() - start
            cost = graph_cost(
                network_graph(_architecture(genotype, budget), classes), [train.images.shape[1:]]
            )
            tried.append((Candidate(genotype, cost, accuracy, seconds), model))
            progress.console.print(f"{genotype.name}: {accuracy:.1%} of the validation images")
        tried.sort(key=lambda pair: -pair[0].accuracy)
        winner, model = tried[0]
        with steps.step("train the best longer"):
            title = f"{winner.genotype.name}, longer"
            _train(model, train, budget.more_epochs, budget, progress, title)
            expected = _predict(model, test.images)
        exports = tuple(_exports(model, test, expected, out, steps, progress))

    result = DemoResult(
        description,
        "Every candidate became a network with one normal cell a stack and "
        f"{budget.filters} filters, trained for {budget.epochs} epochs and ranked by its accuracy on "
        f"the validation images; the best was then trained for {budget.more_epochs} more.",
        tuple(candidate for candidate, _ in tried),
        test.accuracy(expected),
        exports,
        tuple(steps.seconds.items()),
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


# === Images ===


def _parts(data: ImageData, budget: Budget) -> tuple[_Images, _Images, _Images]:
    """Images to train, to rank and to test on."""
    kept, held_out = split(data.train_labels, _VALIDATION_SHARE)
    if not len(held_out):
        raise ValueError(
            f"{data.name}: expected at least 3 images of a class to train and rank on. "
            f"Received: {np.bincount(data.train_labels).tolist()}"
        )
    train, test = _scaled(data.train_images, budget), _scaled(data.test_images, budget)
    return (
        _Images(train[kept], data.train_labels[kept]),
        _Images(train[held_out], data.train_labels[held_out]),
        _Images(test, data.test_labels),
    )


def _scaled(images: np.ndarray, budget: Budget) -> np.ndarray:
    size = (budget.image_size, budget.image_size)
    resized = keras.ops.image.resize(images.astype("float32"), size, antialias=True)
    return np.clip(keras.ops.convert_to_numpy(resized) / 127.5 - 1.0, -1.0, 1.0)


def _describe(
    data: ImageData, train: _Images, validation: _Images, test: _Images, budget: Budget
) -> str:
    used = len(train.labels) + len(validation.labels) + len(test.labels)
    whole = f"all {used:,}" if used == data.found else f"a sample of {used:,} out of {data.found:,}"
    return (
        f"Data set {data.name}: {whole} images, {len(data.class_names)} classes, scaled to "
        f"{budget.image_size}x{budget.image_size} pixels; {len(train.labels):,} to train, "
        f"{len(validation.labels):,} to rank, {len(test.labels):,} to test."
    )


# === Networks ===


def _architecture(genotype: Genotype, budget: Budget) -> Architecture:
    filters = budget.filters
    return Architecture(genotype, 1, filters, "cifar", filters, image_size=budget.image_size)


def _build(genotype: Genotype, train: _Images, classes: int, seed: int, budget: Budget) -> keras.Model:
    # Every candidate starts from the same seed, so its result depends on no other's.
    keras.utils.set_random_seed(seed)
    model = NASNet(
        genotype,
        cells=1,
        filters=budget.filters,
        stem="cifar",
        stem_filters=budget.filters,
        input_shape=train.images.shape[1:],
        classes=classes,
    )
    optimizer = keras.optimizers.SGD(budget.learning_rate, momentum=0.9, nesterov=True)
    # Left to `fit`, the optimizer's variables are made while it is traced, which doubles that time.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def _train(
    model: keras.Model, train: _Images, epochs: int, budget: Budget, progress: Progress, title: str
) -> None:
    steps = epochs * math.ceil(len(train.labels) / budget.batch_size)
    task = progress.add_task(title, total=steps)
    follow = _Cosine(budget.learning_rate, steps, lambda: progress.advance(task))
    model.fit(
        train.images,
        train.labels,
        batch_size=budget.batch_size,
        epochs=epochs,
        callbacks=[follow],
        verbose=0,
    )


def _predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """The model's probabilities. Run eagerly: for few images, tracing takes longer than running."""
    batches = np.array_split(images, math.ceil(len(images) / 250))
    return np.concatenate(
        [keras.ops.convert_to_numpy(model(batch, training=False)) for batch in batches]
    )


class _Cosine(keras.callbacks.Callback):
    """Lowers the learning rate along a half cosine and tells of every step."""

    def __init__(self, learning_rate: float, steps: int, advance: Callable[[], None]) -> None:
        super().__init__()
        self._learning_rate, self._steps, self._advance = learning_rate, steps, advance
        self._step = 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        share = 0.5 * (1.0 + math.cos(math.pi * self._step / self._steps))
        self.model.optimizer.learning_rate = self._learning_rate * share
        self._step += 1

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._advance()


# === Files ===


def _exports(
    model: keras.Model,
    test: _Images,
    expected: np.ndarray,
    out: Path,
    steps: _Steps,
    progress: Progress,
) -> Iterator[ExportedFile]:
    """Writes every format and measures it in its runtime."""
    task = progress.add_task("Export and check", total=2 * len(_FORMATS))
    for kind, name in _FORMATS:
        with steps.step(f"export to {kind}"):
            export(model, out / name, representative=test.images[:100])
        progress.advance(task)
        with steps.step("run the files"):
            runtime = load_runtime(out / name)
            probabilities = runtime.predict(test.images)
            latency = runtime.latency(test.images[:1])
        progress.advance(task)
        difference = float(np.abs(probabilities - expected).max())
        accuracy = test.accuracy(probabilities)
        yield ExportedFile(name, kind, runtime.name, runtime.size, latency, accuracy, difference)


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


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


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
