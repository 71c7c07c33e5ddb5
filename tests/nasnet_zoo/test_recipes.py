import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_zoo.cells import NASNET_C
from nasnet_zoo.fields import with_fields
from nasnet_zoo.training.recipes import RECIPES, Recipe, load_recipe
from nasnet_zoo.training.schedules import WarmUp, learning_rate
from nasnet_zoo.training.sources import open_source
from nasnet_zoo.training.train import build, make_optimizer

pytestmark = pytest.mark.tensorflow

CIFAR_STEPS, IMAGENET_STEPS = 50_000 / 32, 1_281_167 / 1_600


def test_the_cifar_recipe_takes_the_released_number_of_steps_on_the_released_network():
    recipe = RECIPES["cifar10"]
    assert recipe.epochs * CIFAR_STEPS == 937_500
    a = recipe.architecture
    assert (a.cells, a.filters, a.stem_filters, a.image_size) == (6, 32, 96, 32)
    assert (recipe.clip_norm, recipe.auxiliary_weight, recipe.drop_path_keep) == (5.0, 0.4, 0.6)
    assert RECIPES["cifar10_cutout"] == dataclasses.replace(recipe, cutout=16)


def test_weight_decay_is_tensorflows_half_sum_of_squares():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 16)).astype("float32")
    for name, decay in (("cifar10", 5e-4), ("imagenet_mobile", 4e-5), ("imagenet_large", 5e-5)):
        regularizer = RECIPES[name].architecture.hyperparameters.regularizer()
        assert float(regularizer(kernel)) == pytest.approx(decay * np.sum(kernel**2) / 2, rel=1e-5)


def test_cosine_is_half_a_period_over_all_epochs():
    rate = learning_rate(RECIPES["cifar10"], 1000)
    for step, share in ((0, 1.0), (200_000, 0.75), (300_000, 0.5), (400_000, 0.25), (600_000, 0.0)):
        assert float(rate(step)) == pytest.approx(0.025 * share, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "replicas", "rate"), [("imagenet_mobile", 50, 0.04), ("imagenet_large", 100, 0.015)]
)
def test_imagenet_rates_fall_in_steps_of_2_4_epochs(name, replicas, rate):
    recipe = RECIPES[name]
    assert recipe.epochs * IMAGENET_STEPS == pytest.approx(250_000, rel=2e-3)
    schedule = learning_rate(recipe, 1000)
    for step, falls in ((0, 0), (2399, 0), (2400, 1), (4799, 1), (4800, 2), (24_000, 10)):
        assert float(schedule(step)) == pytest.approx(rate * replicas * 0.97**falls, rel=1e-5)


def test_rmsprop_takes_the_step_of_tensorflow_1():
    """mean square = 0.1 g^2, momentum = 0.9 m + rate * g / sqrt(mean square + 1), by hand."""
    recipe = dataclasses.replace(
        RECIPES["imagenet_mobile"], schedule="cosine", learning_rate=0.5, clip_norm=None
    )
    weight = keras.Variable([1.0])
    optimizer = make_optimizer(recipe, 10**9)
    optimizer.build([weight])
    optimizer.apply([keras.ops.array([3.0])])
    first = 0.5 * 3.0 / np.sqrt(0.1 * 9.0 + 1.0)
    assert float(weight[0]) == pytest.approx(1.0 - first, rel=1e-5)
    optimizer.apply([keras.ops.array([-1.0])])
    mean_square = 0.9 * 0.9 + 0.1
    second = 0.9 * first - 0.5 / np.sqrt(mean_square + 1.0)
    assert float(weight[0]) == pytest.approx(1.0 - first - second, rel=1e-5)


def test_adamw_takes_the_papers_step_and_decays_kernels_only():
    """Algorithm 2 of arXiv 1711.05101 in NumPy, with the schedule's multiplier in the decay."""
    recipe = dataclasses.replace(
        RECIPES["digits"],
        optimizer="adamw",
        momentum=0.8,
        beta_2=0.95,
        weight_decay=0.3,
        learning_rate=0.1,
        clip_norm=None,
    )
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=3), rng.normal(size=(5, 3))
    for name in ("sequence-0-kernel", "block_0_left-2-depthwise_kernel"):
        decayed = _optimized(recipe, name, start, gradients)
        np.testing.assert_allclose(decayed, _adamw(start, gradients, decay=0.3), rtol=1e-5)
    plain = _adamw(start, gradients, decay=0.0)
    assert np.abs(plain - decayed).min() > 1e-3
    for name in ("sequence-1-bn_scale", "block_0_left-3-bn_offset", "bias", "sequence-9-bias"):
        np.testing.assert_allclose(_optimized(recipe, name, start, gradients), plain, rtol=1e-5)


