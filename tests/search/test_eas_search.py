"""Searches for networks that grow from one: the children, the weights of the base, the command."""

import json

import keras
import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.cli import main
from nasnet_zoo.search import EASBudget, EASSettings, EASSpace, Trial
from nasnet_zoo.search.eas.child import GrownChild, vectors
from nasnet_zoo.search.images.child import Images

pytestmark = pytest.mark.tensorflow

SPACE = EASSpace("conv-4-3_pool_fc-8", wider=1, deeper=1)
BUDGET = EASBudget(steps=6, batch_size=16, evaluations=2, wider_noise=0.0, deeper_noise=0.0)


def images(count=64):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=count).astype(np.int32)
    pixels = rng.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8)
    return Images(pixels[16:], labels[16:], pixels[:16], labels[:16], 3)


def base():
    keras.utils.set_random_seed(0)
    return zoo.ChainNet(SPACE.start, classes=3, input_shape=(6, 6, 1))


def test_the_defaults_are_the_paper_s():
    settings = EASSettings()
    assert (settings.policy, settings.minibatch) == ("eas", 10)
    assert settings.reward == "tan(1.5707963 * accuracy)"
    budget = settings.budget
    assert (budget.learning_rate, budget.batch_size, budget.momentum) == (0.02, 64, 0.9)
    assert 2 * budget.l2 == 1e-4
    assert (budget.wider_noise, budget.deeper_noise) == (1e-2, 1e-3)


def test_a_child_begins_with_what_its_base_computes():
    data, model = images(), base()
    evaluator = GrownChild(data, BUDGET, SPACE.start, vectors(model))
    child = SPACE.decode((1, 1, 0, 0, 2))
    assert child.text == "conv-8-3_conv-8-5_pool_fc-16"
    training = evaluator.start(Trial(0, evaluator.prepare(child), 7))
    pixels = np.random.default_rng(0).uniform(-1, 1, (5, 6, 6, 1)).astype(np.float32)
    logits, _ = training._child.logits(pixels, False)
    found = np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(found, model(pixels, training=False), atol=1e-5)
    # The same seed, the same child.
    again = evaluator.start(Trial(0, evaluator.prepare(child), 7))
    for name, variable in training.variables().items():
        np.testing.assert_array_equal(variable, again.variables()[name])


def test_a_child_that_pauses_goes_on_as_if_it_had_not():
    evaluator = GrownChild(images(), BUDGET, SPACE.start, vectors(base()))
    trial = Trial(0, evaluator.prepare(SPACE.decode((0, 1, 1, 0))), 3)
    whole = evaluator.evaluate(trial)
    paused = evaluator.evaluate(trial._replace(pause_at=1))
    assert evaluator.evaluate(trial._replace(checkpoint=paused.checkpoint)).curve == whole.curve


SEARCH = (
    *("search", "--space", "eas", "--data", "digits", "--images", "160", "--children", "2"),
    *("--space.wider", "1", "--space.deeper", "1", "--budget.steps", "4", "--minibatch", "2"),
    *("--budget.evaluations", "1", "--executor", "serial", "--space.base"),
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
    assert f"expected the network g4_t_g4. Received: {tokens}" in capsys.readouterr().err
    zoo.ChainNet(SPACE.start, classes=3, input_shape=(8, 8, 1)).save(path)
    assert main([*SEARCH, tokens, "--out", f"{out}2", "--base-weights", path]) == 1
    assert "Received: 1 channels, 3 classes" in capsys.readouterr().err
    assert main([*given, "--children", "3"]) == 1  # other weights than before
    assert "base_weights_crc32" in capsys.readouterr().err
