"""Our own files, and weights at any input size."""

import keras
import numpy as np
import pytest
from weights_helpers import assert_same, images, run, tiny

from nasnet_zoo.weights import load_weights


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model whose batch norm has seen data, and its file."""
    keras.utils.set_random_seed(1)
    model = tiny(auxiliary_head=True, image_size=224, classes=6, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if "bn_" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    path = tmp_path_factory.mktemp("saved") / "model.weights.h5"
    model.save_weights(path)
    # As training writes it: with the optimizer's variables.
    model.compile("adam", ["sparse_categorical_crossentropy"] * 2)
    model.save(path.with_name("model.keras"))
    model.save(path.with_name("model.h5"))
    return model, path


def features(path, **arguments):
    return tiny(include_top=False, weights=path, **arguments)


@pytest.mark.tensorflow
def test_the_same_weights_at_any_size(saved):
    """At 224, at 160x200 and at a size that only the image fixes."""
    model, path = saved
    square = features(path, input_shape=(224, 224, 3))
    oblong = features(path, input_shape=(160, 200, 3))
    dynamic = features(path, input_shape=(None, None, 3))
    original = keras.Model(model.input, model.get_layer("Head_ReLU").output)
    for other in (square, oblong, dynamic):
        names = [(w.path, tuple(w.shape)) for w in other.weights]
        assert names == [(w.path, tuple(w.shape)) for w in original.weights]
    x = images(160, 200)
    padded = np.pad(x, ((0, 0), (0, 64), (0, 24), (0, 0)))
    expected = run(original, padded)
    assert_same(run(square, padded), expected)
    assert_same(run(dynamic, padded), expected)
    assert_same(run(oblong, x), run(dynamic, x))
    assert run(oblong, x).shape == (2, 5, 7, 192)
    # The padding reaches the features only where their receptive field touches it.
    assert not np.allclose(run(dynamic, x), expected[:, :5, :7], atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("size", [(64, 64), (33, 200)])
def test_odd_even_and_oblong_images(saved, size):
    x = images(*size)
    dynamic = keras.Model(saved[0].input, saved[0].get_layer("Head_ReLU").output)
    assert_same(run(features(saved[1], input_shape=(*size, 3)), x), run(dynamic, x))


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras", "model.h5"])
def test_everything_comes_back(saved, name):
    model, path = saved
    ours = tiny(auxiliary_head=True, image_size=224, classes=6)
    report = load_weights(ours, path.with_name(name))
    assert not report.missing
    assert not report.unused
    for a, b in zip(model.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_drop_path_changes_no_names(saved):
    ours = tiny(classes=6, drop_path_keep=0.5, drop_path_steps=9)
    report = load_weights(ours, saved[1])
    assert not report.missing
    assert not report.unexpected
    assert {name.split("/")[0] for name in report.unused} == {"auxiliary"}


def test_a_frozen_layer_is_loaded_too(saved):
    ours = tiny(classes=6)
    ours.trainable = False
    load_weights(ours, saved[1])
    kernel = [m.get_layer("Cell_1").get_weights()[-1] for m in (saved[0], ours)]
    np.testing.assert_array_equal(*kernel)


@pytest.mark.parametrize("name", ["model.weights.h5", "model.keras"])
def test_other_classes_and_no_auxiliary_head(saved, name):
    with pytest.warns(UserWarning, match="6 classes in the source, 3 in the model"):
        model = tiny(classes=3, weights=saved[1].with_name(name))
    for layer in ("Stem_Conv", "Cell_2"):
        for a, b in zip(model.get_layer(layer).weights, saved[0].get_layer(layer).weights, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_network_that_was_used_as_a_layer(saved, tmp_path, suffix):
    inner = tiny(include_top=False)
    load_weights(inner, saved[1])
    model = keras.Sequential([inner, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    path = tmp_path / f"model{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    ours = tiny(include_top=False)
    report = load_weights(ours, path)
    assert not report.missing
    for a, b in zip(inner.weights, ours.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_of_another_network(saved):
    with pytest.raises(ValueError, match="other shapes: Cell_1/0 of shape .* missing weights: "):
        load_weights(tiny(cells=2), saved[1])


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "pytorch_model.bin"])
def test_a_pickle_is_refused(saved, name, tmp_path):
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ValueError, match=r"Convert it once .*safetensors\.torch\.save_file"):
        load_weights(saved[0], tmp_path / name)


def test_unknown_kinds_and_choices(saved):
    with pytest.raises(ValueError, match=r"or the prefix of a TF checkpoint\. Received: 'model.ckpt'"):
        load_weights(saved[0], "model.ckpt")
    with pytest.raises(
        ValueError, match=r"Expected background: one of drop, keep\. Received: background='maybe'"
    ):
        load_weights(saved[0], saved[1], background="maybe")
