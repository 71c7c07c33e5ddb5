import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from nasnet_zoo.cells import NASCELL, NASCELL_MAX
from nasnet_zoo.cli import main
from nasnet_zoo.data.text import TextData
from nasnet_zoo.language import LanguageModelSettings
from nasnet_zoo.search import (
    LanguageBudget,
    LanguageChild,
    RecurrentSettings,
    RecurrentSpace,
    Trial,
    search_recurrent_cells,
)
from nasnet_zoo.search.nas.language_child import LanguageTraining
from nasnet_zoo.search.settings import ExecutorSettings

pytestmark = pytest.mark.tensorflow

# A rhyme: after a few steps the next token is nearly sure.
RHYME = np.tile(np.arange(6, dtype=np.int32), 200)
TEXT = TextData("rhyme", tuple("abcdef"), RHYME, RHYME[:300], RHYME[:300])
MODEL = LanguageModelSettings(units=8, tied=True)
BUDGET = LanguageBudget(model=MODEL, steps=45, batch_size=4, bptt=10, learning_rate=0.05)


def trial(cell=NASCELL, seed=0, **options):
    return Trial(0, cell, seed, **options)


@pytest.fixture(scope="module")
def result():
    return LanguageChild(TEXT, BUDGET).evaluate(trial())


def test_a_language_child_learns(result):
    assert result.status == "finished"
    assert len(result.curve) == BUDGET.evaluations
    assert result.reward == result.curve[-1]
    assert result.metrics["perplexity"] < 2 < 6
    assert result.reward == pytest.approx(80 / result.metrics["perplexity"] ** 2)
    assert result.metrics["losses"][0] > result.metrics["losses"][-1]


def test_a_language_child_repeats_itself_by_its_seed(result):
    assert LanguageChild(TEXT, BUDGET).evaluate(trial()) == result
    assert LanguageChild(TEXT, BUDGET).evaluate(trial(seed=1)).reward != result.reward


def test_a_child_that_pauses_goes_on_as_one_that_never_paused():
    model = LanguageModelSettings(units=8, tied=True, dropout=0.2, recurrent_dropout=0.2)
    child = LanguageChild(TEXT, dataclasses.replace(BUDGET, model=model, steps=15))
    whole = child.evaluate(trial())
    paused = child.evaluate(trial(pause_at=2))
    assert paused.status == "stopped"
    assert paused.curve == whole.curve[:2]
    assert child.evaluate(trial(checkpoint=paused.checkpoint)) == whole
    # A checkpoint of another child is none.
    other = {**paused.checkpoint, "00": np.zeros((2, 2))}
    assert child.evaluate(trial(checkpoint=other)) == whole


def test_a_child_stops_below_a_threshold():
    child = LanguageChild(TEXT, BUDGET)
    stopped = child.evaluate(trial(thresholds=(math.inf,)))
    assert (stopped.status, len(stopped.curve)) == ("stopped", 1)


def test_a_diverging_language_child_fails():
    budget = dataclasses.replace(BUDGET, steps=6, learning_rate=1e30, clip_norm=1e30)
    found = LanguageChild(TEXT, budget).evaluate(trial())
    assert (found.status, found.message, found.reward) == ("failed", "diverged", 0.0)


@examples(4)
@given(st.integers(0, 2**32 - 1))
def test_any_cell_of_the_space_has_a_finite_loss_and_gradient_or_diverges(seed):
    """Products of products may leave the range of float32 inside a cell, which is then of no use."""
    space = RecurrentSpace()
    cell = space.decode(space.sample(np.random.default_rng(seed)))
    training = LanguageTraining(cell, TEXT, BUDGET)
    assert math.isfinite(training.train(0, 1))
    if not all(np.isfinite(weight).all() for weight in training.model.get_weights()):
        found = LanguageChild(TEXT, BUDGET).evaluate(trial(cell))
        assert (found.status, found.message) == ("failed", "diverged")


