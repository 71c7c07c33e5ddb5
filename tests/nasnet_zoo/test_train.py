import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from documented import check_figures
from limits import files_of_at_most

import nasnet_zoo
from nasnet_zoo.cells import Cell, ScheduledDropPath
from nasnet_zoo.cli import main
from nasnet_zoo.data import open_dataset
from nasnet_zoo.files import locked
from nasnet_zoo.training import RECIPES, changed, train
from nasnet_zoo.training.recipes import to_dict
from nasnet_zoo.training.training import build, claimed, compile_model, for_inference

pytestmark = pytest.mark.tensorflow


def history(out):
    with open(out / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# === A whole run ===


def test_the_digits_are_learnt_and_told_apart(tmp_path, capfd):
    """The smoke run: the CIFAR recipe in small, from the command line to the evaluation."""
    out = tmp_path / "run"
    train_digits = ["train", "digits", "--data", "digits", "--out", str(out), "--tensorboard"]
    assert main([*train_digits, "--json", str(tmp_path / "trained.json")]) == 0
    trained = json.loads((tmp_path / "trained.json").read_text())
    check_figures("train", trained)
    assert trained["metrics"]["val_accuracy"] == float(history(out)[-1]["val_accuracy"])
    assert list((out / "tensorboard" / "validation").glob("events.out.*"))
    assert not (out / "test.json").exists()  # which is of runs with held-out images
    lines = history(out)
    assert len(lines) == RECIPES["digits"].run.epochs
    accuracy = float(lines[-1]["val_accuracy"])
    assert accuracy >= 0.95
    found = tmp_path / "found.json"
    capfd.readouterr()
    arguments = ["evaluate", str(out / "model.keras"), "--data", "digits", "--json", str(found)]
    assert main(arguments) == 0
    told = capfd.readouterr().out
    check_figures("evaluate", json.loads(found.read_text()))
    found = json.loads(found.read_text())
    assert found["top_1"] == pytest.approx(accuracy, abs=1e-6)
    assert found["images"] == 359
    assert f"359 images: top-1 {accuracy:.2%}" in told
    # What is saved is for inference: the builder's own network, without training's counters.
    model = keras.models.load_model(out / "model.keras")
    assert model.name == "nasnet_a_1_192_cifar"  # not that of the recipe's model, which it is not
    assert not [layer for layer in model._flatten_layers() if isinstance(layer, ScheduledDropPath)]
    weights = nasnet_zoo.NASNet(
        nasnet_zoo.NASNET_A,
        1,
        8,
        "cifar",
        8,
        input_shape=(16, 16, 1),
        classes=10,
        weights=out / "model.weights.h5",
    )
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 1)).astype("float32")
    np.testing.assert_allclose(weights(images), model(images), atol=1e-6)
    # A finished run writes its models again, or tells that the disk is full.
    model_file, checkpoint = out / "model.keras", (out / "checkpoint.npz").read_bytes()
    whole = model_file.read_bytes()
    with files_of_at_most(20_000):
        assert main(train_digits) == 1
    assert capfd.readouterr().err == (
        f"nasnet-zoo: {model_file}: expected to write it. Received: file too large\n"
    )
    assert model_file.read_bytes() == whole
    assert (out / "checkpoint.npz").read_bytes() == checkpoint
    # Training can start from them, for other classes too.
    tuned = changed(RECIPES["digits"], model={"weights": str(out / "model.weights.h5")})
    fewer = dataclasses.replace(open_dataset("digits").in_memory(), class_names=tuple("0123456789abc"))
    with pytest.warns(UserWarning, match="predictions"):
        start = build(tuned, open_dataset(fewer), 10)
    np.testing.assert_array_equal(
        start.get_layer("Cell_2").get_weights()[0], model.get_layer("Cell_2").get_weights()[0]
    )


# === Resume ===

SCRIPT = """
import sys
from nasnet_zoo.cells import Block, CellGenotype, Genotype
from nasnet_zoo.training import RECIPES, changed, train
cell = CellGenotype((Block((0, 1), ("sep_3x3", "identity")), Block((0, 2), ("avg_3x3", "sep_3x3"))))
genotype = Genotype("two blocks", cell, cell)
recipe = changed(
    RECIPES["digits"],
    model=dict(genotype=genotype, filters=2, stem_filters=2, image_size=12, l2=1e-4),
    optimizer=dict(learning_rate=0.01, ema=0.9, warmup_epochs=0.5, kind="adamw", weight_decay=0.05),
    run=dict(epochs=2, batch_size=64),
    regularization=dict(label_smoothing=0.1, auxiliary_weight=0.4, drop_path_keep=0.8),
    augmentation=dict(flip=True, cutout=4, mixup=0.2, rand_augment_layers=1),
    evaluation=dict(held_out=0.2, keep="best", patience=5),
)
train(recipe, "digits", sys.argv[1], seed=1, checkpoints_per_epoch=3, deterministic=True)
"""


def start(out):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )


def finished(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]


