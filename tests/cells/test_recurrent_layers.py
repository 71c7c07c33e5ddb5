"""Recurrent cells in `keras.layers.RNN`: numbers, masks, states, dropout and files."""

import keras
import numpy as np
import pytest
from hypothesis import given
from keras import ops
from strategies import examples, recurrent_genotypes
from test_recurrent import interpreted

import nasnet_zoo as zoo

RNG = np.random.default_rng(0)
SEQUENCES = RNG.normal(size=(4, 7, 5)).astype(np.float32)


def sequences(cell, inputs=SEQUENCES, **options):
    return keras.layers.RNN(cell, return_sequences=True, **options)(inputs)


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(
    ("projection", "h", "c"),
    [
        (None, [0.576751, 0.618936, 0.627393], [0.715798, 0.780416, 0.794576]),
        (5, [1.697418, 1.840037, 1.873985], [0.698552, 0.770738, 0.789740]),
    ],
)
def test_nascell_has_the_numbers_of_tensorflow_addons(projection, h, c):
    half = keras.initializers.Constant(0.5)
    kinds = ("kernel", "recurrent", "projection")
    cell = zoo.NASCell(6, projection, **{f"{kind}_initializer": half for kind in kinds})
    inputs = np.float32([[1], [2], [3]]) * np.ones((3, 4), np.float32)
    states = [np.full((3, size), 0.1, np.float32) for size in (projection or 6, 6)]
    output, (hidden, memory) = cell(*keras.tree.map_structure(ops.convert_to_tensor, (inputs, states)))
    np.testing.assert_array_equal(numbers(output), numbers(hidden))
    for found, column in ((output, h), (memory, c)):
        np.testing.assert_allclose(numbers(found), np.tile(column, (found.shape[1], 1)).T, atol=1e-5)


@pytest.mark.parametrize(("inputs", "units"), [(5, 7), (128, 64)])
def test_nascell_has_the_published_number_of_parameters(inputs, units):
    cell = zoo.NASCell(units)
    cell.build((None, inputs))
    assert cell.count_params() == 8 * units * (inputs + units)
    cell = zoo.NASCell(units, projection=3, use_bias=True)
    cell.build((None, inputs))
    assert cell.count_params() == 8 * units * (inputs + 3 + 1) + 3 * units


@examples(8)
@given(recurrent_genotypes())
def test_any_cell_runs_over_a_sequence_as_its_tokens_say(genotype):
    cell = zoo.RecurrentCell(genotype, 3, use_bias=True, bias_initializer="random_normal")
    found = numbers(sequences(cell))
    kernel, recurrent, bias = map(numbers, (cell.kernel, cell.recurrent_kernel, cell.bias))
    h, c = np.zeros((2, 4, 3))
    for t in range(SEQUENCES.shape[1]):
        x = np.split(SEQUENCES[:, t] @ kernel, genotype.base, -1)
        m = np.split(h @ recurrent + bias, genotype.base, -1)  # the bias is on the recurrent product
        h, c = interpreted(genotype.tokens, x, m, c)
        np.testing.assert_allclose(found[:, t], h, rtol=1e-2, atol=1e-3)


@pytest.mark.tensorflow  # eager steps are compiled one by one on JAX
@examples(8)
@given(recurrent_genotypes())
def test_a_training_step_of_any_cell_is_finite(genotype):
    cell = zoo.RecurrentCell(genotype, 3, projection=2)
    model = keras.Sequential([keras.layers.RNN(cell, return_sequences=True)])
    model.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(SEQUENCES[:, :3], np.ones((4, 3, 2), np.float32)))
    assert all(np.isfinite(numbers(weight)).all() for weight in model.trainable_weights)


@pytest.mark.parametrize("projection", [None, 3])
def test_a_masked_step_changes_no_state_and_repeats_the_output(projection):
    lengths = np.arange(7) < np.array([7, 5, 0])[:, None]
    mask = np.concatenate([lengths, [[False, True, False, True, True, False, True]]])
    cell = zoo.NASCell(6, projection)
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    found = [numbers(part) for part in layer(SEQUENCES, mask=ops.convert_to_tensor(mask))]
    for row, kept in enumerate(mask):
        states, output, outputs = cell.get_initial_state(1), np.zeros((1, projection or 6)), []
        for t in range(7):
            if kept[t]:
                inputs = ops.convert_to_tensor(SEQUENCES[row : row + 1, t])
                output, states = cell(inputs, states)
            outputs.append(numbers(output)[0])
        np.testing.assert_allclose(found[0][row], outputs, atol=1e-5)
        for last, state in zip(found[1:], states, strict=True):
            np.testing.assert_allclose(last[row], numbers(state)[0], atol=1e-5)