def _optimized(recipe, name, start, gradients):
    weight = keras.Variable(start.astype("float32"), name=name)
    optimizer = make_optimizer(recipe, 10**9)
    optimizer.build([weight])
    for gradient in gradients.astype("float32"):
        optimizer.apply([keras.ops.array(gradient)])
    return np.asarray(weight)


def _adamw(weight, gradients, decay, rate=0.1, beta_1=0.8, beta_2=0.95):
    mean, square = np.zeros(3), np.zeros(3)
    for step, gradient in enumerate(gradients, 1):
        weight = weight - rate * decay * weight
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * gradient**2
        corrected = mean / (1 - beta_1**step), square / (1 - beta_2**step)
        weight = weight - rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    return weight


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_adamw_decays_the_weights_of_a_network_that_have_more_than_one_dimension(precision):
    recipe = dataclasses.replace(
        RECIPES["digits"], optimizer="adamw", weight_decay=0.1, auxiliary_weight=0.4, image_size=32
    )
    model = build(recipe, open_source("digits"), 10)
    optimizer = make_optimizer(dataclasses.replace(recipe, precision=precision), 10)
    optimizer.build(model.trainable_variables)
    before = [np.asarray(variable) + 1.0 for variable in model.trainable_variables]
    for variable, value in zip(model.trainable_variables, before, strict=True):
        variable.assign(value)
    optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        share = 1 - recipe.learning_rate * 0.1 if len(variable.shape) > 1 else 1.0
        np.testing.assert_allclose(variable, value * share, rtol=1e-6, err_msg=variable.path)


@given(st.integers(0, 99))
def test_warm_up_is_linear_and_then_the_schedule_starts(step):
    recipe = dataclasses.replace(RECIPES["cifar10"], epochs=10, warmup_epochs=2)
    rate = learning_rate(recipe, 10)
    if step < 20:
        assert float(rate(step)) == pytest.approx(0.025 * step / 20, abs=1e-8)
    else:
        expected = 0.025 * (1 + np.cos(np.pi * (step - 20) / 80)) / 2
        assert float(rate(step)) == pytest.approx(expected, abs=1e-7)


def test_a_warm_up_is_serialised_whole():
    rate = WarmUp(keras.optimizers.schedules.CosineDecay(0.5, 10), 4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    assert [float(again(k)) for k in range(14)] == [float(rate(k)) for k in range(14)]


def test_another_batch_size_scales_the_rate():
    recipe = RECIPES["imagenet_mobile"].with_batch_size(400)
    assert (recipe.batch_size, recipe.learning_rate) == (400, 0.5)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_round_trip_through_json(name, tmp_path):
    path = tmp_path / "recipe.json"
    RECIPES[name].save(path)
    assert load_recipe(path) == RECIPES[name]


def test_fields_are_read_from_text():
    pairs = ["epochs=3", "clip_norm=none", "flip=false", "ema=0.5", "model=nasnet_mobile"]
    recipe = with_fields(RECIPES["cifar10"], pairs)
    assert recipe == dataclasses.replace(
        RECIPES["cifar10"], epochs=3, clip_norm=None, flip=False, ema=0.5, model="nasnet_mobile"
    )


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("epochs=x", "Expected epochs: an int.*. Received: 'x'"),
        ("flip=yes", "Expected flip: true or false. Received: 'yes'"),
        ("epoch=1", "a field of model, .* Received: 'epoch=1'"),
        ("epochs=0", "Expected epochs: an int of at least 1. Received: '0'"),
        ("crop=centre", "Expected crop: one of none, pad, distorted. Received: 'centre'"),
        ("label_smoothing=1", "at least 0 and below 1. Received: '1'"),
        ("learning_rate=nan", "Expected learning_rate: a finite number.*. Received: 'nan'"),
        ("model=resnet", "Expected one of nasnet_mobile, .* Received: model='resnet'"),
    ],
)
def test_wrong_fields_are_refused(pair, message):
    with pytest.raises(ValueError, match=message):
        with_fields(RECIPES["cifar10"], [pair])


