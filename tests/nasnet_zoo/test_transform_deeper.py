"""Layers that compute the identity where they are inserted."""

import keras
import numpy as np
import pytest
from keras import layers
from transforms import conv, densenet, difference, head, images, outputs, same, stack

from nasnet_zoo.transform import net2deeper

pytestmark = pytest.mark.tensorflow


def names(model):
    return [layer.name for layer in model.layers]


def normed(**kwargs):
    return [conv(5, "deep", **kwargs), layers.BatchNormalization(name="norm"), layers.ReLU(name="relu")]


def test_behind_convolution_norm_and_relu_stand_the_same_three():
    model = stack(*normed(use_bias=False, dilation_rate=2), *head())
    deeper = net2deeper(model, "deep")
    new = ["deep", "norm", "relu", "deep_deeper", "norm_deeper", "relu_deeper"]
    assert [name for name in names(deeper) if name in new] == new
    assert deeper.get_layer("deep_deeper").kernel.shape == (3, 3, 5, 5)
    assert not deeper.get_layer("deep_deeper").use_bias
    assert same(model, deeper)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_the_identity_is_where_the_padding_puts_the_centre(size):
    model = stack(conv(5, "deep", (3, 4)), *head())
    deeper = net2deeper(model, "deep", kernel_size=size)
    assert deeper.get_layer("deep_deeper").kernel_size == (size, size)
    assert same(model, deeper)
    assert net2deeper(model, "deep").get_layer("deep_deeper").kernel_size == (3, 4)


@pytest.mark.parametrize(
    "parts",
    [
        [conv(5, "deep", activation="relu")],
        [conv(6, "deep", groups=3, strides=2, activation="relu6")],
        [layers.SeparableConv2D(5, (3, 5), 2, depth_multiplier=2, activation="relu", name="deep")],
        [layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep"), layers.ReLU(6.0)],
        [conv(5, "deep"), layers.BatchNormalization()],
        [conv(5, "deep"), layers.Activation("relu")],
        [conv(5), layers.BatchNormalization(), conv(5, "deep", activation="relu")],
    ],
)
def test_every_class_of_layer_has_an_identity(parts):
    model = stack(*parts, *head())
    deeper = net2deeper(model, "deep")
    assert len(deeper.layers) > len(model.layers)
    assert same(model, deeper)


def test_dense_layers_have_an_identity():
    model = stack(layers.Flatten(), layers.Dense(5, "relu", name="deep"), layers.Dense(4, "softmax"))
    assert same(model, net2deeper(net2deeper(model, "deep"), "deep"))


def test_a_calibrated_norm_is_nearly_the_identity_in_training_too():
    model = stack(*normed(), *head())
    x = images(count=150)
    plain, calibrated = net2deeper(model, "deep"), net2deeper(model, "deep", images=x)
    assert same(model, calibrated)
    norm = calibrated.get_layer("norm_deeper")
    features = outputs(keras.Model(model.inputs, model.get_layer("relu").output), x)
    means = [batch.mean((0, 1, 2)) for batch in np.split(features, [50, 100])]
    variances = [batch.var((0, 1, 2)) for batch in np.split(features, [50, 100])]
    assert norm.moving_mean.numpy() == pytest.approx(np.mean(means, axis=0), abs=1e-5)
    assert norm.moving_variance.numpy() == pytest.approx(np.mean(variances, axis=0), abs=1e-5)
    assert norm.beta.numpy() == pytest.approx(norm.moving_mean.numpy())

    def off(other):
        """How much the new norm changes in training, the old one being at inference."""
        other.get_layer("norm").trainable = False
        return np.abs(outputs(model, x) - keras.ops.convert_to_numpy(other(x, training=True))).max()

    assert off(calibrated) < 1e-3 < 0.05 < off(plain)


def test_before_activation_the_shift_makes_it_exact_and_without_it_is_far_off():
    model, x = densenet(), images(count=70)
    deeper = net2deeper(model, "growth_0_1", images=x)
    assert same(model, deeper, x)
    core, norm = deeper.get_layer("growth_0_1_deeper"), deeper.get_layer("inner_norm_0_1_deeper")
    assert (core.bias.numpy() < 0).any()
    norm.beta.assign(norm.beta + core.bias)
    core.bias.assign(0 * core.bias)
    assert difference(model, deeper, x) > 0.01


def test_before_activation_images_are_needed():
    with pytest.raises(ValueError, match="Expected images, .*'growth_0_1' makes .* Received: none"):
        net2deeper(densenet(), "growth_0_1")
    with pytest.raises(ValueError, match="at least one image. Received: none"):
        net2deeper(densenet(), "growth_0_1", images=images(count=0))


def test_noise_is_on_the_new_kernels_alone():
    model = stack(conv(30, "deep", activation="relu"), *head())
    deeper = net2deeper(model, "deep", noise=0.01, seed=1)
    kernel = deeper.get_layer("deep_deeper").kernel.numpy()
    identity = net2deeper(model, "deep").get_layer("deep_deeper").kernel.numpy()
    assert (kernel - identity).std() == pytest.approx(0.01 * identity.std(), rel=0.1)
    assert 1e-5 < difference(model, deeper) < 0.1
    again = net2deeper(model, "deep", noise=0.01, seed=1).get_layer("deep_deeper").kernel.numpy()
    assert (again == kernel).all()


REFUSED = {
    "no layer": ([conv(5)], "Expected the name of a layer .*'deep'"),
    "another class": ([layers.MaxPooling2D(name="deep")], "'deep' of class MaxPooling2D"),
    "tanh inside": ([conv(5, "deep", activation="tanh")], "changes nothing .*'deep'"),
    "swish": ([conv(5, "deep"), layers.Activation("swish", name="act")], "changes nothing .*'act'"),
    "leaky": ([conv(5, "deep"), layers.LeakyReLU(name="act")], "changes nothing .*'act'"),
    "leaky relu": ([conv(5, "deep"), layers.ReLU(negative_slope=0.1, name="act")], "nothing .*'act'"),
    "softmax": ([conv(5, "deep"), layers.Softmax(name="act")], "changes nothing .*'act'"),
    "relu6 first": ([layers.ReLU(6.0, name="act"), conv(5, "deep")], "changes nothing .*'act'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_deeper_is_named_in_one_line(case):
    parts, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refused:
        net2deeper(stack(*parts), "deep")
    assert "\n" not in str(refused.value)
