"""LiteRT files as flatbuffers: packing the schema's object form, and the metadata inside."""

from __future__ import annotations

import copy
import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra

from ..runtime import METADATA_NAME, parse_metadata

_FILE_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16


class Buffer:
    """A buffer whose bytes are aligned: the schema asks for it, its Python form leaves it out.

    An array that is not contiguous, as a transposed one, is copied when it is packed.
    """

    def __init__(self, schema: Any, data: np.ndarray | None) -> None:
        self.schema, self.data = schema, data

    def Pack(self, builder: Any) -> int:  # noqa: N802
        """As those of the schema's other classes."""
        where = None
        if self.data is not None:
            data = self.data.reshape(-1).view(np.uint8)
            builder.StartVector(1, data.size, _ALIGNMENT)
            builder.head = head = builder.Head() - data.size
            builder.Bytes[head : head + data.size] = data.data
            builder.vectorNumElems = data.size
            where = builder.EndVector()
        self.schema.BufferStart(builder)
        if where is not None:
            self.schema.BufferAddData(builder, where)
        return self.schema.BufferEnd(builder)


def packed(model: Any, size: int) -> memoryview:
    """The bytes of a model in the schema's object form, of about ``size`` bytes."""
    flatbuffers = import_extra("flatbuffers", "export")
    builder = flatbuffers.Builder(size + (1 << 20))
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return memoryview(builder.Bytes)[builder.Head() :]


def mapped(path: Path) -> mmap.mmap:
    """The bytes of a file, which are read where they lie."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def cut_out(schema: Any, model: Any, operators: Sequence[Any], outputs: Sequence[int]) -> memoryview:
    """A file of some operators of a model in the schema's object form.

    Args:
        schema: The schema's module.
        model: Model of one subgraph, whose tensors the operators read and make.
        operators: Operators, each after those that make what it reads. What none of them makes and is
            no constant is an input of the file.
        outputs: Numbers of the tensors that are the file's outputs.
    """
    (subgraph,) = model.subgraphs
    places: dict[int, int] = {-1: -1}
    graph = schema.SubGraphT()
    graph.operators, graph.tensors, graph.inputs = [], [], []
    buffers = [Buffer(schema, None)]

    def place(index: int) -> int:
        if index not in places:
            places[index] = len(graph.tensors)
            tensor = copy.copy(subgraph.tensors[index])
            data, tensor.buffer = model.buffers[tensor.buffer].data, 0
            if data is not None:
                tensor.buffer = len(buffers)
                buffers.append(Buffer(schema, data))
            graph.tensors.append(tensor)
            if data is None and index not in made:
                graph.inputs.append(places[index])
        return places[index]

    made = {index for operator in operators for index in operator.outputs}
    for operator in operators:
        moved = copy.copy(operator)
        moved.inputs = [place(index) for index in operator.inputs]
        moved.outputs = [place(index) for index in operator.outputs]
        graph.operators.append(moved)
    graph.outputs = list(map(place, outputs))
    cut = schema.ModelT()
    cut.version, cut.operatorCodes = 3, model.operatorCodes
    cut.subgraphs, cut.buffers = [graph], buffers
    return packed(cut, sum(held.data.nbytes for held in buffers if held.data is not None))


def with_metadata(file: bytes, metadata: Mapping[str, str]) -> memoryview:
    """A LiteRT file of a converter, with metadata kept in it as in those of `write`."""
    s = import_extra("ai_edge_litert.schema_py_generated", "export")
    model = s.ModelT.InitFromPackedBuf(file)
    data = [buffer.data for buffer in model.buffers]
    model.metadata = [*(model.metadata or ()), s.MetadataT(METADATA_NAME, len(data))]
    model.buffers = [Buffer(s, held) for held in (*data, metadata_bytes(metadata))]
    return packed(model, len(file))


def metadata_bytes(metadata: Mapping[str, str]) -> np.ndarray:
    """Metadata as a buffer."""
    return np.frombuffer(json.dumps(dict(metadata)).encode(), np.uint8)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file; empty where there is none of ours."""
    schema = import_extra("ai_edge_litert.schema_py_generated", "export")
    model = schema.Model.GetRootAs(mapped(path))
    for k in range(model.MetadataLength()):
        if model.Metadata(k).Name() == METADATA_NAME.encode():
            data = model.Buffers(model.Metadata(k).Buffer()).DataAsNumpy()
            return parse_metadata(bytes(data).decode())
    return {}
