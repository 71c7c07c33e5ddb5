"""A language model: layers of a recurrent cell between embeddings and a softmax ([Z] section 4.2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from nasnet_zoo.cells import RecurrentCell, RecurrentGenotype
from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.data.text import rows_of

from .settings import CellKind, LanguageModelSettings

#: h and c of each layer, or what else the cell's states are.
States = list[list[Any]]


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class LanguageModel(keras.Model):
    """Predicts each next token of a text.

    Args:
        cell: Genotype of the layers' cell, or its dict; or "lstm".
        settings: `LanguageModelSettings`, or a dict of its fields.
        vocabulary: Number of different tokens.
        stateful: Whether a call without states goes on where the one before it ended. The batch size
            is then fixed; see `keras.layers.RNN`.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        tokens: int32 (batch, steps).
        states: States of each layer to start from, as `initial_states` and calls with states return
            them.
        training: Whether dropout acts.

    Returns:
        Logits (batch, steps, vocabulary) of each next token; and with ``states``, the states after the
        last step.

    Example::

        text = open_text("pydoc")
        model = LanguageModel(NASCELL, LanguageModelSettings(units=64), len(text.vocabulary))
        print(perplexity(model, text.valid))
    """

    #: What runs a cell over sequences.
    layer_class: ClassVar[type[keras.layers.RNN]] = keras.layers.RNN

    @checked
    def __init__(
        self,
        cell: CellKind | dict[str, Any],
        settings: LanguageModelSettings | dict[str, Any],
        vocabulary: PositiveInt,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "language_model", **kwargs})
        self.cell = RecurrentGenotype.from_dict(cell) if isinstance(cell, dict) else cell
        if isinstance(settings, dict):
            settings = LanguageModelSettings(**settings)
        self.settings, self.vocabulary, self.stateful = settings, vocabulary, stateful
        width = settings.embedding or settings.units
        initializer = self._initializer(keras.initializers.RandomUniform(-1.0, 1.0))
        self.embedding = keras.layers.Embedding(vocabulary, width, initializer, name="embedding")
        per_token, per_sequence = (None, 1), (None, 1, None)
        self.token_dropout = keras.layers.Dropout(settings.embedding_dropout, per_token)
        self.recurrent_layers = [
            self.layer_class(
                self._layer_cell(),
                return_sequences=True,
                return_state=True,
                stateful=stateful,
                name=f"rnn_{k}",
            )
            for k in range(settings.layers)
        ]
        self.output_dropout = keras.layers.Dropout(settings.dropout, per_sequence)

    def _initializer(self, default: str | keras.Initializer) -> keras.Initializer:
        initial = self.settings.initial
        if initial is not None:
            return keras.initializers.RandomUniform(-initial, initial)
        return keras.initializers.get(default)

    def _layer_cell(self) -> keras.Layer:
        settings = self.settings
        options: dict[str, Any] = {
            "name": "cell",
            "dropout": settings.dropout,
            "recurrent_dropout": settings.recurrent_dropout,
            "kernel_initializer": self._initializer("lecun_uniform"),
            "recurrent_initializer": self._initializer("lecun_uniform"),
        }
        if self.cell == "lstm":
            return keras.layers.LSTMCell(settings.units, **options)
        return RecurrentCell(self.cell, settings.units, **options)

    def build(self, input_shape: Any) -> None:
        self.embedding.build(input_shape)
        width = self.embedding.output_dim
        for layer in self.recurrent_layers:
            layer.build((*input_shape, width))
            width = self.settings.units
        if not self.settings.tied:
            shape = (width, self.vocabulary)
            self.softmax_kernel = self.add_weight(
                name="softmax_kernel", shape=shape, initializer=self._initializer("lecun_uniform")
            )
        self.softmax_bias = self.add_weight(
            name="softmax_bias", shape=(self.vocabulary,), initializer="zeros"
        )

    def initial_states(self, batch_size: int) -> States:
        """Return the states before the first token: zeros."""
        return [layer.get_initial_state(batch_size) for layer in self.recurrent_layers]

    def call(self, tokens: Any, states: States | None = None, training: bool = False) -> Any:
        x = self.embedding(tokens)
        if training and self.settings.embedding_dropout:
            kept = self.token_dropout(ops.ones((self.vocabulary, 1), x.dtype), training=True)
            x = x * ops.take(kept, tokens, axis=0)
        after = []
        for k, layer in enumerate(self.recurrent_layers):
            before = None if states is None else list(states[k])
            x, *last = layer(x, initial_state=before, training=training)
            after.append(last)
        x = self.output_dropout(x, training=training)
        kernel = ops.transpose(self.embedding.embeddings) if self.settings.tied else self.softmax_kernel
        logits = self.product(x, ops.cast(kernel, x.dtype)) + ops.cast(self.softmax_bias, x.dtype)
        return logits if states is None else (logits, after)

    def product(self, x: Any, kernel: Any) -> Any:
        """Return the matrix product of the outputs (batch, steps, units) and the softmax's kernel."""
        return ops.matmul(x, kernel)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape, self.vocabulary)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "cell": "lstm" if self.cell == "lstm" else self.cell.to_dict(),
            "settings": dataclasses.asdict(self.settings),
            "vocabulary": self.vocabulary,
            "stateful": self.stateful,
        }


def perplexity(
    model: LanguageModel,
    tokens: np.ndarray,
    rows: int = 10,
    steps: int = 100,
    call: Callable[..., Any] | None = None,
) -> float:
    """Return the perplexity of a text: the exponential of the mean loss of its tokens, in nats.

    Args:
        model: Model of the text's tokens.
        tokens: int32 (tokens,).
        rows: Number of parts that are read side by side, each from states of zero.
        steps: Number of tokens that are read at a time. The states are carried.
        call: What is called with tokens and states in place of the model, such as a compiled function.

    Raises:
        ValueError: If the text has less than two tokens for every part.
    """
    text = rows_of(tokens, rows, 1)
    states, total = model.initial_states(rows), 0.0
    for start in range(0, text.shape[1] - 1, steps):
        part = text[:, start : start + steps + 1]
        logits, states = (call or model)(part[:, :-1], states)
        losses = keras.losses.sparse_categorical_crossentropy(part[:, 1:], logits, from_logits=True)
        total += float(ops.sum(losses))
    # Its square is a number, too.
    return math.exp(min(total / (rows * (text.shape[1] - 1)), 300.0))
