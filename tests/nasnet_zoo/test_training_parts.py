"""Gradient checkpointing, mixed precision, frozen backbones and feature extraction."""

import dataclasses

import keras
import ml_dtypes
import numpy as np
import pytest

import nasnet_zoo as zoo
from nasnet_zoo.cells.layers import run_graph
from nasnet_zoo.cells.primitives import normalise_batch
from nasnet_zoo.presets import PRESETS

GENOTYPES = {
    genotype.name: genotype
    for genotype in (
        zoo.NASNET_A,
        zoo.NASNET_B,
        zoo.NASNET_C,
        zoo.PNASNET_5,
        zoo.AMOEBANET_A,
        zoo.ENAS,
        zoo.DARTS_V2,
    )
}


def small(genotype=zoo.NASNET_A, **arguments):
    options = {
        "cells": 1,
        "filters": 4,
        "stem": "cifar",
        "stem_filters": 6,
        "image_size": 20,
        "classes": 5,
    }
    return zoo.NASNet(genotype, **options | arguments)


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def batch(size=20):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (6, size, size, 3)).astype("float32"), np.arange(6) % 5


@pytest.mark.tensorflow  # compiling it takes other backends minutes
@pytest.mark.parametrize(
    "genotype",
    [zoo.NASNET_A, pytest.param(zoo.NASNET_B, marks=pytest.mark.slow)],
    ids=lambda g: g.name,
)
def test_checkpointed_training_is_the_same_training(genotype):
    images, labels = batch()
    after = []
    for checkpointing in (False, True):
        keras.utils.set_random_seed(3)
        model = small(
            genotype, drop_path_keep=0.6, drop_path_steps=2, gradient_checkpointing=checkpointing
        )
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        losses = [float(model.train_on_batch(images, labels)) for _ in range(2)]
        after.append((losses, model))
    (plain_losses, plain), (losses, checkpointed) = after
    assert losses == pytest.approx(plain_losses, rel=1e-4)
    assert {int(layer.drop_path.step) for layer in _cells(checkpointed)} == {2}
    for a, b in zip(plain.weights, checkpointed.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4, err_msg=a.path)


@pytest.mark.tensorflow
@pytest.mark.parametrize("training", [False, True])
def test_checkpointing_computes_again_also_where_batch_norm_is_frozen(monkeypatch, training):
    import tensorflow as tf

    runs = []

    def counted(*arguments):
        runs.append(1)
        return run_graph(*arguments)

    monkeypatch.setattr("nasnet_zoo.cells.layers.run_graph", counted)
    images, _ = batch()
    plain, checkpointed = small(), small(gradient_checkpointing=True)
    checkpointed.set_weights(plain.get_weights())
    found = []
    for model in (plain, checkpointed):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=training) ** 2)
        runs.clear()
        found.append(tape.gradient(loss, [w.value for w in model.trainable_weights]))
        assert len(runs) == (len(_cells(model)) if model is checkpointed else 0)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def _cells(model):
    return [layer for layer in model.layers if isinstance(layer, zoo.cells.Cell)]


