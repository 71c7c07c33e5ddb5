"""Our exports beside those of `keras.applications`, of the same weights and function, interleaved.

python benchmarks/export.py [--model large] [--rounds 30] [--markdown docs/export.md]
python benchmarks/export.py --rewrites [--rounds 30] [--markdown docs/export.md]
python benchmarks/export.py --profile [--model large] [--rounds 30] [--markdown docs/export.md]
python benchmarks/export.py --only-export [--model large] [--markdown docs/export.md]
"""

import argparse
import functools
import itertools
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from memory import peak_mb

import nasnet_zoo
from nasnet_zoo.cells import Hyperparameters
from nasnet_zoo.export import ExportResult, export, litert, onnx, profiling
from nasnet_zoo.export.benchmark import benchmark, title
from nasnet_zoo.export.from_keras import inference_graph
from nasnet_zoo.export.rewrites import COMMON
from nasnet_zoo.export.settings import ExportSettings
from nasnet_zoo.files import write_text

PEERS = {
    "mobile": (keras.applications.NASNetMobile, nasnet_zoo.NASNetMobile, 224),
    "large": (keras.applications.NASNetLarge, nasnet_zoo.NASNetLarge, 331),
}
OURS = (
    ("ours", "float32"),
    ("ours.tflite", "float32"),
    ("ours.onnx", "float32"),
    ("float16.tflite", "float16"),
    ("dynamic.tflite", "dynamic"),
    ("int8.tflite", "int8"),
    ("int8.onnx", "int8"),
)
PARTS = ("<!-- {}: written by benchmarks/export.py -->", "<!-- end of {} -->")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=PEERS, default="mobile")
    parser.add_argument("--rounds", type=int, default=30)
    kinds = parser.add_mutually_exclusive_group()
    for name, about in (
        ("rewrites", "leave out each rewrite in turn"),
        ("profile", "time each kind of operator"),
        ("only-export", "time and peak memory of our exports"),
    ):
        kinds.add_argument(
            f"--{name}", dest="kind", action="store_const", const=name, default="", help=about
        )
    parser.add_argument("--markdown", metavar="FILE", help="page to put the table into")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = {
            "": measure,
            "rewrites": measure_rewrites,
            "profile": measure_operators,
            "only-export": measure_exports,
        }[arguments.kind]
        lines = measured(arguments.model, arguments.rounds, Path(folder))
    print("\n".join(lines))
    if arguments.markdown:
        name = f"{arguments.model}-{arguments.kind}".removesuffix("-")
        insert(Path(arguments.markdown), name, lines)


