import dataclasses
import logging
import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import files_of_at_most
from onnx import TensorProto, helper

import nasnet_zoo
from nasnet_zoo.classifier import class_names
from nasnet_zoo.cli import main
from nasnet_zoo.data import ImageData
from nasnet_zoo.detection.recipes import find_recipe
from nasnet_zoo.detection.training import build_detector
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


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A file of a model of the classes cat, dog and fox."""
    model = nasnet_zoo.NASNet(
        nasnet_zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=(10, 10, 3), classes=3, class_names=NAMES
    )
    path = tmp_path_factory.mktemp("named") / "m.keras"
    model.save(path)
    return path


def test_class_names_travel_with_the_model(named):
    again = keras.models.load_model(named)  # Keras's own, in its safe mode
    assert class_names(again) == NAMES
    # Files of weights are those of a model without names, and fit each other.
    plain = nasnet_zoo.NASNet(nasnet_zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=(10, 10, 3), classes=3)
    again.save_weights(named.with_name("m.weights.h5"))
    plain.load_weights(named.with_name("m.weights.h5"))
    np.testing.assert_array_equal(plain.get_weights()[-2], again.get_weights()[-2])
    assert class_names(plain) is None
    features = keras.Model(again.input, again.get_layer("global_pool").output)
    assert class_names(features) is None
    assert class_names(nasnet_zoo.inference_model(again)) == NAMES


@pytest.mark.parametrize("names", [("cat", "dog"), "cat", ("cat", "dog", 3)])
def test_names_that_are_not_those_of_the_classes_are_refused(names):
    with pytest.raises(ValueError, match="Expected class_names: .* Received: "):
        nasnet_zoo.NASNet(
            nasnet_zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=(10, 10, 3), classes=3, class_names=names
        )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("dog", "cat", "fox"), "in its order: class 0 is 'cat'. Received: 'dog'"),
        (("cat", "dog", "wolf"), "class 2 is 'fox'. Received: 'wolf'"),
        ((*NAMES, "wolf"), "the model's 3 classes. Received: 4"),
    ],
)
def test_other_classes_than_the_models_are_refused(named, data, names, message):
    other = dataclasses.replace(data, class_names=names)
    with pytest.raises(ValueError, match=f"noise: expected .*{message}"):
        evaluate(named, other)
    evaluate(named, data)
    if len(names) == 3:
        found = evaluate(named, other, class_names=names)
        np.testing.assert_array_equal(found.confusion, evaluate(named, data).confusion)


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx", "m"])
def test_the_names_in_an_exported_file_are_compared_too(named, data, tmp_path, name):
    export(nasnet_zoo.saving.load_model(named), tmp_path / name, class_names=NAMES)
    assert evaluate(tmp_path / name, data).images == 33
    other = dataclasses.replace(data, class_names=("dog", "cat", "fox"))
    with pytest.raises(ValueError, match="class 0 is 'cat'. Received: 'dog'"):
        evaluate(tmp_path / name, other)


def test_a_file_with_several_outputs_is_no_classifier(tmp_path):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 1])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8, 8, 1]) for n in ("a", "b")]
    nodes = [helper.make_node("Relu", ["image"], [output.name]) for output in outputs]
    graph = helper.make_graph(nodes, "two", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="two.onnx: expected a classifier, with one output. .*: a, b"):
        evaluate(tmp_path / "two.onnx", "digits")


@pytest.mark.parametrize(
    "option", [["--crop", "2"], ["--crop", "nan"], ["--image-size", "0"], ["--image-size", "-1"]]
)
def test_options_out_of_range_are_wrong_usage(option, capfd):
    assert main(["evaluate", "m.keras", "--data", "digits", *option]) == 2
    name = option[0].strip("-").replace("-", "_")
    assert re.search(f"Expected {name}: |{option[0]}: expected ", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": 2}, "crop: a finite number above 0 and of at most 1"),
        ({"crop": float("nan")}, "crop: a finite number"),
        ({"image_size": 0}, "image_size: an int of at least 1 and of at most 4096"),
        ({"image_size": -1}, "image_size: an int of at least 1 and of at most 4096"),
    ],
)
def test_arguments_out_of_range_are_refused(named, data, arguments, message):
    with pytest.raises(ValueError, match=f"Expected {message}.* Received: "):
        evaluate(named, data, **arguments)


def test_a_command_checks_before_it_works_what_it_writes_and_tells_a_full_disk(
    tmp_path, capfd, monkeypatch
):
    """A limit on the size of files stands in for the full disk: `write` fails alike."""
    # TensorFlow warns of the models of other tests, too, which it traced in this process.
    monkeypatch.setattr(logging.getLogger("tensorflow"), "disabled", True)
    model = nasnet_zoo.NASNet(nasnet_zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=(8, 8, 1), classes=10)
    path = tmp_path / "m.keras"
    model.save(path)
    capfd.readouterr()
    command = ["evaluate", str(path), "--data", "digits"]

    def run(*arguments):
        status = main([*command, *map(str, arguments)])
        output = capfd.readouterr()
        return status, output.out, output.err

    for option, name in (("--json", "x.json"), ("--picture", "x.png")):
        status, out, error = run(option, tmp_path / "none" / name)
        assert (status, out) == (1, "")
        assert error.startswith(f"nasnet-zoo: {tmp_path}/none/{name}: expected a file in an existing")
    status, out, error = run("--picture", tmp_path / "x.doc")
    assert (status, out) == (1, "")
    assert "x.doc: expected a picture of type " in error
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{name}\n" for name in "abcdefghij"))
    assert "class 0 is 'a'. Received: '0'" in run("--classes", names)[2]
    assert run("--json", tmp_path / "first.json")[0] == 0  # AutoGraph writes files of its own
    for option, name in (("--json", "x.json"), ("--picture", "x.png")):
        with files_of_at_most(1000):
            status, _, error = run(option, tmp_path / name)
        assert status == 1
        assert error == (
            f"nasnet-zoo: {tmp_path / name}: expected to write it. Received: file too large\n"
        )
        assert not (tmp_path / name).exists()


def test_a_detector_is_no_classifier(tmp_path):
    detector = build_detector(find_recipe("pasted"), ["a", "b"])
    detector.save(tmp_path / "detector.keras")
    message = "Expected a classifier: .* Received: FasterRCNN"
    with pytest.raises(ValueError, match=message):
        evaluate(tmp_path / "detector.keras", "digits")


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, capfd):
    (tmp_path / "broken.keras").write_bytes(b"no archive")
    assert main(["evaluate", str(tmp_path / "broken.keras"), "--data", "digits"]) == 1
    error = capfd.readouterr().err
    assert error.startswith(f"nasnet-zoo: {tmp_path}/broken.keras: expected a Keras model.")
    assert error.count("\n") == 1
    model = nasnet_zoo.NASNet(nasnet_zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=(8, 8, 3), classes=10)
    with pytest.raises(ValueError, match="digits: expected images of 3 channels. Received: 1"):
        evaluate(model, "digits")
