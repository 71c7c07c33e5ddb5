"""Resumable training of a classifier by a recipe, with Keras's `fit`."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from nasnet_zoo.bases import CondenseArchitecture
from nasnet_zoo.checking import PositiveInt, Seed, checked
from nasnet_zoo.data import ImageData, ImageSource, open_dataset
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import check_ours, locked, read_json, replacing, write_text
from nasnet_zoo.models import dtype_policy, from_architecture
from nasnet_zoo.presets import model_name

from .best import BestRound, accuracy_name
from .checkpoint import Checkpoint, NotFiniteError, restore_checkpoint
from .condensing import Condensing
from .history import History, truncate_history
from .input import evaluation_batches, training_batches
from .recipes import OptimizerSettings, Recipe, RunSettings, StrategyName, flat, from_dict, to_dict
from .replicas import (
    ReplicatedModel,
    claimed_by_all,
    distributed,
    is_chief,
    open_strategy,
)
from .schedules import learning_rate

#: Parts of the names of variables without weight decay: those of one dimension, as in timm.
_WITHOUT_DECAY = ["bn_scale", "bn_offset", "bias"]
_CHECKPOINT, _HISTORY, _RUN, _TEST = "checkpoint.npz", "history.csv", "run.json", "test.json"


@checked
def train(
    recipe: Recipe,
    data: ImageSource | ImageData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    seed: Seed = 0,
    checkpoints_per_epoch: PositiveInt = 1,
    deterministic: bool = False,
    strategy: StrategyName | None = None,
    tensorboard: bool = False,
    verbose: int | None = None,
) -> keras.Model:
    """Train a network by a recipe, or resume an earlier call with the same ``out``.

    The folder gets ``run.json`` (recipe, data and seed), ``checkpoint.npz``, ``history.csv`` with a
    line for every epoch, and at the end ``model.keras`` and ``model.weights.h5``. Every epoch is
    evaluated on the test images, and the weights of the last epoch are saved. With ``held_out`` in the
    recipe, epochs are evaluated on the held-out images, the best epoch can be kept, and the test images
    are evaluated once at the end, for ``test.json``.

    Args:
        recipe: Recipe to follow.
        data: Data set, see `nasnet_zoo.data.open_dataset`.
        out: Output folder, created if it does not exist.
        seed: Seed of the initial weights and of all random draws. Default: 0.
        checkpoints_per_epoch: Number of checkpoints in an epoch, each after an evaluation and a line
            in the history. Default: 1.
        deterministic: Whether TensorFlow uses deterministic kernels only, so that two runs are
            bitwise equal. It applies until the process ends. Default: false.
        strategy: "mirrored" divides every batch among the GPUs of this machine (without GPUs, among its
            logical CPUs), "multiworker" among those of all machines in the environment variable
            ``TF_CONFIG``, each of which makes this call with a folder ``out`` that all share; the first
            writes to it. A run may go on with another strategy. Default: one device.
        tensorboard: Whether to write events for TensorBoard to ``out/tensorboard``. Default: false.
        verbose: Verbosity of `fit`. Default: a progress bar on a terminal, else a line per epoch.

    Returns:
        The trained model for inference, with class probabilities as output. It stores the class names
        of the data, see `nasnet_zoo.classifier.class_names`.

    Raises:
        ValueError: If the data does not fit the recipe, ``out`` holds another run, or the strategy
            does not fit the recipe, the backend or ``TF_CONFIG``.
        NotFiniteError: If the loss is infinite or NaN; ``out`` keeps the last good checkpoint.
    """
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = open_strategy(strategy, recipe.run)
    source, out = open_dataset(data), Path(out)
    run, evaluation = recipe.run, recipe.evaluation
    fitted = source.hold_out(evaluation.held_out) if evaluation.held_out else source
    steps = fitted.train_size // run.batch_size // checkpoints_per_epoch
    steps -= steps % run.steps_per_execution
    if not steps:
        raise ValueError(
            f"{source.name}: expected images for at least one step of {run.batch_size} between two "
            f"checkpoints. Received: {fitted.train_size} images, {checkpoints_per_epoch=}"
        )
    settings = {
        "data": source.name,
        "train_images": fitted.train_size,
        "test_images": source.test_size,
        "class_names": list(source.class_names),
        "seed": seed,
        "checkpoints_per_epoch": checkpoints_per_epoch,
    }
    if not is_chief(devices):
        verbose = 0
    with claimed_by_all(out, devices, lambda out: claimed(out, recipe, settings)) as out:
        keras.utils.set_random_seed(seed)
        rounds = run.epochs * checkpoints_per_epoch
        with dtype_policy(run.precision), devices.scope():
            model = build(recipe, source, steps * rounds)
        if strategy is not None:
            model = ReplicatedModel(model, devices)
        with devices.scope():
            compile_model(model, recipe, steps * checkpoints_per_epoch)

        def batches(start: int) -> tf.data.Dataset:
            made = training_batches(fitted, recipe, seed, start, deterministic)
            return distributed(_targets(made, model), devices)

        def evaluated(source: ImageSource) -> tf.data.Dataset:
            size = recipe.model.architecture.image_size
            crop = recipe.augmentation.central_crop
            return distributed(_targets(evaluation_batches(source, size, crop), model), devices)

        best = None
        if evaluation.held_out:
            best = BestRound(model, evaluation.keep == "best", evaluation.patience)
        with broken_images_named(source):
            fit_resumable(
                model,
                out,
                batches,
                steps,
                rounds,
                _callbacks(recipe),
                validation_data=evaluated(fitted),
                best=best,
                tensorboard=tensorboard,
                verbose=verbose,
            )
            if best is not None:
                best.restore()
                _test(model, evaluated(source), out, best, quiet=verbose == 0)
        trained = for_inference(model, recipe, source)
        _save(trained, out)
    return trained


def _callbacks(recipe: Recipe) -> list[keras.callbacks.Callback]:
    """The callbacks that change weights."""
    callbacks: list[keras.callbacks.Callback] = []
    if isinstance(recipe.model.architecture, CondenseArchitecture):
        callbacks.append(Condensing())
    if recipe.optimizer.ema is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    return callbacks


def fit_resumable(
    model: keras.Model,
    out: Path,
    batches: Callable[[int], tf.data.Dataset],
    steps: int,
    rounds: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    validation_data: tf.data.Dataset | None = None,
    best: BestRound | None = None,
    tensorboard: bool = False,
    verbose: int | None = None,
) -> None:
    """Call Keras's `fit`, starting from the last checkpoint in a folder.

    Args:
        model: Compiled model.
        out: Folder of ``checkpoint.npz`` and ``history.csv``.
        batches: Function of a step that returns the endless batches from that step on.
        steps: Steps of a round, which ends with a checkpoint.
        rounds: Number of rounds.
        callbacks: Callbacks that run before the history is written.
        validation_data: Batches to evaluate at the end of a round.
        best: Callback that keeps the best round and can stop training.
        tensorboard: Whether to write events to ``out/tensorboard``.
        verbose: Verbosity, see `train`.

    Raises:
        ValueError: If the checkpoint or the history is broken or of another run.
        NotFiniteError: If the loss is infinite or NaN; ``out`` keeps the last good checkpoint.
    """
    done, more = 0, best.state if best else {}
    if (out / _CHECKPOINT).exists():
        done = restore_checkpoint(model, out / _CHECKPOINT, more)
        if done > rounds:
            raise ValueError(
                f"{out / _CHECKPOINT}: expected at most {rounds} rounds of training. Received: {done}"
            )
        truncate_history(out / _HISTORY, done)
    if done == rounds or (done and best and best.stops_after(done)):
        model.optimizer.finalize_variable_values(model.trainable_weights)
        return
    callbacks = [*callbacks, *([best] if best else []), History(out / _HISTORY)]
    if tensorboard:
        import_extra("tensorboard", "train")
        callbacks.append(keras.callbacks.TensorBoard(out / "tensorboard", update_freq="epoch"))
    # Last, so that everything that a checkpoint counts as completed is written.
    callbacks.append(Checkpoint(out / _CHECKPOINT, more))
    if verbose is None:
        verbose = 1 if sys.stdout.isatty() else 2
    try:
        model.fit(
            batches(done * steps),
            validation_data=validation_data,
            shuffle=False,
            callbacks=callbacks,
            initial_epoch=done,
            epochs=rounds,
            steps_per_epoch=steps,
            verbose=verbose,
        )
    except NotFiniteError as error:
        exists = (out / _CHECKPOINT).exists()
        kept = f"the last good checkpoint is {out / _CHECKPOINT}" if exists else "no checkpoint yet"
        raise NotFiniteError(f"{error}; {kept}") from None


def build(recipe: Recipe, source: ImageSource, total_steps: int) -> keras.Model:
    """Build the network to train, with logits as output.

    Args:
        recipe: Recipe to follow.
        source: Source of the images, which gives the number of channels and classes.
        total_steps: Number of training steps, over which drop path grows.
    """
    a, regularization = recipe.model.architecture, recipe.regularization
    return from_architecture(
        a,
        (a.image_size, a.image_size, source.channels),
        weights=recipe.model.weights,
        classes=len(source.class_names),
        classifier_activation=None,
        auxiliary_head=regularization.auxiliary_weight > 0,
        drop_path_keep=regularization.drop_path_keep,
        drop_path_steps=total_steps,
        drop_path_version=regularization.drop_path_version,
        gradient_checkpointing=recipe.run.gradient_checkpointing,
        name=model_name(a),
    )


def make_optimizer(
    settings: OptimizerSettings, run: RunSettings, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Create the optimizer of a run."""
    common: dict[str, Any] = {
        "learning_rate": learning_rate(settings, run.epochs, steps_per_epoch),
        "global_clipnorm": settings.clip_norm,
        "use_ema": settings.ema is not None,
        "ema_momentum": settings.ema or 0.0,
    }
    optimizer: keras.optimizers.Optimizer
    if settings.kind == "sgd":
        optimizer = keras.optimizers.SGD(
            momentum=settings.momentum, nesterov=settings.nesterov, **common
        )
    elif settings.kind == "rmsprop":
        optimizer = keras.optimizers.RMSprop(
            momentum=settings.momentum, rho=settings.rho, epsilon=settings.epsilon, **common
        )
    else:
        optimizer = keras.optimizers.AdamW(
            beta_1=settings.momentum,
            beta_2=settings.beta_2,
            epsilon=1e-8,
            weight_decay=settings.weight_decay,
            **common,
        )
        optimizer.exclude_from_weight_decay(var_names=_WITHOUT_DECAY)
    if run.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def compile_model(model: keras.Model, recipe: Recipe, steps_per_epoch: int) -> None:
    """Compile a network with logits as output by its recipe."""
    optimizer = make_optimizer(recipe.optimizer, recipe.run, steps_per_epoch)
    # `fit` would create the optimizer's variables during tracing, which doubles the tracing time.
    optimizer.build(model.trainable_variables)
    weights = {"predictions": 1.0}
    if "auxiliary" in model.output_names:
        weights["auxiliary"] = recipe.regularization.auxiliary_weight
    model.compile(
        optimizer,
        {
            head: keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=recipe.regularization.label_smoothing
            )
            for head in weights
        },
        loss_weights=weights,
        metrics={"predictions": [keras.metrics.CategoricalAccuracy(name="accuracy")]},
        steps_per_execution=recipe.run.steps_per_execution,
    )


