"""SavedModels: written, run and measured."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .compute import compute
from .graph import InferenceGraph, Op
from .runtime import METADATA_NAME, Runtime, by_number, counted, parse_metadata
from .settings import ExportSettings

RUNTIME = "TensorFlow"
# Kernels of more numbers are variables of a SavedModel.
_SMALL = 1 << 16
# No loader reads what lies in a SavedModel's folder of additional assets.
_METADATA = f"assets.extra/{METADATA_NAME}"
#: Loads the runtime and a file, and runs one image; `peak_memory` runs it.
PEAK_MEMORY = """
import tensorflow as tf
loaded = tf.saved_model.load(path)
serve = loaded.signatures["serving_default"]
((name, image),) = serve.structured_input_signature[1].items()
serve(**{name: tf.zeros([1, *(size or image.shape[1:3]), image.shape[3]], image.dtype)})
"""


def write(
    graph: InferenceGraph,
    path: Path,
    output_names: tuple[str, ...],
    metadata: Mapping[str, str],
    settings: ExportSettings = ExportSettings(),  # noqa: B008 (frozen)
    images: np.ndarray | None = None,
) -> None:
    """Write a graph as a SavedModel with one signature, from "image" to the named outputs."""
    spec = tf.TensorSpec((None, *graph.image_shape), graph.image_dtype, name="image")
    module = tf.Module()
    # Constants of a function are copied many times over while it is saved, variables are not.
    module.weights = []

    def with_variable(op: Op) -> Op:
        if op.kernel is None or op.kernel.size < _SMALL:
            return op
        module.weights.append(tf.Variable(op.kernel, trainable=False, name="kernel"))
        return op.with_(kernel=module.weights[-1])

    graph = graph.with_ops(map(with_variable, graph.ops))

    @tf.function(input_signature=[spec], autograph=False)
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(output_names, compute(graph, tf.cast(image, tf.float32)), strict=True))

    module.serve = serve
    # What TFSMLayer calls by itself; what a serving system calls is the signature.
    save_module(module, path, serve, metadata)


def save_module(module: tf.Module, path: Path, serve: Any, metadata: Mapping[str, str]) -> None:
    """Save a module as a SavedModel with a signature and the metadata in its folder.

    Raises:
        OSError: If it cannot be written; TensorFlow raises errors of other classes too.
    """
    try:
        tf.saved_model.save(module, os.fspath(path), signatures=serve)
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, os.fspath(path)) from error
    about = path / _METADATA
    about.parent.mkdir()
    about.write_text(json.dumps(dict(metadata)), encoding="utf-8")


def convert(
    module: tf.Module, path: Path, metadata: Mapping[str, str], opset: int | None = None
) -> None:
    """Save a module of `nasnet_zoo.export.official`."""
    save_module(module, path, module.serve, metadata)


def load(path: Path, threads: int) -> Runtime:
    """Load a file; see `nasnet_zoo.export.load_runtime`."""
    loaded = tf.saved_model.load(os.fspath(path))
    ((name, image),) = loaded.signatures["serving_default"].structured_input_signature[1].items()
    outputs = sorted(loaded.signatures["serving_default"].structured_outputs, key=by_number)

    def run(images: np.ndarray) -> list[np.ndarray]:
        # Not the signature alone is kept: its variables live only as long as what was loaded.
        made = loaded.signatures["serving_default"](**{name: tf.constant(images)})
        return [np.asarray(made[output]) for output in outputs]

    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    about, dtype = path / _METADATA, image.dtype.name
    metadata = parse_metadata(about.read_text(encoding="utf-8")) if about.is_file() else {}
    return Runtime(RUNTIME, size, tuple(image.shape[1:]), tuple(outputs), run, dtype, metadata)


def operators(path: Path) -> tuple[dict[str, int], None, None]:
    """The number of operators of each kind; see `FileReport`."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    return counted(node.op for function in functions for node in function.node_def), None, None
