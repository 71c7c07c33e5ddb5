"""Resumable training of a detector by a recipe, with Keras's `fit`."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from nasnet_zoo.checking import Seed, checked
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.files import replacing
from nasnet_zoo.models import dtype_policy, from_architecture
from nasnet_zoo.presets import model_name
from nasnet_zoo.saving import load_model
from nasnet_zoo.training.best import averaged
from nasnet_zoo.training.recipes import changed
from nasnet_zoo.training.training import claimed, fit_resumable, make_optimizer

from .coco import CocoImages
from .evaluation import check_class_names, detect, evaluate
from .faster_rcnn import FasterRCNN
from .input import training_batches
from .recipes import DetectionRecipe


class CocoEvaluation(keras.callbacks.Callback):
    """Callback that logs COCO's twelve metrics after every epoch, as ``val_AP`` and so on.

    Args:
        source: Images to evaluate.
        size: Height and width in pixels of the square that images are fitted into.
    """

    def __init__(self, source: CocoImages, size: int) -> None:
        super().__init__()
        self._source, self._size = source, size

    @functools.cached_property
    def _detector(self) -> Any:
        """The model as a function that is traced in the first epoch only."""
        return tf.function(lambda images: self.model(images, training=False), reduce_retracing=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate the detector."""
        with averaged(self.model):
            results = detect(self._detector, self._source, self._size)
        found = evaluate(self._source, results)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in found.items()})


def build_detector(recipe: DetectionRecipe, class_names: Sequence[str], seed: int = 0) -> FasterRCNN:
    """Build the detector of a recipe, for images of any size."""
    a, settings = recipe.model.architecture, recipe.detector
    network = from_architecture(
        a,
        (None, None, 3),
        weights=recipe.model.weights,
        include_top=False,
        gradient_checkpointing=recipe.run.gradient_checkpointing,
        name=model_name(a),
    )
    return FasterRCNN(
        network,
        class_names,
        anchor_sizes=[settings.anchor_size * factor for factor in (0.25, 0.5, 1.0, 2.0)],
        rpn_filters=settings.rpn_filters,
        candidates=settings.candidates,
        proposals=settings.proposals,
        box_samples=settings.box_samples,
        crop_size=settings.crop_size,
        train_batch_norm=settings.train_batch_norm,
        seed=seed,
    )


@checked
def train_detector(
    recipe: DetectionRecipe,
    train: CocoImages,
    test: CocoImages,
    out: str | os.PathLike[str],
    *,
    start_from: str | os.PathLike[str] | None = None,
    seed: Seed = 0,
    tensorboard: bool = False,
    verbose: int | None = None,
) -> FasterRCNN:
    """Train a detector, or resume an earlier call with the same ``out``.

    The folder gets ``run.json``, ``checkpoint.npz``, ``history.csv`` with the losses and COCO's metrics
    of every epoch, and at the end ``detector.keras``.

    Args:
        recipe: Recipe to follow.
        train: Training images.
        test: Test images, evaluated after every epoch.
        out: Output folder, created if it does not exist.
        start_from: Path of a ``detector.keras`` with the initial weights. If its classes differ, the
            last two layers get new weights. Default: the recipe's weights.
        seed: Seed of the initial weights and of all random draws. Default: 0.
        tensorboard: Whether to write events for TensorBoard to ``out/tensorboard``. Default: false.
        verbose: Verbosity of `fit`. Default: a progress bar on a terminal, else a line per epoch.

    Raises:
        ValueError: If an argument is out of range, there are too few images for a step, the classes
            of the two sets differ, ``start_from`` is another detector, ``out`` holds another run, or
            an image cannot be read.
        NotFiniteError: If the loss is infinite or NaN; ``out`` keeps the last good checkpoint.
    """
    out, size, run = Path(out), recipe.model.architecture.image_size, recipe.run
    check_class_names("the training data", train.class_names, "the test data", test.class_names)
    steps = len(train.examples) // run.batch_size
    steps -= steps % run.steps_per_execution
    if not steps:
        least = run.batch_size * run.steps_per_execution
        raise ValueError(
            f"Expected at least {least} images to train on. Received: {len(train.examples)}"
        )
    keras.utils.set_random_seed(seed)
    with dtype_policy(run.precision):
        detector = build_detector(recipe, train.class_names, seed)
    if start_from is not None:
        copy_weights(load_detector(start_from), detector)
    optimizer = make_optimizer(recipe.optimizer, run, steps)
    optimizer.build(detector.trainable_variables)
    detector.compile(optimizer, jit_compile=False, steps_per_execution=run.steps_per_execution)
    settings = {
        "train_images": len(train.examples),
        "test_images": len(test.examples),
        "class_names": list(train.class_names),
        "start_from": None if start_from is None else os.fspath(start_from),
        "seed": seed,
    }
    with claimed(out, recipe, settings), broken_images_named(train, test):
        fit_resumable(
            detector,
            out,
            lambda start: training_batches(train, size, run.batch_size, seed, start, recipe.flip),
            steps,
            run.epochs,
            [CocoEvaluation(test, size)],
            tensorboard=tensorboard,
            verbose=verbose,
        )
        # The saved detector computes in float32, without gradient checkpointing.
        plain = changed(recipe, model={"weights": None}, run={"gradient_checkpointing": False})
        trained = build_detector(plain, train.class_names, seed)
        copy_weights(detector, trained)
        with replacing(out / "detector.keras") as temporary:
            trained.save(temporary)
    return trained


def load_detector(path: str | os.PathLike[str]) -> FasterRCNN:
    """Load a detector that `train_detector` saved.

    Raises:
        ValueError: If the file is not a detector or its weights are not finite.
        OSError: If the file cannot be read.
    """
    detector = load_model(path, "a detector")
    if not isinstance(detector, FasterRCNN):
        raise ValueError(f"{path}: expected a detector. Received: {type(detector).__name__}")
    return detector


def copy_weights(source: FasterRCNN, target: FasterRCNN) -> None:
    """Copy all weights, without those of the last two layers if the classes differ.

    Raises:
        ValueError: If the detectors differ in more than their classes.
    """
    parts = ["network", "rpn_conv", "rpn_objectness", "rpn_boxes"]
    if source.class_names == target.class_names:
        parts += ["class_logits", "class_boxes"]
    for part in parts:
        try:
            getattr(target, part).set_weights(getattr(source, part).get_weights())
        except ValueError as error:
            raise ValueError(
                f"Expected detectors that differ in classes only. Received: another {part}: {error}"
            ) from None
