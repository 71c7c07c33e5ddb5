"""Resumable training of a language model by a recipe."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from nasnet_zoo.checking import Seed, checked
from nasnet_zoo.data.text import TextData, open_text, rows_of
from nasnet_zoo.files import replacing, write_text
from nasnet_zoo.training.training import claimed, fit_resumable, make_optimizer

from .model import LanguageModel, perplexity
from .recipes import LanguageRecipe


@checked
def train_language_model(
    recipe: LanguageRecipe,
    data: TextData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    seed: Seed = 0,
    deterministic: bool = False,
    tensorboard: bool = False,
    verbose: int | None = None,
) -> LanguageModel:
    """Train a language model by a recipe, or resume an earlier call with the same ``out``.

    The folder gets ``run.json`` (recipe, text and seed), ``checkpoint.npz``, ``history.csv`` with a
    line for every epoch, and at the end ``model.keras`` and ``test.json``, the perplexity of the test
    text. Every epoch is evaluated on the held-out text.

    Args:
        recipe: Recipe to follow.
        data: Text, see `nasnet_zoo.data.text.open_text`.
        out: Output folder, created if it does not exist.
        seed: Seed of the initial weights and of all random draws. Default: 0.
        deterministic: Whether TensorFlow uses deterministic kernels only. Default: false.
        tensorboard: Whether to write events for TensorBoard to ``out/tensorboard``. Default: false.
        verbose: Verbosity of `fit`. Default: a progress bar on a terminal, else a line per epoch.

    Returns:
        The trained model.

    Raises:
        ValueError: If the text does not fit the recipe, or ``out`` holds another run.
        NotFiniteError: If the loss is infinite or NaN; ``out`` keeps the last good checkpoint.
    """
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    reading, out = recipe.reading, Path(out)
    text = open_text(data, reading.level, reading.vocabulary)
    size, steps = reading.batch_size, reading.bptt
    windows, held_out = (_windows(rows_of(t, size, steps), steps) for t in (text.train, text.valid))
    settings = {
        "data": text.name,
        "train_tokens": len(text.train),
        "vocabulary": len(text.vocabulary),
        "seed": seed,
    }
    with claimed(out, recipe, settings):
        keras.utils.set_random_seed(seed)
        model = LanguageModel(recipe.cell.cell, recipe.model, len(text.vocabulary), stateful=True)
        model.build((size, steps))
        optimizer = make_optimizer(recipe.optimizer, reading.run, len(windows))
        optimizer.build(model.trainable_variables)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        # XLA's loop over a sequence is slower on CPUs.
        model.compile(optimizer, loss, metrics=[Perplexity(name="perplexity")], jit_compile=False)
        fit_resumable(
            model,
            out,
            lambda start: _batches(windows).repeat(),
            len(windows),
            reading.epochs,
            [_FromTheStart()],
            validation_data=_batches(held_out),
            tensorboard=tensorboard,
            verbose=verbose,
        )
        trained = LanguageModel(recipe.cell.cell, recipe.model, len(text.vocabulary))
        trained.build((None, None))
        for variable, value in zip(trained.weights, model.weights, strict=True):
            variable.assign(value)
        call = tf.function(lambda tokens, states: trained(tokens, states), reduce_retracing=True)
        result = {"test_perplexity": perplexity(trained, text.test, call=call)}
        write_text(out / "test.json", json.dumps(result, indent=2) + "\n")
        with replacing(out / "model.keras") as temporary:
            trained.save(temporary)
    return trained


class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    """The exponential of the mean loss of the tokens, in nats, of logits."""

    def __init__(self, name: str = "perplexity", **kwargs: Any) -> None:
        super().__init__(name=name, from_logits=True, **kwargs)

    def result(self) -> Any:
        """Return the perplexity so far."""
        return ops.exp(super().result())


class _FromTheStart(keras.callbacks.Callback):
    """Every pass over a text begins with states of zero; an epoch's evaluation ends its pass."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._reset()

    def on_test_begin(self, logs: Any = None) -> None:
        self._reset()

    def _reset(self) -> None:
        for layer in self.model.recurrent_layers:
            layer.reset_state()


def _windows(rows: np.ndarray, steps: int) -> np.ndarray:
    """The steps of rows of text: int32 (windows, rows, steps + 1); what remains is left out."""
    count = (rows.shape[1] - 1) // steps
    return np.stack([rows[:, k * steps : (k + 1) * steps + 1] for k in range(count)])


def _batches(windows: np.ndarray) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((windows[:, :, :-1], windows[:, :, 1:]))
