import dataclasses
import functools
import json
import zlib

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_fields import SHARED, without

from nasnet_zoo.cells import NAS_V1, NASNET_C, Block, CellGenotype, Genotype
from nasnet_zoo.data import open_dataset
from nasnet_zoo.models import dtype_policy
from nasnet_zoo.training.input import training_batches
from nasnet_zoo.training.recipes import (
    RECIPES,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    RegularizationSettings,
    RunSettings,
    changed,
    flat,
    load_recipe,
    to_dict,
)
from nasnet_zoo.training.schedules import WarmUp, learning_rate
from nasnet_zoo.training.training import build, compile_model, make_optimizer

pytestmark = pytest.mark.tensorflow

CIFAR_STEPS, IMAGENET_STEPS = 50_000 / 32, 1_281_167 / 1_600


def test_the_cifar_recipe_takes_the_released_number_of_steps_on_the_released_network():
    recipe = RECIPES["cifar10"]
    assert recipe.run.epochs * CIFAR_STEPS == 937_500
    a = recipe.model.architecture
    assert (a.cells, a.filters, a.stem_filters, a.image_size) == (6, 32, 96, 32)
    assert recipe.optimizer.clip_norm == 5.0
    assert recipe.regularization == RegularizationSettings(auxiliary_weight=0.4, drop_path_keep=0.6)
    assert RECIPES["cifar10_cutout"] == changed(recipe, augmentation={"cutout": 16})


def test_weight_decay_is_tensorflows_half_sum_of_squares():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 16)).astype("float32")
    decays = {"cifar10": 5e-4, "nas_v1_cifar": 1e-4, "imagenet_mobile": 4e-5, "imagenet_large": 5e-5}
    for name, decay in decays.items():
        regularizer = RECIPES[name].model.architecture.hyperparameters.regularizer()
        assert float(regularizer(kernel)) == pytest.approx(decay * np.sum(kernel**2) / 2, rel=1e-5)


def test_cosine_is_half_a_period_over_all_epochs():
    rate = learning_rate(RECIPES["cifar10"].optimizer, 600, 1000)
    for step, share in ((0, 1.0), (200_000, 0.75), (300_000, 0.5), (400_000, 0.25), (600_000, 0.0)):
        assert float(rate(step)) == pytest.approx(0.025 * share, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "replicas", "rate"), [("imagenet_mobile", 50, 0.04), ("imagenet_large", 100, 0.015)]
)
def test_imagenet_rates_fall_in_steps_of_2_4_epochs(name, replicas, rate):
    recipe = RECIPES[name]
    assert recipe.run.epochs * IMAGENET_STEPS == pytest.approx(250_000, rel=2e-3)
    schedule = learning_rate(recipe.optimizer, recipe.run.epochs, 1000)
    for step, falls in ((0, 0), (2399, 0), (2400, 1), (4799, 1), (4800, 2), (24_000, 10)):
        assert float(schedule(step)) == pytest.approx(rate * replicas * 0.97**falls, rel=1e-5)


def test_the_learning_rate_of_nas_falls_after_half_and_three_quarters_of_the_epochs():
    recipe = RECIPES["nas_v1_cifar"]
    assert recipe.model.architecture.genotype == NAS_V1
    assert (recipe.run.epochs, recipe.run.batch_size, recipe.optimizer.nesterov) == (300, 64, True)
    rate = learning_rate(recipe.optimizer, 300, 782)
    for epoch, expected in (
        (0, 0.1),
        (149.9, 0.1),
        (150, 0.01),
        (224.9, 0.01),
        (225, 1e-3),
        (299, 1e-3),
    ):
        assert float(rate(round(epoch * 782))) == pytest.approx(expected, rel=1e-5)


