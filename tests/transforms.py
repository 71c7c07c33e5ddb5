"""Small models, and whether two of them compute the same."""

import keras
import numpy as np
from keras import layers


def images(shape=(9, 9, 3), count=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def randomised(model, seed=0):
    """Gives every weight another value than an initial one, batch norm's statistics included."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        if "int" in weight.dtype:
            continue
        kernel = "kernel" in weight.name
        scale = np.sqrt(2 / np.prod(weight.shape[:-1])) if kernel else 0.5
        value = draw.normal(0, scale, weight.shape)
        positive = weight.name.endswith(("variance", "gamma", "scale"))
        weight.assign(1 + np.abs(value) if positive else value)
    return model


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def difference(model, other, x=None):
    """Greatest difference of the outputs, of which the greatest is to be 1."""
    x = images(model.input_shape[1:]) if x is None else x
    return _relative(outputs(model, x), outputs(other, x))


def _relative(expected, found):
    return np.abs(expected - found).max() / max(1, np.abs(expected).max())


def same(model, other, x=None):
    """Whether two models, which are to compute something, compute the same."""
    x = images(model.input_shape[1:]) if x is None else x
    expected = outputs(model, x)
    assert np.ptp(expected, axis=0).max() > 1e-3
    return _relative(expected, outputs(other, x)) < 1e-5


def stack(*parts, shape=(9, 9, 3)):
    return randomised(keras.Sequential([keras.Input(shape), *parts]))


def conv(filters, name=None, size=3, **kwargs):
    return layers.Conv2D(filters, size, padding="same", name=name, **kwargs)


def head():
    return layers.GlobalAveragePooling2D(), layers.Dense(4)


def residual(last=None):
    """Two blocks; every layer named sum_.. is a term of a sum that "sum_stem" is a term of."""
    inputs = keras.Input((9, 9, 3))
    stem = x = layers.ReLU()(layers.BatchNormalization()(conv(6, "sum_stem")(inputs)))
    for k in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(conv(5, f"inner_{k}")(x)))
        y = layers.BatchNormalization()(conv(6, f"sum_{k}")(y))
        x = layers.ReLU()(layers.Add(name=f"add_{k}")([y, x]))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Dense(6, "sigmoid", name="sum_gate")(layers.Dense(2, "relu")(gate))
    x = layers.Average()([layers.Multiply()([x, gate]), stem])
    for layer in head():
        x = layer(x)
    return randomised(keras.Model(inputs, x))


def densenet(growth=3, blocks=2):
    """DenseNet-BC: two stages with a transition between them, pre-activation."""
    inputs = keras.Input((9, 9, 3))
    x = conv(7, "stem")(inputs)
    for stage in range(2):
        for k in range(blocks):
            name = f"{stage}_{k}"
            y = layers.ReLU()(layers.BatchNormalization(name=f"norm_{name}")(x))
            y = conv(4 * growth, f"bottleneck_{name}", 1, use_bias=False)(y)
            y = layers.ReLU()(layers.BatchNormalization(name=f"inner_norm_{name}")(y))
            y = conv(growth, f"growth_{name}", 3, use_bias=False)(y)
            x = layers.Concatenate(name=f"concat_{name}")([x, y])
        if stage == 0:
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.AveragePooling2D(2)(conv(8, "transition", 1)(x))
    x = layers.ReLU()(layers.BatchNormalization(name="last_norm")(x))
    for layer in head():
        x = layer(x)
    return randomised(keras.Model(inputs, x))
