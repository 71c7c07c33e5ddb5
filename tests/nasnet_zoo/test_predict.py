"""Predictions on image files, by Keras models and exported files."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from documented import check_figures
from PIL import Image

import nasnet_zoo as zoo
from nasnet_zoo.cli import main
from nasnet_zoo.data import open_dataset
from nasnet_zoo.data.folders import class_files
from nasnet_zoo.data.idx import load_idx
from nasnet_zoo.export import export
from nasnet_zoo.prediction import predict
from nasnet_zoo.training.input import evaluation_batches

pytestmark = pytest.mark.tensorflow
SAMPLE = Path(__file__).parents[1] / "data" / "fashion_mnist"
CLOTHES = ("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
NAMES = ("cat", "dog", "fox")


def tiny(shape=(10, 10, 3), classes=3, **arguments):
    return zoo.NASNet(zoo.NASNET_A, 1, 2, "cifar", 2, input_shape=shape, classes=classes, **arguments)


def probabilities(predictions, classes):
    """Predictions of all classes as an array (images, classes)."""
    found = np.zeros((len(predictions), classes), np.float32)
    for row, one in zip(found, predictions, strict=True):
        row[[index for _, index, _ in one]] = [probability for _, _, probability in one]
    return found


# === Real images: the model in the package ===


@pytest.fixture(scope="module")
def trained():
    return zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist", class_names=CLOTHES)


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """Real grey images as files, and their labels."""
    sample, folder = load_idx(SAMPLE), tmp_path_factory.mktemp("clothes")
    paths = [folder / f"{k}.png" for k in range(30)]
    for path, image in zip(paths, sample.test_images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    return paths, sample.test_labels[:30]


def test_a_grey_model_sees_grey_files_as_evaluate_sees_their_arrays(trained, clothes):
    paths, labels = clothes
    images, _ = next(evaluation_batches(open_dataset(SAMPLE), 28).as_numpy_iterator())
    found = list(predict(trained, paths, top=10))
    expected = trained.predict_on_batch(images[:30])
    np.testing.assert_allclose(probabilities(found, 10), expected, atol=1e-5)
    for one in found:
        assert [probability for _, _, probability in one] == sorted(p.probability for p in one)[::-1]
    assert np.mean([one[0].class_index for one in found] == labels) >= 0.8
    assert all(name == CLOTHES[index] for one in found for name, index, _ in one)


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("m.keras", None),
        ("m.tflite", {}),
        ("m.onnx", {}),
        ("m", {}),
        ("b.tflite", {"preprocess": True}),
    ],
)
def test_files_of_all_formats_agree_on_real_images(trained, clothes, file, options, tmp_path):
    paths, _ = clothes
    if options is None:
        trained.save(tmp_path / file)
    else:
        export(trained, tmp_path / file, class_names=CLOTHES, **options)
    expected = list(predict(trained, paths, top=1))
    found = list(predict(tmp_path / file, paths, top=1))
    for (one,), (other,) in zip(found, expected, strict=True):
        assert (one.class_name, one.class_index) == (other.class_name, other.class_index)
        assert one.probability == pytest.approx(other.probability, abs=1e-4)


def test_the_command_prints_and_writes_what_the_function_gives(trained, clothes, tmp_path, capfd):
    paths = [str(path) for path in clothes[0][:3]]
    expected = list(predict(trained, paths, top=2))
    (tmp_path / "clothes.txt").write_text("".join(f"{name}\n" for name in CLOTHES))
    command = ["predict", "nasnet_a_1_384_fashion_mnist", *paths, "--weights", "fashion_mnist"]
    command += ["--top", "2", "--json", str(tmp_path / "found.json")]
    assert main([*command, "--classes", str(tmp_path / "clothes.txt")]) == 0
    lines = []
    for path, one in zip(paths, expected, strict=True):
        lines += [f"{path}:", *(f"{p.probability:8.2%}  {p.class_name}" for p in one)]
    assert capfd.readouterr().out.splitlines() == lines
    written = json.loads((tmp_path / "found.json").read_text())
    check_figures("predict", written)
    assert [one["image"] for one in written] == paths
    for one, other in zip(written, expected, strict=True):
        assert [(p["class"], p["index"]) for p in one["predictions"]] == [p[:2] for p in other]
        found = [p["probability"] for p in one["predictions"]]
        assert found == pytest.approx([p.probability for p in other], abs=1e-6)
    # The model holds no names of its own by its name.
    assert main(command) == 0
    assert f"  class {expected[0][0].class_index}\n" in capfd.readouterr().out


# === How images are prepared ===


@pytest.mark.parametrize(("side", "crop"), [(10, 1.0), (10, 0.7), (16, 1.0)])
def test_photographs_are_prepared_as_evaluate_prepares_them(tmp_path, side, crop):
    rng = np.random.default_rng(0)
    for kind in NAMES:
        for k, (suffix, size) in enumerate([("png", (23, 31)), ("jpg", (40, 17)), ("webp", (10, 10))]):
            path = tmp_path / "train" / kind / f"{k}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
            noise.resize(size, Image.Resampling.BICUBIC).save(path)
    (tmp_path / "train").rename(tmp_path / "test")
    (tmp_path / "train").symlink_to("test")
    _, (paths, _), _ = class_files(tmp_path)
    assert len(paths) == 9
    model = tiny((None, None, 3))
    images, _ = next(evaluation_batches(open_dataset(tmp_path), side, crop).as_numpy_iterator())
    found = predict(model, paths, image_size=side, crop=crop)
    np.testing.assert_allclose(probabilities(list(found), 3), model.predict_on_batch(images), atol=1e-6)


def test_a_crop_of_a_small_image_has_a_pixel(tmp_path):
    Image.new("RGB", (1, 1), (90, 9, 200)).save(tmp_path / "one.png")
    Image.new("RGB", (8, 8), (90, 9, 200)).save(tmp_path / "more.png")
    model = tiny()
    one, more = predict(model, [tmp_path / "one.png", tmp_path / "more.png"], crop=0.2)
    np.testing.assert_allclose(probabilities([one], 3), probabilities([more], 3), atol=1e-6)


def test_a_colour_file_is_turned_to_grey_for_a_grey_model(tmp_path):
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 10, 3), np.uint8))
    colours.save(tmp_path / "colour.png")
    colours.convert("L").save(tmp_path / "grey.png")
    model = tiny((10, 10, 1))
    colour, grey = predict(model, [tmp_path / "colour.png", tmp_path / "grey.png"])
    assert colour == grey


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((None, None, 3), None, "Expected image_size for a model of any image size. Received: None"),
        ((10, 10, 3), 12, "images of 12x12 pixels. Received: one of 10x10"),
        ((10, 14, 3), None, "images of 10x10 pixels. Received: one of 10x14"),
        ((10, 10, 4), None, r"\(height, width, 1 or 3 channels\). Received: shape \(10, 10, 4\)"),
    ],
)
def test_images_that_a_model_does_not_take_are_told(shape, size, message):
    with pytest.raises(ValueError, match=message):
        predict(tiny(shape), ["a.png"], image_size=size)


# === Names ===


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)).save(path)
    return path


def test_names_of_the_classes(image):
    (found,) = predict(tiny(class_names=NAMES), [image])
    assert {(p.class_name, p.class_index) for p in found} == {("cat", 0), ("dog", 1), ("fox", 2)}
    (found,) = predict(tiny(class_names=NAMES), [image], class_names=("a", "b", "c"))
    assert {(p.class_name, p.class_index) for p in found} == {("a", 0), ("b", 1), ("c", 2)}
    (found,) = predict(tiny(), [image])
    assert {p.class_name for p in found} == {"class 0", "class 1", "class 2"}
    assert all(p.class_name == f"class {p.class_index}" for p in found)
    with pytest.raises(ValueError, match="names of the model's 3 classes. Received: 2"):
        next(predict(tiny(), [image], class_names=("a", "b")))


def test_a_thousand_classes_without_names_are_those_of_imagenet(image):
    model = tiny(classes=1000)
    (found,) = predict(model, [image], top=7)
    (expected,) = zoo.decode_predictions(probabilities(list(predict(model, [image], 1000)), 1000), 7)
    assert [(p.class_name, p.probability) for p in found] == [named[1:] for named in expected]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: tiny(classifier_activation=None), "outputs that do not sum to 1"),
        (lambda: tiny(include_top=False), r"classes for each image. Received: \(1, 3, 3, "),
        (lambda: keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]), "one image input"),
    ],
)
def test_what_is_no_classifier_is_refused(model, message, image):
    with pytest.raises(ValueError, match=message):
        next(predict(model(), [image]))


# === The command's errors ===


def test_errors_are_one_line_and_come_before_the_work(image, tmp_path, capfd):
    tiny().save(tmp_path / "m.keras")
    broken, model = tmp_path / "broken.png", str(tmp_path / "m.keras")
    broken.write_bytes(image.read_bytes()[:60])
    names = tmp_path / "names.json"
    names.write_text("a\nb\nc\n")
    before = image.read_bytes()
    capfd.readouterr()
    for arguments, message in [
        ([model, image, broken], f"{broken}: expected a readable image. Received: "),
        ([model, image, tmp_path / "none.png"], "none.png: expected an image. Received: no such file"),
        ([model, image, "--json", image], "expected the name of a .json file, or none"),
        ([model, image, "--json", names, "--classes", names], "expected the name of a file of its own"),
        ([model, image, "--weights", "imagenet"], "Expected one of nasnet_mobile, .* Received: model="),
        (["nasnet_mobile", image], "Expected --weights for the model nasnet_mobile. Received: none"),
    ]:
        assert main(["predict", *map(str, arguments)]) in (1, 2)
        (line,) = capfd.readouterr().err.splitlines()
        assert re.search(message, line)
    assert image.read_bytes() == before