@pytest.mark.parametrize("cell", [NASCELL, NASCELL_MAX])
def test_the_published_cells_have_finite_gradients(cell):
    training = LanguageTraining(cell, TEXT, BUDGET)
    assert math.isfinite(training.train(0, 1))
    assert all(np.isfinite(weight).all() for weight in training.model.get_weights())


def test_the_state_is_carried_to_the_end_of_the_text_and_begins_anew_there():
    training = LanguageTraining(NASCELL, TEXT, BUDGET)
    windows = (len(RHYME) // 4 - 1) // 10
    training.train(0, 1)
    after_one = [np.asarray(s) for s in training._states[0]]
    training.train(1, windows)
    assert not np.allclose(after_one[0], training._states[0][0])
    weights = training.model.get_weights()
    training.train(windows, windows + 1)
    after_restart = [np.asarray(s) for s in training._states[0]]
    fresh = LanguageTraining(NASCELL, TEXT, BUDGET)
    fresh.model.set_weights(weights)
    fresh.train(0, 1)
    np.testing.assert_allclose(after_restart, [np.asarray(s) for s in fresh._states[0]], atol=1e-6)


def test_a_text_shorter_than_a_batch_is_refused():
    short = TextData("short", tuple("ab"), RHYME[:30], RHYME[:30], RHYME[:30])
    with pytest.raises(ValueError, match="Expected a text of at least 44 tokens"):
        LanguageChild(short, BUDGET)


def test_costs_are_parameters():
    assert LanguageChild(TEXT, BUDGET).cost(NASCELL) == {"parameters": MODEL.parameters(NASCELL, 6)}


def test_a_search_for_recurrent_cells_goes_on_in_its_folder(tmp_path):
    settings = RecurrentSettings(
        "random", minibatch=2, space=RecurrentSpace(2), budget=dataclasses.replace(BUDGET, steps=3)
    )
    options = {"executor": ExecutorSettings("serial")}
    first = search_recurrent_cells(TEXT, tmp_path, settings, 2, **options)
    best = search_recurrent_cells(TEXT, tmp_path, settings, 4, retrain_best=1, **options)
    assert len(first) <= 2
    assert best[0].reward > 0
    assert "<svg" in (tmp_path / "report.html").read_text()
    cell = json.loads((tmp_path / "best.json").read_text())
    assert len(cell["nodes"]) == 3
    other = dataclasses.replace(settings, budget=dataclasses.replace(BUDGET, steps=4))
    with pytest.raises(ValueError, match=r"expected budget\.steps=3"):
        search_recurrent_cells(TEXT, tmp_path, other, 4, **options)


@pytest.mark.slow
def test_the_published_cells_stand_beside_those_of_a_search(tmp_path):
    settings = RecurrentSettings(
        "random", minibatch=1, space=RecurrentSpace(2), budget=dataclasses.replace(BUDGET, steps=3)
    )
    options = {"executor": ExecutorSettings("serial"), "references": True}
    search_recurrent_cells(TEXT, tmp_path, settings, 3, **options)
    report = (tmp_path / "report.html").read_text()
    assert "NASCell with max" in report
    assert "random cells" in report


def test_the_command_searches_recurrent_cells(tmp_path, capsys):
    path = tmp_path / "rhyme.txt"
    path.write_text("abcdef" * 200)
    words = f"search --space nas-rnn --data {path} --out {tmp_path / 'out'} --children 2 --minibatch 2 "
    words += (
        "--level characters --space.base 2 --executor serial --budget.steps 2 --budget.evaluations 1 "
    )
    words += "--budget.batch-size 4 --budget.bptt 5 --budget.model.units 4"
    assert main(words.split()) == 0
    assert "best.json" in capsys.readouterr().out
    assert main(["search", "best", str(tmp_path / "out")]) == 0
    facts = capsys.readouterr().out
    reward, perplexity = (
        float(re.search(rf"^{name} +(.+)$", facts, re.MULTILINE)[1])
        for name in ("reward", "perplexity")
    )
    assert reward == pytest.approx(80 / perplexity**2, rel=1e-3)
    path.write_text("")
    assert main(words.replace("/out", "/other").split()) == 1
    assert "expected text to train on. Received: nothing" in capsys.readouterr().err