def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed, victim = start(whole), start(killed)
    checkpoint = killed / "checkpoint.npz"
    while not checkpoint.exists():
        assert victim.poll() is None, victim.communicate()[1].decode()[-2000:]
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert not (killed / "model.keras").exists()
    done = len(history(killed))
    # A line of an epoch that the checkpoint does not hold: the process died between the two.
    lines = (killed / "history.csv").read_text().splitlines()
    with open(killed / "history.csv", "a", encoding="utf-8") as file:
        file.write(f"{done},{','.join(lines[-1].split(',')[1:])}\n")
    finished(start(killed))
    finished(undisturbed)
    assert (killed / "history.csv").read_text() == (whole / "history.csv").read_text()
    assert len(history(whole)) == 6
    assert (killed / "test.json").read_text() == (whole / "test.json").read_text()
    first, second = (keras.models.load_model(out / "model.keras") for out in (whole, killed))
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_folder_holds_one_run(tmp_path):
    recipe = changed(RECIPES["digits"], run={"epochs": 9})
    (tmp_path / "run.json").write_text(json.dumps({"recipe": to_dict(recipe), "data": "digits"}))
    with pytest.raises(ValueError, match="expected run.epochs=9, which .* has. Received: run.epochs=6"):
        train(RECIPES["digits"], "digits", tmp_path)


def test_a_run_of_an_earlier_version_goes_on_without_the_fields_that_came_later(tmp_path):
    recipe = RECIPES["digits"]
    settings = {"data": "digits", "seed": 0}
    earlier = to_dict(recipe)
    del earlier["optimizer"]["weight_decay"], earlier["optimizer"]["beta_2"], earlier["evaluation"]
    (tmp_path / "run.json").write_text(json.dumps({"recipe": earlier, **settings}))
    with claimed(tmp_path, recipe, settings):
        pass
    earlier["optimizer"]["kind"] = "adamw"
    (tmp_path / "run.json").write_text(json.dumps({"recipe": earlier, **settings}))
    other = changed(recipe, optimizer={"kind": "adamw", "weight_decay": 0.1})
    with (
        pytest.raises(ValueError, match="expected optimizer.weight_decay=0.0, .* Received: .*=0.1"),
        claimed(tmp_path, other, settings),
    ):
        pass


def test_a_folder_of_others_is_left_alone(tmp_path):
    others = {"history.csv": "my,own\n", "model.keras": "my own"}
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="expected a new or empty folder.* Received: one with history"):
        train(RECIPES["digits"], "digits", tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == others


def test_two_runs_do_not_share_a_folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"recipe": to_dict(RECIPES["digits"])}))
    with locked(tmp_path), pytest.raises(ValueError, match="Received: one that another run holds"):
        train(RECIPES["digits"], "digits", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a training run in JSON. Received: nothing"),
        (b"[]", "a training run in JSON. Received: one without a recipe"),
        (b'{"recipe": {}, "seed": 0}', "a training run in JSON. Expected model: an object of preset"),
        (b"\xff\xfe", "a training run in JSON. Received: bytes that are no text"),
        (b"[" * 100_000, "a training run in JSON. Received: lists nested too deeply"),
    ],
)
def test_a_broken_note_of_the_run_is_named(tmp_path, content, message):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"run.json: expected {message}"):
        train(RECIPES["digits"], "digits", tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("seed", -1), ("seed", 2**32), ("checkpoints_per_epoch", 0)]
)
def test_arguments_out_of_range_are_refused(name, value, tmp_path):
    with pytest.raises(
        ValueError, match=f"Expected {name}: an int of at least .* Received: {name}={value}"
    ):
        train(RECIPES["digits"], "digits", tmp_path, **{name: value})


def test_too_few_images_for_a_step_are_refused_before_anything_is_written(tmp_path):
    recipe = RECIPES["digits"].with_batch_size(2000)
    with pytest.raises(ValueError, match="at least one step of 2000 .* Received: 1438 images"):
        train(recipe, "digits", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# === Networks ===


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_recipes_make_networks_whose_trained_weights_move_to_inference(precision):
    recipe = changed(
        RECIPES["digits"],
        model={"preset": "nasnet_c_4_640_cifar", "filters": 2, "image_size": 12},
        run={"precision": precision, "gradient_checkpointing": True, "steps_per_execution": 3},
        regularization={
            "auxiliary_weight": 0.4,
            "drop_path_keep": 0.5,
            "drop_path_version": "constant",
        },
    )
    source = open_dataset("digits")
    keras.config.set_dtype_policy(precision)
    try:
        model = build(recipe, source, 10)
    finally:
        keras.config.set_dtype_policy("float32")
    compile_model(model, recipe, 10)
    assert model.steps_per_execution == 3
    assert all(layer.gradient_checkpointing for layer in model.layers if isinstance(layer, Cell))
    drop_paths = [la for la in model._flatten_layers() if isinstance(la, ScheduledDropPath)]
    assert {(d.version, d.keep_final, int(d.total_steps)) for d in drop_paths} == {
        ("constant", 0.5, 10)
    }
    for variable in model.trainable_variables:
        variable.assign(variable + 0.01)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 12, 12, 1)).astype("float32")
    logits, _ = model(images)
    probabilities = for_inference(model, recipe, source)(images)
    tolerance = 1e-6 if precision == "float32" else 2e-2
    np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, atol=tolerance)
