"""A training run in a process of its own: logical CPUs are made before TensorFlow starts.

``python tests/replicated_run.py OPTIONS``, a JSON object: ``out``; ``recipe``, changes of the recipe;
``devices``, the number of logical CPUs; ``doubles``, whether to compute in float64, where a difference
in rounding stays small; ``local_batch_norm``, whether replicas keep the moments of their own part, the
mutant that a comparison must refuse; and arguments of `train`.
"""

import contextlib
import dataclasses
import json
import sys

import keras
import tensorflow as tf

from nasnet_zoo.cells import Block, CellGenotype, Genotype, primitives
from nasnet_zoo.data import open_dataset
from nasnet_zoo.training import RECIPES, changed, train, training


def main(out, recipe, devices=1, doubles=True, local_batch_norm=False, **arguments):
    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
        tf.config.set_logical_device_configuration(cpu, parts)
    if doubles:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        training.dtype_policy = lambda precision: contextlib.nullcontext()
    if local_batch_norm:
        primitives._moments_of_all = lambda *moments: moments
    cell = CellGenotype((Block((0, 1), ("sep_3x3", "identity")),))
    tiny = {
        "genotype": Genotype("one block", cell, cell),
        "filters": 2,
        "stem_filters": 2,
        "image_size": 8,
    }
    parts = {"model": tiny, "optimizer": {"learning_rate": 0.01}, "run": {"epochs": 2}}
    recipe = changed(changed(RECIPES["digits"], **parts), **recipe)
    images = open_dataset("digits").in_memory()
    # Of the last test batch, one replica of two gets no image.
    images = dataclasses.replace(
        images,
        train_images=images.train_images[:640],
        train_labels=images.train_labels[:640],
        test_images=images.test_images[:251],
        test_labels=images.test_labels[:251],
    )
    train(recipe, images, out, seed=1, deterministic=True, **arguments)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
