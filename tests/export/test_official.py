"""Exported files against the Keras model they were made from, each in its own runtime."""

import keras
import numpy as np
import pytest

from nasnet_zoo.cells import (
    NASNET_B,
    SEARCH_COMBINATIONS,
    SEARCH_OPERATIONS,
    Block,
    Cell,
    CellGenotype,
    Genotype,
)
from nasnet_zoo.export import export, load_runtime
from nasnet_zoo.models import NASNet

pytestmark = pytest.mark.tensorflow

EXPORTS = {"model": "TensorFlow", "model.tflite": "LiteRT", "model.onnx": "ONNX Runtime"}


def _export(model, path, **arguments):
    export(model, path, converter="official", **arguments)


_BLOCK = Block((0, 1), ("sep_3x3", "max_3x3"))
SMALL = Genotype("small", CellGenotype((_BLOCK,)), CellGenotype((_BLOCK,)))
# Every operation of the search space, on an initial state and on a block.
EVERY = CellGenotype(
    tuple(
        Block((k % 2, min(k + 1, 5)), (operation, SEARCH_OPERATIONS[k - 1]), SEARCH_COMBINATIONS[k % 2])
        for k, operation in enumerate(SEARCH_OPERATIONS)
    )
)


def _images(batch, size, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, *size, 3)).astype(np.float32)


def _trained(model, size, outputs):
    """Two steps of `fit`, so that batch norm's statistics and the compiled state are not new."""
    rng = np.random.default_rng(0)
    model.compile("sgd", "mse")
    model.fit(_images(4, size), rng.uniform(size=(4, outputs)), batch_size=2, verbose=0)
    return model


def _small(input_shape):
    arguments = {"classes": 7, "classifier_activation": None}
    return NASNet(SMALL, 1, 4, "cifar", 4, input_shape=input_shape, **arguments)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return _trained(_small((13, 10, 3)), (13, 10), 7)


@pytest.fixture(scope="module", params=EXPORTS)
def runtime(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / request.param
    _export(model, path)
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.md"}
    loaded = load_runtime(path)
    assert loaded.name == EXPORTS[request.param]
    return loaded


@pytest.mark.parametrize("batch", [4, 1])
def test_a_file_computes_what_keras_computes(model, runtime, batch):
    images = _images(batch, (13, 10), seed=batch)
    expected = np.asarray(model(images))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(runtime.predict(images), expected, atol=1e-4)


def test_a_file_holds_all_weights(model, runtime):
    assert runtime.size > 4 * sum(np.prod(weight.shape) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 12, 10, 3), np.float32),
        np.zeros((13, 10, 3), np.float32),
        np.zeros((1, 13, 10, 3), np.float64),
        np.zeros((0, 13, 10, 3), np.float32),
    ],
)
def test_images_that_do_not_fit_are_refused(runtime, images):
    with pytest.raises(ValueError, match="Expected float32 images of shape \\(batch, 13, 10, 3\\)"):
        runtime.predict(images)


@pytest.mark.parametrize("name", EXPORTS)
def test_any_image_size(tmp_path, name):
    model = _trained(_small((None, None, 3)), (9, 8), 7)
    _export(model, tmp_path / name, image_size=(9, 8))
    runtime = load_runtime(tmp_path / name)
    for size in ((9, 8), (16, 21)):
        images = _images(2, size)
        np.testing.assert_allclose(runtime.predict(images), np.asarray(model(images)), atol=1e-4)


@pytest.fixture(scope="module")
def every_operation():
    keras.utils.set_random_seed(0)
    image = keras.Input((11, 12, 3))
    x = Cell(EVERY, 4, stride=2)([Cell(EVERY, 4)([image]), image])
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    return _trained(model, (11, 12), model.output.shape[-1])


@pytest.mark.parametrize("name", EXPORTS)
def test_every_operation_at_both_strides(tmp_path, every_operation, name):
    _export(every_operation, tmp_path / name)
    images = _images(3, (11, 12))
    expected = np.asarray(every_operation(images))
    predicted = load_runtime(tmp_path / name).predict(images)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EXPORTS)
def test_labelled_cells_and_sample_norms(tmp_path, name):
    image = keras.Input((12, 12, 3))
    states = Cell(NASNET_B.normal, 4)([image] * 4)
    x = keras.layers.Concatenate()(states)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    _export(model, tmp_path / name)
    images = _images(2, (12, 12))
    predicted = load_runtime(tmp_path / name).predict(images)
    np.testing.assert_allclose(predicted, np.asarray(model(images)), atol=1e-4)


# === Bad input ===


@pytest.mark.parametrize("name", EXPORTS)
def test_a_model_of_another_shape_is_refused(tmp_path, name):
    first, second = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    vector = keras.Input((5,))
    for model in (
        keras.Model([first, second], first + second),
        keras.Model(vector, vector * 2.0),
        keras.Model(first, [first * 2.0, first + 1.0]),
    ):
        with pytest.raises(ValueError, match="Expected a model with one image input"):
            _export(model, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_a_failed_export_leaves_the_old_file(tmp_path, name):
    image = keras.Input((4, 4, 3))
    # Neither format has a singular value decomposition.
    unsupported = keras.Model(image, keras.layers.Lambda(lambda x: keras.ops.svd(x)[1])(image))
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ValueError, match="(?is)Expected a model that .* can express. Received: .*svd"):
        _export(unsupported, tmp_path / name)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(name, b"old")]


def test_a_folder_of_something_else_is_not_replaced(model, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="Expected a new folder or an earlier SavedModel"):
        _export(model, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_earlier_saved_model_is_replaced(model, tmp_path):
    _export(_small((8, 8, 3)), tmp_path / "model")
    _export(model, tmp_path / "model")
    assert load_runtime(tmp_path / "model").image_shape == (13, 10, 3)
    assert {file.name for file in tmp_path.iterdir()} == {"model", "model.md"}


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx", "model/saved_model.pb"])
def test_a_broken_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"broken")
    path = path.parent if path.name == "saved_model.pb" else path
    with pytest.raises(ValueError, match=f"{path.name}: expected a model that can be loaded"):
        load_runtime(path)


@pytest.mark.parametrize("name", ["nothing.onnx", "nothing", "."])
def test_what_is_not_a_model_file_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="Expected a SavedModel folder, or a file that ends in"):
        load_runtime(tmp_path / name)


@pytest.mark.parametrize("name", EXPORTS)
def test_the_auxiliary_head_is_left_out(tmp_path, name):
    keras.utils.set_random_seed(0)
    model = NASNet(
        SMALL, 1, 4, "cifar", 4, input_shape=(20, 20, 3), image_size=20, classes=7, auxiliary_head=True
    )
    _export(model, tmp_path / name)
    images = _images(2, (20, 20))
    predictions = load_runtime(tmp_path / name).predict(images)
    np.testing.assert_allclose(predictions, model(images)[0], atol=1e-5)
