"""The controller: an LSTM that predicts a child choice by choice ([N] section 3.1, [Z] section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, checked

from .space import SequenceSpace, Step

#: Of an LSTM, in `BlockLSTM`'s order: input, new cell state, forget, output.
_GATES = 4


class Predictions(NamedTuple):
    """What the controller says of a batch of children.

    Args:
        actions: int32 (batch, steps).
        log_probabilities: float32 (batch, steps), of each action given those before it.
        entropies: float32 (batch, steps), of the distribution that each action is drawn from.
    """

    actions: tf.Tensor
    log_probabilities: tf.Tensor
    entropies: tf.Tensor


class Categorical:
    """The head of the controller that predicts a choice by a softmax.

    Steps of one kind share embeddings and softmax weights; choices that a step does not have get
    probability 0.

    Args:
        steps: Steps of the space.
        embeddings: Variable (kinds, most choices, units), what the controller reads after a choice.
        kernel: Variable (kinds, units, most choices) of the softmax.
        bias: Variable (kinds, most choices) of the softmax.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        embeddings: keras.Variable,
        kernel: keras.Variable,
        bias: keras.Variable,
    ) -> None:
        self.embeddings, self.kernel, self.bias = embeddings, kernel, bias
        kinds = _kinds(steps)
        self._kinds = tf.constant([kinds.index(step.kind) for step in steps], tf.int32)
        choices = np.array([step.choices for step in steps])
        exists = np.arange(choices.max()) < choices[:, None]
        self._mask = tf.constant(np.where(exists, 0.0, -np.inf).astype(np.float32))

    # ``step`` is a scalar, or (steps,) of the leading dimension of the other tensors.

    def embedded(self, actions: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """What is read after actions (..., batch) of a step."""
        kinds = tf.broadcast_to(tf.gather(self._kinds, step)[..., None], tf.shape(actions))
        return tf.gather_nd(self.embeddings.value, tf.stack([kinds, actions], -1))

    def logits(self, hidden: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Of the choices at a step (..., batch, choices), -inf for what does not exist."""
        kind = tf.gather(self._kinds, step)
        bias = tf.gather(self.bias.value, kind) + tf.gather(self._mask, step)
        return hidden @ tf.gather(self.kernel.value, kind) + bias[..., None, :]

    @staticmethod
    def predictions(actions: tf.Tensor, logits: tf.Tensor) -> Predictions:
        """From actions (steps, batch) and their logits (steps, batch, choices)."""
        logs = tf.nn.log_softmax(logits)
        # 0 * log 0 is 0, and has no gradient.
        finite = tf.where(tf.math.is_finite(logits), logs, 0.0)
        entropies = -tf.reduce_sum(tf.exp(logs) * finite, -1)
        log_probabilities = tf.gather(finite, actions, batch_dims=2)
        return Predictions(*map(tf.transpose, (actions, log_probabilities, entropies)))


def _kinds(steps: Sequence[Step]) -> list[str]:
    """The kinds of steps, in the order of their first."""
    return list(dict.fromkeys(step.kind for step in steps))


class Controller:
    """One LSTM layer, and a head that predicts the next action from those before it.

    A step reads the embedding of the last action, the first step a learned vector.

    Args:
        space: Search space.
        units: Units of the LSTM and size of the embeddings.
        initial: Weights are drawn uniformly from [-initial, initial].
        seed: Seed of the weights and of the samples.

    Raises:
        ValueError: If an argument is out of range.
    """

    #: Head that predicts the choices.
    head_class: ClassVar[type[Categorical]] = Categorical

    @checked
    def __init__(
        self,
        space: SequenceSpace,
        units: PositiveInt = 100,
        initial: NonNegativeFloat = 0.1,
        seed: Seed = 0,
    ) -> None:
        self.space, self.units = space, units
        steps = space.steps
        kinds, most = len(_kinds(steps)), max(space.choices)
        self._length, self._most = len(steps), most
        rng = np.random.default_rng(seed)

        def weight(name: str, *shape: int) -> keras.Variable:
            return keras.Variable(rng.uniform(-initial, initial, shape), dtype="float32", name=name)

        self.first = weight("first", units)
        embeddings = weight("embeddings", kinds, most, units)
        self.kernel = weight("kernel", 2 * units, _GATES * units)
        self.bias = weight("bias", _GATES * units)
        softmax = weight("softmax_kernel", kinds, units, most), weight("softmax_bias", kinds, most)
        self.weights = [self.first, embeddings, self.kernel, self.bias, *softmax]
        self.head = self.head_class(steps, embeddings, *softmax)
        # Not from_seed, whose streams of neighbouring seeds are one stream, four numbers apart.
        key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        self.generator = tf.random.Generator.from_key_counter(key, [0, 0], "philox")

    @tf.function(reduce_retracing=True)
    def sample(self, batch: tf.Tensor) -> Predictions:
        """Draw ``batch`` children, an int32 scalar."""
        length = self._length
        # Gumbel's trick: the greatest of logits with such noise is a draw from their softmax.
        tiny = np.finfo(np.float32).tiny
        uniform = self.generator.uniform([length, batch, self._most], tiny, 1.0)
        noise = -tf.math.log(-tf.math.log(uniform))
        read = self._first(batch)
        cell = hidden = tf.zeros((batch, self.units))
        actions, logits = tf.TensorArray(tf.int32, length), tf.TensorArray(tf.float32, length)
        for step in tf.range(length):
            cells, hiddens = self._lstm(read[None], cell, hidden)
            cell, hidden = cells[0], hiddens[0]
            found = self.head.logits(hidden, step)
            drawn = tf.argmax(found + noise[step], -1, tf.int32)
            read = self.head.embedded(drawn, step)
            actions, logits = actions.write(step, drawn), logits.write(step, found)
        return self.head.predictions(actions.stack(), logits.stack())

    @tf.function(reduce_retracing=True)
    def predict(self, actions: tf.Tensor) -> Predictions:
        """What the controller now says of given children, int32 (batch, steps)."""
        actions, steps = tf.transpose(actions), tf.range(tf.shape(actions)[1])
        first = self._first(tf.shape(actions)[1])
        reads = tf.concat([first[None], self.head.embedded(actions[:-1], steps[:-1])], 0)
        zeros = tf.zeros_like(first)
        _, hidden = self._lstm(reads, zeros, zeros)
        return self.head.predictions(actions, self.head.logits(hidden, steps))

    def _first(self, batch: tf.Tensor) -> tf.Tensor:
        """What the first step reads."""
        return tf.tile(self.first.value[None], [batch, 1])

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
