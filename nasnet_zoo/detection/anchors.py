"""Anchors of region proposals ([R] section 3.1.1, configured as in [D])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops


def anchor_shapes(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> np.ndarray:
    """Heights and widths of the anchors at a position of a map, float32 (sizes * ratios, 2).

    Args:
        sizes: Square roots of the areas, in pixels.
        aspect_ratios: Ratios of width to height.
    """
    roots = np.sqrt(np.asarray(aspect_ratios, np.float32))
    sides = np.asarray(sizes, np.float32)[:, None]
    return np.stack([sides / roots, sides * roots], axis=-1).reshape(-1, 2)


def grid_anchors(height: Any, width: Any, stride: int, shapes: np.ndarray) -> Any:
    """The anchors of all positions of a map, row by row, (height * width * A, 4).

    Args:
        height: Height of the map, an int or a scalar tensor.
        width: Width of the map, an int or a scalar tensor.
        stride: Pixels between positions. Position (0, 0) is centred on pixel (0, 0), as in [D].
        shapes: Heights and widths of the anchors, (A, 2), see `anchor_shapes`.
    """
    y = ops.arange(height, dtype="float32") * stride
    x = ops.arange(width, dtype="float32") * stride
    y, x = ops.meshgrid(y, x, indexing="ij")
    centres = ops.reshape(ops.stack([y, x], axis=-1), (-1, 1, 2))
    halves = ops.convert_to_tensor(shapes[None] / 2)
    return ops.reshape(ops.concatenate([centres - halves, centres + halves], axis=-1), (-1, 4))
