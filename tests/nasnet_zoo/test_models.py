import dataclasses
import inspect
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, genotypes

import nasnet_zoo as zoo
from nasnet_zoo.architecture import auxiliary_kernel, plan_cells
from nasnet_zoo.classifier import imagenet_classes
from nasnet_zoo.models import from_architecture
from nasnet_zoo.network import architecture_of
from nasnet_zoo.presets import PRESETS, model_name


def small(genotype=zoo.NASNET_A, **arguments):
    options = {"cells": 2, "filters": 4, "stem": "cifar", "stem_filters": 6, "classes": 5}
    return zoo.NASNet(genotype, **options | arguments)


# Trainable parameters and multiply-adds of the released models: exactly Keras's parameters, and
# the costs that the paper rounds to 564 M and 23.8 B.
EXACT = {
    "nasnet_mobile": (5_289_978, 563_638_816),
    "nasnet_large": (88_753_150, 23_783_414_658),
    "nasnet_a_6_768_cifar": (3_347_498, 545_381_888),
}


@pytest.mark.parametrize("name", EXACT)
def test_costs_of_the_released_models_are_exact(name):
    cost = zoo.architecture_cost(PRESETS[name].architecture, PRESETS[name].classes)
    assert (cost.parameters, cost.mult_adds) == EXACT[name]


# How far the best reading of each row is from the published figures, in percent.
NEAR = {
    "nasnet_a_5_1538": (0.1, 1.1),
    "nasnet_a_7_1920": (1.2, 1.1),
    "nasnet_b_4_1536": (1.0, 1.1),
    "nasnet_c_3_960": (0.1, 0.4),
    "nasnet_a_7_2304_cifar": (1.5, None),
    "nasnet_b_4_1152_cifar": (0.6, None),
    "nasnet_c_4_640_cifar": (1.9, None),
}


@pytest.mark.parametrize("name", NEAR)
def test_costs_of_the_other_rows_are_near_the_published_ones(name):
    preset = PRESETS[name]
    cost = zoo.architecture_cost(preset.architecture, preset.classes)
    parameters, mult_adds = NEAR[name]
    assert 100 * abs(cost.parameters / 1e6 / preset.parameters - 1) <= parameters
    assert (preset.mult_adds is None) == (mult_adds is None)
    if preset.mult_adds and mult_adds:
        assert 100 * abs(cost.mult_adds / 1e6 / preset.mult_adds - 1) <= mult_adds


def _and_slow_trees(names):
    """Names of models as parameters; those of tree cells, of thousands of weights, take their time."""
    kinds = zoo.TreeArchitecture, zoo.CondenseArchitecture
    trees = {n for n, p in PRESETS.items() if isinstance(p.architecture, kinds)}
    return [pytest.param(n, marks=pytest.mark.slow) if n in trees else n for n in names]


@pytest.mark.tensorflow  # what is counted does not depend on the backend
@pytest.mark.parametrize("name", _and_slow_trees(PRESETS))
def test_models_have_the_parameters_that_are_counted(name):
    model = zoo.create_model(name)
    preset = PRESETS[name]
    cost = zoo.architecture_cost(preset.architecture, preset.classes)
    assert model.count_params() == cost.parameters + cost.statistics
    assert model.name == name
    size = preset.architecture.image_size
    assert model.input_shape == (None, size, size, preset.architecture.channels)
    assert model.output_shape == (None, preset.classes)


def test_a_model_of_the_table_takes_other_cells(tmp_path):
    zoo.NASNET_C.save(tmp_path / "mine.json")
    name = "nasnet_a_1_384_fashion_mnist"
    model = zoo.create_model(name, tmp_path / "mine.json")
    own = PRESETS[name].architecture
    cost = zoo.architecture_cost(dataclasses.replace(own, genotype=zoo.NASNET_C), 10)
    assert model.count_params() == cost.parameters + cost.statistics
    assert cost != zoo.architecture_cost(own, 10)


def test_the_named_builders_are_the_models_of_the_table():
    assert zoo.NASNetMobile().count_params() == 5_326_716
    assert zoo.NASNetLarge(include_top=False).count_params() == 88_949_818 - 4032 * 1000 - 1000
    assert zoo.NASNetA_6_768_CIFAR().output_shape == (None, 10)


