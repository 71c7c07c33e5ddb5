"""A search for layer-wise networks on a data set: ``nasnet-zoo search --space nas-conv``."""

from __future__ import annotations

import os
from typing import Any

from nasnet_zoo.cells import NAS_V1
from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.data import ImageData
from nasnet_zoo.search.images.search import search_networks
from nasnet_zoo.search.journal import Record

from .layerwise_settings import LayerwiseSettings


@checked
def search_layers(
    data: ImageData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: LayerwiseSettings = LayerwiseSettings(),
    children: PositiveInt = 300,
    **options: Any,
) -> list[Record]:
    """Search layer-wise networks for a data set, or continue an earlier search in the same folder.

    Args:
        data: Data set that fits into memory, see `nasnet_zoo.data.open_dataset`.
        out: Folder of the search. Created if it does not exist.
        settings: Settings of the search.
        children: Number of children to sample in all. A greater number continues a finished search.
        **options: Those of `nasnet_zoo.search.images.search.search_networks`. Latency is a multiple of
            that of NAS v1, and references are NAS v1, its chain and random networks.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError, OSError, ImportError, RuntimeError, KeyboardInterrupt: See `search_networks`.
    """
    published = {"NAS v1": NAS_V1, "NAS v1 (chain)": NAS_V1.connected("chain")}
    return search_networks(data, out, settings, children, published, **options)