def measure(name: str, rounds: int, folder: Path) -> list[str]:
    images = save_weights(name, folder)
    size = images.shape[1]
    keras_files = (("keras", "tf_saved_model"), ("keras.tflite", "litert"), ("keras.onnx", "onnx"))
    # Ours in float32 have a process, and the others; each of Keras's has its own, as together they
    # take more memory than there is.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        seconds, results, peak = processes.apply(export_ours, (name, folder, OURS[:3], images))
        results |= processes.apply(export_ours, (name, folder, OURS[3:], images))[1]
        for path, kind in keras_files:
            seconds[path] = processes.apply(export_with_keras, (name, folder, path, kind))

    lines = [
        f"NASNet-A {name.capitalize()}, {size}x{size}, {os.cpu_count()} cores of {processor()}, "
        f"{rounds} rounds of three runs of every file in turn. Ratios are to Keras's float32 file in "
        "the same runtime: the median over the rounds of the quotient of best times.",
        "",
        "| file | size | 1 thread | ratio | all threads | ratio | largest difference from Keras |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for suffix in (".tflite", ".onnx"):
        names = [f"keras{suffix}", *(p for p, _ in OURS if p.endswith(suffix))]
        for report in benchmark([folder / n for n in names], rounds=rounds):
            path = report.path.name
            times = [f"{t.median:.1f} ms | {t.ratio:.2f}" for t in report.timings]
            result = results.get(path)
            cells = (path, f"{report.size / 1e6:.1f} MB", *times)
            lines.append(f"| {' | '.join(cells)} | {f'{result.difference:.1e}' if result else ''} |")
    ours, other = (
        [seconds[path] for path in paths]
        for paths in (("ours", "ours.tflite", "ours.onnx"), (path for path, _ in keras_files))
    )
    lines += [
        "",
        f"Seconds to export SavedModel + LiteRT + ONNX in float32: ours {shown(ours)}, each run "
        f"in its runtime; Keras {shown(other)}. Peak memory of our process: {peak:.1f} GB.",
    ]
    return lines


def measure_exports(name: str, rounds: int, folder: Path) -> list[str]:
    """The seconds and the peak memory of processes that export our files."""
    images = save_weights(name, folder)
    lines = [
        f"NASNet-A {name.capitalize()}, {images.shape[1]}x{images.shape[1]}, {os.cpu_count()} cores of "
        f"{processor()}. Each row is a process that loads the model and exports its files in turn.",
        "",
        "| files | seconds | peak memory |",
        "| --- | ---: | ---: |",
    ]
    integers = ((path, numbers) for path, numbers in OURS if numbers == "int8")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
        for files in (OURS[:3], *([file] for file in integers)):
            seconds, _, peak = processes.apply(export_ours, (name, folder, files, images))
            names = ", ".join(path for path, _ in files)
            lines.append(f"| {names} | {shown([*seconds.values()])} | {peak:.1f} GB |")
    return lines


def save_weights(name: str, folder: Path) -> np.ndarray:
    """Save Keras's model as keras.h5, with statistics of the images that are returned."""
    builder, _, size = PEERS[name]
    images = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    settled(builder(weights=None, classifier_activation=None), images).save(folder / "keras.h5")
    return images


def export_ours(
    name: str, folder: Path, files: tuple[tuple[str, str], ...], images: np.ndarray
) -> tuple[dict[str, float], dict[str, ExportResult], float]:
    """Seconds and results of exporting our model of the same weights, and the peak memory in GB."""
    options = {"pool_padding": "keras", "classifier_activation": None}
    model = PEERS[name][1](weights=folder / "keras.h5", **options)
    seconds, results = {}, {}
    for path, quantization in files:
        representative = images if quantization == "int8" else None
        seconds[path], results[path] = timed(
            functools.partial(
                export,
                model,
                folder / path,
                quantization=quantization,
                representative=representative,
                min_agreement=0.0,  # untrained networks are nearly undecided
            )
        )
    return seconds, results, peak_mb() * 2**20 / 1e9


def export_with_keras(name: str, folder: Path, path: str, kind: str) -> float:
    """The seconds that Keras takes to export the saved model."""
    builder, _, size = PEERS[name]
    model = builder(weights=os.fspath(folder / "keras.h5"), classifier_activation=None)
    model(np.zeros((1, size, size, 3), np.float32))  # or it says that it was never called
    seconds, _ = timed(lambda: model.export(os.fspath(folder / path), format=kind, verbose=False))
    return seconds


def measure_rewrites(name: str, rounds: int, folder: Path) -> list[str]:
    """The time of files in which one rewrite is left out, as a multiple of that with all."""
    model, images = settled_model(name)
    graph = inference_graph(model)
    size = images.shape[1]
    scaled = nasnet_zoo.preprocess_input(images.astype(np.float32))
    writers = {"LiteRT": litert, "ONNX": onnx}
    columns = list(itertools.product(writers, ("float32", "int8")))
    ratios: dict[str, dict[tuple[str, str], float]] = {}
    for column in columns:
        runtime, quantization = column
        writer, settings = writers[runtime], ExportSettings(quantization=quantization)
        own = writer.REWRITES[quantization]
        everything = dict.fromkeys((*COMMON, *own))
        paths = []
        for left_out in (None, *everything):
            path = folder / f"{len(paths)}.{runtime.lower().replace('litert', 'tflite')}"
            simple = graph
            for rewrite in COMMON:
                simple = simple if rewrite is left_out else rewrite(simple)
            rest = tuple(rewrite for rewrite in own if rewrite is not left_out)
            with mock.patch.dict(writer.REWRITES, {quantization: rest}):
                writer.write(simple, path, ("output",), {}, settings, scaled)
            paths.append(path)
        _, *reports = benchmark(paths, threads=[1], rounds=rounds)
        for rewrite, report in zip(everything, reports, strict=True):
            ratios.setdefault(rewrite.__name__, {})[column] = report.timings[0].ratio
    lines = [
        f"NASNet-A {name.capitalize()}, {size}x{size}, one thread of {processor()}, {rounds} rounds: "
        "the time of a file without a rewrite, as a multiple of that with all.",
        "",
        f"| left out | {' | '.join(map(' '.join, columns))} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    for rewrite_name, found in ratios.items():
        cells = (f"{found[column]:.2f}" if column in found else "" for column in columns)
        lines.append(f"| `{rewrite_name}` | {' | '.join(cells)} |")
    return lines


def measure_operators(name: str, rounds: int, folder: Path) -> list[str]:
    """The time of each kind of operator of our files."""
    model, images = settled_model(name)
    paths = []
    for path, quantization in OURS:
        if quantization in ("float32", "int8") and path != "ours":
            paths.append(folder / path)
            representative = images if quantization == "int8" else None
            export(
                model,
                paths[-1],
                quantization=quantization,
                representative=representative,
                min_agreement=0.0,
            )
    size = images.shape[1]
    where = f"{size}x{size}, one thread of {processor()}"
    lines = [f"NASNet-A {name.capitalize()}, {where}, medians of {rounds} rounds."]
    for report in benchmark(paths, threads=[1], rounds=rounds, profile=True):
        (timing,), (profile,) = report.timings, report.profiles
        lines += ["", f"{title(report, timing)}; {profiling.summary(profile)}:", ""]
        lines.append(f"| {' | '.join(profiling.COLUMNS)} |")
        lines.append(f"| --- |{' ---: |' * (len(profiling.COLUMNS) - 1)}")
        lines += [f"| {' | '.join(row)} |" for row in profiling.rows(profile)]
    return lines


def settled_model(name: str) -> tuple[keras.Model, np.ndarray]:
    """Our model with statistics in its batch norms, and the images that they are of."""
    _, builder, size = PEERS[name]
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    model = builder(classifier_activation=None, hyperparameters=Hyperparameters(bn_momentum=0.0))
    return settled(model, images), images


def settled(model: keras.Model, images: np.ndarray) -> keras.Model:
    """Batch norm's statistics are those of the images, as after a training."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(nasnet_zoo.preprocess_input(images.astype(np.float32)), training=True)
    return model


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    made = function()
    return time.perf_counter() - start, made


def shown(seconds: list[float]) -> str:
    return f"{' + '.join(f'{s:.1f}' for s in seconds)} = {sum(seconds):.1f}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "a machine")


def insert(page: Path, name: str, lines: list[str]) -> None:
    text = page.read_text(encoding="utf-8")
    first, last = (part.format(name) for part in PARTS)
    before, after = text.split(first)[0], text.split(last)[1]
    write_text(page, "\n".join([before + first, "", *lines, "", last]) + after)


if __name__ == "__main__":
    main()