def test_the_signature_is_that_of_keras_applications():
    theirs = list(inspect.signature(keras.applications.NASNetMobile).parameters)
    ours = list(inspect.signature(zoo.NASNetMobile).parameters)
    assert ours[: len(theirs)] == theirs
    assert "pool_padding" in ours


@pytest.mark.parametrize("name", ["NASNetMobile", "NASNetLarge"])
def test_layout_of_the_released_networks(name):
    plan = plan_cells(
        PRESETS[{"NASNetMobile": "nasnet_mobile", "NASNetLarge": "nasnet_large"}[name]].architecture
    )
    cells = {cell.name: cell for cell in plan.cells}
    assert cells["Stem_Cell_0"].sources == (("Stem_Conv", 0),)
    assert cells["Stem_Cell_1"].sources == (("Stem_Cell_0", 0), ("Stem_Conv", 0))
    assert cells["Stem_Cell_1"].scales == (1, 2)
    n = {"NASNetMobile": 4, "NASNetLarge": 6}[name]
    assert cells["Reduction_Cell_0"].sources == ((f"Cell_{n - 1}", 0), (f"Cell_{n - 2}", 0))
    # With skip_reduction_layer_input (Large), what the reduction cell took as h_{i-1}.
    previous = {"NASNetMobile": f"Cell_{n - 1}", "NASNetLarge": f"Cell_{n - 2}"}[name]
    assert cells[f"Cell_{n}"].sources == (("Reduction_Cell_0", 0), (previous, 0))
    assert cells[f"Cell_{n}"].scales == (1, 2)
    assert [c.depth for c in plan.cells] == list(range(3 * n + 4))


def test_labelled_states_go_to_later_cells():
    plan = plan_cells(PRESETS["nasnet_b_4_1152_cifar"].architecture)
    cells = {cell.name: cell for cell in plan.cells}
    assert cells["Cell_0"].sources == (("Stem_Conv", 0),) * 4
    assert cells["Cell_2"].sources == (("Cell_1", 0), ("Cell_0", 1), ("Stem_Conv", 0), ("Stem_Conv", 0))
    assert cells["Cell_5"].sources == (
        ("Cell_4", 0),
        ("Reduction_Cell_0", 1),
        ("Cell_3", 2),
        ("Cell_2", 3),
    )
    assert cells["Cell_5"].scales == (1, 1, 2, 2)
    assert plan.parts[-1].sources == (("Cell_11", 0), ("Cell_10", 1), ("Cell_9", 2), ("Cell_8", 3))


def test_end_points_have_slims_names_and_cut_features_out():
    model = small()
    points = zoo.end_points(model)
    assert list(points) == [
        *("Stem", "Cell_0", "Cell_1", "Reduction_Cell_0", "Cell_2", "Cell_3"),
        *("Reduction_Cell_1", "Cell_4", "Cell_5", "global_pool", "predictions"),
    ]
    features = keras.Model(model.input, points["Cell_3"])
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    assert features(x).shape == (1, 16, 16, 6 * 8)
    assert zoo.end_points(zoo.NASNetMobile())["Stem"].shape == (None, 28, 28, 88)
    with pytest.raises(ValueError, match="Expected a model of nasnet_zoo. Received: "):
        zoo.end_points(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))


