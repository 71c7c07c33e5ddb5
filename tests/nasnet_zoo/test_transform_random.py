"""Random sequences of transformations of random small models keep what they compute."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from strategies import examples
from transforms import difference, images, randomised

from nasnet_zoo.transform import (
    copy_miniblock,
    insert_identity,
    net2deeper,
    net2wider,
    replace_identity,
    replicate_add,
    replicate_concat,
    split_concat,
)

pytestmark = pytest.mark.tensorflow

PARTS = (
    lambda n, x: layers.Conv2D(n, 3, padding="same")(x),
    lambda n, x: layers.Conv2D(n, 1, 2, activation="relu")(x),
    lambda n, x: layers.SeparableConv2D(n, 3, padding="same", use_bias=False)(x),
    lambda n, x: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x),
    lambda n, x: layers.BatchNormalization()(x),
    lambda n, x: layers.ReLU()(x),
    lambda n, x: layers.Identity()(x),
    lambda n, x: layers.MaxPooling2D(2, 1, "same")(x),
    lambda n, x: layers.AveragePooling2D(3, 1, "same")(x),
    lambda n, x: layers.Add()([x, layers.Conv2D(x.shape[-1], 1, activation="relu")(x)]),
    lambda n, x: layers.Concatenate()([x, layers.Conv2D(n, 1)(layers.BatchNormalization()(x))]),
    lambda n, x: grouped(x),
    lambda n, x: layers.Concatenate()([x, layers.SeparableConv2D(n, 3, padding="same")(x)]),
)


def grouped(x):
    groups = next(g for g in (3, 2, 1) if x.shape[-1] % g == 0)
    return layers.Conv2D(2 * x.shape[-1], 3, padding="same", groups=groups)(x)


PLANS = st.tuples(
    st.lists(st.tuples(st.sampled_from(PARTS), st.integers(2, 7)), min_size=2, max_size=6),
    st.sampled_from([layers.Flatten, layers.GlobalAveragePooling2D]),
    st.integers(0, 1000),
)


def build(plan):
    parts, flatten, seed = plan
    inputs = keras.Input((7, 7, 3))
    x = layers.Conv2D(5, 3, padding="same")(inputs)
    for part, filters in parts:
        if x.shape[-1] < 40:
            x = part(filters, x)
    x = layers.Dense(5, "relu")(flatten()(x))
    return randomised(keras.Model(inputs, layers.Dense(3)(x)), seed)


WEIGHTED = (layers.Conv2D, layers.SeparableConv2D, layers.Dense)
#: Every transformation, of a model, the name of a layer, a random generator and images; and the classes
#: of layers that it is tried on.
TRANSFORMATIONS = (
    (lambda m, name, draw, x: net2wider(m, name, wider(m, name, draw), seed=1), WEIGHTED),
    (lambda m, name, draw, x: net2wider(m, name, 2 * wider(m, name, None), seed=1), WEIGHTED),
    (lambda m, name, draw, x: net2deeper(m, name, images=x), (*WEIGHTED, layers.DepthwiseConv2D)),
    (lambda m, name, draw, x: replicate_add(m, name, int(draw.integers(2, 4))), layers.Layer),
    (lambda m, name, draw, x: replicate_concat(m, name, int(draw.integers(2, 4))), WEIGHTED),
    (lambda m, name, draw, x: split_concat(m, name, int(draw.integers(2, 4))), layers.Layer),
    (lambda m, name, draw, x: insert_identity(m, name), layers.Layer),
    (lambda m, name, draw, x: replace_identity(m, name, "sep3", images=x), layers.Identity),
    (lambda m, name, draw, x: copy_miniblock(m, name, seed=1), layers.Concatenate),
)


def wider(model, name, draw):
    return model.get_layer(name).output.shape[-1] + (0 if draw is None else int(draw.integers(1, 4)))


def test_random_transformations_keep_what_a_model_computes():
    done = set()

    @examples(25)
    @given(PLANS, st.lists(st.integers(0, 10**6), min_size=15, max_size=30))
    def check(plan, seeds):
        model, x, count = build(plan), images((7, 7, 3), 8), 0
        transformed = model
        for seed in seeds:
            index, draw = seed % len(TRANSFORMATIONS), np.random.default_rng(seed)
            transform, classes = TRANSFORMATIONS[index]
            names = [layer.name for layer in transformed.layers if isinstance(layer, classes)]
            try:
                transformed = transform(transformed, str(draw.choice(names or ["none"])), draw, x)
            except ValueError as refused:
                if "\n" in str(refused) or not str(refused).startswith("Expected "):
                    raise
                continue
            count += 1
            done.add(index)
            if count == 6 or transformed.count_params() > 10**5:
                break
        assert difference(model, transformed, x) < 1e-5

    check()
    assert done == set(range(len(TRANSFORMATIONS)))
