"""CondenseNets: counts, what training drops, and what is left of them."""

import itertools
import json

import keras
import numpy as np
import pytest
from settled import HYPERPARAMETERS, images, settled
from transforms import difference, same

import nasnet_zoo as zoo
from nasnet_zoo.bases import CondenseArchitecture
from nasnet_zoo.cells.base_blocks import CondenseHead
from nasnet_zoo.cells.primitives import LearnedGroupConv, MaskChannels
from nasnet_zoo.network import architecture_of, feature_extractor
from nasnet_zoo.presets import PRESETS, model_name
from nasnet_zoo.training.condensing import Condensing, dropped_channels
from nasnet_zoo.transform import condense, net2wider

pytestmark = pytest.mark.tensorflow

SIZE = (8, 8)


def small(**arguments):
    given = {"groups": 2, "stem_stride": 1, "classes": 4, "input_shape": (*SIZE, 3)}
    stages = {"stages": (1, 2), "growth": (8, 8), "cell_layers": (0, 1)}
    return zoo.CondenseNet(zoo.TREECELL_B, **stages | given | arguments)


def trained(epochs=2, pauses=()):
    keras.utils.set_random_seed(0)
    model = small(hyperparameters=HYPERPARAMETERS)
    model.compile(keras.optimizers.SGD(1e-2), "sparse_categorical_crossentropy")
    options = {"batch_size": 2, "epochs": epochs, "shuffle": False, "verbose": 0}
    for first, last in itertools.pairwise((0, *pauses, epochs)):

        def stop(epoch, logs, last=last):
            model.stop_training = epoch + 1 == last

        callbacks = [Condensing(), keras.callbacks.LambdaCallback(on_epoch_end=stop)]
        x, y = images(12, SIZE), np.arange(12) % 4
        model.fit(x, y, initial_epoch=first, callbacks=callbacks, **options)
    return settled(model, SIZE)


@pytest.fixture(scope="module")
def model():
    return trained()


def masks(model):
    return {w.path: np.asarray(w) for w in model.weights if w.name.endswith("mask")}


# === Counts ===


@pytest.mark.parametrize(
    ("tree", "cells", "mult_adds"),
    [
        (zoo.TREECELL_B, (0, 0, 6, 7, 6), 594_212_672),
        (zoo.TREECELL_A, (0, 0, 5, 7, 6), 588_116_288),
        (zoo.TREECELL_A, (0, 0, 6, 7, 6), 600_723_008),
    ],
)
def test_multiply_adds_are_the_paper_s(tree, cells, mult_adds):
    a = CondenseArchitecture(tree, cell_layers=cells)
    assert zoo.architecture_cost(a.replace(condensed=True)).mult_adds == mult_adds
    # Before, the classifier reads all 2,064 features.
    assert zoo.architecture_cost(a).mult_adds == mult_adds + 1000 * 2064 // 2


def test_presets_are_the_paper_s():
    for name, cells in (("a", (0, 0, 5, 7, 6)), ("b", (0, 0, 6, 7, 6))):
        preset = PRESETS[f"treecell_{name}_condensenet_mobile"]
        assert preset.architecture.cell_layers == cells
        condensed = preset.architecture.replace(condensed=True)
        assert round(zoo.architecture_cost(condensed).mult_adds / 1e6) == preset.mult_adds
        assert model_name(preset.architecture.replace(image_size=32)) in PRESETS
    plain = CondenseArchitecture(zoo.GROUPED_CONV_3X3, cell_layers=(0,) * 5, groups=4, condensed=True)
    assert zoo.architecture_cost(plain).mult_adds == 516_640_576


def test_a_model_has_the_parameters_that_are_counted(model):
    for found in (model, condense(model)):
        cost = zoo.architecture_cost(architecture_of(found), 4, 8)
        assert found.count_params() == cost.parameters + cost.statistics


def test_states_have_the_strides_of_their_stages():
    model = small(stem_stride=2, input_shape=(16, 16, 3))
    shapes = [tensor.shape[1:] for tensor in feature_extractor(model, [2, 4]).outputs]
    assert shapes == [(8, 8, 24), (4, 4, 40)]


# === Training ===


@pytest.mark.parametrize("progress", [0, 0.16, 1 / 6, 0.33, 1 / 3, 0.49, 0.5, 0.99])
def test_channels_are_dropped_in_the_first_half_of_training(progress):
    parts = sum(progress >= bound for bound in (1 / 6, 1 / 3, 1 / 2))
    assert dropped_channels(LearnedGroupConv(8, 2, 4), 20, progress) == 5 * parts
    assert dropped_channels(MaskChannels(), 9, progress) == (5 if progress >= 0.5 else 0)


