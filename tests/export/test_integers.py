"""How the integers of a file are chosen: ranges and equalised channels."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.data.idx import load_idx
from nasnet_zoo.export import litert, onnx
from nasnet_zoo.export.compute import predict
from nasnet_zoo.export.formats import load_runtime
from nasnet_zoo.export.graph import InferenceGraph, Op
from nasnet_zoo.export.quantization import as_model_input
from nasnet_zoo.export.rewrites import equalizable, equalize_channels, scaled_channels
from nasnet_zoo.export.settings import ExportSettings
from nasnet_zoo.export.verification import file_graph
from nasnet_zoo.network import inference_model

pytestmark = pytest.mark.tensorflow
SAMPLE = Path(__file__).parents[1] / "data" / "fashion_mnist"
INT8 = ExportSettings(quantization="int8")


@pytest.fixture(scope="module")
def images():
    return as_model_input(load_idx(SAMPLE).test_images[:80])


@pytest.fixture(scope="module")
def trained():
    """The graph of the model in the package, up to its logits."""
    model = inference_model(zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist"))
    graph = file_graph(model, (28, 28, 1), False)
    (softmax,) = (op for op in graph.ops if op.kind == "softmax")
    cut = InferenceGraph(graph.image, graph.image_shape, graph.ops, softmax.inputs)
    return cut.with_ops(graph.ops)


@pytest.fixture(scope="module")
def hard(trained):
    """The same function with channels of different size."""
    rng, graph = np.random.default_rng(0), trained
    for name in equalizable(trained):
        graph = scaled_channels(graph, name, 10 ** rng.normal(0, 0.5, trained.shapes()[name][-1]))
    return graph


def signal_to_noise(expected, found):
    return 10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum())


def test_scaled_and_equalised_channels_keep_the_function(trained, hard, images):
    expected = predict(trained, images[:20])[0]
    assert len(equalizable(trained)) > 50
    for graph in (hard, equalize_channels(trained), equalize_channels(hard)):
        np.testing.assert_allclose(predict(graph, images[:20])[0], expected, atol=1e-4)
        kernels = [op.kernel for op in graph.ops if op.kind == "depthwise"]
        before = [op.kernel for op in trained.ops if op.kind == "depthwise"]
        assert any((a != b).any() for a, b in zip(kernels, before, strict=True))


def test_equalised_channels_have_weights_of_like_size_on_both_sides():
    rng = np.random.default_rng(0)

    def weights(*shape):
        return (rng.normal(size=shape) * 10 ** rng.normal(size=shape[-1])).astype(np.float32)

    ops = (
        Op("conv", "a", ("image",), kernel=weights(1, 1, 3, 8), bias=weights(8), relu=True),
        Op("depthwise", "b", ("a",), kernel=weights(3, 3, 8), pads=(1, 1, 1, 1)),
        Op("conv", "c", ("b",), kernel=weights(1, 1, 8, 5)),
        Op("conv", "d", ("b",), kernel=weights(1, 1, 8, 4)),
        Op("add", "e", ("c", "c")),
        Op("concat", "f", ("e", "d")),
    )
    graph = InferenceGraph("image", (6, 6, 3), ops, ("f",))
    assert equalizable(graph) == ["a", "b"]  # c and d are not read by convolutions
    a, b, c, d = equalize_channels(graph, 100).ops[:4]
    np.testing.assert_allclose(np.abs(a.kernel).max((0, 1, 2)), np.abs(b.kernel).max((0, 1)), rtol=1e-3)
    read = np.maximum(np.abs(c.kernel).max((0, 1, 3)), np.abs(d.kernel).max((0, 1, 3)))
    np.testing.assert_allclose(np.abs(b.kernel).max((0, 1)), read, rtol=1e-3)
    batch = rng.normal(size=(2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(
        predict(equalize_channels(graph), batch)[0], predict(graph, batch)[0], rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize(("module", "suffix"), [(litert, ".tflite"), (onnx, ".onnx")])
def test_hard_weights_lose_no_more_than_others(trained, hard, images, module, suffix, tmp_path):
    expected = predict(trained, images)[0]
    path = tmp_path / f"model{suffix}"

    def found(graph):
        module.write(graph, path, ("output",), {}, INT8, images[:32])
        return signal_to_noise(expected, load_runtime(path).predict(images))

    assert found(trained) > 20
    assert found(hard) > found(trained) - 4
    without = tuple(r for r in module.REWRITES["int8"] if r is not equalize_channels)
    with mock.patch.dict(module.REWRITES, {"int8": without}):
        assert found(hard) < 12