def test_a_recipe_takes_the_cells_of_a_genotype(tmp_path):
    recipe = dataclasses.replace(RECIPES["digits"], genotype=NASNET_C)
    recipe.save(tmp_path / "recipe.json")
    assert load_recipe(tmp_path / "recipe.json") == recipe
    architecture = RECIPES["digits"].architecture
    assert recipe.architecture == dataclasses.replace(architecture, genotype=NASNET_C)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bn_momentum": 2}, "bn_momentum: a finite number of at least 0 and of at most 1 or none"),
        ({"l2": -1}, "l2: a finite number of at least 0"),
        ({"clip_norm": -1}, "clip_norm: a finite number above 0 or none"),
        ({"clip_norm": float("nan")}, "clip_norm: a finite number"),
        ({"decay_epochs": 0}, "decay_epochs: a finite number above 0"),
        ({"rho": 5}, "rho: a finite number of at least 0 and below 1"),
        ({"image_size": 0}, "image_size: an int of at least 1 or none"),
        ({"learning_rate": -1}, "learning_rate: a finite number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate: a finite number"),
        ({"epochs": 2.5}, "epochs: an int of at least 1"),
        ({"batch_size": "64"}, "batch_size: an int of at least 1"),
        ({"flip": 1}, "flip: true or false"),
        ({"drop_path_keep": 0}, "drop_path_keep: a finite number above 0 and of at most 1"),
        ({"drop_path_version": "v4"}, "drop_path_version: one of v1, v2, v3, constant"),
        ({"precision": "float8"}, "precision: one of float32, mixed_float16, mixed_bfloat16"),
        ({"ema": 1}, "ema: a finite number of at least 0 and below 1 or none"),
        ({"genotype": "darts"}, "genotype: Genotype or none"),
        ({"weight_decay": 0.1}, "weight_decay=0 with another optimizer than adamw"),
        ({"weight_decay": -1, "optimizer": "adamw"}, "weight_decay: a finite number of at least 0"),
        ({"beta_2": 1}, "beta_2: a finite number of at least 0 and below 1"),
        ({"optimizer": "adam"}, "optimizer: one of sgd, rmsprop, adamw"),
        ({"held_out": 1}, "held_out: a finite number of at least 0 and below 1"),
        ({"keep": "first", "held_out": 0.1}, "keep: one of last, best"),
        ({"patience": 0, "held_out": 0.1}, "patience: an int of at least 1 or none"),
        ({"keep": "best"}, "held_out above 0 with keep='best' or patience"),
        ({"mixup": -0.1}, "mixup: a finite number of at least 0"),
        ({"mixup": 0.2, "batch_size": 1}, "a batch_size of at least 2 with mixup"),
        ({"rand_augment_layers": 11}, "rand_augment_layers: an int of at least 0 and of at most 10"),
        (
            {"rand_augment_magnitude": 30},
            "rand_augment_magnitude: a finite number of at least 0 and of",
        ),
        ({"warmup_epochs": 6}, "warmup_epochs below epochs"),
        ({"filters": 2, "model": "nasnet_mobile"}, "filters: an int of at least 4 with the ImageNet"),
        ({"image_size": 4, "auxiliary_weight": 0.4}, "an image_size whose map at the auxiliary head"),
    ],
)
def test_values_out_of_range_are_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=f"Expected {message}.* Received: .*{next(iter(changes))}"):
        dataclasses.replace(RECIPES["digits"], **changes)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**RECIPES["digits"].to_dict(), **changes}))
    with pytest.raises(ValueError, match=r"^\S*recipe.json: expected a recipe in JSON"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b'{"model": "nasnet_mobile", "epochs": 1, "batch_size": 1}', "one without learning_rate"),
        (b"", "nothing"),
        (b"[1]", "no object with fields"),
        (b"\xff{}", "bytes that are no text"),
        (b"[" * 100_000, "lists nested too deeply"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(content, received, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=f"recipe.json: expected a recipe in JSON. Received: {received}"
    ):
        load_recipe(path)


def test_unknown_recipes_and_fields_are_refused(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({**RECIPES["digits"].to_dict(), "speed": 3}))
    with pytest.raises(ValueError, match="Received: one with the unknown field 'speed'"):
        load_recipe(path)
    with pytest.raises(ValueError, match="Expected cifar10, .* or a .json file. Received: 'imagenet'"):
        load_recipe("imagenet")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="recipe.json: expected a recipe in JSON"):
        load_recipe(path)


def test_a_recipe_is_plain_data():
    assert all(
        isinstance(value, (int, float, str, bool, type(None)))
        for recipe in RECIPES.values()
        for value in recipe.to_dict().values()
    )
    assert isinstance(RECIPES["digits"], Recipe)
