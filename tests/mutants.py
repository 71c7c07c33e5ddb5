"""Exported files with one wrong weight: what a check of files must refuse."""

import copy

import numpy as np

from nasnet_zoo.export import load_runtime
from nasnet_zoo.export.settings import Limits
from nasnet_zoo.export.verification import compare, file_graph
from nasnet_zoo.network import inference_model

#: What is done to a tensor: zeros, filters in another order, another zero point, twice the scale.
MUTATIONS = ("zero", "permute", "shift", "double")
_WEIGHTS = ("kernel", "half", "bias", "map", "factor")


def mutants(path):
    """(name, mutation, bytes) for every weight tensor of a LiteRT or ONNX file."""
    data = path.read_bytes()
    return _litert(data) if path.suffix == ".tflite" else _onnx(data)


def _litert(data):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    original = schema.ModelT.InitFromPackedBuf(data)
    codes = {v: k.lower() for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    for index, tensor in enumerate(original.subgraphs[0].tensors):
        name, buffer = tensor.name.decode(), original.buffers[tensor.buffer].data
        if buffer is None or name.split("/")[-1] not in _WEIGHTS:
            continue
        array = np.asarray(buffer, np.uint8).view(codes[tensor.type]).reshape(tensor.shape)
        for mutation in MUTATIONS:
            model = copy.deepcopy(original)
            scales = model.subgraphs[0].tensors[index].quantization
            if scales is not None and mutation == "shift":
                scales.zeroPoint = np.asarray(scales.zeroPoint) + 1
            elif scales is not None and mutation == "double":
                scales.scale = np.asarray(scales.scale) * 2
            elif (changed := _changed(array, mutation, name)) is not None:
                model.buffers[tensor.buffer].data = np.frombuffer(changed.tobytes(), np.uint8)
            else:
                continue
            builder = flatbuffers.Builder(len(data) + (1 << 16))
            builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
            yield name, mutation, bytes(builder.Output())


def _onnx(data):
    import onnx

    original = onnx.load_model_from_string(data)
    known = {constant.name for constant in original.graph.initializer}
    for tensor in original.graph.initializer:
        if tensor.name.split("/")[-1] not in _WEIGHTS:
            continue
        for mutation in MUTATIONS:
            part = {"shift": "/zero", "double": "/step"}.get(mutation, "")
            target = tensor.name + part if tensor.name + part in known else tensor.name
            model = onnx.ModelProto()
            model.CopyFrom(original)
            constant = next(c for c in model.graph.initializer if c.name == target)
            array = onnx.numpy_helper.to_array(constant)
            if target != tensor.name:
                changed = (array + 1 if mutation == "shift" else array * 2).astype(array.dtype)
            else:
                changed = _changed(array, mutation, tensor.name)
            if changed is not None:
                constant.CopyFrom(onnx.numpy_helper.from_array(changed, target))
                yield tensor.name, mutation, model.SerializeToString()


def _changed(array, mutation, name):
    """Another array, or None where the mutation changes nothing."""
    if mutation == "zero":
        changed = np.zeros_like(array)
    elif mutation == "permute":
        # The axis of the filters, or of the rows of a map.
        longest = int(np.argmax(array.shape))
        axis = 2 if name.endswith("map") and array.ndim == 4 else longest
        changed = np.ascontiguousarray(np.roll(array, 1, axis))
    elif mutation == "double" and array.dtype.kind == "f":
        changed = array * array.dtype.type(2)
    else:
        return None
    return None if np.array_equal(changed, array) else changed


class Judge:
    """Tells of files made of one model whether the check refuses them and, if not, what they change.

    Args:
        model: the Keras model.
        path: of the right file; mutants are written beside it.
        images: as the file takes them.
    """

    def __init__(self, model, path, images):
        self.model, self.images = inference_model(model), images
        self.mutant = path.with_name(f"mutant{path.suffix}")
        self.graph = file_graph(self.model, images.shape[1:], images.dtype == np.uint8)
        self.classes = self._predict(path)

    def _predict(self, path):
        return load_runtime(path, threads=1).predict(self.images).argmax(-1)

    def _verify(self, images):
        runtime = load_runtime(self.mutant, threads=1)
        limits = Limits(min_agreement=0.0, max_accuracy_drop=1.0)
        compare(self.mutant, runtime, self.model, self.graph, images, None, limits)

    def __call__(self, data):
        """One of "killed", "equivalent" and "survived"."""
        self.mutant.write_bytes(data)
        try:
            # All values are compared on these four, with all images the outputs as well.
            self._verify(self.images[:: -(-len(self.images) // 4)])
            self._verify(self.images)
        except ValueError:
            return "killed"
        return "equivalent" if np.array_equal(self._predict(self.mutant), self.classes) else "survived"
