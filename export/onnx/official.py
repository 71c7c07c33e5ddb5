"""ONNX files by tf2onnx."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from nasnet_zoo.extras import import_extra

from ..graph import InferenceGraph
from ..official import Part, expressible_in, in_order
from .writer import DEFAULT_OPSET, check_opset, write


def convert(
    module: tf.Module, path: Path, metadata: Mapping[str, str], opset: int | None = None
) -> None:
    """Convert a module of `nasnet_zoo.export.official`.

    Raises:
        ValueError: If the opset is out of range.
    """
    check_opset(opset or DEFAULT_OPSET)
    _save(_converted(module, opset or DEFAULT_OPSET), path, metadata)


def join(module: tf.Module, parts: Sequence[Part], path: Path, metadata: Mapping[str, str]) -> None:
    """Convert a module and put graphs before, between and behind its nodes; see `litert.join`."""
    onnx = import_extra("onnx", "export")
    model = _converted(module, DEFAULT_OPSET)
    whole = model.graph
    image, computed = None, dict[str, str]()
    for number, part in enumerate(parts):
        own = _written(onnx, part.graph, f"part_{number}/")
        read = own.input[0].name
        computed |= {name: made.name for name, made in zip(part.gives, own.output, strict=True)}
        if part.reads in [output.name for output in whole.output]:
            computed[read] = part.reads
        else:
            image, computed[read] = own.input[0], part.reads
            image.name = part.reads
        whole.node.extend(own.node)
        whole.initializer.extend(own.initializer)
    for node in whole.node:
        for k, name in enumerate(node.input):
            node.input[k] = computed.get(name, name)
    outputs = [output for output in whole.output if output.name not in [part.reads for part in parts]]
    nodes = in_order(whole.node, _read, lambda node: node.output)
    for field, values in (("node", nodes), ("input", [image]), ("output", outputs)):
        whole.ClearField(field)
        getattr(whole, field).extend(values)
    _save(model, path, metadata)


def _converted(module: tf.Module, opset: int) -> Any:
    convert = import_extra("tf2onnx.convert", "export")
    with expressible_in("ONNX"), _silenced("tf2onnx"):
        model, _ = convert.from_function(
            module.serve, input_signature=module.serve.input_signature, opset=opset
        )
    return model


def _save(model: Any, path: Path, metadata: Mapping[str, str]) -> None:
    onnx = import_extra("onnx", "export")
    with expressible_in("ONNX"):
        onnx.helper.set_model_props(model, dict(metadata))
        path.write_bytes(model.SerializeToString())
        # The converter only logs what it could not convert, and writes it all the same.
        onnx.checker.check_model(os.fspath(path))


def _written(onnx: Any, graph: InferenceGraph, prefix: str) -> Any:
    """A graph as the writer writes it, all of whose names begin with ``prefix``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.onnx"
        write(graph, path, tuple(map(str, range(len(graph.outputs)))), {})
        return onnx.compose.add_prefix(onnx.load(path), prefix).graph


def _read(node: Any) -> set[str]:
    """The values that a node reads, those that the bodies of a loop read too."""
    bodies = (body for attribute in node.attribute for body in (attribute.g, *attribute.graphs))
    return set(node.input).union(*(_read(inner) for body in bodies for inner in body.node))


@contextmanager
def _silenced(logger_name: str) -> Iterator[None]:
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
