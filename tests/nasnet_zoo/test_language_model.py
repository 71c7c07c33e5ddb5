import keras
import numpy as np
import pytest

from nasnet_zoo.cells import NASCELL, NASCELL_MAX
from nasnet_zoo.language import LanguageModel, LanguageModelSettings, perplexity

TOKENS = np.random.default_rng(0).integers(0, 11, (4, 12)).astype(np.int32)
SMALL = LanguageModelSettings(units=5)


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(
    ("published", "units", "tied"),
    [(20e6, 537, False), (32e6, 735, False), (25e6, 741, True), (54e6, 1152, True)],
)
def test_the_paper_s_sizes_on_penn_treebank(published, units, tied):
    settings = LanguageModelSettings(units=units, tied=tied)
    assert settings.parameters(NASCELL, 10_000) == pytest.approx(published, rel=2e-3)
    assert settings.with_parameters(int(published), NASCELL, 10_000) == settings


@pytest.mark.parametrize(("units", "published"), [(800, 16.28e6), (500, 6.57e6)])
def test_the_paper_s_sizes_on_characters(units, published):
    settings = LanguageModelSettings(units=units, embedding=128)
    assert settings.parameters(NASCELL, 50) == pytest.approx(published, rel=5e-3)


@pytest.mark.parametrize("cell", [NASCELL, "lstm"])
@pytest.mark.parametrize("options", [{}, {"tied": True}, {"embedding": 3, "layers": 1}])
def test_parameters_are_counted_without_building(cell, options):
    settings = LanguageModelSettings(units=7, **options)
    model = LanguageModel(cell, settings, 11)
    model.build((None, None))
    assert model.count_params() == settings.parameters(cell, 11)
    near = settings.with_parameters(model.count_params() + 3, cell, 11)
    assert near.units == 7


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    model = LanguageModel(NASCELL, SMALL, 11)
    model(TOKENS)
    model.softmax_kernel.assign(np.zeros((5, 11)))
    assert perplexity(model, TOKENS.ravel(), rows=4, steps=5) == pytest.approx(11, rel=1e-5)


@pytest.mark.parametrize("cell", [NASCELL_MAX, "lstm"])
def test_carried_states_are_those_of_one_long_pass(cell):
    model = LanguageModel(cell, SMALL, 11)
    whole, after = model(TOKENS, model.initial_states(4))
    first, states = model(TOKENS[:, :7], model.initial_states(4))
    second, last = model(TOKENS[:, 7:], states)
    np.testing.assert_allclose(numbers(whole[:, :7]), numbers(first), atol=1e-5)
    np.testing.assert_allclose(numbers(whole[:, 7:]), numbers(second), atol=1e-5)
    for one, other in zip(keras.tree.flatten(after), keras.tree.flatten(last), strict=True):
        np.testing.assert_allclose(numbers(one), numbers(other), atol=1e-5)
    np.testing.assert_allclose(numbers(model(TOKENS)), numbers(whole), atol=1e-6)


def test_perplexity_is_that_of_one_pass_whatever_is_read_at_a_time():
    model = LanguageModel(NASCELL, SMALL, 11)
    logits = numbers(model(TOKENS[:, :-1]))
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    loss = -np.take_along_axis(logs, TOKENS[:, 1:, None], -1).mean()
    for steps in (1, 4, 100):
        found = perplexity(model, TOKENS.ravel(), rows=4, steps=steps)
        assert found == pytest.approx(np.exp(loss), rel=1e-5)


def test_a_stateful_model_goes_on_where_it_ended():
    model = LanguageModel(NASCELL, SMALL, 11, stateful=True)
    model.build((4, 6))
    parts = [numbers(model(TOKENS[:, part])) for part in (slice(0, 6), slice(6, 12))]
    again = LanguageModel(NASCELL, SMALL, 11)
    again.build((None, None))
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(np.concatenate(parts, 1), numbers(again(TOKENS)), atol=1e-5)


def test_dropout_acts_in_training_alone():
    rates = {"embedding_dropout": 0.5, "dropout": 0.5, "recurrent_dropout": 0.5}
    for name, rate in rates.items():
        settings = LanguageModelSettings(units=5, **{name: rate})
        model = LanguageModel(NASCELL, settings, 11)
        still = numbers(model(TOKENS))
        np.testing.assert_array_equal(still, numbers(model(TOKENS)))
        assert not np.allclose(still, numbers(model(TOKENS, training=True))), name
    model = LanguageModel(NASCELL, SMALL, 11)
    np.testing.assert_array_equal(numbers(model(TOKENS)), numbers(model(TOKENS, training=True)))


def test_dropped_embeddings_are_those_of_tokens():
    """Rows of equal tokens see the same, whatever is dropped."""
    settings = LanguageModelSettings(units=5, embedding_dropout=0.5)
    model = LanguageModel(NASCELL, settings, 11)
    found = numbers(model(np.full((2, 3), 4, np.int32), training=True))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("cell", [NASCELL_MAX, "lstm"])
def test_a_language_model_is_saved_and_loaded_without_custom_objects(tmp_path, cell):
    model = LanguageModel(cell, LanguageModelSettings(units=5, tied=True, dropout=0.1), 11)
    expected = numbers(model(TOKENS))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numbers(loaded(TOKENS)), expected)
    assert loaded.get_config() == model.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "Expected units: an int of at least 1"),
        ({"dropout": 1.0}, "Expected dropout: a finite number of at least 0 and below 1"),
        (
            {"tied": True, "embedding": 3},
            "Expected embedding: units=128 or none with tied",
        ),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LanguageModelSettings(**arguments)
