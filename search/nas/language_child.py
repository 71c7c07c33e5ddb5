"""A recurrent cell's child: a language model, trained from scratch on a text ([Z] section 4.2).

`compile` and `fit` would take longer: XLA compiles for a second or two and its loop over a sequence
is slower on CPUs. Here the model's step is one TensorFlow function, traced in less than a second, whose
layers are loops with gradients of their own.
"""

from __future__ import annotations

import math
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.cells import RecurrentGenotype
from nasnet_zoo.data.text import TextData, rows_of
from nasnet_zoo.language.loop import FastLanguageModel
from nasnet_zoo.language.model import perplexity
from nasnet_zoo.language.settings import CellKind
from nasnet_zoo.search.evaluator import Result, Trial
from nasnet_zoo.search.trained_child import TrainedChild, Training

from .language_settings import LanguageBudget


class LanguageChild(TrainedChild[RecurrentGenotype]):
    """Trains a language model of a cell; its reward is c / perplexity^2 of the held-out text.

    Args:
        text: Text to train and to evaluate on.
        budget: Training of a child.

    Raises:
        ValueError: If the text is shorter than a batch.
    """

    objective: ClassVar[str] = "reward"
    budget: LanguageBudget

    def __init__(self, text: TextData, budget: LanguageBudget) -> None:
        super().__init__(budget)
        self.text = text
        rows_of(text.train, budget.batch_size, budget.bptt)
        rows_of(text.valid, budget.batch_size, 1)

    def cost(self, architecture: CellKind) -> dict[str, float]:
        """Return the number of parameters."""
        vocabulary = len(self.text.vocabulary)
        return {"parameters": self.budget.model.parameters(architecture, vocabulary)}

    def start(self, trial: Trial) -> LanguageTraining:
        """Return the training of a child."""
        keras.utils.set_random_seed(trial.seed % 2**32)
        return LanguageTraining(trial.child, self.text, self.budget)

    def evaluate(self, trial: Trial) -> Result:
        """Train the model and evaluate it."""
        try:
            return super().evaluate(trial)
        finally:
            keras.utils.clear_session()


class LanguageTraining(Training):
    """The training of one model, step by step.

    Args:
        cell: Cell of the model.
        text: Text to train and to evaluate on.
        budget: The training.
    """

    def __init__(self, cell: CellKind, text: TextData, budget: LanguageBudget) -> None:
        self.model = FastLanguageModel(cell, budget.model, len(text.vocabulary))
        self.model.build((budget.batch_size, budget.bptt))
        rate = keras.optimizers.schedules.CosineDecay(budget.learning_rate, budget.steps)
        self._optimizer = keras.optimizers.Adam(rate, global_clipnorm=budget.clip_norm)
        self._optimizer.build(self.model.trainable_variables)
        self._rows, self._bptt = rows_of(text.train, budget.batch_size, budget.bptt), budget.bptt
        self._valid, self._scale = text.valid, budget.scale
        self._states = tf.nest.map_structure(tf.Variable, self.model.initial_states(budget.batch_size))
        self._step = tf.function(self._stepped, autograph=False)
        states = tf.nest.map_structure(lambda v: tf.TensorSpec(v.shape, v.dtype), self._states)
        tokens = tf.TensorSpec((budget.batch_size, None), tf.int32)
        self._call = tf.function(
            lambda tokens, states: self.model(tokens, states),
            input_signature=(tokens, states),
            autograph=False,
        )

    def train(self, start: int, stop: int) -> float:
        """Take the steps from ``start`` to below ``stop``; return their mean loss in nats."""
        windows = (self._rows.shape[1] - 1) // self._bptt
        losses = []
        for step in range(start, stop):
            first = step % windows * self._bptt
            if first == 0:
                for state in tf.nest.flatten(self._states):
                    state.assign(tf.zeros_like(state))
            losses.append(self._step(tf.constant(self._rows[:, first : first + self._bptt + 1])))
        return float(np.mean([loss.numpy() for loss in losses]))

    def _stepped(self, tokens: tf.Tensor) -> tf.Tensor:
        """Take a step, from the states that the last one left; its loss."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            carried = tf.nest.map_structure(tf.convert_to_tensor, self._states)
            logits, states = self.model(tokens[:, :-1], carried, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, 1:], logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self._optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], variables)
        tf.nest.map_structure(lambda state, value: state.assign(value), self._states, states)
        return loss

    def reward(self) -> float:
        """Return c / perplexity^2 of the held-out text; NaN if that is infinite."""
        found = perplexity(self.model, self._valid, len(self._rows), call=self._call)
        self.metrics = {"perplexity": found}
        return self._scale / found**2 if math.isfinite(found) else math.nan

    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """Weights, states of the draws, the optimizer's variables and the carried states."""
        variables = [*self.model.variables, *self._optimizer.variables]
        carried = tf.nest.flatten(self._states)
        return {
            **{f"{place:02}": variable for place, variable in enumerate(variables)},
            **{f"carried {place}": state for place, state in enumerate(carried)},
        }