def _targets(batches: tf.data.Dataset, model: keras.Model) -> tf.data.Dataset:
    """Repeat the labels for each head."""
    heads = model.output_names
    if len(heads) == 1:
        return batches
    return batches.map(lambda images, labels: (images, dict.fromkeys(heads, labels)))


def for_inference(model: keras.Model, recipe: Recipe, source: ImageSource) -> keras.Model:
    """Copy the trained network without its training-only parts, with probabilities as output."""
    a = recipe.model.architecture
    trained = from_architecture(
        a,
        (a.image_size, a.image_size, source.channels),
        classes=len(source.class_names),
        class_names=source.class_names,
        name=model_name(a),
    )
    values = {variable.path: variable for variable in model.weights}
    for variable in trained.weights:
        variable.assign(values[variable.path])
    return trained


def _test(
    model: keras.Model, testing: tf.data.Dataset, out: Path, best: BestRound, quiet: bool
) -> None:
    """Write the test accuracy of a run with held-out images, unless it is written already."""
    if (out / _TEST).exists():
        return
    found = model.evaluate(testing, return_dict=True, verbose=0)
    result = {
        "best_epoch": best.round,
        "best_held_out_top_1": best.accuracy,
        "test_top_1": found[accuracy_name(model)],
    }
    write_text(out / _TEST, json.dumps(result, indent=2) + "\n")
    if not quiet:
        print(
            f"Held-out accuracy: {best.accuracy:.2%} after epoch {best.round}, the best one. "
            f"Test accuracy of the saved weights: {result['test_top_1']:.2%}"
        )


