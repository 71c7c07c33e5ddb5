"""ONNX files by tf2onnx."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from nasnet_zoo.extras import import_extra

from ..official import expressible_in
from .writer import DEFAULT_OPSET, check_opset


def convert(
    module: tf.Module, path: Path, metadata: Mapping[str, str], opset: int | None = None
) -> None:
    """Convert a module of `nasnet_zoo.export.official`.

    Raises:
        ValueError: If the opset is out of range.
    """
    check_opset(opset or DEFAULT_OPSET)
    convert = import_extra("tf2onnx.convert", "export")
    onnx = import_extra("onnx", "export")
    with expressible_in("ONNX"), _silenced("tf2onnx"):
        model, _ = convert.from_function(
            module.serve, input_signature=module.serve.input_signature, opset=opset or DEFAULT_OPSET
        )
        onnx.helper.set_model_props(model, dict(metadata))
        path.write_bytes(model.SerializeToString())
        # The converter only logs what it could not convert, and writes it all the same.
        onnx.checker.check_model(os.fspath(path))


@contextmanager
def _silenced(logger_name: str) -> Iterator[None]:
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
