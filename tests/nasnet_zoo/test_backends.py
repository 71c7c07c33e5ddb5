"""The same network on every Keras backend: equal outputs, and a training step on each."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

PROGRAM = """
import sys
import keras, numpy as np, nasnet_zoo as zoo

images = np.random.default_rng(0).uniform(-1, 1, (4, 34, 29, 3)).astype("float32")
outputs = {}
genotypes = (zoo.NASNET_A, zoo.NASNET_B, zoo.NASNET_C)
genotypes += (zoo.PNASNET_5, zoo.AMOEBANET_A, zoo.ENAS, zoo.DARTS_V2)
for genotype in genotypes:
    for padding in ("same", "keras"):
        options = {"classes": 5, "input_shape": images.shape[1:], "pool_padding": padding}
        model = zoo.NASNet(genotype, 1, 4, "imagenet", 6, **options)
        rng = np.random.default_rng(1)
        for w in model.weights:
            positive = "variance" in w.name or "scale" in w.name
            w.assign(rng.uniform(0.5, 1.5, w.shape) if positive else rng.normal(0, 0.3, w.shape))
        outputs[f"{genotype.name} {padding}"] = keras.ops.convert_to_numpy(model(images))
sequences = np.random.default_rng(2).normal(size=(4, 9, 5)).astype("float32")
mask = keras.ops.convert_to_tensor(np.arange(9) < np.array([9, 5, 1, 3])[:, None])
for genotype in (zoo.NASCELL, zoo.NASCELL_MAX):
    cell = zoo.RecurrentCell(genotype, 6, projection=3, use_bias=True)
    layer = keras.layers.RNN(cell, return_sequences=True)
    layer.build(sequences.shape)
    for w in layer.weights:
        w.assign(rng.normal(0, 0.3, w.shape))
    outputs[genotype.name] = keras.ops.convert_to_numpy(layer(sequences, mask=mask))
np.savez(sys.argv[1], **outputs)

for options in ({}, {"gradient_checkpointing": True, "drop_path_keep": 0.7, "drop_path_steps": 3}):
    model = zoo.NASNet(zoo.NASNET_A, 1, 4, "cifar", 6, classes=5, input_shape=(34, 29, 3), **options)
    before = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    assert np.isfinite(model.train_on_batch(images, np.arange(4)))
    after = [keras.ops.convert_to_numpy(w) for w in model.trainable_weights]
    assert all(np.all(np.isfinite(w)) for w in after)
    moved = [not np.array_equal(b, a) for b, a in zip(before, after)]
    assert np.mean(moved) > 0.9, np.mean(moved)

cell = zoo.NASCell(6, dropout=0.2, recurrent_dropout=0.2)
model = keras.Sequential([keras.Input(batch_shape=(4, 9, 5)), keras.layers.RNN(cell, stateful=True)])
model.compile("adam", "mse")
assert np.isfinite(model.train_on_batch(sequences, np.ones((4, 6), "float32")))
"""


def outputs_of(backend, folder):
    path = folder / f"{backend}.npz"
    environment = os.environ | {"KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", PROGRAM, str(path)], env=environment, check=True)
    return np.load(path)


@pytest.fixture(scope="module")
def tensorflow_outputs(tmp_path_factory):
    return outputs_of("tensorflow", tmp_path_factory.mktemp("tensorflow"))


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="run once, not for every backend")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_computes_what_tensorflow_computes_and_trains(tmp_path, backend, tensorflow_outputs):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"needs the extra {backend}")
    outputs = outputs_of(backend, tmp_path)
    assert len(outputs.files) == 16
    for name in outputs.files:
        np.testing.assert_allclose(outputs[name], tensorflow_outputs[name], atol=1e-4, err_msg=name)
