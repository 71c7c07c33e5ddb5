"""Plain networks and DenseNets of unequal miniblocks: their counts, models, files and exports."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import given
from strategies import chain_genotypes, examples

import nasnet_zoo as zoo
from nasnet_zoo.architecture import network_graph
from nasnet_zoo.network import architecture_of, feature_extractor
from nasnet_zoo.presets import model_name

DENSE = zoo.DenseNetGenotype.parse("g4_g6_t_g5_t_g4")


@pytest.mark.parametrize(
    ("genotype", "parameters"), [(zoo.EAS_SMALL, 710), (zoo.EAS_PLAIN, 133_530)], ids=["small", "paper"]
)
def test_parameters_are_those_of_the_start_networks(genotype, parameters):
    architecture = zoo.ChainArchitecture(genotype)
    cost = zoo.architecture_cost(architecture, 10)
    assert cost.parameters == parameters
    model = zoo.ChainNet(genotype, classes=10)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters
    assert model.count_params() == cost.parameters + cost.statistics


def test_a_densenet_of_equal_miniblocks_is_that_of_the_paper():
    genotype = zoo.DenseNetGenotype.parse("_t_".join(["_".join(["g40"] * 31)] * 3))
    assert zoo.architecture_cost(zoo.ChainArchitecture(genotype), 10).parameters == 25_624_430


def test_sizes_halve_at_poolings_and_the_last_is_a_mean():
    shapes = network_graph(zoo.ChainArchitecture(zoo.EAS_SMALL), 10).shapes([(32, 30, 3)])
    assert [shapes[f"Conv_{k}"][:2] for k in (1, 2, 3, 4)] == [(32, 30), (16, 15), (8, 8), (4, 4)]
    assert shapes["Pool_4"] == (1, 1, 4)
    assert shapes["Fc_1"] == (1, 1, 8)
    model = zoo.ChainNet(zoo.EAS_SMALL, classes=10, input_shape=(32, 32, 3))
    inside = keras.Model(model.input, [model.get_layer(name).output for name in ("Conv_4", "Pool_4")])
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    before, after = map(np.asarray, inside(x))
    np.testing.assert_allclose(before.mean((1, 2), keepdims=True), after, rtol=1e-5, atol=1e-6)


def test_a_densenet_has_the_channels_of_its_miniblocks():
    shapes = network_graph(zoo.ChainArchitecture(DENSE), 10).shapes([(8, 8, 3)])
    found = [
        shapes[name][2]
        for name in ("Stem_Conv", "Block_2/output", "Transition_1", "Block_3/output", "Head")
    ]
    assert found == [9, 9 + 4 + 6, 9, 14, 11]
    assert shapes["Block_2/bottleneck"][2] == 24


@pytest.mark.parametrize("genotype", [zoo.EAS_SMALL, DENSE], ids=["plain", "densenet"])
def test_an_architecture_is_read_off_its_model(genotype):
    a = zoo.ChainArchitecture(genotype)
    with keras.StatelessScope(initialize_variables=False):
        model = zoo.models.from_architecture(a, name="mine")
    found = architecture_of(model)
    assert found == a.replace(genotype=dataclasses.replace(genotype, name="mine"))
    assert zoo.ChainArchitecture.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert model_name(found) == f"mine_{len(genotype.layers)}"
    cut = keras.Model(model.input, model.layers[2].output)
    with pytest.raises(
        ValueError, match="that a TreeArchitecture or a CondenseArchitecture describes. Received: "
    ):
        architecture_of(cut)


def test_end_points_are_the_layers():
    model = zoo.ChainNet(zoo.EAS_SMALL, classes=10, input_shape=(16, 16, 3))
    names = [f"{kind}_{k}" for k in (1, 2, 3, 4) for kind in ("Conv", "Pool")]
    assert list(zoo.end_points(model)) == [*names, "Fc_1", "global_pool", "predictions"]
    features = feature_extractor(model, [1, 2, 8, "Conv_2"])
    assert [tensor.shape[1] for tensor in features.outputs] == [16, 8, 2, 8]
    with pytest.raises(ValueError, match=r"Expected one of \[1, 2, 4, 8, 'Conv_1', .* Received: 16"):
        feature_extractor(model, [16])


@examples(2)
@given(genotype=chain_genotypes())
def test_any_genotype_trains_saves_and_loads(tmp_path_factory, genotype):
    folder = tmp_path_factory.mktemp("model")
    genotype.save(folder / "genotype.json")
    model = zoo.ChainNet(folder / "genotype.json", classes=5, input_shape=(None, None, 3))
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(2, 13, 10, 3)).astype("float32")
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(x, np.array([0, 3])))
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    expected = model.predict(x, verbose=0)
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-7)


def test_what_a_chain_has_no_place_for_is_refused():
    with pytest.raises(ValueError, match="without reduction cells. Received: EAS small start"):
        zoo.ChainNet(zoo.EAS_SMALL, classes=10, auxiliary_head=True)
    with pytest.raises(ValueError, match="Expected drop_path_keep=1 of a network without cells"):
        zoo.ChainNet(zoo.EAS_SMALL, classes=10, drop_path_keep=0.9, drop_path_steps=3)


@pytest.mark.tensorflow
@pytest.mark.parametrize("quantization", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("genotype", [zoo.EAS_SMALL, DENSE], ids=["plain", "densenet"])
def test_exported_files_compute_what_keras_does(tmp_path, genotype, quantization):
    from settled import HYPERPARAMETERS, images, settled

    from nasnet_zoo.export import export

    keras.utils.set_random_seed(0)
    shape = {"input_shape": (13, 10, 3), "hyperparameters": HYPERPARAMETERS}
    model = settled(zoo.ChainNet(genotype, classes=5, **shape), (13, 10))
    batch = images(8, (13, 10))
    limits = {"images": batch, "min_agreement": 0}  # the classes of an untrained network
    for name in ("model.tflite", "model.onnx"):
        path = tmp_path / name
        written = export(model, path, quantization=quantization, representative=batch, **limits)
        assert quantization == "int8" or written.difference < 1e-5
    if quantization == "float32":
        assert export(model, tmp_path / "saved", **limits).difference < 1e-5
