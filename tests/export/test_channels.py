"""Grouped convolutions, slices and zeros of channels in files of every format and quantization."""

import keras
import numpy as np
import pytest
from settled import HYPERPARAMETERS, images, settled

from nasnet_zoo.cells import Graph, GraphLayer, Node
from nasnet_zoo.cells.graph import sequence_graph
from nasnet_zoo.cells.primitives import (
    BatchNorm,
    Conv,
    Depthwise,
    PadChannels,
    Pool,
    Relu,
    TakeChannels,
)
from nasnet_zoo.export import export
from nasnet_zoo.export.compute import predict
from nasnet_zoo.export.formats import MODULES
from nasnet_zoo.export.from_keras import inference_graph
from nasnet_zoo.export.onnx.rewrites import pad_channels, paths_as_sum
from nasnet_zoo.export.rewrites import simplify

pytestmark = pytest.mark.tensorflow

SIZE = (13, 10)
# Grouped convolutions of several sizes and strides among others.
GROUPS = sequence_graph(
    (
        *(Conv(3, filters=12), BatchNorm(), Relu()),
        *(Conv(3, filters=20, groups=2), BatchNorm(), Relu()),
        *(Conv((5, 1), (2, 1), filters=8, groups=4), BatchNorm()),
        *(Relu(), Depthwise(3), Conv(1, filters=12, groups=2), BatchNorm(), Relu()),
        *(Conv(1, filters=12), BatchNorm(), Relu()),
    ),
    0,
)
# Slices that are pooled, convolved and joined, and zeros beside a mean.
SLICES = Graph(
    ("image",),
    (
        Node("wide", ("image",), None, (Conv(3, filters=13), BatchNorm(), Relu())),
        Node("first", ("wide",), None, (TakeChannels(0, 7), Pool("avg", 3))),
        Node("second", ("wide",), None, (TakeChannels(7, 13), Pool("max", 3))),
        Node("joined", ("first", "second"), "concat"),
        Node("mean", ("joined", "wide"), "average", (BatchNorm(), Relu())),
        Node("narrow", ("mean",), None, (Pool("avg", 2, 2), PadChannels(20))),
        Node("strided", ("wide",), None, (Conv(3, 2, filters=20), BatchNorm())),
        Node("sum", ("narrow", "strided"), "add", (BatchNorm(), Relu(), Conv(3, filters=9))),
    ),
    ("sum",),
)


class Fixed(GraphLayer):
    def __init__(self, fixed, **arguments):
        super().__init__(**arguments)
        self.fixed = fixed

    def make_graph(self, channels):
        return self.fixed


@pytest.fixture(scope="module", params=[GROUPS, SLICES], ids=["groups", "slices"])
def model(request):
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3))
    x = Fixed(request.param, hyperparameters=HYPERPARAMETERS)(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return settled(keras.Model(image, keras.layers.Dense(7)(x)), SIZE)


@pytest.mark.parametrize("name", ["saved", "model.tflite", "model.onnx"])
def test_float_files_compute_what_keras_does(model, tmp_path, name):
    result = export(model, tmp_path / name, images=images(8, SIZE))
    assert result.difference < 1e-5
    assert result.values or name == "saved"


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        *(("model.tflite", q) for q in ("float16", "dynamic", "int8", "int16x8")),
        *(("model.onnx", q) for q in ("float16", "int8")),
    ],
)
def test_files_of_other_numbers_are_verified_value_by_value(model, tmp_path, name, quantization):
    batch = images(32, SIZE)
    path = tmp_path / name
    result = export(
        model, path, quantization=quantization, representative=batch, images=batch, min_agreement=0.85
    )
    assert result.values > 5
    if (name, quantization) == ("model.tflite", "int8"):
        assert MODULES["litert"].operators(path)[1:] == (1, 1)


def test_xnnpack_takes_all_of_a_float_file(model, tmp_path):
    export(model, tmp_path / "model.tflite", images=images(2, SIZE), min_agreement=0)
    assert MODULES["litert"].operators(tmp_path / "model.tflite")[1:] == (1, 1)


def test_channels_that_count_are_not_padded(model):
    graph = pad_channels(paths_as_sum(simplify(inference_graph(model))))
    channels = [op.kernel.shape[-1] for op in graph.ops if op.kind == "conv"]
    assert channels in ([12, 20, 8, 12, 16], [13, 20, 16])
    batch = images(3, SIZE)
    np.testing.assert_allclose(predict(graph, batch)[0], model(batch), atol=1e-5)
