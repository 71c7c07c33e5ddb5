"""Anchors: the boxes that region proposals start from ([R] section 3.1.1, as configured by [D])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops


def anchor_shapes(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> np.ndarray:
    """Heights and widths of a place's anchors: (sizes * ratios, 2) float32.

    Args:
        sizes: in pixels: the square roots of their areas.
        aspect_ratios: widths over heights.
    """
    roots = np.sqrt(np.asarray(aspect_ratios, np.float32))
    sides = np.asarray(sizes, np.float32)[:, None]
    return np.stack([sides / roots, sides * roots], axis=-1).reshape(-1, 2)


def grid_anchors(height: Any, width: Any, stride: int, shapes: np.ndarray) -> Any:
    """The anchors of all places of a map, row by row: (height * width * A, 4).

    Args:
        height: of the map, an int or a scalar tensor.
        width: likewise.
        stride: pixels from a place to the next; place (0, 0) is centred on pixel (0, 0), as in [D].
        shapes: (A, 2), see `anchor_shapes`.
    """
    y = ops.arange(height, dtype="float32") * stride
    x = ops.arange(width, dtype="float32") * stride
    y, x = ops.meshgrid(y, x, indexing="ij")
    centres = ops.reshape(ops.stack([y, x], axis=-1), (-1, 1, 2))
    halves = ops.convert_to_tensor(shapes[None] / 2)
    return ops.reshape(ops.concatenate([centres - halves, centres + halves], axis=-1), (-1, 4))