def test_training_condenses_every_group(model):
    found = masks(model)
    assert len(found) == 4
    for path, mask in found.items():
        share = 4 if "Block" in path else 2
        np.testing.assert_array_equal(mask.sum(0), len(mask) // share)


@pytest.mark.slow
def test_training_that_goes_on_drops_the_same_channels():
    expected, found = masks(trained(4)), masks(trained(4, pauses=(1, 3)))
    assert all((found[path] == mask).all() for path, mask in expected.items())


@pytest.mark.slow
def test_recipes_condense(tmp_path, monkeypatch):
    from nasnet_zoo.presets import Preset
    from nasnet_zoo.training import ModelSettings, OptimizerSettings, Recipe, RunSettings, train

    a = CondenseArchitecture(zoo.TREECELL_B, (1, 1), (8, 8), (0, 1), stem_stride=1, image_size=16)
    monkeypatch.setitem(PRESETS, "small", Preset("Small", a.replace(channels=1), 10, None, None, ""))
    settings = ModelSettings("small", l2=1e-4, group_lasso=1e-4)
    assert settings.architecture.hyperparameters.group_lasso == 1e-4
    recipe = Recipe(settings, OptimizerSettings(0.05), RunSettings(epochs=2, batch_size=64))
    model = train(recipe, "digits", tmp_path / "run", verbose=0)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 1)).astype("float32")
    assert same(model, condense(model), x)
    with pytest.raises(ValueError, match="no group_lasso with the preset nasnet_mobile, whose network"):
        ModelSettings("nasnet_mobile", group_lasso=1e-4)


# === What is left ===


def test_what_is_left_computes_the_same(model, tmp_path):
    left = condense(model)
    assert not masks(left)
    assert (
        left.get_layer("predictions").kernel.shape[0] * 2
        == model.get_layer("predictions").kernel.shape[0]
    )
    assert same(model, left, images(4, SIZE))
    a = architecture_of(left)
    assert a == architecture_of(model).replace(condensed=True)
    assert CondenseArchitecture.from_dict(json.loads(json.dumps(a.to_dict()))) == a
    left.save(tmp_path / "left.keras")
    loaded = keras.models.load_model(tmp_path / "left.keras")
    assert difference(left, loaded, images(4, SIZE)) < 1e-6
    loaded.compile("sgd", "sparse_categorical_crossentropy")
    before = [np.asarray(w) for w in loaded.weights if w.name.endswith("index")]
    assert np.isfinite(loaded.train_on_batch(images(4, SIZE), np.arange(4)))
    after = [np.asarray(w) for w in loaded.weights if w.name.endswith("index")]
    assert len(before) == 4
    assert all((one == two).all() for one, two in zip(before, after, strict=True))


def test_a_command_condenses(model, tmp_path, capsys):
    from nasnet_zoo.cli import main

    model.save(tmp_path / "whole.keras")
    files = str(tmp_path / "whole.keras"), str(tmp_path / "left.keras")
    assert main(["transform", files[0], "--condense", "--out", files[1]]) == 0
    left = keras.models.load_model(files[1])
    assert (
        f"{left.count_params():,} parameters, {model.count_params():,} before"
        in capsys.readouterr().out
    )
    assert same(model, left, images(4, SIZE))


def test_an_architecture_is_read_off_a_plain_condensenet():
    a = CondenseArchitecture(zoo.GROUPED_CONV_3X3, (1, 1), (8, 16), (0, 0), stem_stride=1)
    with keras.StatelessScope(initialize_variables=False):
        model = zoo.models.from_architecture(a, name="plain")
    assert architecture_of(model).plan() == a.plan()
    assert model_name(a) == "grouped_3x3_convolution_condensenet_2"


@pytest.mark.parametrize("quantization", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("left", [False, True])
def test_exported_files_have_what_is_left(tmp_path, model, left, quantization):
    from nasnet_zoo.export import export
    from nasnet_zoo.export.from_keras import inference_graph

    exported = condense(model) if left else model
    kinds = [op.kind for op in inference_graph(exported).ops]
    assert kinds.count("select") == 3 * 2 + left
    batch = images(8, SIZE)
    limits = {"images": batch, "min_agreement": 0}
    for name in ("model.tflite", "model.onnx"):
        options = {"quantization": quantization, "representative": batch}
        written = export(exported, tmp_path / name, **options, **limits)
        assert written.values > 30
        assert quantization == "int8" or written.difference < 1e-5
    if quantization == "float32":
        assert export(exported, tmp_path / "saved", **limits).difference < 1e-5


def test_files_before_the_end_are_whole_convolutions(tmp_path):
    from nasnet_zoo.export import export
    from nasnet_zoo.export.from_keras import inference_graph

    model = settled(small(hyperparameters=HYPERPARAMETERS), SIZE)
    assert "select" not in [op.kind for op in inference_graph(model).ops]
    written = export(model, tmp_path / "model.onnx", images=images(8, SIZE), min_agreement=0)
    assert written.difference < 1e-5


def test_what_does_not_fit_is_named_in_one_line(model):
    with pytest.raises(ValueError, match="whose Block_1 reads 4 channels in a group. Received: 16"):
        condense(small())
    with pytest.raises(
        ValueError, match="Expected a CondenseNet before it is condensed. Received: 'cond"
    ):
        condense(condense(model))
    with pytest.raises(ValueError, match="'Block_1' of class BlockLayer, which would make other"):
        net2wider(model, "Block_1", 16)
    with pytest.raises(ValueError, match="at most as many as layers. Received: stages="):
        CondenseArchitecture(zoo.TREECELL_A, (1, 2), (8, 8), (2, 0))
    with pytest.raises(ValueError, match="Expected channels that 5 divides.* Received: channels=16"):
        CondenseArchitecture(zoo.TREECELL_A, (1,), (8,), (1,), condense=5)
    with pytest.raises(ValueError, match=r"channels that 8 groups divide"):
        CondenseArchitecture(zoo.TREECELL_A, (1,), (4,), (1,))
    assert CondenseHead().graph((9,)).output_shapes([(1, 1, 9)]) == ((1, 1, 9),)
