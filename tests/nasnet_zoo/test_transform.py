"""Transformed models compute what the models before them computed."""

import keras
import pytest
from keras import layers
from transforms import conv, densenet, difference, head, images, randomised, residual, same, stack

from nasnet_zoo.transform import copy_miniblock, net2wider

pytestmark = pytest.mark.tensorflow


BETWEEN = {
    "nothing": [],
    "norm, relu": [layers.BatchNormalization, layers.ReLU],
    "norm without scale": [lambda: layers.BatchNormalization(scale=False, center=False)],
    "swish, norm": [lambda: layers.Activation("swish"), layers.BatchNormalization],
    "prelu": [lambda: layers.PReLU(shared_axes=(1, 2))],
    "max pool": [lambda: layers.MaxPooling2D(2, 2, "same")],
    "average pool": [lambda: layers.AveragePooling2D(3, 1, "same")],
    "depthwise": [lambda: layers.DepthwiseConv2D(3, 2, "same", activation="relu")],
    "depthwise that multiplies": [lambda: layers.DepthwiseConv2D(3, depth_multiplier=3), layers.ReLU],
    "padding": [lambda: layers.ZeroPadding2D(2), lambda: layers.Dropout(0.5)],
    "upsampling": [lambda: layers.UpSampling2D(2), layers.LeakyReLU, lambda: layers.Cropping2D(1)],
}
LAYERS = {
    "convolution": lambda name, n: conv(n, name),
    "without bias": lambda name, n: conv(n, name, size=1, use_bias=False, activation="relu"),
    "strided": lambda name, n: conv(n, name, strides=2),
    "separable": lambda name, n: layers.SeparableConv2D(n, 3, padding="same", name=name),
    "separable that multiplies": lambda name, n: layers.SeparableConv2D(
        n, 3, depth_multiplier=2, name=name
    ),
    "dense": lambda name, n: layers.Dense(n, "relu", name=name),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_copies_are_followed_to_the_layer_that_takes_them_up(between):
    model = stack(conv(5, "wide"), *[make() for make in BETWEEN[between]], conv(6, "next"), *head())
    wider = net2wider(model, "wide", 9, seed=1)
    assert wider.get_layer("wide").filters == 9
    assert wider.get_layer("next").filters == 6
    assert same(model, wider)


@pytest.mark.parametrize("wide", LAYERS)
@pytest.mark.parametrize("after", LAYERS)
def test_every_layer_is_widened_and_takes_up_copies(wide, after):
    model = stack(LAYERS[wide]("wide", 5), layers.ReLU(), LAYERS[after]("next", 7), *head())
    assert same(model, net2wider(model, "wide", 8, seed=1))


def test_flattened_copies_are_repeated_for_every_pixel():
    model = stack(conv(3, "wide"), layers.Flatten(), layers.Dense(5, "relu"), layers.Dense(4))
    assert same(model, net2wider(model, "wide", 7, seed=1))


def test_dense_layers_are_widened():
    model = stack(layers.Flatten(), layers.Dense(5, "relu", name="wide"), layers.Dense(4, "softmax"))
    wider = net2wider(model, "wide", 11, seed=1)
    assert wider.count_params() == model.count_params() + 6 * (9 * 9 * 3 + 1) + 6 * 4
    assert same(model, wider)


@pytest.mark.parametrize("layer", ["sum_stem", "sum_0", "sum_1", "sum_gate"])
def test_all_terms_of_a_sum_are_widened_with_one_of_them(layer):
    model = residual()
    wider = net2wider(model, layer, 11, seed=1)
    for part in wider.layers:
        if part.name.startswith("sum_"):
            assert part.get_config().get("filters", part.get_config().get("units")) == 11
    assert wider.get_layer("inner_0").filters == 5
    assert same(model, wider)


def test_a_layer_inside_of_a_residual_block_is_widened_alone():
    model = residual()
    wider = net2wider(model, "inner_1", 8, seed=1)
    assert wider.get_layer("sum_1").filters == 6
    assert same(model, wider)


@pytest.mark.parametrize("layer", ["stem", "growth_0_0", "bottleneck_0_1"])
def test_dense_connectivity_extends_the_copies_over_the_concatenations(layer):
    model = densenet()
    wider = net2wider(model, layer, 17, seed=1)
    assert same(model, wider)


def test_a_miniblock_is_widened_by_its_two_layers():
    model = densenet()
    wider = net2wider(net2wider(model, "bottleneck_0_0", 20, seed=1), "growth_0_0", 5, seed=2)
    assert wider.get_layer("bottleneck_0_1").kernel.shape[2] == 7 + 5
    assert same(model, wider)


@pytest.mark.parametrize("layer", ["concat_0_0", "concat_1_1"])
def test_a_miniblock_is_copied_behind_itself(layer):
    model = densenet()
    deeper = copy_miniblock(copy_miniblock(model, layer, seed=1), f"{layer}_copy", seed=2)
    name = layer.removeprefix("concat_")
    norm, kernel = (
        deeper.get_layer(f"norm_{name}_copy"),
        deeper.get_layer(f"bottleneck_{name}_copy").kernel,
    )
    assert norm.gamma.numpy()[-3:].tolist() == norm.moving_variance.numpy()[-3:].tolist() == [1] * 3
    assert norm.beta.numpy()[-3:].tolist() == norm.moving_mean.numpy()[-3:].tolist() == [0] * 3
    assert not kernel.numpy()[..., -3:, :].any()
    assert same(model, deeper)
    assert same(model, net2wider(deeper, f"growth_{name}_copy", 5, seed=3))


def test_what_is_no_miniblock_is_named_in_one_line():
    with pytest.raises(ValueError, match="Expected a Concatenate of .*'add_0' of class Add"):
        copy_miniblock(residual(), "add_0")
    inputs = keras.Input((9, 9, 3))
    x = conv(4)(layers.Concatenate(name="join")([conv(3)(inputs), conv(3)(inputs)]))
    with pytest.raises(ValueError, match="a row of layers.*'join'"):
        copy_miniblock(keras.Model(inputs, x), "join")
    x = layers.Concatenate(name="last")([inputs, conv(3)(inputs)])
    with pytest.raises(ValueError, match="an output of the model, that of 'last'"):
        copy_miniblock(keras.Model(inputs, x), "last")


def test_groups_grow_by_as_much_each():
    model = stack(
        conv(6, "wide"), layers.ReLU(), conv(8, "grouped", groups=2), conv(4, groups=4), *head()
    )
    wider = net2wider(net2wider(model, "wide", 10, seed=1), "grouped", 12, seed=2)
    assert wider.get_layer("grouped").kernel.shape == (3, 3, 5, 12)
    assert same(model, wider)
    with pytest.raises(ValueError, match="multiples of 4. Received: units=10 of layer 'grouped'"):
        net2wider(model, "grouped", 10)


def test_each_choice_of_channels_is_another_and_a_seed_repeats_it():
    model = stack(conv(5, "wide"), *head())

    def kernels(*seeds):
        return [
            net2wider(model, "wide", 30, seed=seed).get_layer("wide").kernel.numpy() for seed in seeds
        ]

    one, other, again = kernels(1, 2, 1)
    assert (one == again).all()
    assert not (one == other).all()
    assert (one[..., :5] == model.get_layer("wide").kernel.numpy()).all()


def test_noise_is_on_the_copies_alone():
    model = stack(conv(50, "wide"), *head())
    plain = net2wider(model, "wide", 90, seed=1)
    noisy = net2wider(model, "wide", 90, noise=0.01, seed=1)
    change = noisy.get_layer("wide").kernel.numpy() - plain.get_layer("wide").kernel.numpy()
    assert (change[..., :50] == 0).all()
    expected = 0.01 * plain.get_layer("wide").kernel.numpy().std()
    assert change[..., 50:].std() == pytest.approx(expected, rel=0.1)
    assert 1e-5 < difference(model, noisy) < 0.1


def test_the_model_before_is_not_changed_and_shares_no_weight():
    model = stack(conv(5, "wide"), layers.BatchNormalization(), *head())
    before = [weight.numpy() for weight in model.weights]
    wider = net2wider(model, "wide", 9)
    for weight in wider.weights:
        weight.assign(weight + 1)
    assert all((old == new.numpy()).all() for old, new in zip(before, model.weights, strict=True))


def test_what_is_not_reached_is_carried_over():
    inputs = keras.Input((9, 9, 3))
    norm = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
    adapted = layers.Normalization()
    adapted.adapt(images(count=20, seed=5))
    nested = keras.Sequential([keras.Input((9, 9, 3)), conv(3), layers.BatchNormalization()])
    shared = conv(3, "shared")
    x = shared(shared(nested(adapted(norm(inputs)))))
    x = keras.ops.concatenate([x, keras.ops.relu(x)], axis=-1)
    x = conv(4)(conv(5, "wide")(x))
    outputs = [layers.GlobalAveragePooling2D()(x), layers.Flatten()(x)]
    model = randomised_but(keras.Model(inputs, outputs[1]), adapted)
    assert same(model, net2wider(model, "wide", 9, seed=1))


def randomised_but(model, layer):
    kept = layer.get_weights()
    randomised(model)
    layer.set_weights(kept)
    layer.finalize_state()
    return model


def two_calls():
    inputs, shared = keras.Input((9, 9, 3)), conv(3, "shared")
    x = conv(3, "before")(inputs)
    return keras.Model(inputs, layers.Dense(2)(shared(shared(x))))


def broken_sum():
    inputs = keras.Input((9, 9, 3))
    x = layers.Add(name="sum")([conv(3, "wide")(inputs), inputs])
    return keras.Model(inputs, layers.Dense(2)(x))


def one_channel():
    inputs = keras.Input((9, 9, 3))
    x = layers.Multiply(name="times")([conv(4)(inputs), conv(1, "wide")(inputs)])
    return keras.Model(inputs, layers.Dense(2)(x))


def different_copies():
    inputs = keras.Input((9, 9, 3))
    x = conv(4, "wide")(inputs)
    twice, once = layers.Concatenate()([x, x]), layers.Concatenate()([x, conv(4)(inputs)])
    return keras.Model(inputs, layers.Dense(2)(layers.Add(name="sum")([twice, once])))


REFUSED = {
    "no layer": (lambda: stack(*head()), "wide", 9, "Expected the name of a layer .*'wide'"),
    "no more": (lambda: stack(conv(9, "wide"), *head()), "wide", 9, "more than the 9 of layer 'wide'"),
    "no outputs": (lambda: stack(layers.ReLU(name="wide")), "wide", 9, "'wide' of class ReLU"),
    "the last layer": (lambda: stack(conv(5, "wide")), "wide", 9, "an output of the model, .*'wide'"),
    "softmax inside": (
        lambda: stack(conv(5, "wide", activation="softmax"), conv(3)),
        *("wide", 9, "'wide' of class Conv2D, with the activation softmax"),
    ),
    "softmax": (
        lambda: stack(conv(5, "wide"), layers.Activation("softmax", name="soft"), conv(3)),
        *("wide", 9, "'soft' of class Activation, with the activation softmax"),
    ),
    "no rule": (
        lambda: stack(conv(5, "wide"), layers.LayerNormalization(name="norm"), conv(3)),
        *("wide", 9, "'norm' of class LayerNormalization"),
    ),
    "another axis": (
        lambda: stack(conv(9, "wide"), layers.BatchNormalization(axis=1, name="norm"), conv(3)),
        *("wide", 19, "'norm' of class BatchNormalization, whose channels are not its last axis"),
    ),
    "called twice": (two_calls, "before", 9, "a layer that is called once. Received: 'shared'"),
    "different copies": (different_copies, "wide", 9, "'sum' .* whose inputs were copied in different"),
    "one channel": (one_channel, "wide", 9, "'times' .* which spreads a single channel over all"),
    "input in a sum": (broken_sum, "wide", 9, "inputs of 'sum' that can all be widened.*InputLayer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_widened_is_named_in_one_line(case):
    make, layer, units, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refused:
        net2wider(make(), layer, units)
    assert "\n" not in str(refused.value)
