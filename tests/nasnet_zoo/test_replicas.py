"""Training by strategies, on two logical CPUs and in two processes."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from nasnet_zoo.cli import main
from nasnet_zoo.training import RECIPES, changed, train
from nasnet_zoo.training.recipes import RunSettings
from nasnet_zoo.training.replicas import open_strategy

pytestmark = pytest.mark.tensorflow

SCRIPT = Path(__file__).parents[1] / "replicated_run.py"
DIGITS = RECIPES["digits"]
PLAIN = {"run": {"epochs": 1, "batch_size": 64}}
#: All that a recipe can ask of a training step.
RICH = {
    "run": {"epochs": 2, "batch_size": 64},
    "model": {"image_size": 12},
    "optimizer": {
        "kind": "adamw",
        "weight_decay": 0.05,
        "clip_norm": 0.5,
        "ema": 0.9,
        "warmup_epochs": 0.5,
    },
    "regularization": {"label_smoothing": 0.1, "auxiliary_weight": 0.4, "drop_path_keep": 0.5},
    "augmentation": {"flip": True, "cutout": 4, "mixup": 0.2, "rand_augment_layers": 1},
}


def start(out, recipe, environment=None, **options):
    options = {"out": str(out), "recipe": recipe, "verbose": 0, **options}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps(options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", **(environment or {})},
    )


def start_workers(out, recipe, **options):
    addresses = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            addresses.append(f"localhost:{free.getsockname()[1]}")
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    return [
        start(
            out,
            recipe,
            {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})},
            strategy="multiworker",
            **options,
        )
        for task in tasks
    ]


def finished(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=1200)
        assert process.returncode == 0, errors[-2000:]


def killed_after_a_checkpoint(out, victim, *others):
    """Kills a process; the others are to end by themselves. Returns their errors."""
    while not (out / "checkpoint.npz").exists():
        assert victim.poll() is None, victim.communicate()[1][-2000:]
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    return [other.communicate(timeout=600)[1] for other in others]


def history(out):
    with open(out / "history.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [{name: float(value) for name, value in line.items()} for line in lines]


def losses(out):
    # Keras takes the mean over test batches of any size for the loss of a single head.
    left_out = ("val_predictions_loss", "val_auxiliary_loss")
    return [value for line in history(out) for name, value in line.items() if name not in left_out]


MIRRORED = {"strategy": "mirrored", "devices": 2}


def test_two_devices_compute_what_one_does(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    finished(start(one, PLAIN), start(two, PLAIN, **MIRRORED))
    assert losses(two) == pytest.approx(losses(one), rel=1e-9)


@pytest.mark.slow
def test_the_comparison_refuses_batch_norm_of_each_replicas_part(tmp_path):
    one, mutant = tmp_path / "one", tmp_path / "mutant"
    finished(start(one, PLAIN), start(mutant, PLAIN, **MIRRORED, local_batch_norm=True))
    assert losses(mutant) != pytest.approx(losses(one), rel=1e-5)


@pytest.mark.slow
def test_whole_recipes_are_the_same_on_one_device_on_two_and_in_two_processes(tmp_path):
    one, two, workers = (tmp_path / name for name in ("one", "two", "workers"))
    finished(start(one, RICH))
    finished(start(two, RICH, **MIRRORED))
    finished(*start_workers(workers, RICH))
    for out in (two, workers):
        assert losses(out) == pytest.approx(losses(one), rel=1e-8)
        first, second = (keras.models.load_model(run / "model.keras") for run in (one, out))
        for a, b in zip(first.weights, second.weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert {path.name for path in workers.iterdir()} == {path.name for path in one.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["mirrored", "chief", "worker"])
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(killed, tmp_path):
    recipe = {
        "run": {"epochs": 2, "batch_size": 64},
        "optimizer": {"ema": 0.9},
        "regularization": {"drop_path_keep": 0.8},
        "evaluation": {"held_out": 0.2, "keep": "best", "patience": 9},
    }
    options = {"checkpoints_per_epoch": 2, "doubles": False}

    def started(out):
        if killed == "mirrored":
            return [start(out, recipe, **MIRRORED, **options)]
        return start_workers(out, recipe, **options)

    whole, out = tmp_path / "whole", tmp_path / "killed"
    finished(*started(whole))
    processes = started(out)
    victim = processes.pop(1 if killed == "worker" else 0)
    errors = killed_after_a_checkpoint(out, victim, *processes)
    for error in errors:
        assert "Expected all workers of TF_CONFIG to go on. Received:" in error, error[-2000:]
    assert not (out / "model.keras").exists()
    finished(*started(out))
    assert len(history(out)) == 4
    for name in ("history.csv", "test.json"):
        assert (out / name).read_text() == (whole / name).read_text()
    first, second = (keras.models.load_model(run / "model.keras") for run in (whole, out))
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(tmp_path):
    one, moved = tmp_path / "one", tmp_path / "moved"
    recipe = {"run": {"epochs": 2, "batch_size": 64}, "regularization": {"drop_path_keep": 0.5}}
    options = {"checkpoints_per_epoch": 5}
    finished(start(one, recipe, **options))
    killed_after_a_checkpoint(moved, start(moved, recipe, **MIRRORED, **options))
    assert len(history(moved)) < 10
    finished(start(moved, recipe, **options))
    assert losses(moved) == pytest.approx(losses(one), rel=1e-9)


# === What is refused ===

ADDRESSES = ["host1:12345", "host2:12345"]


def test_without_a_strategy_a_run_has_tensorflows_default():
    strategy = open_strategy(None, DIGITS.run)
    assert strategy.num_replicas_in_sync == 1
    assert strategy.cluster_resolver is None


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("", "nothing"),
        ("{", "no JSON at line 1"),
        ("[]", r"\[\]"),
        ("{}", "{}"),
        (json.dumps({"cluster": {"worker": ADDRESSES}}), "{"),
        (json.dumps({"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}), "{"),
        (json.dumps({"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 2}}), "{"),
        (json.dumps({"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": -1}}), "{"),
        (json.dumps({"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": "0"}}), "{"),
        (json.dumps({"cluster": {"worker": ADDRESSES}, "task": {"type": "ps", "index": 0}}), "{"),
        (json.dumps({"cluster": {"worker": "h:1"}, "task": {"type": "worker", "index": 0}}), "{"),
        (json.dumps({"cluster": {"worker": ["h"]}, "task": {"type": "worker", "index": 0}}), "{"),
        (json.dumps({"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}), "{"),
    ],
)
def test_machines_are_asked_for_by_an_example(text, received, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TF_CONFIG", text)
    arguments = ["train", "digits", "--data", "digits", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--strategy", "multiworker"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert 'Expected the environment variable TF_CONFIG like {"cluster": {"worker": ["host1:' in line
    assert re.search(f"Received: {received}", line)
    assert not (tmp_path / "out").exists()


def test_a_batch_that_does_not_divide_is_refused_before_work(tmp_path):
    process = start(tmp_path / "out", {"run": {"batch_size": 33}}, strategy="mirrored", devices=2)
    _, errors = process.communicate(timeout=300)
    assert (
        "run.batch_size: a multiple of 2, the number of replicas. Received: run.batch_size=33" in errors
    )
    assert not (tmp_path / "out").exists()


def test_what_strategies_do_not_support_is_refused(monkeypatch):
    with pytest.raises(
        ValueError, match="steps_per_execution=1 with strategy='mirrored'. Received: .*=2"
    ):
        open_strategy("mirrored", RunSettings(1, 32, steps_per_execution=2))
    with pytest.raises(
        ValueError, match="Expected strategy: .*mirrored.*multiworker.* Received: .*tpu"
    ):
        train(DIGITS, "digits", "out", strategy="tpu")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(
        ValueError, match="the TensorFlow backend for strategy='mirrored'. Received: jax"
    ):
        open_strategy("mirrored", DIGITS.run)


def test_machines_are_joined_before_tensorflow_computes(monkeypatch):
    keras.ops.zeros(()).numpy()
    task = {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    with pytest.raises(
        ValueError, match="in which TensorFlow has computed nothing yet, for strategy='mu"
    ):
        open_strategy("multiworker", changed(DIGITS, run={"batch_size": 64}).run)