def _save(trained: keras.Model, out: Path) -> None:
    with replacing(out / "model.keras") as temporary:
        trained.save(temporary)
    # Copied, since HDF5 crashes the process when it writes to a full disk.
    with (
        zipfile.ZipFile(out / "model.keras") as archive,
        replacing(out / "model.weights.h5") as temporary,
    ):
        temporary.write_bytes(archive.read("model.weights.h5"))


@contextmanager
def claimed(out: Path, recipe: Any, settings: Mapping[str, Any]) -> Iterator[None]:
    """Lock a folder for a run and record the run in it.

    Args:
        out: Folder, created if it does not exist.
        recipe: Recipe of the run, such as `Recipe`.
        settings: JSON values that must be the same when the run is resumed.

    Raises:
        ValueError: If the folder holds other files or another run, or is locked by another process.
            The message has the first value that differs.
    """
    path = out / _RUN
    check_ours(out, _RUN, "a training run")
    with locked(out):
        begun = path.exists()
        if begun:
            _check_same(path, recipe, settings)
        else:
            write_text(path, json.dumps({"recipe": to_dict(recipe), **settings}, indent=2) + "\n")
        try:
            yield
        except Exception:
            # There is nothing to resume without a checkpoint.
            if not begun and not (out / _CHECKPOINT).exists():
                path.unlink()
            raise


def _check_same(path: Path, recipe: Any, settings: Mapping[str, Any]) -> None:
    earlier, expected = read_json(path, "a training run"), f"{path}: expected a training run in JSON."
    if not isinstance(earlier, dict) or "recipe" not in earlier:
        raise ValueError(f"{expected} Received: one without a recipe")
    try:
        # Fields that are newer than the run have their defaults.
        before = {**earlier, **flat(from_dict(type(recipe), earlier["recipe"]))}
    except ValueError as error:
        raise ValueError(f"{expected} {error}") from None
    for name, value in {**flat(recipe), **settings}.items():
        if name not in before:
            raise ValueError(f"{expected} Received: one without {name}")
        if before[name] != value:
            raise ValueError(
                f"{path.parent}: expected {name}={before[name]!r}, which the run in this folder has. "
                f"Received: {name}={value!r}"
            )
