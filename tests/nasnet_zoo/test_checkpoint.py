import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from limits import files_of_at_most

from nasnet_zoo.training.checkpoint import (
    Checkpoint,
    NotFiniteError,
    restore_checkpoint,
    save_checkpoint,
)
from nasnet_zoo.training.training import fit_resumable

pytestmark = pytest.mark.tensorflow

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 3)).astype("float32"), RNG.normal(size=(8, 1)).astype("float32")


def small_model(optimizer, inputs=3, last="last"):
    inputs = keras.Input((inputs,))
    x = keras.layers.Dense(4, activation="relu", name="first")(inputs)
    for _ in range(2):
        x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name=last)(x))
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    return model


def sgd():
    return keras.optimizers.SGD(0.01, momentum=0.9, use_ema=True, ema_momentum=0.5)


OPTIMIZERS = [
    sgd,
    lambda: keras.optimizers.RMSprop(0.01, momentum=0.9),
    lambda: keras.optimizers.AdamW(0.01),
    lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01, momentum=0.9)),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_holds_all_that_the_next_step_depends_on(optimizer, tmp_path):
    # The names that Keras numbers within a process are others in the second model.
    model, other = small_model(optimizer()), small_model(optimizer())
    for _ in range(3):
        model.train_on_batch(X, Y)
    save_checkpoint(model, tmp_path / "c.npz", 5)
    assert restore_checkpoint(other, tmp_path / "c.npz") == 5
    for _ in range(3):
        assert model.train_on_batch(X, Y) == other.train_on_batch(X, Y)
    for one, two in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.fixture
def saved(tmp_path):
    model = small_model(sgd())
    model.train_on_batch(X, Y)
    save_checkpoint(model, tmp_path / "c.npz", 1)
    return tmp_path / "c.npz"


