import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nasnet_zoo
from nasnet_zoo.cli import main
from nasnet_zoo.data import ImageData
from nasnet_zoo.evaluation import evaluate, evaluate_predictions
from nasnet_zoo.export import export

pytestmark = pytest.mark.tensorflow
NAMES = ("cat", "dog", "fox")


def test_figures_worked_by_hand():
    probabilities = np.array(
        [[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.0, 0.8, 0.2], [0.1, 0.2, 0.7]], "float32"
    )
    found = evaluate_predictions([(probabilities, np.array([0, 1, 1, 2]))], NAMES)
    assert found.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert (found.images, found.top_1, found.top_5) == (4, 0.75, 1.0)
    # Each image is alone in its bin: |1 - 0.9|, |0 - 0.6|, |1 - 0.8|, |1 - 0.7|.
    assert found.calibration_error == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)
    assert found.per_class() == [("cat", 1, 1.0, 0.5), ("dog", 2, 0.5, 1.0), ("fox", 1, 1.0, 1.0)]


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 9))
def test_figures_do_not_depend_on_batches_and_agree_with_plain_counts(seed, images, batch):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(8), images).astype("float32")
    labels = rng.integers(0, 8, images)
    names = tuple("abcdefgh")
    parts = range(0, images, batch)
    batches = ((probabilities[k : k + batch], labels[k : k + batch]) for k in parts)
    found = evaluate_predictions(batches, names)
    order = np.argsort(-probabilities, -1)
    assert found.top_1 == pytest.approx(np.mean(order[:, 0] == labels))
    assert found.top_5 == pytest.approx(np.mean(np.any(order[:, :5] == labels[:, None], axis=1)))
    assert found.confusion.sum(1).tolist() == np.bincount(labels, minlength=8).tolist()
    assert 0 <= found.calibration_error <= 1
    confidence, hits = probabilities.max(-1), order[:, 0] == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(hits[bins == b].sum() - confidence[bins == b].sum()) for b in range(15)]
    assert found.calibration_error == pytest.approx(sum(gaps) / images, abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (np.ones((2, 4), "float32") / 4, r"of 3 classes for each image. Received: \(2, 4\)"),
        (np.array([[5.0, -1, 0], [1, 2, 3]], "float32"), "Expected class probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(outputs, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions([(outputs, np.array([0, 1]))], NAMES)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 10, 10, 3), np.uint8)
    labels = rng.integers(0, 3, 40)
    return ImageData(images, labels, images[:33], labels[:33], NAMES, "noise", 73)


def test_a_model_and_its_files_are_evaluated_alike(data, tmp_path):
    model = nasnet_zoo.NASNet(nasnet_zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=(10, 10, 3), classes=3)
    in_keras = evaluate(model, data)
    model.save(tmp_path / "m.keras")
    for name in ("m", "m.tflite", "m.onnx"):
        export(model, tmp_path / name)
    assert in_keras.images == 33
    for name in ("m.keras", "m", "m.tflite", "m.onnx"):
        found = evaluate(tmp_path / name, data)
        np.testing.assert_array_equal(found.confusion, in_keras.confusion)
        assert found.calibration_error == pytest.approx(in_keras.calibration_error, abs=1e-4)
    in_keras.save_picture(tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, capfd):
    (tmp_path / "broken.keras").write_bytes(b"no archive")
    assert main(["evaluate", str(tmp_path / "broken.keras"), "--data", "digits"]) == 1
    error = capfd.readouterr().err
    assert error.startswith(f"nasnet-zoo: {tmp_path}/broken.keras: expected a Keras model.")
    assert error.count("\n") == 1
    model = nasnet_zoo.NASNet(nasnet_zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=(8, 8, 3), classes=10)
    with pytest.raises(ValueError, match="digits: expected images of 3 channels. Received: 1"):
        evaluate(model, "digits")
