"""Measuring exported files: time, memory, what they are made of and who computes it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval
from matplotlib.figure import Figure
from rich.table import Table

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.progress import track
from nasnet_zoo.reports.charts import bar_chart

from .formats import MODULES, format_at, load_runtime
from .profiling import Profile, check_operators, profiled
from .runtime import Runtime

_ROUND = 3


@dataclass(frozen=True)
class Timing:
    """Times of one image, in milliseconds: those of a batch divided by its images.

    Args:
        threads: Number of threads of the runtime.
        median: Median of all runs.
        p90: Ninth decile of all runs.
        ratio: Median over the rounds of the best time divided by that of the first file.
    """

    threads: int
    median: float
    p90: float
    ratio: float


@dataclass(frozen=True)
class FileReport:
    """Measurements of a file.

    Args:
        path: Path of the file.
        runtime: Name of its runtime.
        size: Size in bytes.
        batch_size: Number of images of a timed run.
        timings: Times, one entry for each number of threads.
        peak_memory: Peak memory in bytes of a process that loads the runtime and the file and runs one
            image.
        operators: Number of operators of the file, by name.
        delegated: Share of LiteRT's operators that XNNPACK took; None for other runtimes.
        partitions: Number of pieces in which XNNPACK took them; None for other runtimes.
        profiles: Times of the operators, one entry for each number of threads, if they were asked for.
    """

    path: Path
    runtime: str
    size: int
    batch_size: int
    timings: tuple[Timing, ...]
    peak_memory: int
    operators: dict[str, int]
    delegated: float | None
    partitions: int | None
    profiles: tuple[Profile, ...] = ()


#: More would only take memory.
Threads = Annotated[int, Interval(ge=0, le=1024)]


@checked
def benchmark(
    paths: Sequence[str | os.PathLike[str]],
    threads: Sequence[Threads] = (1, 0),
    rounds: PositiveInt = 20,
    image_size: tuple[PositiveInt, PositiveInt] | None = None,
    profile: bool = False,
    batch_size: PositiveInt = 1,
) -> list[FileReport]:
    """Measure files side by side: each round runs every file, so that noise meets them all.

    Args:
        paths: SavedModels, ``.tflite`` and ``.onnx`` files.
        threads: Numbers of threads; 0 stands for one for each core.
        rounds: Number of rounds of three runs of every file.
        image_size: (height, width) of the images, for files that take any.
        profile: Whether to time the operators of ``.tflite`` and ``.onnx`` files, too, on one image.
        batch_size: Number of images of a run.

    Raises:
        ValueError: If a file cannot be loaded or takes images of another size, or an argument is out
            of range.
    """
    for name, values in (("paths", paths), ("threads", threads)):
        if not values:
            raise ValueError(f"Expected {name}: at least one. Received: {name}={values!r}")
    counts = list(dict.fromkeys(count or os.cpu_count() or 1 for count in threads))
    files = [Path(path) for path in paths]
    for path in files if profile else ():
        check_operators(path)
    timings: list[list[Timing]] = [[] for _ in files]
    runtimes: list[Runtime] = []
    for count in counts:
        runtimes = [load_runtime(path, count) for path in files]
        title = f"measure with {_threads(count)}"
        times = time_runs(runtimes, rounds, image_size, title, batch_size)
        for kept, timing in zip(timings, summaries(times, count), strict=True):
            kept.append(timing)
    reports = []
    for path, runtime, kept in zip(files, runtimes, timings, strict=True):
        operators, delegated, partitions = MODULES[format_at(path)].operators(path)
        peak, image = peak_memory(path, image_size), _image(runtime, image_size)
        profiles = [profiled(path, image, count, rounds) for count in counts if profile]
        reports.append(
            FileReport(
                *(path, runtime.name, runtime.size, batch_size, tuple(kept), peak),
                *(operators, delegated, partitions, tuple(profiles)),
            )
        )
    return reports


def _image(runtime: Runtime, image_size: tuple[int, int] | None) -> np.ndarray:
    own = runtime.image_shape[:2]
    size = image_size or own
    if None in size or any(n not in (None, m) for n, m in zip(own, size, strict=True)):
        raise ValueError(
            f"Expected image_size (--image-size) to fit images of {runtime.image_shape}. "
            f"Received: {image_size}"
        )
    shape: list[Any] = [*size, runtime.image_shape[2]]
    values = np.random.default_rng(0).integers(0, 256, (1, *shape))
    return (values if runtime.image_dtype == "uint8" else values / 127.5 - 1).astype(
        runtime.image_dtype
    )


def time_runs(
    runtimes: Sequence[Runtime],
    rounds: int,
    image_size: tuple[int, int] | None = None,
    title: str | None = None,
    batch_size: int = 1,
) -> np.ndarray:
    """Time files side by side.

    Args:
        runtimes: The loaded files.
        rounds: Number of rounds of three runs of every file, after one that warms up.
        image_size: (height, width) of the images, for files that take any.
        title: Title of a bar that shows the rounds. Default: no bar.
        batch_size: Number of images of a run.

    Returns:
        Seconds of one image, float64 (files, rounds, runs).
    """
    images = [np.repeat(_image(runtime, image_size), batch_size, 0) for runtime in runtimes]
    times = np.zeros((len(runtimes), rounds, _ROUND))
    turns = range(-1, rounds)
    for turn in track(turns, title) if title else turns:
        for k, (runtime, image) in enumerate(zip(runtimes, images, strict=True)):
            for run in range(_ROUND):
                start = time.perf_counter()
                runtime.run(image)
                times[k, turn, run] = time.perf_counter() - start
    return times / batch_size


def summaries(times: np.ndarray, threads: int) -> list[Timing]:
    """The `Timing` of each file, from times in seconds (files, rounds, runs)."""
    best = times.min(2)
    return [
        Timing(
            threads,
            float(np.median(own)) * 1e3,
            float(np.quantile(own, 0.9)) * 1e3,
            float(np.median(quickest / best[0])),
        )
        for own, quickest in zip(times, best, strict=True)
    ]


# === Memory ===


# On Linux getrusage gives a new process the peak of the one that began it; on macOS it gives bytes.
_LAST = """
if sys.platform == "linux":
    print(1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]))
else:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(path: Path, image_size: tuple[int, int] | None = None) -> int:
    """Peak memory in bytes of a process that loads the runtime and a file, and runs one image.

    Raises:
        ValueError: If the process fails.
    """
    first = "import sys\npath, size = sys.argv[1], list(map(int, sys.argv[2:]))"
    script = first + MODULES[format_at(path)].PEAK_MEMORY + _LAST
    arguments = [os.fspath(path), *map(str, image_size or ())]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{path}: expected a file that runs. Received: {done.stderr.strip()[-200:]}")
    return int(done.stdout.split()[-1])


# === Showing ===


def figures(reports: Sequence[FileReport]) -> list[dict[str, Any]]:
    """The reports as JSON takes them, in the units of `FileReport`."""
    return [{**dataclasses.asdict(report), "path": os.fspath(report.path)} for report in reports]


def columns(reports: Sequence[FileReport]) -> list[str]:
    """The names of `cells`."""
    batch = f", {reports[0].batch_size} images at a time" * (reports[0].batch_size > 1)
    times = [f"median / p90 (ratio), {_threads(t.threads)}{batch}" for t in reports[0].timings]
    return ["file", "runtime", "size", "peak memory", *times, "XNNPACK"]


def cells(report: FileReport) -> list[str]:
    """A row of a table."""
    times = [f"{_shown(t.median)} / {_shown(t.p90)} ms ({t.ratio:.2f})" for t in report.timings]
    taken = "" if report.delegated is None else f"{report.delegated:.0%} in {report.partitions}"
    size, memory = f"{report.size / 1e6:.2f} MB", f"{report.peak_memory / 1e6:.0f} MB"
    return [report.path.name, report.runtime, size, memory, *times, taken]


def _shown(time: float) -> str:
    """A time with two digits at least: children of a search take less than 0.1 ms."""
    return f"{time:.1f}" if time >= 1 else f"{time:.2g}"


def table(reports: Sequence[FileReport]) -> Table:
    """The reports as a table for a terminal."""
    shown = Table(*columns(reports), box=None)
    for report in reports:
        shown.add_row(*cells(report))
    return shown


def histogram(report: FileReport) -> str:
    """The operators of a file in one line."""
    kinds = ", ".join(f"{count} {name}" for name, count in report.operators.items())
    return f"{report.path.name}: {kinds}"


def title(report: FileReport, timing: Timing) -> str:
    """A file and a time in one line."""
    return f"{report.path.name}, {_threads(timing.threads)}: {_shown(timing.median)} ms"


def picture(reports: Sequence[FileReport]) -> Figure:
    """A bar chart of the medians."""
    bars = {
        _threads(timing.threads): [report.timings[k].median for report in reports]
        for k, timing in enumerate(reports[0].timings)
    }
    return bar_chart([report.path.name for report in reports], bars, "Median time of one image in ms")


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