@pytest.mark.parametrize("name", PRESETS)
def test_an_architecture_is_read_off_its_model(name):
    a = PRESETS[name].architecture
    if isinstance(a, zoo.Architecture):
        a = dataclasses.replace(a, cells=2, filters=8, stem_filters=6)
    if isinstance(a, zoo.TreeArchitecture):
        a = a.replace(cells=1)
    if isinstance(a, zoo.CondenseArchitecture):
        a = a.replace(stages=(1, 2), growth=(8, 16), cell_layers=(0, 1))
    with keras.StatelessScope(initialize_variables=False):
        model = from_architecture(a, name="mine")
    found = architecture_of(model)
    assert found.plan() == a.plan()
    expected = dataclasses.replace(
        a,
        genotype=dataclasses.replace(a.genotype, name="mine"),
        image_size=found.image_size,
        dropout=found.dropout,
    )
    assert found == expected
    assert type(a).from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_a_network_is_named_by_what_it_is():
    for name, preset in PRESETS.items():
        assert model_name(preset.architecture) == name
    cifar = PRESETS["nasnet_a_6_768_cifar"].architecture
    # Another size of images or recipe is no other network; other filters, cells and genotypes are.
    assert model_name(dataclasses.replace(cifar, image_size=8, channels=1)) == "nasnet_a_6_768_cifar"
    assert model_name(dataclasses.replace(cifar, filters=12)) == "nasnet_a_6_288_cifar"
    assert model_name(dataclasses.replace(cifar, cells=2)) == "nasnet_a_2_768_cifar"
    winner = dataclasses.replace(zoo.NASNET_C, name="child 7: best")
    assert model_name(dataclasses.replace(cifar, genotype=winner)) == "child_7_best_6_640_cifar"


def test_a_model_that_is_connected_in_another_way_has_no_architecture():
    model = small()
    cut = keras.Model(model.input, model.get_layer("Reduction_Cell_0").output)
    for other in (cut, keras.Model(model.input, model.get_layer("Stem_Conv").output)):
        with pytest.raises(ValueError, match="cells are connected as an Architecture says. Received: "):
            architecture_of(other)


def test_the_auxiliary_head_classifies_the_last_cell_before_the_second_reduction():
    assert auxiliary_kernel(PRESETS["nasnet_mobile"].architecture) == 4
    assert auxiliary_kernel(PRESETS["nasnet_large"].architecture) == 6
    model = small(auxiliary_head=True, input_shape=(None, None, 3))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    predictions, auxiliary = model(x)
    assert predictions.shape == auxiliary.shape == (2, 5)
    np.testing.assert_allclose(np.sum(auxiliary, -1), 1, rtol=1e-5)
    # The last convolution covers the whole 4x4 map of the nominal image size, whatever the input's.
    assert model.get_layer("auxiliary").kernel == 4
    np.testing.assert_allclose(predictions, keras.Model(model.input, model.outputs[0])(x))


@examples(3)
@given(
    genotype=genotypes(max_blocks=2),
    stem=st.sampled_from(["imagenet", "cifar"]),
    skip=st.booleans(),
)
def test_any_genotype_builds_trains_saves_and_loads(tmp_path_factory, genotype, stem, skip):
    model = small(
        genotype, cells=1, stem=stem, skip_reduction_layer_input=skip, input_shape=(None, None, 3)
    )
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(2, 33, 20, 3)).astype("float32")
    assert np.isfinite(model.train_on_batch(x, np.array([0, 3])))
    assert np.all(np.isfinite(model.predict(x, verbose=0)))
    folder = tmp_path_factory.mktemp("model")
    model.save(folder / "model.keras")
    genotype.save(folder / "genotype.json")
    np.testing.assert_allclose(
        keras.models.load_model(folder / "model.keras").predict(x, verbose=0),
        model.predict(x, verbose=0),
        rtol=1e-5,
    )
    rebuilt = small(
        folder / "genotype.json",
        cells=1,
        stem=stem,
        skip_reduction_layer_input=skip,
        input_shape=(33, 20, 3),
    )
    rebuilt.set_weights(model.get_weights())
    np.testing.assert_allclose(
        rebuilt.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-6
    )


def test_saved_in_one_process_and_loaded_in_another(tmp_path):
    model = small(zoo.NASNET_B, drop_path_keep=0.7, drop_path_steps=10)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys, keras, numpy as np, nasnet_zoo\n"
        "folder = sys.argv[1]\n"
        "model = keras.models.load_model(folder + '/model.keras')\n"
        "np.save(folder + '/y.npy', model.predict(np.load(folder + '/x.npy'), verbose=0))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0), rtol=1e-6)


def test_on_jax_tensorflow_is_not_imported():
    program = "import sys, nasnet_zoo; nasnet_zoo.NASNetMobile(); sys.exit('tensorflow' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"KERAS_BACKEND": "jax"}, check=True
    )


