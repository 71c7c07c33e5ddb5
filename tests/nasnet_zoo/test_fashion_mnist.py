"""The trained model in the package, and what its exports lose, on real images."""

from pathlib import Path

import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.data.idx import load_idx
from nasnet_zoo.evaluation import evaluate
from nasnet_zoo.export import export

pytestmark = pytest.mark.tensorflow
SAMPLE = Path(__file__).parents[1] / "data" / "fashion_mnist"


@pytest.fixture(scope="module")
def model():
    return zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist")


@pytest.fixture(scope="module")
def sample():
    return load_idx(SAMPLE)


@pytest.fixture(scope="module")
def in_keras(model, sample):
    return evaluate(model, sample)


def test_the_model_in_the_package_names_real_images(in_keras):
    found = in_keras
    assert found.images == 500
    # The accuracy on all 10,000 test images less three standard deviations for 500 of them.
    assert found.top_1 >= 0.88
    assert found.top_5 >= 0.99
    assert found.calibration_error <= 0.05


@pytest.mark.parametrize(
    ("file", "quantization", "lost"),
    [
        ("m", "float32", 0),
        ("m.tflite", "float32", 0),
        ("m.onnx", "float32", 0),
        ("m.tflite", "float16", 1),
        ("m.onnx", "float16", 1),
        ("m.tflite", "dynamic", 3),
        # Its runtime has no fast kernels for them.
        pytest.param("m.tflite", "int16x8", 3, marks=pytest.mark.slow),
        ("m.tflite", "int8", 5),
        ("m.onnx", "int8", 5),
    ],
)
def test_exports_lose_at_most_a_percent_of_the_images(
    model, sample, in_keras, file, quantization, lost, tmp_path
):
    """``lost``: of 500 images that Keras names rightly, how many more the file may get wrong."""
    images, labels = sample.test_images, sample.test_labels
    path = tmp_path / file
    told = export(
        model,
        path,
        quantization=quantization,
        representative=sample.train_images,
        images=images[:200],
        min_agreement=0.98,
    )
    # Values of integers are far nearer to their simulation than quantisation moves them.
    assert told.nearness < 0.15
    assert told.values > 150 or file == "m"
    found = evaluate(path, sample)
    assert (in_keras.top_1 - found.top_1) * 500 <= lost + 1e-6
    assert found.images == len(labels)


def test_other_classes_start_from_its_network(sample):
    with pytest.warns(UserWarning, match="predictions"):
        model = zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist", classes=3)
    assert model.output_shape == (None, 3)
    backbone = zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist", include_top=False, pooling="avg")
    images = zoo.preprocess_input(sample.test_images[:4])
    probabilities = np.asarray(model(images))
    assert np.asarray(backbone(images)).shape == (4, 384)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_a_model_of_another_architecture_refuses_its_weights():
    with pytest.raises(ValueError, match="fashion_mnist"):
        zoo.NASNetA_6_768_CIFAR(weights="fashion_mnist")
