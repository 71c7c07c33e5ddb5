"""The time of each operator that ONNX Runtime runs for a file, by its profiler."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra

from ..runtime import OperatorTime

_SUFFIX = "_kernel_time"


def operator_times(path: Path, image: np.ndarray, threads: int, rounds: int) -> list[OperatorTime]:
    """Measure the operators of a file; see `nasnet_zoo.export.profiling.profiled`."""
    onnxruntime, onnx = (import_extra(name, "export") for name in ("onnxruntime", "onnx"))
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        # What it runs: operators of the file that it has fused, and weights in another order.
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(1 + rounds):
            session.run(None, {session.get_inputs()[0].name: image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(options.optimized_model_filepath).graph
    seconds: dict[str, list[float]] = defaultdict(list)
    shapes: dict[str, list[int]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_SUFFIX):
            name = event["name"].removesuffix(_SUFFIX)
            seconds[name].append(event["dur"] / 1e6)
            (shapes[name],) = event["args"]["output_type_shape"][0].values()
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return [
        OperatorTime(
            *_about(node, shapes[node.name], constants),
            node.output[0],
            float(np.median(seconds[node.name][1:])),
        )
        for node in graph.node
        if node.name in seconds
    ]


def _about(node: Any, output: list[int], constants: dict[str, list[int]]) -> tuple[str, int]:
    """The kind and the multiply-adds of a node, whose weights are the first matrix of constants."""
    weights = next((constants[name] for name in node.input if len(constants.get(name, ())) > 1), None)
    if weights is None or not node.op_type.endswith(("Conv", "Gemm", "MatMul")):
        return node.op_type, 0
    if len(weights) == 2:
        return node.op_type, math.prod(output) * math.prod(weights) // output[-1]
    filters, read, *size = weights
    depthwise = "depthwise " * (read == 1 and filters > 1)
    kind = f"{node.op_type} {depthwise}{'x'.join(map(str, size))}"
    return kind, math.prod(output) * read * math.prod(size)


def sgemm(threads: int, size: int = 1024, rounds: int = 20) -> float:
    """The most floating-point operations in a second in a product of two square float32 matrices."""
    onnxruntime, onnx = (import_extra(name, "export") for name in ("onnxruntime", "onnx"))
    matrix = onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [size, size])
    product = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [size, size])
    values = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])],
        "sgemm",
        [matrix],
        [product],
        [onnx.numpy_helper.from_array(values, "b")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        session.run(None, {"a": values})
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