@pytest.mark.tensorflow  # compiling it takes other backends minutes
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("genotype", GENOTYPES.values(), ids=GENOTYPES)
def test_mixed_precision_stays_near_float32(policy, genotype, dtype):
    images, _ = batch()

    def run(model):
        """The vector that is classified, and both predictions."""
        model = keras.Model(model.input, [model.get_layer("global_pool").output, *model.outputs])
        return [np.array(keras.ops.cast(output, "float32")) for output in model(images)]

    float32 = small(genotype, auxiliary_head=True)
    expected = run(float32)[0]
    policy(dtype)
    mixed = small(genotype, auxiliary_head=True)
    assert all(w.dtype == "float32" for w in mixed.weights)
    mixed.set_weights(float32.get_weights())
    vector, predictions, auxiliary = run(mixed)
    # The softmax stays in float32, so probabilities sum to one as exactly as before.
    np.testing.assert_allclose(np.sum(predictions, -1), 1, atol=1e-6)
    np.testing.assert_allclose(np.sum(auxiliary, -1), 1, atol=1e-6)
    error = np.linalg.norm(vector - expected) / np.linalg.norm(expected)
    # Some forty roundings in a row, of 2**-11 and 2**-8 each.
    assert 1e-5 < error < {"mixed_float16": 0.005, "mixed_bfloat16": 0.04}[dtype]


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", zoo.list_models())
def test_mixed_precision_adds_little_to_rounded_weights_at_full_depth(policy, name):
    # How far rounding carries through tens of random layers is the network's own: rounding the image
    # alone to float16 moves the features of NASNet-A Mobile by 2 %, rounding the weights by 5 %. (In
    # bfloat16 all features of Large are noise.) So the measure is float32 with rounded weights.
    a = PRESETS[name].architecture
    images = np.random.default_rng(0).uniform(-1, 1, (8, 64, 64, a.channels)).astype("float32")
    options = {
        "weights": None,
        "include_top": False,
        "pooling": "avg",
        "input_shape": images.shape[1:],
        # As in a trained network: the moving statistics are those of a batch.
        "hyperparameters": dataclasses.replace(a.hyperparameters, bn_momentum=0.0),
    }
    float32 = zoo.create_model(name, **options)
    float32(images, training=True)
    expected = np.array(float32(images))
    weights = float32.get_weights()

    def distance(model):
        features = np.array(keras.ops.cast(model(images), "float32"))
        return np.linalg.norm(features - expected) / np.linalg.norm(expected)

    for dtype in (np.float16, ml_dtypes.bfloat16):
        policy(f"mixed_{np.dtype(dtype)}")
        mixed = zoo.create_model(name, **options)
        mixed.set_weights(weights)
        float32.set_weights([w.astype(dtype).astype("float32") for w in weights])
        assert distance(mixed) < 2 * distance(float32)


@pytest.mark.tensorflow  # compiling it takes other backends minutes
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(policy, dtype):
    images, labels = batch()
    policy(dtype)
    model = small(gradient_checkpointing=True, drop_path_keep=0.8, drop_path_steps=10)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    losses = [float(model.train_on_batch(images, labels)) for _ in range(8)]
    assert np.all(np.isfinite(losses))
    assert min(losses[-3:]) < 0.8 * losses[0]
    assert all(np.all(np.isfinite(np.array(w))) for w in model.weights)


@pytest.mark.tensorflow  # compiling it takes other backends minutes
def test_the_auxiliary_head_trains_along_and_vanishes_at_inference():
    images, labels = batch()
    model = small(auxiliary_head=True, input_shape=(20, 20, 3))
    model.compile(
        keras.optimizers.SGD(0.0),
        dict.fromkeys(("predictions", "auxiliary"), "sparse_categorical_crossentropy"),
        loss_weights={"predictions": 1.0, "auxiliary": 0.4},
    )
    total = model.train_on_batch(images, {"predictions": labels, "auxiliary": labels})
    losses = [
        float(np.mean(keras.losses.sparse_categorical_crossentropy(labels, output)))
        for output in model(images, training=True)
    ]
    assert float(np.ravel(total)[0]) == pytest.approx(losses[0] + 0.4 * losses[1], rel=1e-4)

    single = zoo.inference_model(model)
    assert [output.shape for output in single.outputs] == [(None, 5)]
    np.testing.assert_allclose(single(images), model(images)[0], rtol=1e-6)
    assert not any(w.path.startswith("auxiliary") for w in single.weights)
    assert zoo.inference_model(single) is single


def test_a_frozen_backbone_keeps_its_statistics_while_the_head_learns():
    backbone = small(include_top=False, pooling="avg", input_shape=(20, 20, 3))
    backbone.trainable = False
    model = keras.Sequential([backbone, keras.layers.Dense(5)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    images, labels = batch()
    before = [np.array(w) for w in backbone.weights]
    head = np.array(model.layers[-1].kernel)
    model.train_on_batch(images, labels)
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.weights, strict=True))
    assert not np.array_equal(head, model.layers[-1].kernel)
    backbone.trainable = True
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.train_on_batch(images, labels)
    changed = [not np.array_equal(a, b) for a, b in zip(before, backbone.weights, strict=True)]
    assert all(changed)


