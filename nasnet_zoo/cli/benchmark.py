"""``nasnet-zoo benchmark``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from nasnet_zoo.checking import NonNegativeInt, PositiveInt
from nasnet_zoo.files import check_writable

from .shared import Json

if TYPE_CHECKING:
    import keras


def benchmark(
    files: tuple[str, ...],
    /,
    *,
    threads: tuple[NonNegativeInt, ...] = (1, 0),
    rounds: PositiveInt = 20,
    image_size: Annotated[tuple[PositiveInt, PositiveInt] | None, arg(metavar="HEIGHT WIDTH")] = None,
    keras: Annotated[str | None, arg(metavar="MODEL")] = None,
    profile: bool = False,
    batch_size: PositiveInt = 1,
    json: Json = None,
    picture: str | None = None,
) -> list[dict[str, Any]]:
    """Measure time, memory and operators of exported files, side by side.

    Args:
        files: SavedModel folders, and .tflite and .onnx files. The first is what the others are
            compared with.
        threads: Numbers of threads to measure with. 0 stands for one for each core.
        rounds: Number of rounds of three runs.
        image_size: Height and width in pixels, for files that take any.
        keras: A .keras file. Keras's own exports of it are measured first.
        profile: Time the operators of each file, too, and print how near they come to what the
            machine can do, on one image. For .tflite and .onnx files.
        batch_size: Number of images of a run. Times are those of a run divided by it.
        picture: File for a bar chart, such as .svg or .png.

    Example:
        nasnet-zoo benchmark model.tflite model.onnx --threads 1 --picture latency.svg
    """
    from rich.console import Console

    from nasnet_zoo.export import benchmark as measuring
    from nasnet_zoo.export import profiling
    from nasnet_zoo.export.formats import load_runtime
    from nasnet_zoo.export.from_keras import image_shape
    from nasnet_zoo.network import functional
    from nasnet_zoo.quiet import start_backend
    from nasnet_zoo.reports.charts import check_chart, save_chart
    from nasnet_zoo.reports.tables import print_table
    from nasnet_zoo.saving import load_model

    inputs = [*files, *filter(None, [keras])]
    if json:
        json.check(inputs)
    if picture:
        check_writable(picture, inputs)
        check_chart(picture)
    start_backend()
    paths = [Path(name) for name in files]
    for path in paths:
        load_runtime(path)
    with tempfile.TemporaryDirectory(prefix="nasnet-zoo-", ignore_cleanup_errors=True) as folder:
        if keras:
            model = functional(load_model(keras))
            image_shape(model, image_size)
            paths = [*_keras_exports(model, paths, Path(folder)), *paths]
        reports = measuring.benchmark(paths, threads, rounds, image_size, profile, batch_size)
    if picture:
        save_chart(measuring.picture(reports), picture)
    print_table(measuring.table(reports))
    console = Console(markup=False, emoji=False)
    for report in reports:
        console.print(measuring.histogram(report), style="dim", soft_wrap=True)
    for report in reports:
        for timing, profiled in zip(report.timings, report.profiles, strict=False):
            text = f"\n{measuring.title(report, timing)}; {profiling.summary(profiled)}"
            console.print(text, soft_wrap=True)
            print_table(profiling.table(profiled))
    return measuring.figures(reports)


def _keras_exports(model: keras.Model, files: list[Path], folder: Path) -> list[Path]:
    """Keras's own exports of a model, in the formats of the files."""
    from nasnet_zoo.export.settings import SUFFIXES, format_of

    keras_formats = {"saved_model": "tf_saved_model", "litert": "litert", "onnx": "onnx"}
    made = []
    for name in dict.fromkeys(format_of(path) for path in files):
        path = folder / f"keras{SUFFIXES[name]}"
        model.export(os.fspath(path), format=keras_formats[name], verbose=False)
        made.append(path)
    return made