def test_input_tensor_and_pooling():
    image = keras.Input((20, 24, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(image)
    model = small(input_tensor=scaled, include_top=False, pooling="avg")
    assert model.inputs[0] is image
    assert model.output_shape == (None, 96)
    assert small(include_top=False, pooling="max").output_shape == (None, 96)
    features = small(include_top=False)
    assert features.input_shape == (None, None, None, 3)
    assert features.output_shape == (None, None, None, 96)


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_shape": (2, 224, 3)},
        {"input_shape": (224, 224)},
        {"input_shape": (224, 224, None)},
        {"pooling": "sum"},
        {"pool_padding": "valid"},
        {"classes": 0},
        {"classes": 2.5},
        {"classes": True},
        {"include_top": 1},
        {"drop_path_keep": float("nan"), "drop_path_steps": 1},
        {"drop_path_keep": 0.5, "drop_path_steps": 0},
        {"drop_path_version": "v4"},
        {"drop_path_keep": 0.0},
        {"drop_path_keep": 0.5},
        {"auxiliary_head": True, "include_top": False},
        {"input_tensor": np.zeros((1, 224, 224, 3))},
        {"weights": "mobilenet"},
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Expected .*Received: "):
        zoo.NASNetMobile(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"cells": 0},
        {"cells": 1.0},
        {"filters": 0},
        {"stem": "mnist"},
        {"image_size": 0},
        {"image_size": 8, "auxiliary_head": True},
        {"dropout": 1.0},
        {"dropout": float("nan")},
    ],
)
def test_architectures_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Expected .*Received: "):
        small(**arguments)
    with pytest.raises(ValueError, match="Received: model='nasnet'"):
        zoo.create_model("nasnet")


def test_preprocessing_scales_to_plus_minus_one():
    x = np.array([0, 127.5, 255], "float32")
    np.testing.assert_allclose(zoo.preprocess_input(x), [-1, 0, 1])


def test_predictions_are_decoded_as_keras_decodes_them(monkeypatch):
    """Keras fetches its names; it is given ours, whose order and spelling the next test fixes."""
    names = {str(k): list(names) for k, names in enumerate(imagenet_classes())}
    monkeypatch.setattr(keras.src.applications.imagenet_utils, "CLASS_INDEX", names)
    predictions = np.random.default_rng(0).uniform(size=(3, 1000)).astype("float32")
    theirs = keras.applications.imagenet_utils.decode_predictions(predictions, top=4)
    assert zoo.decode_predictions(predictions, top=4) == theirs


def test_the_names_are_imagenet_s():
    classes = imagenet_classes()
    assert len(set(classes)) == 1000
    # Classes are numbered by their WordNet ids. Two pairs of classes share a name.
    assert sorted(classes) == list(classes)
    assert len({name for _, name in classes}) == 998
    assert classes[0] == ("n01440764", "tench")
    assert classes[386] == ("n02504458", "African_elephant")
    assert classes[999] == ("n15075141", "toilet_tissue")


@pytest.mark.slow
def test_the_names_are_those_of_keras_hub():
    utils = pytest.importorskip("keras_hub.src.utils.imagenet.imagenet_utils")
    assert dict(enumerate(imagenet_classes())) == utils.IMAGENET_NAMES


@pytest.mark.parametrize(
    ("shape", "top"), [((1000,), 5), ((2, 1001), 5), ((2, 1000), 0), ((2, 1000), 1001)]
)
def test_what_is_no_prediction_of_imagenet_is_refused(shape, top):
    with pytest.raises(ValueError, match="Expected (predictions|top).* Received: "):
        zoo.decode_predictions(np.zeros(shape), top=top)


@pytest.mark.parametrize(
    "field",
    [
        {"bn_momentum": 2},
        {"bn_epsilon": -1},
        {"bn_epsilon": 0},
        {"l2": -1},
        {"l2": float("inf")},
        {"initializer_scale": 0},
    ],
    ids=str,
)
def test_hyperparameters_out_of_range_are_refused(field):
    name = next(iter(field))
    with pytest.raises(ValueError, match=f"Expected {name}: a finite number .* Received: {name}="):
        zoo.Hyperparameters(**field)
