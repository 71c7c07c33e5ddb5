"""The loop with a gradient of its own computes what Keras's loop and its gradient compute."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from strategies import examples, recurrent_genotypes

import nasnet_zoo as zoo
from nasnet_zoo.language import LanguageModel, LanguageModelSettings
from nasnet_zoo.language.loop import FastLanguageModel, FastRNN

pytestmark = pytest.mark.tensorflow

RNG = np.random.default_rng(0)
SEQUENCES, H, C = (
    tf.constant(RNG.normal(0, 0.5, shape), tf.float32) for shape in ((3, 4, 5), (3, 6), (3, 6))
)
WEIGHTS = [tf.constant(RNG.normal(size=(3, *size)), tf.float32) for size in ((4, 6), (6,), (6,))]


def computed(kind, cell, training=True):
    """Outputs, last states, and the gradients of a function of all of them."""
    layer = kind(cell, return_sequences=True, return_state=True)
    layer.build(SEQUENCES.shape)
    cell.seed_generator.state.assign([1, 2])

    @tf.function(autograph=False)
    def run():
        variables = [variable.value for variable in cell.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch((SEQUENCES, H, C))
            found = layer(SEQUENCES, initial_state=[H, C], training=training)
            total = tf.add_n([tf.reduce_sum(w * f) for w, f in zip(WEIGHTS, found, strict=True)])
        return found, tape.gradient(total, [SEQUENCES, H, C, *variables], unconnected_gradients="zero")

    return tf.nest.flatten(run())


@examples(6)
@given(recurrent_genotypes())
def test_outputs_states_and_gradients_are_those_of_keras(genotype):
    cell = zoo.RecurrentCell(genotype, 6, dropout=0.3, recurrent_dropout=0.3)
    for training in (False, True):
        expected = computed(keras.layers.RNN, cell, training)
        for one, other in zip(computed(FastRNN, cell, training), expected, strict=True):
            scale = max(np.abs(other).max(), 1.0)
            np.testing.assert_allclose(one / scale, other / scale, atol=1e-5)


@pytest.mark.parametrize("cell", [zoo.NASCELL, "lstm"], ids=["nascell", "lstm"])
def test_a_fast_model_has_the_weights_and_logits_of_the_plain_one(cell):
    settings = LanguageModelSettings(units=8)
    fast, plain = FastLanguageModel(cell, settings, 11), LanguageModel(cell, settings, 11)
    tokens = RNG.integers(11, size=(3, 7))
    for model in (fast, plain):
        model.build(tokens.shape)
    assert [weight.path for weight in fast.weights] == [weight.path for weight in plain.weights]
    plain.set_weights(fast.get_weights())
    np.testing.assert_allclose(fast(tokens), plain(tokens), atol=1e-5)
