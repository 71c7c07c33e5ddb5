"""Files of Keras's models: the same predictions as `keras.applications` from the same file."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import h5py
import keras
import numpy as np
import pytest
from weights_helpers import assert_same, images, randomise, run, save_legacy, tiny, tiny_keras

import nasnet_zoo as zoo
from nasnet_zoo.weights import imagenet, load_weights

pytestmark = pytest.mark.tensorflow


def without_top(model, end="features"):
    return keras.Model(model.input, model.layers[-2 if end == "pooled" else -3].output)


@pytest.fixture(scope="module")
def keras_mobile():
    return randomise(keras.applications.NASNetMobile(weights=None))


@pytest.fixture
def published(keras_mobile, tmp_path, monkeypatch):
    """Serves files of Keras's own making where `weights="imagenet"` looks, with their checksums."""
    folder = tmp_path / "published"
    folder.mkdir()
    for top, model in ((True, keras_mobile), (False, without_top(keras_mobile))):
        name, cached, _ = imagenet.FILES["NASNetMobile", top]
        md5 = hashlib.md5(save_legacy(model, folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(imagenet.FILES, ("NASNetMobile", top), (name, cached, md5))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(imagenet, "BASE_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "models"
    server.shutdown()
    server.server_close()


def test_mobile_equals_keras_applications(keras_mobile, published, recwarn):
    x = images(224, 224)
    expected = run(keras_mobile, x)
    assert np.ptp(expected) > 1e-3

    ours = zoo.NASNetMobile(weights="imagenet", pool_padding="keras")
    np.testing.assert_allclose(run(ours, x), expected, rtol=0, atol=1e-5)
    assert [path.name for path in published.iterdir()] == ["nasnet_mobile.h5"]
    assert not [w for w in recwarn if "weights" in str(w.message)]

    dynamic = zoo.NASNetMobile(weights="imagenet", include_top=False, pool_padding="keras")
    assert dynamic.input_shape == (None, None, None, 3)
    assert_same(run(dynamic, x), run(without_top(keras_mobile), x))
    assert run(dynamic, images(151, 200)).shape == (2, 5, 7, 1056)
    assert {path.name for path in published.iterdir()} == {
        "nasnet_mobile.h5",
        "nasnet_mobile_no_top.h5",
    }


@pytest.mark.slow
@pytest.mark.parametrize("top", [True, False])
def test_large_equals_keras_applications(tmp_path, top):
    shape = (331, 331, 3)
    theirs = keras.applications.NASNetLarge(weights=None, include_top=top, input_shape=shape)
    randomise(theirs)
    path = save_legacy(theirs, tmp_path / "large.h5")
    x = images(331, 331, 1)
    expected = run(theirs, x)
    del theirs
    ours = zoo.NASNetLarge(weights=path, include_top=top, input_shape=shape, pool_padding="keras")
    if top:
        np.testing.assert_allclose(run(ours, x), expected, rtol=0, atol=1e-5)
    assert_same(run(ours, x), expected)


@pytest.fixture(scope="module")
def keras_tiny():
    return randomise(tiny_keras())


@pytest.fixture(scope="module")
def ours():
    """A model to load into; every load changes all of it or nothing."""
    return tiny(pool_padding="keras")


def assert_loaded(ours, theirs):
    x = images(64, 64)
    assert_same(run(ours, x), run(theirs, x))


#: As Keras 3 writes models and weights; "model.h5" is a whole model in the legacy layout.
KERAS_FILES = ["model.keras", "model.weights.h5", "model.h5"]


def save(model, path):
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


@pytest.mark.parametrize("name", KERAS_FILES)
def test_every_file_that_keras_writes_is_read(ours, keras_tiny, tmp_path, name):
    # The optimizer's variables are in the file too.
    keras_tiny.compile("adam", "categorical_crossentropy")
    report = load_weights(ours, save(keras_tiny, tmp_path / name))
    assert not report.missing
    assert not report.unused
    assert len(report.loaded) == len(keras_tiny.weights)
    assert_loaded(ours, keras_tiny)


def edit(path, change):
    """Writes a Keras file anew with what ``change`` makes of each path and value; None drops it."""
    with h5py.File(path) as file:
        values = {}
        file.visititems(
            lambda name, item: (
                values.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    with h5py.File(path, "w") as file:
        for item in filter(None, map(change, *zip(*values.items(), strict=True))):
            file[item[0]] = item[1]


def test_numbered_variables_of_a_session_with_several_models(ours, keras_tiny, tmp_path):
    """TensorFlow 1 numbered the variables of a second model, as in normal_conv_1_0_1/kernel:0."""
    path = save_legacy(keras_tiny, tmp_path / "model.h5")

    def numbered(name, value):
        layer, leaf = name.split("/")[0], name.split("/")[-1]
        return f"{layer}/{layer}_1/{leaf}:0", value

    edit(path, numbered)
    load_weights(ours, path)
    assert_loaded(ours, keras_tiny)


def test_only_layers_without_weights_have_automatic_names(keras_tiny):
    """So names in a file cannot depend on how many models were built before it was written."""
    again = tiny_keras()
    names = [{layer.name for layer in model.layers if layer.weights} for model in (keras_tiny, again)]
    assert names[0] == names[1]
    assert {layer.name for layer in keras_tiny.layers} != {layer.name for layer in again.layers}


@pytest.mark.parametrize("name", KERAS_FILES)
def test_a_model_that_was_used_as_a_layer(tmp_path, name):
    inner = randomise(tiny_keras(include_top=False))
    model = keras.Sequential([inner, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    path = save(model, tmp_path / name)
    ours = tiny(include_top=False, pool_padding="keras")
    report = load_weights(ours, path)
    assert len(report.unexpected) == 2  # kernel and bias of the dense layer
    assert_loaded(ours, inner)


@pytest.mark.parametrize("name", KERAS_FILES[:2])
def test_a_fine_tuned_model_goes_into_one_of_other_sizes_classes_and_parts(tmp_path, name):
    theirs = randomise(tiny_keras(classes=7))
    path = save(theirs, tmp_path / name)
    x = images(64, 64)

    ours = tiny(classes=7, weights=path, pool_padding="keras", input_shape=(64, 64, 3))
    assert_loaded(ours, theirs)
    with pytest.warns(UserWarning, match="7 classes in the source, 5 in the model"):
        other = tiny(classes=5, weights=path, pool_padding="keras", auxiliary_head=True, image_size=224)
    features = keras.Model(other.input, other.get_layer("global_pool").output)
    assert_loaded(features, without_top(theirs, "pooled"))
    headless = tiny(include_top=False, weights=path, pool_padding="keras")
    assert_same(run(headless, x), run(without_top(theirs), x))
    assert run(headless, images(96, 160)).shape == (2, 3, 5, 192)


def test_two_networks_in_one_file_are_refused(ours, tmp_path):
    image = keras.Input((64, 64, 3))
    parts = [tiny_keras(include_top=False), tiny_keras(include_top=False)]
    for number, part in enumerate(parts):
        part.name = f"network_{number}"
    both = keras.Model(image, [part(image) for part in parts])
    with pytest.raises(ValueError, match="expected the weights of one network .* Received: 2 of them"):
        load_weights(ours, save(both, tmp_path / "model.keras"))


def test_other_classes_and_an_auxiliary_head_keep_their_initial_values(keras_tiny, tmp_path):
    path = save_legacy(keras_tiny, tmp_path / "model.h5")
    with pytest.warns(UserWarning, match="1000 classes in the source, 5 in the model") as caught:
        ours = tiny(classes=5, weights=path, pool_padding="keras", auxiliary_head=True, image_size=224)
    message = str(caught[0].message)
    assert "missing        2  predictions/kernel, predictions/bias: 1000 classes" in message
    assert "missing       12  auxiliary/sequence-2-kernel" in message
    assert "not in the source" in message
    features = keras.Model(ours.input, ours.get_layer("global_pool").output)
    assert_loaded(features, without_top(keras_tiny, "pooled"))


def test_another_network_is_refused_and_nothing_changes(ours, keras_tiny, tmp_path):
    path = save_legacy(keras_tiny, tmp_path / "model.h5")

    def change(name, value):
        return name, value[..., :1] if name.endswith("normal_conv_1_2/kernel") else value + 1

    edit(path, change)
    before = ours.get_weights()
    with pytest.raises(ValueError, match="other shapes: normal_conv_1_2/kernel of shape") as info:
        load_weights(ours, path)
    assert "(1, 1, 64, 1) for Cell_1/state_0-1-kernel of shape (1, 1, 64, 16)" in str(info.value)
    for a, b in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_channels_than_the_weights_have(keras_tiny, tmp_path):
    path = save_legacy(keras_tiny, tmp_path / "model.h5")
    with pytest.raises(ValueError, match="other shapes: stem_conv1/kernel"):
        tiny(input_shape=(64, 64, 4), weights=path)


def test_a_missing_weight_is_named(ours, keras_tiny, tmp_path):
    path = save_legacy(keras_tiny, tmp_path / "model.h5")
    edit(path, lambda name, value: None if name.endswith("normal_bn_1_0/beta") else (name, value))
    with pytest.raises(ValueError, match="missing weights: normal_bn_1_0/beta for Cell_0/state_0"):
        load_weights(ours, path)


def test_an_unused_weight_is_reported_and_warned_of(ours, keras_tiny, tmp_path):
    path = save_legacy(keras_tiny, tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        file["extra/extra/kernel"] = np.zeros(3)
    report = load_weights(ours, path)
    assert report.unused == report.unexpected == ("extra/kernel",)
    with pytest.warns(UserWarning, match="unused         1  extra/kernel"):
        report.warn()


def test_only_models_of_this_package_take_weights(keras_tiny, tmp_path):
    with pytest.raises(ValueError, match="Expected a model of nasnet_zoo"):
        load_weights(
            keras.Sequential([keras.layers.Dense(1)]), save_legacy(keras_tiny, tmp_path / "a.h5")
        )
