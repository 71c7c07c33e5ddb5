import dataclasses
import json

import keras
import numpy as np
import pytest

from nasnet_zoo.cells import NASCELL, NASCELL_MAX
from nasnet_zoo.cli import main
from nasnet_zoo.data.text import TextData
from nasnet_zoo.language import LANGUAGE_RECIPES, perplexity, train_language_model, training
from nasnet_zoo.language.recipes import CellSettings, LanguageRecipe
from nasnet_zoo.training.recipes import changed, from_dict, to_dict
from nasnet_zoo.training.schedules import learning_rate

pytestmark = pytest.mark.tensorflow

RHYME = np.tile(np.arange(6, dtype=np.int32), 100)
TEXT = TextData("rhyme", tuple("abcdef"), RHYME, RHYME[:300], RHYME[:300])
MEDIUM = LANGUAGE_RECIPES["ptb_medium"]
SMALL = changed(
    MEDIUM,
    model={"units": 8, "tied": True, "embedding_dropout": 0.1, "dropout": 0.1, "initial": None},
    optimizer={"decay_start": 1.0},
    reading={"epochs": 3, "batch_size": 4, "bptt": 10},
)


def test_the_medium_recipe_is_of_the_paper_s_size():
    assert MEDIUM.cell.cell == NASCELL
    assert MEDIUM.model.layers == 2
    assert MEDIUM.model.parameters(NASCELL, 10_000) == pytest.approx(20e6, rel=2e-3)
    assert (MEDIUM.reading.epochs, MEDIUM.reading.bptt, MEDIUM.reading.batch_size) == (35, 35, 20)


def test_the_medium_rate_is_held_for_six_epochs_and_falls_by_1_2_after_each():
    rate = learning_rate(MEDIUM.optimizer, 35, 1000)
    for epoch in range(35):
        expected = 1.2 ** -max(epoch - 5, 0)
        for step in (1000 * epoch, 1000 * epoch + 999):
            assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert float(again(7000)) == pytest.approx(1.2**-2, rel=1e-5)


def test_a_language_recipe_is_plain_data():
    recipe = changed(SMALL, cell=CellSettings(genotype=NASCELL_MAX))
    data = json.loads(json.dumps(to_dict(recipe)))
    assert data["cell"]["genotype"]["cell_indices"] == [12, 1]
    assert from_dict(LanguageRecipe, data) == recipe
    with pytest.raises(ValueError, match="Expected reading.epochs: an int of at least 1"):
        from_dict(LanguageRecipe, data | {"reading": data["reading"] | {"epochs": 0}})


@pytest.mark.slow
def test_a_language_model_is_trained_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    whole = train_language_model(SMALL, TEXT, tmp_path / "whole", verbose=0)
    history = (tmp_path / "whole" / "history.csv").read_text()
    first, *_, third = (line.split(",") for line in history.split()[1:])
    assert float(third[-1]) < float(first[-1]) < 7
    found = json.loads((tmp_path / "whole" / "test.json").read_text())["test_perplexity"]
    assert found == pytest.approx(perplexity(whole, TEXT.test), rel=1e-4)

    class Stops(training._FromTheStart):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch)
            if epoch == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_FromTheStart", Stops)
        with pytest.raises(KeyboardInterrupt):
            train_language_model(SMALL, TEXT, tmp_path / "parts", verbose=0)
    again = train_language_model(SMALL, TEXT, tmp_path / "parts", verbose=0)
    assert (tmp_path / "parts" / "history.csv").read_text() == history
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    loaded = keras.saving.load_model(tmp_path / "parts" / "model.keras", compile=False)
    assert perplexity(loaded, TEXT.test) == pytest.approx(found, rel=1e-4)
    other = changed(SMALL, cell=dataclasses.replace(SMALL.cell, kind="lstm"))
    with pytest.raises(ValueError, match=r"expected cell\.kind='nascell'"):
        train_language_model(other, TEXT, tmp_path / "parts", verbose=0)


def test_a_text_too_short_for_the_recipe_is_refused(tmp_path):
    short = dataclasses.replace(TEXT, train=RHYME[:40])
    with pytest.raises(ValueError, match="Expected a text of at least 44 tokens"):
        train_language_model(SMALL, short, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_trains_a_language_model_of_a_file_s_cell(tmp_path, capsys):
    (tmp_path / "rhyme.txt").write_text("abcdef" * 100)
    NASCELL_MAX.save(tmp_path / "cell.json")
    words = f"train ptb_medium --data {tmp_path / 'rhyme.txt'} --out {tmp_path / 'out'} "
    words += f"--cell.genotype {tmp_path / 'cell.json'} --model.units 4 --reading.level characters "
    words += "--reading.epochs 1 --reading.bptt 5 --reading.batch-size 2"
    assert main(words.split()) == 0
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["recipe"]["cell"]["genotype"]["name"] == NASCELL_MAX.name
    assert main([*words.split(), "--strategy", "mirrored"]) == 2
    assert "expected no --strategy with a language model" in capsys.readouterr().err
