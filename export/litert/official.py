"""LiteRT files by TensorFlow's converter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from ..official import expressible_in
from .packing import with_metadata


def convert(
    module: tf.Module, path: Path, metadata: Mapping[str, str], opset: int | None = None
) -> None:
    """Convert a module of `nasnet_zoo.export.official`."""
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    with expressible_in("LiteRT"):
        path.write_bytes(with_metadata(converter.convert(), metadata))
