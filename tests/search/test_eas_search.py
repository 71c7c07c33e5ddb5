"""Searches for networks that grow from one: the children, the weights of the base, the command."""

import json

import keras
import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.cli import main
from nasnet_zoo.search import EASBudget, EASSettings, EASSpace, Trial
from nasnet_zoo.search.images.child import Images

pytestmark = pytest.mark.tensorflow

SPACE = EASSpace("conv-4-3_pool_fc-8", wider=1, deeper=1)
BUDGET = EASBudget(steps=6, batch_size=16, evaluations=2, wider_noise=0.0, deeper_noise=0.0)


def images(count=64):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=count).astype(np.int32)
    pixels = rng.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8)
    return Images(pixels[16:], labels[16:], pixels[:16], labels[:16], 3)


@pytest.fixture
def base(tmp_path):
    keras.utils.set_random_seed(0)
    model = zoo.ChainNet(SPACE.start, classes=3, input_shape=(6, 6, 1))
    model.save(tmp_path / "base.keras")
    return model


@pytest.fixture
def evaluator(tmp_path, base):
    path = str(tmp_path / "base.keras")
    return EASSettings(space=SPACE, budget=BUDGET, base_weights=path).make_child(images())


def test_the_defaults_are_the_paper_s():
    settings = EASSettings()
    assert (settings.policy, settings.minibatch) == ("eas", 10)
    assert settings.reward == "tan(1.5707963 * accuracy)"
    budget = settings.budget
    assert (budget.learning_rate, budget.batch_size, budget.momentum) == (0.02, 64, 0.9)
    assert 2 * budget.l2 == 1e-4
    assert (budget.wider_noise, budget.deeper_noise) == (1e-2, 1e-3)


def test_a_child_begins_with_what_its_base_computes(evaluator, base):
    child = SPACE.decode((1, 1, 0, 0, 2))
    assert child.text == "conv-8-3_conv-8-5_pool_fc-16"
    training = evaluator.start(Trial(0, evaluator.prepare(child), 7))
    pixels = np.random.default_rng(0).uniform(-1, 1, (5, 6, 6, 1)).astype(np.float32)
    logits, _ = training.child.logits(pixels, False)
    found = np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(found, base(pixels, training=False), atol=1e-5)
    # The same seed, the same child.
    again = evaluator.start(Trial(0, evaluator.prepare(child), 7))
    for name, variable in training.variables().items():
        np.testing.assert_array_equal(variable, again.variables()[name])


def test_a_child_that_pauses_goes_on_as_if_it_had_not(evaluator):
    trial = Trial(0, evaluator.prepare(SPACE.decode((0, 1, 1, 0))), 3)
    whole = evaluator.evaluate(trial)
    paused = evaluator.evaluate(trial._replace(pause_at=1))
    assert evaluator.evaluate(trial._replace(checkpoint=paused.checkpoint)).curve == whole.curve


def test_a_base_is_trained_once(tmp_path):
    file, child = tmp_path / "base.npz", SPACE.decode((0, 1, 1, 0))

    def weights(seed):
        evaluator = EASSettings(space=SPACE, budget=BUDGET, seed=seed).make_child(images(), None, file)
        return evaluator.prepare(child)[-1]["weights"]

    trained = weights(0)
    assert [path.name for path in tmp_path.iterdir()] == ["base.npz"]
    np.testing.assert_array_equal(weights(1), trained)  # it is read
    data = file.read_bytes()
    file.write_bytes(data[:100])
    np.testing.assert_array_equal(weights(0), trained)  # a damaged one is made again
    assert not np.array_equal(
        EASSettings(space=SPACE, budget=BUDGET, seed=1)
        .make_child(images())
        .prepare(child)[-1]["weights"],
        trained,
    )


SEARCH = (
    *("search", "--space", "eas", "--data", "digits", "--images", "160", "--children", "2"),
    *("--space.wider", "1", "--space.deeper", "1", "--budget.steps", "4", "--minibatch", "2"),
    *("--budget.evaluations", "1", "--executor", "serial", "--base"),
)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["conv-4-3_pool_fc-8", "g4_t_g4"])
def test_the_command_searches_and_goes_on(tmp_path, tokens):
    out = str(tmp_path / "out")
    assert main([*SEARCH, tokens, "--out", out]) == 0
    best = zoo.ChainGenotype.load(f"{out}/best.json")
    assert len(best.layers) == tokens.count("_") + 2
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["space.kind"] == "eas"
    assert (tmp_path / "out" / "base.npz").exists()
    assert main([*SEARCH, tokens, "--out", out, "--children", "3"]) == 0
    assert zoo.ChainNet(f"{out}/best.json", classes=10).count_params() > 0


@pytest.mark.slow
def test_weights_of_the_base_are_read_and_must_fit(tmp_path, capsys):
    path, out = str(tmp_path / "base.keras"), str(tmp_path / "out")
    zoo.ChainNet(SPACE.start, classes=10, input_shape=(8, 8, 1)).save(path)
    tokens = "conv-4-3_pool_fc-8"
    given = [*SEARCH, tokens, "--out", out, "--base-weights", path]
    assert main(given) == 0
    assert main([*SEARCH, "g4_t_g4", "--out", f"{out}2", "--base-weights", path]) == 1
    said = capsys.readouterr().err
    assert "block 0 of the base: ConvStem(" in said
    assert "Received: ConvBlock(filters=4" in said
    zoo.ChainNet(SPACE.start, classes=3, input_shape=(8, 8, 1)).save(path)
    assert main([*SEARCH, tokens, "--out", f"{out}2", "--base-weights", path]) == 1
    assert "Received: 1 channels, 3 classes" in capsys.readouterr().err
    zoo.ChainNet(SPACE.start, classes=10, input_shape=(8, 8, 1)).save(path)
    assert main([*given, "--children", "3"]) == 1  # other weights than before
    assert "base_weights_crc32" in capsys.readouterr().err
