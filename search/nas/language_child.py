"""A recurrent cell's child: a language model, trained from scratch on a text ([Z] section 4.2).

`compile` and `fit` would take longer: XLA compiles for a second or two and its loop over a sequence
is slower on CPUs. Here the model's step is one TensorFlow function, traced in less than a second.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.cells import RecurrentGenotype
from nasnet_zoo.data.text import TextData, rows_of
from nasnet_zoo.language.model import LanguageModel, States, perplexity
from nasnet_zoo.language.settings import CellKind
from nasnet_zoo.search.evaluator import Evaluator, Result, Trial, share_gpus

from .language_settings import LanguageBudget


class LanguageChild(Evaluator[RecurrentGenotype]):
    """Trains a language model of a cell; its reward is c / perplexity^2 of the held-out text.

    Args:
        text: Text to train and to evaluate on.
        budget: Training of a child.

    Raises:
        ValueError: If the text is shorter than a batch.
    """

    objective: ClassVar[str] = "reward"

    def __init__(self, text: TextData, budget: LanguageBudget) -> None:
        self.text, self.budget = text, budget
        self.evaluations = budget.evaluations
        rows_of(text.train, budget.batch_size, budget.bptt)
        rows_of(text.valid, budget.batch_size, 1)

    def setup(self) -> None:
        """Share a GPU with the children of other workers, and say nothing of what is traced."""
        tf.get_logger().setLevel("ERROR")
        share_gpus()

    def cost(self, architecture: CellKind) -> dict[str, float]:
        """Return the number of parameters."""
        vocabulary = len(self.text.vocabulary)
        return {"parameters": self.budget.model.parameters(architecture, vocabulary)}

    def evaluate(self, trial: Trial) -> Result:
        """Train the model and evaluate it."""
        keras.utils.set_random_seed(trial.seed % 2**32)
        try:
            return self._evaluated(trial)
        finally:
            keras.utils.clear_session()

    def _evaluated(self, trial: Trial) -> Result:
        budget = self.budget
        training = LanguageTraining(trial.child, self.text, budget)
        curve, losses = training.restore(trial.checkpoint or {})
        bounds = np.linspace(0, budget.steps, budget.evaluations + 1).round().astype(int)
        status: Literal["finished", "stopped"] = "finished"
        checkpoint, found = None, math.inf
        for start, stop in itertools.pairwise(bounds[len(curve) :]):
            losses.append(training.train(start, stop))
            found = training.perplexity() if math.isfinite(losses[-1]) else math.inf
            if not math.isfinite(found):
                return Result.failed("diverged", curve=tuple(curve), metrics={"losses": losses})
            curve.append(budget.scale / found**2)
            if trial.pauses(curve):
                checkpoint = training.state(curve, losses)
            if checkpoint or (trial.stops(curve) and stop < budget.steps):
                status = "stopped"
                break
        metrics = {"perplexity": found, "losses": losses}
        return Result(curve[-1], tuple(curve), status, metrics=metrics, checkpoint=checkpoint)


class LanguageTraining:
    """The training of one model, step by step.

    Args:
        cell: Cell of the model.
        text: Text to train and to evaluate on.
        budget: The training.
    """

    def __init__(self, cell: CellKind, text: TextData, budget: LanguageBudget) -> None:
        self.model = LanguageModel(cell, budget.model, len(text.vocabulary))
        self.model.build((budget.batch_size, budget.bptt))
        rate = keras.optimizers.schedules.CosineDecay(budget.learning_rate, budget.steps)
        self._optimizer = keras.optimizers.Adam(rate, global_clipnorm=budget.clip_norm)
        self._optimizer.build(self.model.trainable_variables)
        self._rows, self._bptt = rows_of(text.train, budget.batch_size, budget.bptt), budget.bptt
        self._valid = text.valid
        self._states = self._initial = self.model.initial_states(budget.batch_size)
        self._step = tf.function(self._stepped, autograph=False)
        states = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), self._initial)
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
            states = self._states if first else self._initial
            tokens = tf.constant(self._rows[:, first : first + self._bptt + 1])
            loss, self._states = self._step(tokens, states)
            losses.append(loss)
        return float(np.mean([loss.numpy() for loss in losses]))

    def _stepped(self, tokens: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits, states = self.model(tokens[:, :-1], states, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, 1:], logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self._optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], variables)
        return loss, states

    def perplexity(self) -> float:
        """Of the held-out text."""
        return perplexity(self.model, self._valid, len(self._rows), call=self._call)

    def state(self, curve: list[float], losses: list[float]) -> dict[str, np.ndarray]:
        """All that the training goes on from, with the rewards and losses so far, as arrays."""
        arrays = {name: np.asarray(value) for name, value in self._variables().items()}
        carried = {f"state {k}": s.numpy() for k, s in enumerate(tf.nest.flatten(self._states))}
        return arrays | carried | {"curve": np.array(curve), "losses": np.array(losses)}

    def restore(self, state: Mapping[str, np.ndarray]) -> tuple[list[float], list[float]]:
        """Return to a state; if it is none of this model, stay at the start.

        Returns:
            The rewards and losses so far.
        """
        variables = self._variables()
        if any(name not in state or state[name].shape != v.shape for name, v in variables.items()):
            return [], []
        for name, variable in variables.items():
            variable.assign(state[name])
        count = len(tf.nest.flatten(self._states))
        carried = [tf.constant(state[f"state {k}"]) for k in range(count)]
        self._states = tf.nest.pack_sequence_as(self._states, carried)
        return state["curve"].tolist(), state["losses"].tolist()

    def _variables(self) -> dict[str, keras.Variable]:
        """Weights, states of the draws, and the optimizer's variables, by their place."""
        variables = [*self.model.variables, *self._optimizer.variables]
        return {f"{place:02}": variable for place, variable in enumerate(variables)}