def test_l2_is_added_for_every_kernel():
    decayed = zoo.Hyperparameters(l2=0.01)
    model = small(hyperparameters=decayed)
    kernels = [w for w in model.trainable_weights if w.name.endswith("kernel")]
    expected = 0.01 * sum(np.sum(np.square(w)) for w in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
    assert len(small().losses) == 0


def test_kernels_start_as_slims_variance_scaling_says():
    keras.utils.set_random_seed(0)
    cell = zoo.NASNetMobile().get_layer("Cell_11")
    for w in cell.weights:
        if "kernel" in w.name:
            fan_out = np.prod(w.shape[:2]) * w.shape[3]
            values = np.array(w)
            # Kernels of at least 1,500 values: the deviation's own is below 2 percent.
            assert values.std() == pytest.approx(np.sqrt(2 / fan_out), rel=0.08)
            assert np.abs(values).max() <= 2 * np.sqrt(2 / fan_out) / 0.8796 + 1e-6


@pytest.mark.tensorflow  # compiling it takes other backends minutes
def test_features_at_strides_and_end_points():
    model = zoo.NASNetMobile(include_top=False)
    backbone = zoo.feature_extractor(model, (2, 4, 8, 16, 32, "Cell_5"))
    images = np.random.default_rng(0).uniform(-1, 1, (1, 64, 96, 3)).astype("float32")
    features = [tuple(f.shape) for f in backbone(images)]
    assert features == [
        (1, 31, 47, 32),
        (1, 16, 24, 44),
        (1, 8, 12, 264),
        (1, 4, 6, 528),
        (1, 2, 3, 1056),
        (1, 4, 6, 528),
    ]
    head = keras.layers.ReLU()(backbone(images)[4])
    np.testing.assert_allclose(head, model(images), rtol=1e-5, atol=1e-6)


def test_features_of_labelled_states_are_concatenated():
    backbone = zoo.feature_extractor(small(zoo.NASNET_B), (1, 2, 4))
    assert [f.shape[1:] for f in backbone.outputs] == [(20, 20, 16), (10, 10, 32), (5, 5, 64)]


def test_features_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"Expected one of \[1, 2, 4, 'Stem', 'Cell_0'.*Received: 8"):
        zoo.feature_extractor(small(), (8,))


@pytest.mark.tensorflow
def test_networks_of_doubles_train_as_those_of_floats(policy):
    images, labels = batch()
    losses = []
    floats = small(zoo.NASNET_A)
    policy("float64")
    doubles = small(zoo.NASNET_A)
    assert {w.dtype for w in doubles.weights} == {"float64"}
    doubles.set_weights(floats.get_weights())
    for model in (floats, doubles):
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        losses.append([float(model.train_on_batch(images, labels)) for _ in range(2)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_fused_batch_norm_is_the_plain_one(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, (3, 5, 4, 6)).astype(dtype)
    scale, offset = rng.normal(size=(2, 6)).astype(dtype)
    y, mean, variance = normalise_batch(keras.ops.array(x), scale, offset, 1e-3)
    axes = (0, 1, 2)
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(mean, x.mean(axes), **tolerance)
    np.testing.assert_allclose(variance, x.var(axes, ddof=1), **tolerance)
    expected = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-3) * scale + offset
    np.testing.assert_allclose(y, expected, **tolerance)


@pytest.mark.tensorflow
def test_batch_norm_in_training_is_tensorflows_kernel():
    import tensorflow as tf

    def norm(x):
        return normalise_batch(x, tf.ones(6), tf.zeros(6), 1e-3)

    graph = tf.function(norm).get_concrete_function(tf.TensorSpec((2, 4, 4, 6))).graph
    assert "FusedBatchNormV3" in {operation.type for operation in graph.get_operations()}