def test_rmsprop_takes_the_step_of_tensorflow_1():
    """mean square = 0.1 g^2, momentum = 0.9 m + rate * g / sqrt(mean square + 1), by hand."""
    recipe = changed(
        RECIPES["imagenet_mobile"],
        optimizer={"schedule": "cosine", "learning_rate": 0.5, "clip_norm": None},
    )
    weight = keras.Variable([1.0])
    optimizer = make_optimizer(recipe.optimizer, recipe.run, 10**9)
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
    recipe = changed(
        RECIPES["digits"],
        optimizer={
            "kind": "adamw",
            "momentum": 0.8,
            "beta_2": 0.95,
            "weight_decay": 0.3,
            "learning_rate": 0.1,
            "clip_norm": None,
        },
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
    optimizer = make_optimizer(recipe.optimizer, recipe.run, 10**9)
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
    recipe = changed(
        RECIPES["digits"],
        optimizer={"kind": "adamw", "weight_decay": 0.1},
        regularization={"auxiliary_weight": 0.4},
        model={"image_size": 32},
    )
    model = build(recipe, open_dataset("digits"), 10)
    optimizer = make_optimizer(recipe.optimizer, RunSettings(6, 32, precision), 10)
    optimizer.build(model.trainable_variables)
    before = [np.asarray(variable) + 1.0 for variable in model.trainable_variables]
    for variable, value in zip(model.trainable_variables, before, strict=True):
        variable.assign(value)
    optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    for variable, value in zip(model.trainable_variables, before, strict=True):
        share = 1 - recipe.optimizer.learning_rate * 0.1 if len(variable.shape) > 1 else 1.0
        np.testing.assert_allclose(variable, value * share, rtol=1e-6, err_msg=variable.path)


@given(st.integers(0, 99))
def test_warm_up_is_linear_and_then_the_schedule_starts(step):
    rate = learning_rate(OptimizerSettings(0.025, warmup_epochs=2), 10, 10)
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
    assert (recipe.run.batch_size, recipe.optimizer.learning_rate) == (400, 0.5)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_round_trip_through_json(name, tmp_path):
    path = tmp_path / "recipe.json"
    RECIPES[name].save(path)
    assert load_recipe(path) == RECIPES[name]


def test_a_recipe_takes_the_cells_of_a_genotype(tmp_path):
    recipe = changed(RECIPES["digits"], model={"genotype": NASNET_C})
    recipe.save(tmp_path / "recipe.json")
    assert load_recipe(tmp_path / "recipe.json") == recipe
    architecture = RECIPES["digits"].model.architecture
    assert recipe.model.architecture == dataclasses.replace(architecture, genotype=NASNET_C)


RANGES = {
    "model": [
        ({"bn_momentum": 2}, "bn_momentum: a finite number of at least 0 and of at most 1 or none"),
        ({"l2": -1}, "l2: a finite number of at least 0"),
        ({"image_size": 0}, "image_size: an int of at least 1 or none"),
        ({"genotype": "darts"}, "genotype: Genotype or LayerwiseGenotype or .* or none"),
        ({"preset": "resnet"}, "one of nasnet_mobile"),
        ({"filters": 2, "preset": "nasnet_mobile"}, "filters: an int of at least 4 with the ImageNet"),
    ],
    "optimizer": [
        ({"clip_norm": -1}, "clip_norm: a finite number above 0 or none"),
        ({"clip_norm": float("nan")}, "clip_norm: a finite number"),
        ({"decay_epochs": 0}, "decay_epochs: a finite number above 0"),
        ({"rho": 5}, "rho: a finite number of at least 0 and below 1"),
        ({"learning_rate": -1}, "learning_rate: a finite number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate: a finite number"),
        ({"ema": 1}, "ema: a finite number of at least 0 and below 1 or none"),
        ({"beta_2": 1}, "beta_2: a finite number of at least 0 and below 1"),
        ({"kind": "adam"}, "kind: one of sgd, rmsprop, adamw"),
        ({"weight_decay": -1, "kind": "adamw"}, "weight_decay: a finite number of at least 0"),
        ({"weight_decay": 0.1}, "weight_decay=0.0, its default, unless kind is adamw"),
        ({"nesterov": True, "kind": "adamw"}, "nesterov=False, its default, unless kind is sgd"),
        ({"rho": 0.5}, "rho=0.9, its default, unless kind is rmsprop"),
        ({"epsilon": 0.5}, "epsilon=1.0, its default, unless kind is rmsprop"),
        ({"beta_2": 0.5}, "beta_2=0.999, its default, unless kind is adamw"),
        ({"decay_rate": 0.5}, "decay_rate=0.97, its default, unless schedule is exponential"),
        ({"decay_epochs": 1}, "decay_epochs=2.4, its default, unless schedule is exponential"),
    ],
    "run": [
        ({"epochs": 2.5}, "epochs: an int of at least 1"),
        ({"batch_size": "64"}, "batch_size: an int of at least 1"),
        ({"precision": "float8"}, "precision: one of float32, mixed_float16, mixed_bfloat16"),
    ],
    "regularization": [
        ({"drop_path_keep": 0}, "drop_path_keep: a finite number above 0 and of at most 1"),
        ({"drop_path_version": "v4"}, "drop_path_version: one of v1, v2, v3, constant"),
        ({"drop_path_version": "v1", "drop_path_keep": 1.0}, "drop_path_version=v3, its default"),
    ],
    "augmentation": [
        ({"flip": 1}, "flip: true or false"),
        ({"mixup": -0.1}, "mixup: a finite number of at least 0"),
        ({"rand_augment_layers": 11}, "rand_augment_layers: an int of at least 0 and of at most 10"),
        ({"rand_augment_magnitude": 30}, "rand_augment_magnitude: a finite number of at least 0"),
        ({"rand_augment_magnitude": 3}, "rand_augment_magnitude=9.0, its default, unless rand_augm"),
        ({"pad": 2, "crop": "none"}, "pad=4, its default, unless crop is pad"),
    ],
    "evaluation": [
        ({"held_out": 1}, "held_out: a finite number of at least 0 and below 1"),
        ({"keep": "first", "held_out": 0.1}, "keep: one of last, best"),
        ({"patience": 0, "held_out": 0.1}, "patience: an int of at least 1 or none"),
        ({"keep": "best"}, "keep=last, its default, unless held_out is above 0"),
    ],
}


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [(part, changes, message) for part, cases in RANGES.items() for changes, message in cases],
)
def test_values_out_of_range_are_refused(part, changes, message, tmp_path):
    name = next(iter(changes))
    received = "model" if name == "preset" else name
    with pytest.raises(ValueError, match=f"Expected {message}.* Received: .*{received}"):
        changed(RECIPES["digits"], **{part: changes})
    path, data = tmp_path / "recipe.json", to_dict(RECIPES["digits"])
    path.write_text(json.dumps({**data, part: {**data[part], **changes}}))
    expected = (
        rf"^\S*recipe.json: expected a recipe in JSON.* (Expected {part}\.{name}: |{part}: Expected )"
    )
    finite = all(np.isfinite(value) for value in changes.values() if isinstance(value, float))
    with pytest.raises(ValueError, match=expected if finite else "recipe.json: expected a recipe"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"warmup_epochs": 6}}, "optimizer.warmup_epochs below run.epochs"),
        (
            {"augmentation": {"mixup": 0.2}, "run": {"batch_size": 1}},
            "run.batch_size: at least 2 with augmentation.mixup",
        ),
        (
            {"model": {"image_size": 4}, "regularization": {"auxiliary_weight": 0.4}},
            "an image_size whose map at the auxiliary head",
        ),
        ({"run": None}, "run: RunSettings"),
    ],
)
def test_parts_that_do_not_fit_one_another_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"Expected {message}.* Received: "):
        changed(RECIPES["digits"], **changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"model": {"preset": "nasnet_mobile"}, "optimizer": {}, "run": {}}',
            "Expected optimizer.learning_rate: a finite number above 0. Received: .*=None",
        ),
        (
            b'{"model": {"preset": "nasnet_mobile"}, "optimizer": {"learning_rate": 1}}',
            "Expected run: an object of epochs, batch_size, .* Received: None",
        ),
        (
            b'{"model": "nasnet_mobile", "epochs": 1, "batch_size": 1}',
            "Expected a recipe: an object of model, optimizer, run, .* Received: one with 'epochs'",
        ),
        (
            b'{"model": {"preset": "nasnet_mobile", "speed": 3}}',
            "Expected model: an object of preset, .* Received: one with 'speed'",
        ),
        (b"[1]", r"Expected a recipe: an object of model, .* Received: \[1\]"),
        (b"", "Received: nothing"),
        (b"\xff{}", "Received: bytes that are no text"),
        (b"[" * 100_000, "Received: lists nested too deeply"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(content, message, tmp_path):
    path = tmp_path / "recipe.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"recipe.json: expected a recipe in JSON. {message}"):
        load_recipe(path)


def test_unknown_recipes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected cifar10, .* or a .json file. Received: 'imagenet'"):
        load_recipe("imagenet")
    with pytest.raises(FileNotFoundError, match="recipe.json: expected a recipe in JSON"):
        load_recipe(tmp_path / "recipe.json")


# === Effects ===

CELL = CellGenotype((Block((0, 1), ("sep_3x3", "identity")),))
TINY = Recipe(
    ModelSettings(
        "nasnet_a_6_768_cifar",
        Genotype("small", CELL, CELL),
        cells=1,
        filters=4,
        stem_filters=4,
        image_size=16,
    ),
    OptimizerSettings(learning_rate=0.1),
    RunSettings(epochs=3, batch_size=4),
)
#: Changes of every field that make it change what a recipe builds.
BUILT = {
    **SHARED,
    "model.image_size": {"model": {"image_size": 20}},
    "model.width": {
        "model": {
            "preset": "densenet_bc_31_40_cifar",
            "genotype": None,
            "filters": None,
            "stem_filters": None,
            "width": 4,
        }
    },
    "model.group_lasso": {
        "model": {
            "preset": "treecell_b_condensenet_mobile",
            **dict.fromkeys(("genotype", "cells", "filters", "stem_filters")),
            "group_lasso": 0.1,
        }
    },
    "run.epochs": {"run": {"epochs": 4}},
    "run.batch_size": {"run": {"batch_size": 5}},
    "run.steps_per_execution": {"run": {"steps_per_execution": 2}},
    "regularization.label_smoothing": {"regularization": {"label_smoothing": 0.1}},
    "regularization.auxiliary_weight": {"regularization": {"auxiliary_weight": 0.4}},
    "regularization.drop_path_keep": {"regularization": {"drop_path_keep": 0.5}},
    "regularization.drop_path_version": {
        "regularization": {"drop_path_keep": 0.5, "drop_path_version": "v1"}
    },
    "augmentation.crop": {"augmentation": {"crop": "distorted"}},
    "augmentation.pad": {"augmentation": {"crop": "pad", "pad": 8}},
    "augmentation.flip": {"augmentation": {"flip": True}},
    "augmentation.color": {"augmentation": {"color": True}},
    "augmentation.cutout": {"augmentation": {"cutout": 8}},
    "augmentation.mixup": {"augmentation": {"mixup": 0.2}},
    "augmentation.rand_augment_layers": {"augmentation": {"rand_augment_layers": 2}},
    "augmentation.rand_augment_magnitude": {
        "augmentation": {"rand_augment_layers": 2, "rand_augment_magnitude": 3.0}
    },
}
#: Fields that only `train` reads: see its tests.
LOOP = {"model.weights", "evaluation.held_out", "evaluation.keep", "evaluation.patience"}


@functools.cache
def built_by(recipe):
    """The network, what `fit` takes from the compiled model, the learning rates, and two batches."""
    keras.utils.clear_session()  # automatic names start from the same number
    keras.utils.set_random_seed(0)
    source = open_dataset("digits")
    with dtype_policy(recipe.run.precision):
        model = build(recipe, source, 10)
    compile_model(model, recipe, 10)
    compiled = model.get_compile_config()
    del compiled["optimizer"]["config"]["learning_rate"]
    rate = learning_rate(recipe.optimizer, recipe.run.epochs, steps_per_epoch=10)
    rates = [float(rate(step)) for step in range(0, 10 * recipe.run.epochs, 3)]
    batches = list(training_batches(source, recipe).take(2).as_numpy_iterator())
    drawn = [zlib.crc32(array.tobytes()) for batch in batches for array in batch]
    types = [layer.compute_dtype for layer in model.layers]
    return json.dumps([model.get_config(), types, compiled, rates, drawn], default=str)


def test_every_field_of_a_recipe_is_one_of_these():
    assert flat(TINY).keys() == {*BUILT, *LOOP}


def test_equal_recipes_build_the_same():
    assert built_by(TINY) == built_by.__wrapped__(TINY)


def _and_slow(field):
    # The network is the whole one for ImageNet.
    return pytest.param(field, marks=pytest.mark.slow) if field == "model.group_lasso" else field


@pytest.mark.parametrize("field", map(_and_slow, BUILT))
def test_a_field_has_an_effect(field):
    changes = BUILT[field]
    assert built_by(changed(TINY, **changes)) != built_by(changed(TINY, **without(changes, field)))
