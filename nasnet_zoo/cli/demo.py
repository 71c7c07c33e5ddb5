"""``nasnet-zoo demo``."""

from __future__ import annotations

from typing import Any

from nasnet_zoo.checking import Seed

from .shared import Json


def demo(
    *, data: str = "digits", out: str = "demo-out", seed: Seed = 0, json: Json = None
) -> dict[str, Any]:
    """Search cells on real images, train and export the best.

    Args:
        data: scikit-learn's "digits", or a folder of IDX files or of class folders.
        out: Folder for the results.
        seed: Seed of all random draws.

    Example:
        nasnet-zoo demo --data digits --out demo-out
    """
    from nasnet_zoo.demo import run_demo
    from nasnet_zoo.quiet import start_backend

    start_backend()
    try:
        found = run_demo(data, out, seed)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None  # its search is not kept, and does not go on
    return found.figures()
