"""The controller: an LSTM that predicts a child token by token ([N] section 3.1, [Z] section 3)."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, checked

from .space import SearchSpace

#: Of an LSTM, in `BlockLSTM`'s order: input, new cell state, forget, output.
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
        space: Search space.
        units: Units of the LSTM and size of the embeddings.
        initial: Weights are drawn uniformly from [-initial, initial].
        seed: Seed of the weights and of the samples.

    Raises:
        ValueError: If an argument is out of range.
    """

    @checked
    def __init__(
        self,
        space: SearchSpace,
        units: PositiveInt = 100,
        initial: NonNegativeFloat = 0.1,
        seed: Seed = 0,
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
        # Not from_seed, whose streams of neighbouring seeds are one stream, four numbers apart.
        key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        self.generator = tf.random.Generator.from_key_counter(key, [0, 0], "philox")
        self._kinds = tf.constant(kinds)
        exists = np.arange(most) < np.array(space.choices)[:, None]
        self._mask = tf.constant(np.where(exists, 0.0, -np.inf).astype(np.float32))

    @tf.function(reduce_retracing=True)
    def sample(self, batch: tf.Tensor) -> Predictions:
        """Draw ``batch`` children, an int32 scalar."""
        length, most = self._mask.shape
        # Gumbel's trick: the greatest of logits with such noise is a draw from their softmax.
        uniform = self.generator.uniform([length, batch, most], np.finfo(np.float32).tiny, 1.0)
        noise = -tf.math.log(-tf.math.log(uniform))
        read = self._first(batch)
        cell = hidden = tf.zeros((batch, self.units))
        tokens, logits = tf.TensorArray(tf.int32, length), tf.TensorArray(tf.float32, length)
        for step in tf.range(length):
            cells, hiddens = self._lstm(read[None], cell, hidden)
            cell, hidden = cells[0], hiddens[0]
            found = self._logits(hidden, step)
            drawn = tf.argmax(found + noise[step], -1, tf.int32)
            read = self._embedded(drawn, step)
            tokens, logits = tokens.write(step, drawn), logits.write(step, found)
        return self._predictions(tokens.stack(), logits.stack())

    @tf.function(reduce_retracing=True)
    def predict(self, tokens: tf.Tensor) -> Predictions:
        """What the controller now says of given children, int32 (batch, tokens)."""
        tokens, steps = tf.transpose(tokens), tf.range(tf.shape(tokens)[1])
        first = self._first(tf.shape(tokens)[1])
        reads = tf.concat([first[None], self._embedded(tokens[:-1], steps[:-1])], 0)
        zeros = tf.zeros_like(first)
        _, hidden = self._lstm(reads, zeros, zeros)
        return self._predictions(tokens, self._logits(hidden, steps))

    # Below, ``step`` is a scalar, or (steps,) of the leading dimension of the other tensors.

    def _first(self, batch: tf.Tensor) -> tf.Tensor:
        """What the first step reads."""
        return tf.tile(self.first.value[None], [batch, 1])

    def _embedded(self, tokens: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """What is read after tokens (..., batch) of a step."""
        kinds = tf.broadcast_to(tf.gather(self._kinds, step)[..., None], tf.shape(tokens))
        return tf.gather_nd(self.embeddings.value, tf.stack([kinds, tokens], -1))

    def _lstm(self, reads: tf.Tensor, cell: tf.Tensor, hidden: tf.Tensor) -> tuple[Any, Any]:
        """Cell and hidden states (steps, batch, units) along ``reads``, from those before them."""
        # All steps in one operation: an update takes 0.4 of the time that it takes with a loop. (The
        # gradient of BlockLSTMV2 is wrong: it takes the gates in the order of BlockLSTM.)
        unused = tf.zeros(self.units)
        found = tf.raw_ops.BlockLSTM(
            seq_len_max=tf.shape(reads, tf.int64)[0],
            x=reads,
            cs_prev=cell,
            h_prev=hidden,
            w=self.kernel.value,
            wci=unused,
            wcf=unused,
            wco=unused,
            b=self.bias.value,
            forget_bias=0.0,
            cell_clip=-1.0,
        )
        return found.cs, found.h

    def _logits(self, hidden: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Of the choices at a step (..., batch, choices), -inf for what does not exist."""
        kind = tf.gather(self._kinds, step)
        bias = tf.gather(self.softmax_bias.value, kind) + tf.gather(self._mask, step)
        return hidden @ tf.gather(self.softmax_kernel.value, kind) + bias[..., None, :]

    @staticmethod
    def _predictions(tokens: tf.Tensor, logits: tf.Tensor) -> Predictions:
        """From tokens (steps, batch) and their logits (steps, batch, choices)."""
        logs = tf.nn.log_softmax(logits)
        # 0 * log 0 is 0, and has no gradient.
        finite = tf.where(tf.math.is_finite(logits), logs, 0.0)
        entropies = -tf.reduce_sum(tf.exp(logs) * finite, -1)
        log_probabilities = tf.gather(finite, tokens, batch_dims=2)
        return Predictions(*map(tf.transpose, (tokens, log_probabilities, entropies)))
