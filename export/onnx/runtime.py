"""Running and measuring ONNX files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from nasnet_zoo.extras import import_extra

from ..runtime import Runtime, counted

RUNTIME = "ONNX Runtime"
#: Loads the runtime and a file, and runs one image; `peak_memory` runs it.
PEAK_MEMORY = """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]
kind = "uint8" if "uint8" in image.type else "float32"
session.run(None, {image.name: numpy.zeros([1, *(size or image.shape[1:3]), image.shape[3]], kind)})
"""


def load(path: Path, threads: int) -> Runtime:
    """Load a file; see `nasnet_zoo.export.load_runtime`."""
    onnxruntime = import_extra("onnxruntime", "export")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    (image,), outputs = session.get_inputs(), [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> list[np.ndarray]:
        return session.run(outputs, {image.name: images})

    sizes = tuple(size if isinstance(size, int) else None for size in image.shape[1:])
    dtype = "uint8" if image.type == "tensor(uint8)" else "float32"
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return Runtime(RUNTIME, path.stat().st_size, sizes, tuple(outputs), run, dtype, metadata)


def operators(path: Path) -> tuple[dict[str, int], None, None]:
    """The number of operators of each kind; see `FileReport`."""
    graph = import_extra("onnx", "export").load(os.fspath(path), load_external_data=False).graph
    return counted(node.op_type for node in graph.node), None, None
