"""Networks of tree cells: their counts, layouts, training, files and exports."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, tree_genotypes

import nasnet_zoo as zoo
from nasnet_zoo.architecture import network_graph
from nasnet_zoo.bases import TreeArchitecture
from nasnet_zoo.cells import CIFAR, DenseLayer, PyramidBlock
from nasnet_zoo.network import architecture_of, feature_extractor
from nasnet_zoo.presets import PRESETS, model_name

EXACT = {
    "treecell_a_densenet_6_48_cifar": 3_166_426,
    "treecell_a_densenet_16_48_cifar": 13_125_226,
    "treecell_b_densenet_6_48_cifar": 3_151_306,
    "treecell_a_pyramidnet_18_84_cifar": 5_736_930,
    "treecell_b_pyramidnet_18_84_cifar": 5_601_450,
    "treecell_a_pyramidnet_18_150_cifar": 14_293_302,
    "densenet_bc_31_40_cifar": 25_624_430,
}
WITHOUT_ROOT_NORM = {
    "treecell_a_densenet_6_48_cifar": 3_162_970,
    "treecell_a_densenet_16_48_cifar": 13_116_010,
    "treecell_a_pyramidnet_18_84_cifar": 5_724_330,
    "treecell_a_pyramidnet_18_150_cifar": 14_273_454,
    "densenet_bc_31_40_cifar": 25_624_430,
}


@pytest.mark.parametrize("name", EXACT)
def test_parameters_are_those_of_the_paper_s_networks(name):
    preset = PRESETS[name]
    parameters = zoo.architecture_cost(preset.architecture, 10).parameters
    assert parameters == EXACT[name]
    assert round(parameters / 1e6, 1) == preset.parameters
    if name in WITHOUT_ROOT_NORM:
        bare = preset.architecture.replace(root_norm=False)
        assert zoo.architecture_cost(bare, 10).parameters == WITHOUT_ROOT_NORM[name]


@pytest.mark.parametrize(
    ("alpha", "first", "last"), [(150, (18, 22, 24, 26, 30), 166), (84, (18, 18, 20, 22, 24, 24), 100)]
)
def test_a_pyramid_widens_in_equal_steps_rounded_down_to_the_groups(alpha, first, last):
    architecture = TreeArchitecture(zoo.TREECELL_A, "pyramidnet", 18, alpha)
    blocks = [block for _, block in architecture.blocks() if isinstance(block, PyramidBlock)]
    widths = [block.filters for block in blocks]
    assert len(widths) == 54
    assert tuple(widths[: len(first)]) == first
    assert widths[-1] == last
    assert [k for k, block in enumerate(blocks) if block.stride == 2] == [18, 36]


@pytest.mark.parametrize("base", ["densenet", "pyramidnet"])
@pytest.mark.parametrize("cells", [1, 2])
def test_sizes_halve_between_the_stages_at_every_size(base, cells):
    architecture = TreeArchitecture(zoo.TREECELL_B, base, cells, 12)
    shapes = network_graph(architecture, 10).shapes([(13, 10, 3)])
    heights = {f"Block_{k}": -(-13 // 2 ** ((k - 1) // cells)) for k in range(1, 3 * cells + 1)}
    assert {name: shapes[f"{name}/output"][0] for name in heights} == heights


def test_a_densenet_adds_its_growth_and_halves_in_transitions():
    architecture = TreeArchitecture(zoo.CONV_3X3, "densenet", 3, 7)
    graph = network_graph(architecture, 10)
    shapes = graph.shapes([(8, 8, 3)])
    channels = [shapes[name][2] for name in ("Stem_Conv", "Transition_1", "Transition_2")]
    assert channels == [14, (14 + 21) // 2, ((14 + 21) // 2 + 21) // 2]
    assert shapes["Block_3/output"][2] == 14 + 21
    assert shapes["Block_1/bottleneck"][2] == 4 * 7


def test_a_block_of_a_pyramid_is_added_to_zero_padded_channels():
    block = PyramidBlock(zoo.CONV_3X3.root, 8, 2)
    layer = zoo.cells.BlockLayer(block, hyperparameters=CIFAR)
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 20)).astype("float32")
    layer.build(x.shape)
    # With the last batch norm's scale 0, what is left is the shortcut.
    (last,) = [w for w in layer.weights if w.name == "wide-3-bn_scale"]
    last.assign(np.zeros(32))
    y = np.asarray(layer(x))
    assert y.shape == (2, 3, 4, 32)
    np.testing.assert_array_equal(y[..., 20:], 0)
    np.testing.assert_allclose(y[:, 0, 0, :20], x[:, :2, :2].mean((1, 2)), rtol=1e-5, atol=1e-6)
    # The last column of an odd width is a mean of the two pixels that there are.
    np.testing.assert_allclose(y[:, 0, 3, :20], x[:, :2, 6].mean(1), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Expected at most 32 channels. Received: 40"):
        block.graph((40,))


def small(genotype=zoo.TREECELL_A, base="densenet", **arguments):
    options = {"cells": 1, "width": 8, "classes": 5, "input_shape": (None, None, 3)}
    return zoo.TreeNet(genotype, base, **options | arguments)


@pytest.mark.parametrize("base", ["densenet", "pyramidnet"])
def test_a_model_has_the_parameters_that_are_counted(base):
    architecture = TreeArchitecture(zoo.TREECELL_A, base, 1, 8)
    cost = zoo.architecture_cost(architecture, 5)
    assert small(base=base).count_params() == cost.parameters + cost.statistics


def test_end_points_are_the_blocks():
    model = small(cells=2, input_shape=(16, 16, 3))
    points = zoo.end_points(model)
    assert list(points) == [
        *("Stem_Conv", "Block_1", "Block_2", "Transition_1", "Block_3", "Block_4", "Transition_2"),
        *("Block_5", "Block_6", "Head", "global_pool", "predictions"),
    ]
    features = feature_extractor(model, ["Block_1", 1, 2, 4])
    assert [tensor.shape[1:] for tensor in features.outputs] == [
        (16, 16, 24),
        (16, 16, 32),
        (8, 8, 32),
        (4, 4, 32),
    ]
    pyramid = feature_extractor(small(base="pyramidnet", input_shape=(16, 16, 3)), [1, 2, 4])
    assert [tensor.shape[1] for tensor in pyramid.outputs] == [16, 8, 4]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"base": "pyramidnet", "width": 13},
        {"base": "pyramidnet", "cells": 2, "width": 9, "groups": 4, "average": True},
        {"genotype": zoo.CONV_3X3, "root_norm": False, "groups": 1},
    ],
)
def test_an_architecture_is_read_off_its_model(changes):
    fields = {"genotype": zoo.TREECELL_B, "base": "densenet", "cells": 1, "width": 8}
    a = TreeArchitecture(**fields | changes)
    with keras.StatelessScope(initialize_variables=False):
        model = zoo.models.from_architecture(a, name="mine")
    found = architecture_of(model)
    assert found.plan() == a.plan()
    assert found.genotype == dataclasses.replace(a.genotype, name="mine")
    assert TreeArchitecture.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    cut = keras.Model(model.input, model.get_layer("Block_2").output)
    with pytest.raises(
        ValueError, match="a TreeArchitecture or a CondenseArchitecture describes. Received: "
    ):
        architecture_of(cut)


def test_a_network_of_tree_cells_is_named_by_what_it_is():
    a = PRESETS["treecell_a_pyramidnet_18_84_cifar"].architecture
    assert model_name(a.replace(image_size=8, channels=1)) == "treecell_a_pyramidnet_18_84_cifar"
    assert model_name(a.replace(cells=2, width=9)) == "treecell_a_pyramidnet_2_9"


@examples(2)
@given(genotype=tree_genotypes(), base=st.sampled_from(["densenet", "pyramidnet"]))
def test_any_genotype_trains_saves_and_loads(tmp_path_factory, base, genotype):
    folder = tmp_path_factory.mktemp("model")
    genotype.save(folder / "genotype.json")
    model = small(folder / "genotype.json", base, drop_path_keep=0.9, drop_path_steps=10)
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(2, 13, 10, 3)).astype("float32")
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(x, np.array([0, 3])))
    after = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    expected = model.predict(x, verbose=0)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-7)
    # Weights alone, into a network of the same cells.
    again = small(genotype, base, weights=folder / "model.keras")
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-7)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="without reduction cells. Received: TreeCell-A"):
        small(auxiliary_head=True)
    with pytest.raises(ValueError, match="Expected base: one of densenet, pyramidnet"):
        small(base="resnet")
    with pytest.raises(ValueError, match="Expected at most 16 groups of a PyramidNet.*: groups=32"):
        small(base="pyramidnet", groups=32)
    with pytest.raises(ValueError, match=r"^e\[0\]\[0\]: expected channels that 3 groups divide"):
        small(groups=3)
    with pytest.raises(ValueError, match="Expected genotype: .*TreeGenotype.* Received: "):
        zoo.create_model("densenet_bc_31_40_cifar", zoo.NASNET_A)
    with pytest.raises(ValueError, match="Expected genotype: .* Received: "):
        zoo.create_model("nasnet_mobile", zoo.TREECELL_A)


def test_recipes_train_networks_of_tree_cells():
    from nasnet_zoo.training.recipes import RECIPES, ModelSettings

    name = "treecell_a_densenet_6_48_cifar"
    settings = ModelSettings(name, zoo.TREECELL_B, cells=1, width=8, image_size=16)
    a = settings.architecture
    assert (a.genotype, a.cells, a.width, a.image_size) == (zoo.TREECELL_B, 1, 8, 16)
    for fields in ({"filters": 3}, {"stem_filters": 8}):
        with pytest.raises(ValueError, match=f"Expected no .* with the preset {name}, .* Received: "):
            ModelSettings(name, **fields)
    with pytest.raises(ValueError, match="Expected no width with the preset nasnet_mobile"):
        ModelSettings("nasnet_mobile", width=8)
    found = RECIPES["treecell_cifar10_cutout"].model.architecture
    hyperparameters = dataclasses.replace(CIFAR, l2=5e-5)
    pyramid = PRESETS["treecell_a_pyramidnet_18_84_cifar"].architecture
    assert found == pyramid.replace(hyperparameters=hyperparameters)


@pytest.mark.tensorflow
@pytest.mark.parametrize("quantization", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("base", ["densenet", "pyramidnet"])
def test_exported_files_compute_what_keras_does(tmp_path, base, quantization):
    from settled import HYPERPARAMETERS, images, settled

    from nasnet_zoo.export import export

    keras.utils.set_random_seed(0)
    shape = {"input_shape": (13, 10, 3), "hyperparameters": HYPERPARAMETERS}
    model = settled(small(base=base, **shape), (13, 10))
    batch = images(8, (13, 10))
    limits = {"images": batch, "min_agreement": 0}  # the classes of an untrained network
    for name in ("model.tflite", "model.onnx"):
        path = tmp_path / name
        written = export(model, path, quantization=quantization, representative=batch, **limits)
        assert written.values > 50
        assert quantization == "int8" or written.difference < 1e-5
    if quantization == "float32":
        assert export(model, tmp_path / "saved", **limits).difference < 1e-5


def test_growth_is_what_a_dense_layer_adds():
    layer = DenseLayer(zoo.TREECELL_A.root, 6)
    assert layer.graph((10,)).output_shapes([(8, 8, 10)]) == ((8, 8, 16),)
