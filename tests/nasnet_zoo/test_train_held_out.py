"""Held-out images, the best round and early stopping."""

import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from numbered_images import NumberedStream, numbered, prepared
from PIL import Image

from nasnet_zoo.cells import Block, CellGenotype, Genotype
from nasnet_zoo.data import ImageSource, open_dataset
from nasnet_zoo.data.streams import ArraySource
from nasnet_zoo.data.tfds import from_tfds
from nasnet_zoo.evaluation import evaluate
from nasnet_zoo.training import (
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    RunSettings,
    changed,
    train,
)
from nasnet_zoo.training.best import BestRound
from nasnet_zoo.training.training import fit_resumable

pytestmark = pytest.mark.tensorflow


def history(out):
    with open(out / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# === What is held out ===


def folder(path, data):
    for part in ("train", "test"):
        images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        for image, label in zip(images, labels, strict=True):
            (path / part / "abc"[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path / part / "abc"[label] / f"{image[0, 0, 0]}.png")
    return open_dataset(path)


def source_of(kind, path):
    if kind == "arrays":
        return open_dataset(numbered(40, channels=3))
    if kind == "folder":
        return folder(path, numbered(40, channels=3))
    return from_tfds(prepared(NumberedStream, path))


def trained_on(source, epochs=2):
    stream = source.training(3, 0).take(epochs * source.train_size).as_numpy_iterator()
    return [int(image[0, 0, 0]) for _, image, _ in stream]


def evaluated_on(source):
    return [int(image[0, 0, 0]) for image, _ in source.testing().as_numpy_iterator()]


@pytest.mark.parametrize("kind", ["arrays", "folder", "tfds"])
def test_held_out_images_are_never_trained_on_and_always_the_same(kind, tmp_path):
    source = source_of(kind, tmp_path)
    rest = source.hold_out(0.25)
    held_out = evaluated_on(rest)
    assert (rest.train_size, rest.test_size) == (30, 10)
    assert len(held_out) == 10
    assert sorted(trained_on(rest)) == sorted(2 * list(set(range(40)) - set(held_out)))
    assert evaluated_on(source.hold_out(0.25)) == held_out
    if kind != "tfds":
        # 14, 13 and 13 images of the three classes.
        assert sorted(np.bincount(np.array(held_out) % 3)) == [3, 3, 4]
    # What it was taken from is as it was.
    assert sorted(trained_on(source, 1)) == list(range(40))
    assert sorted(evaluated_on(source)) == list(range(200, 207))


@pytest.mark.parametrize("kind", ["arrays", "folder", "tfds"])
@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_nothing_is_refused(kind, share, tmp_path):
    source = source_of(kind, tmp_path)
    with pytest.raises(
        ValueError, match=f"expected a share that holds out.*: held_out={share} of 40 training images"
    ):
        source.hold_out(share)


def test_a_source_that_cannot_hold_out_is_refused(tmp_path):
    class Plain(ImageSource):
        name, class_names, channels, train_size, test_size = "plain", ("a", "b", "c"), 3, 40, 6
        training = testing = staticmethod(lambda *_: None)

    recipe = changed(TINY, evaluation={"held_out": 0.2})
    with pytest.raises(ValueError, match="plain: expected a source with a method hold_out"):
        train(recipe, Plain(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# === The best round, by `fit` on a small model ===

ROUNDS = 8
RNG = np.random.default_rng(1)
X = RNG.normal(size=(90, 6)).astype("float32")
Y = keras.utils.to_categorical(np.argmax(X[:, :3], 1), 3)
HELD_OUT = tf.data.Dataset.from_tensors((X[40:], Y[40:]))


def classifier(ema):
    keras.utils.set_random_seed(5)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(16, activation="relu", name="first")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(keras.layers.Dropout(0.3)(x))
    model = keras.Model(inputs, keras.layers.Dense(3, name="last")(x))
    # It learns for half of the rounds, and then unlearns.
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([ROUNDS], [0.2, 9.0])
    optimizer = keras.optimizers.SGD(rate, use_ema=ema, ema_momentum=0.8)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")])
    return model


def fitted(out, rounds=ROUNDS, ema=False, patience=None):
    """The first step of each call of `fit`, the model, and what is known of its best round."""
    begun = []

    def batches(start):
        begun.append(start)
        return tf.data.Dataset.from_tensors((X[:40], Y[:40])).repeat()

    out.mkdir(exist_ok=True)
    model = classifier(ema)
    best = BestRound(model, True, patience)
    callbacks = [keras.callbacks.SwapEMAWeights()] if ema else []
    fit_resumable(
        model, out, batches, 2, rounds, callbacks, validation_data=HELD_OUT, best=best, verbose=0
    )
    return begun, model, best


def accuracies(out):
    return [float(line["val_accuracy"]) for line in history(out)]


@pytest.mark.parametrize("ema", [False, True])
def test_the_kept_weights_are_those_of_the_best_round(ema, tmp_path):
    _, model, best = fitted(tmp_path / "run", ema=ema)
    found = accuracies(tmp_path / "run")
    assert best.round == int(np.argmax(found))
    assert 0 < best.round < ROUNDS - 1  # neither the first nor the last one
    assert best.accuracy == max(found)
    last = model.get_weights()
    best.restore()
    assert model.evaluate(HELD_OUT, verbose=0, return_dict=True)["accuracy"] == max(found)
    # A run of so many rounds ends with these weights.
    _, shorter, _ = fitted(tmp_path / "shorter", best.round + 1, ema)
    for kept, expected in zip(model.get_weights(), shorter.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, expected)
    assert any(not np.array_equal(a, b) for a, b in zip(last, model.get_weights(), strict=True))


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("interrupted", [1, 4, 7])
def test_an_interrupted_run_keeps_the_same_weights(interrupted, ema, tmp_path):
    _, _, whole = fitted(tmp_path / "whole", ema=ema)
    fitted(tmp_path / "run", interrupted, ema)
    begun, _, best = fitted(tmp_path / "run", ema=ema)
    assert begun == [2 * interrupted]
    assert (tmp_path / "run" / "history.csv").read_text() == (
        tmp_path / "whole" / "history.csv"
    ).read_text()
    assert best.state.keys() == whole.state.keys()
    for name, variable in whole.state.items():
        np.testing.assert_array_equal(best.state[name], variable, err_msg=name)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_training_stops_when_no_round_is_better_for_a_while(patience, tmp_path):
    fitted(tmp_path / "whole")
    found = accuracies(tmp_path / "whole")
    best, stop = 0, len(found)
    for number, accuracy in enumerate(found):
        if accuracy > found[best]:
            best = number
        if number - best == patience:
            stop = number + 1
            break
    assert stop < ROUNDS
    _, _, stopped = fitted(tmp_path / "run", patience=patience)
    assert accuracies(tmp_path / "run") == found[:stop]
    assert stopped.round == best
    # It is done: nothing is trained when it is called again.
    checkpoint = (tmp_path / "run" / "checkpoint.npz").read_bytes()
    begun, model, again = fitted(tmp_path / "run", patience=patience)
    assert begun == []
    assert again.round == best
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == checkpoint
    again.restore()
    assert model.evaluate(HELD_OUT, verbose=0, return_dict=True)["accuracy"] == found[best]


def test_a_checkpoint_without_a_best_round_is_refused(tmp_path):
    fitted(tmp_path / "run", 2)
    path = tmp_path / "run" / "checkpoint.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "best/round"}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="expected the checkpoint of this model.* none of best/round"):
        fitted(tmp_path / "run")


# === Whole runs ===

PLAIN = CellGenotype((Block((0, 1), ("identity", "avg_3x3")),))
TINY = Recipe(
    ModelSettings(
        "nasnet_a_6_768_cifar",
        Genotype("one block", PLAIN, PLAIN),
        cells=1,
        filters=2,
        stem_filters=2,
        image_size=8,
        bn_momentum=0.5,
    ),
    OptimizerSettings(learning_rate=0.05),
    RunSettings(epochs=4, batch_size=8),
)


class Watched(ArraySource):
    """Arrays that note which images are trained on."""

    def __init__(self, data, seen):
        super().__init__(data)
        self.seen = seen

    def training(self, seed, start):
        def note(image):
            self.seen.add(int(image[0, 0, 0]))
            return image

        def noted(position, image, label):
            known = tf.numpy_function(note, [image], tf.uint8)
            return position, tf.ensure_shape(known, image.shape), label

        return super().training(seed, start).map(noted)

    def hold_out(self, share):
        return Watched(super().hold_out(share).data, self.seen)


def test_a_run_is_judged_on_what_it_is_not_trained_on_and_evaluated_once(tmp_path, capsys):
    seen, data, out = set(), numbered(48), tmp_path / "run"
    recipe = changed(TINY, evaluation={"held_out": 0.25, "keep": "best"})
    source = Watched(data, seen)
    train(recipe, source, out, verbose=0)
    held_out = open_dataset(data).hold_out(0.25).data
    assert seen == set(held_out.train_images[:, 0, 0, 0])
    assert not seen & set(held_out.test_images[:, 0, 0, 0])
    found = json.loads((out / "test.json").read_text())
    judged = evaluate(out / "model.keras", held_out).top_1
    assert judged == pytest.approx(max(accuracies(out)), abs=1e-6)
    assert judged == pytest.approx(found["best_held_out_top_1"], abs=1e-6)
    assert accuracies(out)[found["best_epoch"]] == max(accuracies(out))
    assert found["test_top_1"] == pytest.approx(evaluate(out / "model.keras", data).top_1, abs=1e-6)
    # The finished run is not trained, and not tested, again.
    seen.clear()
    (out / "test.json").write_text("{}")
    train(recipe, source, out, verbose=2)
    assert not seen
    assert (out / "test.json").read_text() == "{}"
    (out / "test.json").unlink()
    capsys.readouterr()
    train(recipe, source, out)
    assert json.loads((out / "test.json").read_text()) == found
    assert f"Test accuracy of the saved weights: {found['test_top_1']:.2%}" in capsys.readouterr().out


def test_the_last_weights_are_kept_where_asked_and_heads_may_be_two(tmp_path):
    data, out = numbered(48), tmp_path / "run"
    recipe = changed(
        TINY,
        evaluation={"held_out": 0.25, "patience": 1},
        run={"epochs": 9},
        model={"image_size": 16, "bn_momentum": 1.0},
        regularization={"auxiliary_weight": 0.4},
        optimizer={"learning_rate": 1e-9},
    )
    train(recipe, data, out, verbose=0)
    lines = history(out)
    # With weights that do not change the first round is the best one, and the second the last.
    assert len(lines) == 2
    found = json.loads((out / "test.json").read_text())
    assert found["best_epoch"] == 0
    assert found["best_held_out_top_1"] == float(lines[0]["val_predictions_accuracy"])
    assert found["test_top_1"] == pytest.approx(evaluate(out / "model.keras", data).top_1, abs=1e-6)


@pytest.mark.parametrize("changes", [{"keep": "best"}, {"patience": 2}], ids=str)
def test_nothing_is_chosen_on_the_test_images(changes):
    with pytest.raises(ValueError, match="its default, unless held_out is above 0. Received: "):
        EvaluationSettings(**changes)
