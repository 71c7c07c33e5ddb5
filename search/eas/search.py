"""A search for networks that grow from one on a data set: ``nasnet-zoo search --space eas``."""

from __future__ import annotations

import functools
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.bases import PlannedBlock
from nasnet_zoo.cells import CIFAR
from nasnet_zoo.cells.chain import read_blocks
from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.data import ImageData
from nasnet_zoo.files import reading
from nasnet_zoo.network import architecture_of
from nasnet_zoo.saving import load_model
from nasnet_zoo.search.images.child import Child, FastChild, Images, ImageTraining
from nasnet_zoo.search.images.latency import LatencyMeter
from nasnet_zoo.search.images.search import search_networks
from nasnet_zoo.search.journal import Record

from .child import GrownChild, vectors
from .settings import EASBudget, EASSettings


@checked
def search_grown(
    data: ImageData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: EASSettings = EASSettings(),
    children: PositiveInt = 150,
    **options: Any,
) -> list[Record]:
    """Search networks that grow from one, or continue an earlier search in the same folder.

    Args:
        data: Data set that fits into memory, see `nasnet_zoo.data.open_dataset`.
        out: Folder of the search. Created if it does not exist.
        settings: Settings of the search.
        children: Number of children to sample in all. A greater number continues a finished search.
        **options: Those of `nasnet_zoo.search.images.search.search_networks`. Latency is a multiple of
            that of the base. Retrained children begin from scratch.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError: If the weights of the base do not fit. For other errors see `search_networks`.
        OSError, ImportError, RuntimeError, KeyboardInterrupt: See `search_networks`.
    """
    about = {}
    if settings.base_weights is not None:
        with reading(settings.base_weights, "a trained model of the base") as path:
            about = {"base_weights_crc32": zlib.crc32(Path(path).read_bytes())}
    make = functools.partial(_grown, settings)
    base = {"base": settings.space.start}
    return search_networks(data, out, settings, children, base, make, about=about, **options)


def _grown(
    settings: EASSettings, images: Images, budget: EASBudget, latency: LatencyMeter | None
) -> GrownChild:
    """The evaluator of a search."""
    if settings.base_weights is None:
        weights = _trained(settings, images)
    else:
        weights = _read(settings.base_weights, settings, images)
    return GrownChild(images, budget, settings.space.start, weights, latency)


def _trained(settings: EASSettings, images: Images) -> dict[str, np.ndarray]:
    """Train the base."""
    budget, shape = settings.budget, images.train_images.shape[1:]
    graph = FastChild(images, budget).prepare(settings.space.start)
    graph.check_sizes([shape])
    child = Child(graph, shape, CIFAR, settings.seed)
    ImageTraining(child, images, budget, settings.seed).train(0, budget.steps)
    return {name: child.variables()[name].numpy() for name in ("weights", "statistics")}


def _read(path: str, settings: EASSettings, images: Images) -> dict[str, np.ndarray]:
    """Read the weights of the base.

    Raises:
        ValueError: If the file has another network, or one for other images or classes.
        OSError: If it cannot be read.
    """
    model, base = load_model(path, "a trained model of the base"), settings.space.start
    parts = architecture_of(model).plan().parts
    found = read_blocks(base.name, [part.block for part in parts if isinstance(part, PlannedBlock)])
    if found is None or found != base:
        received = found.text if found else model.name
        raise ValueError(f"{path}: expected the network {base.text}. Received: {received}")
    channels = images.train_images.shape[-1]
    if (model.input_shape[-1], model.output_shape[-1]) != (channels, images.classes):
        raise ValueError(
            f"{path}: expected a model of images with {channels} channels, {images.classes} classes. "
            f"Received: {model.input_shape[-1]} channels, {model.output_shape[-1]} classes"
        )
    return vectors(model)
