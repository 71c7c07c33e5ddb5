"""The controller: an LSTM that predicts a child token by token ([N] section 3.1, [Z] section 3)."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from .space import SearchSpace

#: Standard order of an LSTM's gates: input, forget, cell, output.
_GATES = 4
_KINDS = ("state", "operation", "combination")


class Predictions(NamedTuple):
    """What the controller says of a batch of children.

    Args:
        tokens: int32 (batch, tokens).
        log_probabilities: float32 (batch, tokens), of each token given those before it.
        entropies: float32 (batch, tokens), of the distribution that each token is drawn from.
    """

    tokens: tf.Tensor
    log_probabilities: tf.Tensor
    entropies: tf.Tensor


class Controller:
    """One LSTM layer whose softmax at each step predicts the next token from those before it.

    A step reads the embedding of the last token, the first step a learned vector. Tokens that choose
    the same thing (a state, an operation, a combination) share embeddings and softmax weights;
    states that do not exist yet have probability 0.

    Args:
        space: what is searched.
        units: of the LSTM and of the embeddings.
        initial: weights are drawn uniformly from [-initial, initial].
        seed: of the weights and of what is sampled.
    """

    def __init__(
        self, space: SearchSpace, units: int = 100, initial: float = 0.1, seed: int = 0
    ) -> None:
        self.space, self.units = space, units
        most = max(space.choices)
        kinds = np.array([_KINDS.index(kind) for kind in space.kinds], np.int32)
        rng = np.random.default_rng(seed)

        def weight(name: str, *shape: int) -> keras.Variable:
            return keras.Variable(rng.uniform(-initial, initial, shape), dtype="float32", name=name)

        self.first = weight("first", units)
        self.embeddings = weight("embeddings", len(_KINDS), most, units)
        self.kernel = weight("kernel", 2 * units, _GATES * units)
        self.bias = weight("bias", _GATES * units)
        self.softmax_kernel = weight("softmax_kernel", len(_KINDS), units, most)
        self.softmax_bias = weight("softmax_bias", len(_KINDS), most)
        self.weights = [
            self.first,
            self.embeddings,
            self.kernel,
            self.bias,
            self.softmax_kernel,
            self.softmax_bias,
        ]
        self.generator = tf.random.Generator.from_seed(seed)
        self._kinds = tf.constant(kinds)
        # What the token before was chosen from.
        self._kinds_before = tf.constant(np.concatenate([[0], kinds[:-1]]))
        exists = np.arange(most) < np.array(space.choices)[:, None]
        self._mask = tf.constant(np.where(exists, 0.0, -np.inf).astype(np.float32))

    @tf.function(reduce_retracing=True)
    def sample(self, batch: tf.Tensor) -> Predictions:
        """Draws ``batch`` children, an int32 scalar."""
        # Gumbel's trick: the greatest of logits with such noise is a draw from their softmax.
        shape = [batch, len(self.space.choices), self._mask.shape[1]]
        uniform = self.generator.uniform(shape, np.finfo(np.float32).tiny, 1.0)
        return self._unroll(-tf.math.log(-tf.math.log(uniform)), None)

    @tf.function(reduce_retracing=True)
    def predict(self, tokens: tf.Tensor) -> Predictions:
        """What the controller now says of given children, int32 (batch, tokens)."""
        return self._unroll(None, tokens)

    def _unroll(self, noise: Any, tokens: Any) -> Predictions:
        """All steps: drawn with ``noise`` (batch, tokens, choices), or along given ``tokens``."""
        first, embeddings, kernel, bias, softmax_kernel, softmax_bias = (
            weight.value for weight in self.weights
        )
        given = noise if tokens is None else tokens
        batch, length = tf.shape(given)[0], len(self.space.choices)
        cell = hidden = tf.zeros((batch, self.units))
        last = tf.zeros((batch,), tf.int32)
        drawn = tf.TensorArray(tf.int32, length)
        log_probabilities = tf.TensorArray(tf.float32, length)
        entropies = tf.TensorArray(tf.float32, length)
        for step in tf.range(length):
            before = tf.gather(embeddings[self._kinds_before[step]], last)
            read = tf.where(step == 0, tf.broadcast_to(first, tf.shape(before)), before)
            gates = tf.concat([read, hidden], -1) @ kernel + bias
            enter, forget, new, leave = tf.split(gates, _GATES, -1)
            cell = tf.sigmoid(forget) * cell + tf.sigmoid(enter) * tf.tanh(new)
            hidden = tf.sigmoid(leave) * tf.tanh(cell)
            kind = self._kinds[step]
            logits = hidden @ softmax_kernel[kind] + softmax_bias[kind] + self._mask[step]
            logs = tf.nn.log_softmax(logits)
            if tokens is None:
                last = tf.argmax(logits + noise[:, step], -1, tf.int32)
            else:
                last = tokens[:, step]
            # 0 * log 0 is 0, and has no gradient.
            exists = tf.math.is_finite(self._mask[step])
            finite = tf.where(exists, logs, 0.0)
            drawn = drawn.write(step, last)
            log_probabilities = log_probabilities.write(step, tf.gather(finite, last, batch_dims=1))
            entropies = entropies.write(step, -tf.reduce_sum(tf.exp(logs) * finite, -1))
        return Predictions(
            *(tf.transpose(array.stack()) for array in (drawn, log_probabilities, entropies))
        )
