"""A search for cells on a data set, in a folder: what ``nasnet-zoo search`` does."""

from __future__ import annotations

import functools
import os
from typing import Any

from nasnet_zoo.cells import AMOEBANET_A, NASNET_A
from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.data import ImageData
from nasnet_zoo.search.images.child import FastChild, Images
from nasnet_zoo.search.images.latency import LatencyMeter
from nasnet_zoo.search.images.search import search_networks
from nasnet_zoo.search.images.settings import ChildBudget
from nasnet_zoo.search.journal import Record

from .settings import Settings
from .sharing import SharedEvaluator, SharedWeights


@checked
def search_cells(
    data: ImageData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: Settings = Settings(),
    children: PositiveInt = 300,
    **options: Any,
) -> list[Record]:
    """Search cells for a data set, or continue an earlier search in the same folder.

    It is `nasnet_zoo.search.folder.search_folder` with `NASNetSpace` and `FastChild`.

    Args:
        data: Data set that fits into memory, see `nasnet_zoo.data.open_dataset`.
        out: Folder of the search. Created if it does not exist.
        settings: Settings of the search.
        children: Number of children to sample in all. A greater number continues a finished search.
        **options: Those of `search_networks`. Latency is a multiple of that of the same network with
            NASNet-A's cells, and references are NASNet-A's and AmoebaNet-A's cells and random ones.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError: If ``references`` are asked for with shared weights. For other errors see
            `search_networks`.
    """
    if settings.shared_steps is not None and options.get("references"):
        raise ValueError(
            "Expected references without shared_steps, as shared weights are those of a space. "
            f"Received: shared_steps={settings.shared_steps}"
        )
    published = {"NASNet-A": NASNET_A, "AmoebaNet-A": AMOEBANET_A}
    make = FastChild if settings.shared_steps is None else functools.partial(_shared, settings)
    return search_networks(data, out, settings, children, published, make, **options)


def _shared(
    settings: Settings, images: Images, budget: ChildBudget, latency: LatencyMeter | None
) -> SharedEvaluator:
    """The evaluator of a search with shared weights."""
    assert settings.shared_steps is not None
    shape = images.train_images.shape[1:]
    shared = SharedWeights(shape, images.classes, settings.budget, settings.seed)
    return SharedEvaluator(
        settings.space, shared, images, settings.shared_steps, seed=settings.seed, latency=latency
    )
