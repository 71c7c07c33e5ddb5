"""Transformed models train, save, load and export like any other."""

import json

import keras
import numpy as np
import pytest
from documented import check_figures
from keras import layers
from transforms import (
    conv,
    difference,
    head,
    images,
    outputs,
    same,
    stack,
)

from nasnet_zoo.cli import main
from nasnet_zoo.export import export
from nasnet_zoo.transform import (
    insert_identity,
    net2deeper,
    net2wider,
    replace_identity,
    replicate_add,
    replicate_concat,
    split_concat,
)

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def pair():
    """A model, and one that was transformed in every way."""
    parts = [conv(6, "path"), layers.BatchNormalization(), layers.ReLU(), conv(8, "grouped", groups=2)]
    model = stack(*parts, conv(5, "last", activation="relu"), *head(), layers.Softmax())
    x = net2deeper(net2wider(model, "path", 10, seed=1), "path")
    x = split_concat(replicate_concat(replicate_add(x, "last"), "last_branch_1", 3), "grouped")
    x = insert_identity(x, "last_branch_2")
    return model, replace_identity(x, "last_branch_2_identity", "sep3")


def test_a_transformed_model_is_saved_and_loaded(pair, tmp_path):
    pair[1].save(tmp_path / "model.keras")
    assert same(pair[0], keras.models.load_model(tmp_path / "model.keras"))


def test_a_transformed_model_is_trained(pair):
    x, labels = images(count=60, seed=3), np.arange(60) % 4
    trained = keras.models.clone_model(pair[1])
    trained.set_weights(pair[1].get_weights())
    trained.compile("sgd", "sparse_categorical_crossentropy")
    losses = trained.fit(x, labels, 20, 8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for before, after in zip(pair[1].trainable_weights, trained.trainable_weights, strict=True):
        if before.name != "bias":  # of which batch norm makes nothing
            assert (before.numpy() != after.numpy()).any(), before.path
    assert difference(pair[1], trained) > 1e-3


def test_a_compiled_model_stays_compiled():
    model = stack(conv(5, "wide"), *head())
    model = keras.Model(model.inputs, model.outputs)
    model.compile("adam", "mse")
    assert (
        net2wider(model, "wide", 8).fit(images(), outputs(model, images()), verbose=0).history["loss"]
    )


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx", "saved"])
def test_a_transformed_model_is_exported(pair, file, tmp_path):
    x = images(count=20) / 5
    result = export(pair[1], tmp_path / file, converter="official", images=x)
    assert result.agreement == 1


# === The command ===


@pytest.fixture
def saved(tmp_path):
    norm = layers.BatchNormalization(name="norm")
    parts = [conv(6, "first"), norm, layers.ReLU(), conv(7, "second")]
    model = stack(*parts, layers.GlobalAveragePooling2D(), layers.Dense(10), shape=(8, 8, 1))
    model.save(tmp_path / "model.keras")
    return model


def test_the_command_widens_first_and_then_deepens(saved, tmp_path, capsys):
    file, out = str(tmp_path / "model.keras"), tmp_path / "new.keras"
    options = ["--deeper", "first", "--wider", "second=9", "--deeper", "first", "--wider", "first=8"]
    assert main(["transform", file, "--out", str(out), *options, "--kernel-size", "5", "--json"]) == 0
    output = capsys.readouterr()
    check_figures("transform", json.loads(output.out))
    found = keras.models.load_model(out)
    assert same(saved, found)
    assert [found.get_layer(name).filters for name in ("first", "second")] == [8, 9]
    shapes = [found.get_layer(name).kernel.shape for name in ("first_deeper", "first_deeper_2")]
    assert shapes == [(5, 5, 8, 8)] * 2
    told = f"{out}: {found.count_params():,} parameters, {saved.count_params():,} before\n"
    assert output.err == told


def test_the_command_measures_batch_norm_on_the_images_of_a_data_set(saved, tmp_path):
    out = tmp_path / "new.keras"
    command = ["transform", str(tmp_path / "model.keras"), "--out", str(out), "--deeper", "first"]
    assert main([*command, "--images", "digits", "--limit", "50"]) == 0
    found = keras.models.load_model(out)
    assert same(saved, found)
    assert found.get_layer("norm_deeper").moving_mean.numpy().any()


def test_a_command_that_is_refused_writes_no_file(saved, tmp_path, capfd):
    out = tmp_path / "new.keras"
    command = ["transform", str(tmp_path / "model.keras"), "--out", str(out)]
    assert main([*command, "--wider", "first=8", "--deeper", "third"]) == 1
    error = capfd.readouterr().err
    assert error == f"nasnet-zoo: Expected the name of a layer of {saved.name!r}. Received: 'third'\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.keras"]
