"""LiteRT files by TensorFlow's converter."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from nasnet_zoo.extras import import_extra

from ..graph import InferenceGraph
from ..official import Part, expressible_in, in_order
from .packing import Buffer, packed, with_metadata
from .writer import write


def convert(
    module: tf.Module, path: Path, metadata: Mapping[str, str], opset: int | None = None
) -> None:
    """Convert a module of `nasnet_zoo.export.official`."""
    path.write_bytes(with_metadata(_converted(module), metadata))


def join(module: tf.Module, parts: Sequence[Part], path: Path, metadata: Mapping[str, str]) -> None:
    """Convert a module and put graphs before, between and behind its operators.

    Args:
        module: Module of `nasnet_zoo.export.official`.
        parts: Graphs that compute all of its inputs.
        path: Path of the file.
        metadata: What the file holds about the model.
    """
    s = import_extra("ai_edge_litert.schema_py_generated", "export")
    file = s.ModelT.InitFromPackedBuf(_converted(module))
    main, (signature,) = file.subgraphs[0], file.signatureDefs
    inputs, outputs = (
        {tensor.name.decode(): tensor.tensorIndex for tensor in tensors}
        for tensors in (signature.inputs, signature.outputs)
    )
    buffers = [buffer.data for buffer in file.buffers]
    computed: dict[int, int] = {}  # from an input of the module to what a graph makes
    for part in parts:
        own = _written(s, part.graph)
        (graph,) = own.subgraphs
        first, codes = len(main.tensors), len(file.operatorCodes)
        read = first + graph.inputs[0]
        batch = main.tensors[outputs[part.reads]].shape[0] if part.reads in outputs else 1
        for tensor in graph.tensors:
            if not tensor.buffer:
                tensor.shape, tensor.shapeSignature = [batch, *tensor.shape[1:]], None
            tensor.buffer = tensor.buffer and tensor.buffer + len(buffers)
        for operator in graph.operators:
            operator.opcodeIndex += codes
            operator.inputs = [k if k < 0 else k + first for k in operator.inputs]
            operator.outputs = [k + first for k in operator.outputs]
        main.tensors += graph.tensors
        main.operators += graph.operators
        file.operatorCodes += own.operatorCodes
        buffers += [buffer.data for buffer in own.buffers]
        computed |= {inputs[n]: k + first for n, k in zip(part.gives, graph.outputs, strict=True)}
        if part.reads in outputs:
            computed[read] = outputs.pop(part.reads)
        else:
            signature.inputs = [s.TensorMapT(part.reads, read)]
            main.inputs = [read]
    for operator in main.operators:
        operator.inputs = [computed.get(k, k) for k in operator.inputs]
    main.operators = in_order(main.operators, lambda o: o.inputs, lambda o: o.outputs)
    main.outputs = list(outputs.values())
    signature.outputs = [s.TensorMapT(name, k) for name, k in outputs.items()]
    file.buffers = [Buffer(s, data) for data in buffers]
    size = sum(data.nbytes for data in buffers if data is not None)
    path.write_bytes(with_metadata(bytes(packed(file, size)), metadata))


def _converted(module: tf.Module) -> bytes:
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    with expressible_in("LiteRT"):
        return converter.convert()


def _written(schema: Any, graph: InferenceGraph) -> Any:
    """A graph as the writer writes it, in the schema's object form."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.tflite"
        write(graph, path, tuple(map(str, range(len(graph.outputs)))), {})
        return schema.ModelT.InitFromPackedBuf(path.read_bytes())