def changed(path, **values):
    """Writes a checkpoint anew with some arrays changed, or without them where None."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays |= values
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


KERNEL = "model/first/kernel"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({KERNEL: None}, f"none of {KERNEL}"),
        ({KERNEL: None, "model/last/bias": None}, f"none of {KERNEL} and 1 more"),
        ({"model/third/kernel": np.zeros(3)}, "an unknown model/third/kernel"),
        (
            {KERNEL: np.zeros((4, 4), "float32")},
            rf"{KERNEL} of float32 \(4, 4\) instead of float32 \(3, 4",
        ),
        ({KERNEL: np.zeros((3, 4))}, rf"{KERNEL} of float64 \(3, 4\) instead of float32"),
        ({KERNEL: np.full((3, 4), np.nan, "float32")}, f"{KERNEL} that is not finite"),
        ({"optimizer/sgd/iteration": None}, "none of optimizer/sgd/iteration"),
        ({"rounds": None}, "rounds None"),
        ({"rounds": np.array(-1)}, "rounds -1"),
        ({"rounds": np.array([1, 2])}, "rounds"),
        ({"rounds": np.array("two")}, "rounds two"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_restored(saved, values, message):
    changed(saved, **values)
    model = small_model(sgd())
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=f"c.npz: expected the checkpoint of this model.*: one with {message}"
    ):
        restore_checkpoint(model, saved)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_models_checkpoint_is_refused_by_name(saved):
    with pytest.raises(ValueError, match=r"one with model/first/kernel of float32 \(3, 4\) instead of"):
        restore_checkpoint(small_model(sgd(), inputs=4), saved)
    with pytest.raises(ValueError, match="one with none of model/end/bias and 1 more"):
        restore_checkpoint(small_model(keras.optimizers.SGD(0.1), last="end"), saved)


def test_pickles_are_not_loaded(saved, capfd):
    class Harm:
        def __reduce__(self):
            return print, ("harm",)

    changed(saved, **{KERNEL: np.array([Harm()], object)})
    with pytest.raises(ValueError, match="c.npz: expected a checkpoint. Received: "):
        restore_checkpoint(small_model(sgd()), saved)
    assert "harm" not in capfd.readouterr().out


def test_broken_files_are_refused_in_one_line(saved):
    whole, model = saved.read_bytes(), small_model(sgd())
    contents = [b"", b"no archive", whole[: len(whole) // 2], whole[:100], whole[:-1]]
    for place in RNG.integers(0, len(whole), 100):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        contents.append(bytes(flipped))
    restore_checkpoint(model, saved)
    weights, messages = model.get_weights(), []
    for content in contents:
        saved.write_bytes(content)
        try:
            restore_checkpoint(model, saved)
        except ValueError as error:
            messages.append(str(error))
        for one, other in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    # Some bytes of an archive, such as times, carry nothing.
    assert len(messages) > 50
    assert all(message.startswith(f"{saved}: expected ") for message in messages)
    saved.unlink()
    with pytest.raises(FileNotFoundError, match="c.npz: expected a checkpoint. Received: no such file"):
        restore_checkpoint(model, saved)


def test_a_loss_that_is_no_number_stops_and_the_last_good_checkpoint_stays(tmp_path):
    path = tmp_path / "c.npz"
    model = small_model(keras.optimizers.SGD(0.01))
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[Checkpoint(path)])
    good = path.read_bytes()
    with pytest.raises(NotFiniteError, match="Received: nan at step 3"):
        model.fit(X, Y * np.nan, batch_size=4, verbose=0, callbacks=[Checkpoint(path)])
    with pytest.raises(NotFiniteError, match="model/first/kernel is not finite"):
        save_checkpoint(model, path, 2)
    assert path.read_bytes() == good
    assert restore_checkpoint(model, path) == 1


# === Runs ===

STEPS = 4


def run(out, rounds, optimizer=None):
    """Fits a new model, and tells the step that it begins with and the model."""
    begun = []

    def batches(start):
        begun.append(start)
        return tf.data.Dataset.from_tensors((X, Y)).repeat()

    model = small_model(optimizer or sgd())
    fit_resumable(model, out, batches, STEPS, rounds, verbose=0)
    return begun, model


def epochs(out):
    with open(out / "history.csv", newline="", encoding="utf-8") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def test_rounds_with_skipped_steps_are_done_and_not_repeated(tmp_path):
    def huge():
        # Every gradient overflows until the scale was halved often enough.
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2.0**127)

    _, model = run(tmp_path, 2, huge())
    taken = int(model.optimizer.inner_optimizer.iterations)
    assert taken < 2 * STEPS
    assert epochs(tmp_path) == [0, 1]
    begun, again = run(tmp_path, 2, huge())
    assert begun == []
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    begun, _ = run(tmp_path, 3, huge())
    assert begun == [2 * STEPS]
    assert epochs(tmp_path) == [0, 1, 2]


def test_a_checkpoint_of_more_rounds_than_the_run_has_is_refused(tmp_path):
    run(tmp_path, 3)
    with pytest.raises(
        ValueError, match="checkpoint.npz: expected at most 2 rounds of training. Received: 3"
    ):
        run(tmp_path, 2)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    run(tmp_path, 1)
    kept = (tmp_path / "checkpoint.npz").read_bytes()
    with files_of_at_most(1000), pytest.raises(OSError, match="checkpoint.npz: expected to write it"):
        run(tmp_path, 2)
    assert (tmp_path / "checkpoint.npz").read_bytes() == kept
    with files_of_at_most(40), pytest.raises(OSError, match="history.csv: expected to write it"):
        run(tmp_path, 2)
    run(tmp_path, 2)
    assert epochs(tmp_path) == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], "lines for 2 epochs. Received: 0"),
        (lambda lines: lines[:2], "lines for 2 epochs. Received: 1"),
        (lambda lines: [lines[0], "garbage", *lines[1:]], "a line for epoch 0. Received: 'garbage'"),
        (lambda lines: [lines[0], lines[2], lines[1]], "a line for epoch 0. Received: '1,"),
        (lambda lines: [*lines[:2], "1"], "a line for epoch 1. Received: '1'"),
        (lambda lines: [*lines[:2], "\udcff"], "a history in CSV. Received: bytes that are no text"),
    ],
)
def test_a_history_that_lacks_an_epoch_is_refused(tmp_path, change, message):
    run(tmp_path, 2)
    path = tmp_path / "history.csv"
    lines = change(path.read_text().splitlines())
    path.write_text("".join(f"{line}\n" for line in lines), errors="surrogateescape")
    with pytest.raises(ValueError, match=f"history.csv: expected {message}"):
        run(tmp_path, 3)


def test_blank_lines_and_epochs_that_are_run_again_leave_the_history(tmp_path):
    run(tmp_path, 2)
    path = tmp_path / "history.csv"
    good = path.read_text()
    path.write_text(good.replace("\n", "\n\n") + "2,0.5\n3")
    run(tmp_path, 2)
    assert path.read_text() == good