def test_a_stateful_layer_goes_on_where_it_ended():
    layer = keras.layers.RNN(zoo.NASCell(6), return_sequences=True, stateful=True)
    parts = [numbers(layer(SEQUENCES[:, part])) for part in (slice(0, 3), slice(3, 7))]
    whole = keras.layers.RNN(layer.cell, return_sequences=True)(SEQUENCES)
    np.testing.assert_allclose(np.concatenate(parts, 1), numbers(whole), atol=1e-5)
    layer.reset_state()
    np.testing.assert_allclose(numbers(layer(SEQUENCES[:, :3])), parts[0], atol=1e-6)


def test_recurrent_dropout_is_the_same_at_all_steps_of_a_sequence():
    """A cell that hands on its input and adds h: what is dropped of h stays dropped."""
    node = zoo.TreeNode("add", "identity")
    genotype = zoo.RecurrentGenotype("sum", (node,), node, (0, 0))
    eye = keras.initializers.Identity()
    options = {"kernel_initializer": eye, "recurrent_initializer": eye, "recurrent_dropout": 0.5}
    cell = zoo.RecurrentCell(genotype, 64, seed=1, **options)
    layer = keras.layers.RNN(cell, return_sequences=True)
    ones = np.ones((3, 4, 64), np.float32)
    found = numbers(layer(ones, training=True))
    # h_t = 1 + mask * h_{t-1} + c_{t-1}, with c_t = 1 + mask * h_{t-1}.
    kept, lost = [], []
    for mask, values in ((2.0, kept), (0.0, lost)):
        h = c = 0.0
        for _ in range(4):
            c, h = 1 + mask * h, 1 + mask * h + c
            values.append(h)
    is_kept = np.isclose(found[:, 1:], np.array(kept)[1:, None]).all(1)
    is_lost = np.isclose(found[:, 1:], np.array(lost)[1:, None]).all(1)
    assert (is_kept | is_lost).all()
    assert 0.3 < is_kept.mean() < 0.7
    assert not np.array_equal(is_kept[0], is_kept[1])
    # Other sequences get another mask, and inference none.
    assert not np.array_equal(found, numbers(layer(ones, training=True)))
    np.testing.assert_allclose(numbers(layer(ones))[0, :, 0], [1, 3, 6, 11])


def test_dropout_of_the_inputs_is_the_same_at_all_steps():
    node = zoo.TreeNode("add", "identity")
    genotype = zoo.RecurrentGenotype("input", (node,), zoo.TreeNode("elem_mult", "identity"), (0, 0))
    eye = keras.initializers.Identity()
    cell = zoo.RecurrentCell(genotype, 64, dropout=0.5, kernel_initializer=eye, seed=2)
    layer = keras.layers.RNN(cell, return_state=True)
    cell.recurrent_initializer = keras.initializers.Zeros()
    *_, memory = map(numbers, layer(np.ones((2, 5, 64), np.float32), training=True))
    assert set(np.unique(memory)) == {0.0, 2.0}


@pytest.mark.parametrize(
    "cell",
    [
        zoo.NASCell(6, 3, use_bias=True, recurrent_dropout=0.2, seed=3),
        zoo.RecurrentCell(zoo.NASCELL_MAX, 4, kernel_initializer="he_normal", dropout=0.1),
    ],
)
def test_a_model_is_saved_and_loaded_without_custom_objects(tmp_path, cell):
    inputs = keras.Input((7, 5))
    model = keras.Model(inputs, sequences(cell, inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numbers(loaded(SEQUENCES)), numbers(model(SEQUENCES)))
    again = loaded.layers[-1].cell
    assert type(again) is type(cell)
    assert again.get_config() == cell.get_config()
    assert again.genotype == cell.genotype


def test_sixteen_bit_policies_keep_float32_weights():
    cell = zoo.NASCell(6, dtype="mixed_bfloat16")
    found = keras.layers.RNN(cell, dtype="mixed_bfloat16")(SEQUENCES)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    assert {w.dtype for w in cell.weights} == {"float32"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "Expected units: an int of at least 1. Received: units=0"),
        ({"units": 4, "projection": 0}, "Expected projection: an int of at least 1 or none"),
        ({"units": 4, "recurrent_dropout": 1.0}, "Expected recurrent_dropout: a finite number of at"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.NASCell(**arguments)
