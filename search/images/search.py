"""A search for networks that classify images, in a folder, whatever their space."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from nasnet_zoo.checking import NonNegativeInt, PositiveInt, checked
from nasnet_zoo.data import ImageData, open_dataset
from nasnet_zoo.data.arrays import split
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.export.benchmark import benchmark, figures, table
from nasnet_zoo.files import write_text
from nasnet_zoo.search.evaluator import Evaluator
from nasnet_zoo.search.folder import Exporting, Retraining, check_start, search_folder
from nasnet_zoo.search.journal import Record
from nasnet_zoo.search.results import exported_files
from nasnet_zoo.search.settings import ExecutorSettings

from .child import FastChild, Images
from .exported import ExportedChild
from .latency import LatencyMeter
from .settings import ChildBudget, ImageSettings, LatencySettings


@checked
def search_networks(
    data: ImageData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: ImageSettings,
    children: PositiveInt,
    published: Mapping[str, Any],
    make: Callable[[Images, ChildBudget, LatencyMeter | None], Evaluator] = FastChild,
    *,
    latency: LatencySettings = LatencySettings(),
    executor: ExecutorSettings = ExecutorSettings(),
    retrain_best: NonNegativeInt = 0,
    retrain_budget: ChildBudget | None = None,
    references: bool = False,
    export_front: bool = False,
    compare: str | os.PathLike[str] | None = None,
    tensorboard: bool = False,
    about: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> list[Record]:
    """Search networks that classify images, or continue an earlier search in the same folder.

    Args:
        data: Data set that fits into memory, see `nasnet_zoo.data.open_dataset`.
        out: Folder of the search. Created if it does not exist.
        settings: Settings of the search, its space and the budget of its children among them.
        children: Number of children to sample in all. A greater number continues a finished search.
        published: Published genotypes by name, the first of which is the yardstick of latency.
        make: Function that makes the evaluator of the children of images, a budget and a meter.
        latency: How the latency of children is measured. Default: it is not.
        executor: What trains the children.
        retrain_best: Number of the best children to retrain after the search ([N]: 250).
        retrain_budget: Budget of retraining. Default: the budget of the search with four times the
            steps.
        references: Whether to train the published genotypes and five random ones as the children are,
            for the report.
        export_front: Whether to export the children on the Pareto front: ``out/front`` then has a
            verified file of each, in the format that latency was measured with (default: LiteRT), and
            ``benchmark.json``, their times. They are trained once more, as in the search.
        compare: Folder of a random search, to compare with in the report.
        tensorboard: Whether to write events for TensorBoard to ``out/tensorboard``.
        about: What else the children's training depends on, as JSON. A search goes on only with the
            same. Default: nothing.
        console: Console to show progress on. Default: standard output.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError: See `search_folder`; or if the data set has too few images.
        OSError: If ``out`` cannot be written, or the command that times children does not work.
        ImportError: If the runtime that times children is not installed.
        RuntimeError: See `search_folder`; or if a child to be timed cannot be exported.
        KeyboardInterrupt: See `search_folder`.
    """
    check_start(out, settings.space, settings)
    data = open_dataset(data, settings.image_size, settings.images).in_memory()
    images = search_images(data, settings.held_out)
    seen: dict[str, Any] = {
        **(about or {}),
        "data": data.name,
        "train_images": len(images.train_labels),
        "held_out_images": len(images.held_out_labels),
    }
    meter = _meter(latency, images, settings.budget, next(iter(published.values())))
    if meter:
        seen |= dataclasses.asdict(latency)
        _ = meter.yardstick  # what cannot be measured fails here, before anything is written
    longer = retrain_budget or settings.budget.for_retraining()
    retraining = {**seen, "image_size": settings.image_size, **dataclasses.asdict(longer)}
    kind = latency.latency or "litert"
    exported = ExportedChild(images, settings.budget, Path(out), kind)
    compared = {name: [genotype] for name, genotype in published.items()}
    compared["random"] = settings.random_references()
    exporting = Exporting(exported, {**seen, **dataclasses.asdict(settings.budget), "kind": kind})
    best = search_folder(
        settings.space,
        make(images, settings.budget, meter),
        out,
        settings,
        children,
        executor=executor,
        about=seen,
        retraining=Retraining(retrain_best, FastChild(images, longer), retraining),
        references=compared if references else None,
        exporting=exporting if export_front else None,
        compare=compare,
        tensorboard=tensorboard,
        console=console,
    )
    if export_front:
        _benchmark(Path(out), latency.latency_threads, console or Console())
    return best


def _benchmark(out: Path, threads: int, console: Console) -> None:
    """Measure the exported files side by side, print a table and write it."""
    paths = [out / file for file in exported_files(out).values()]
    if not paths:
        return
    reports = benchmark(paths, (threads,))
    write_text(out / "front" / "benchmark.json", json.dumps(figures(reports), indent=2) + "\n")
    console.print(table(reports))


def _meter(
    latency: LatencySettings, images: Images, budget: ChildBudget, yardstick: Any
) -> LatencyMeter | None:
    if latency.latency is None:
        return None
    _, size, _, channels = images.train_images.shape
    return LatencyMeter(latency, budget.architecture(yardstick, size, channels), images.classes)


def search_images(data: ImageData, held_out: float) -> Images:
    """Split the training images of a data set for a search; its test images stay unseen.

    Args:
        data: Data set in memory.
        held_out: Share of every class that children are evaluated on.

    Raises:
        ValueError: No class has enough images.
    """
    kept, held = split(data.train_labels, held_out)
    if not len(held) or not len(kept):
        raise ValueError(
            f"{data.name}: expected enough images of a class to hold out {held_out:.0%} of them. "
            f"Received: {np.bincount(data.train_labels).tolist()}"
        )
    images = data.train_images
    if images.dtype != np.uint8:
        images = normalize(images).numpy()
    labels = data.train_labels.astype(np.int32)
    return Images(images[kept], labels[kept], images[held], labels[held], len(data.class_names))
