"""Layer-wise networks as models: their counts, compile rules, training, files and exports."""

import keras
import numpy as np
import pytest
from hypothesis import given
from strategies import examples, layerwise_genotypes

import nasnet_zoo as zoo
from nasnet_zoo.architecture import LayerwiseArchitecture, network_graph
from nasnet_zoo.cells import NASLayer
from nasnet_zoo.network import feature_extractor
from nasnet_zoo.presets import PRESETS, model_name

NAME = "nas_v1_cifar"


@pytest.mark.parametrize(
    ("genotype", "parameters"),
    [
        (zoo.NAS_V1, 4_201_630),
        (zoo.NAS_V1.connected("all"), 6_630_910),
        (zoo.NAS_V1.connected("chain"), 809_134),
    ],
    ids=["published", "all", "chain"],
)
def test_parameters_of_the_paper_s_networks_are_exact(genotype, parameters):
    assert zoo.architecture_cost(LayerwiseArchitecture(genotype), 10).parameters == parameters
    model = zoo.create_model(NAME, genotype)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == parameters


def test_the_convolutions_of_v1_take_4_3_g_mult_adds():
    graph = network_graph(PRESETS[NAME].architecture, 10)
    steps = graph.steps([(32, 32, 3)])
    convolutions = [
        primitive.mult_adds(shape, 0)
        for node, _, primitive, shape in steps
        if node.name.startswith("Layer")
    ]
    assert sum(convolutions) == 4_300_664_832
    kernels = [layer.kernel for layer in zoo.NAS_V1.layers]
    weights = sum(
        np.prod(weight.shape)
        for node, _, primitive, shape in graph.steps([(32, 32, 3)])
        for weight in primitive.weights(shape[2], 0)
        if weight.role == "kernel" and node.name != "Logits"
    )
    assert weights == 4_199_868
    assert {kernels[0], kernels[8], kernels[14]} == {(3, 3), (7, 1), (7, 5)}


def test_end_points_are_the_layers():
    model = zoo.NASv1_CIFAR()
    points = zoo.end_points(model)
    assert list(points) == [*(f"Layer_{k}" for k in range(1, 16)), "global_pool", "predictions"]
    features = feature_extractor(model, ["Layer_9", "Layer_14"])
    assert [tensor.shape for tensor in features.outputs] == [(None, 32, 32, 36), (None, 32, 32, 48)]
    with pytest.raises(ValueError, match="Expected one of .* Received: 2"):
        feature_extractor(model, [2])


def layer(*inputs, stride=(1, 1), filters=4):
    return zoo.LayerGenotype((3, 3), filters, inputs, stride)


def built(*layers, **arguments):
    return zoo.NAS(zoo.LayerwiseGenotype("made by hand", layers), classes=5, **arguments)


def joined(model, name):
    """The channels that a layer joins."""
    return sum(tensor.shape[-1] for tensor in keras.tree.flatten(model.get_layer(name).input))


def test_a_layer_without_inputs_reads_the_image():
    model = built(layer(), layer(filters=6), layer(1, 2))
    assert [joined(model, f"Layer_{k}") for k in (1, 2, 3)] == [3, 3, 10]
    assert model.get_layer("global_pool").input.shape == (None, 32, 32, 4)
    assert "Head" not in [layer.name for layer in model.layers]


def test_layers_that_none_reads_are_joined_for_the_classifier():
    model = built(layer(), layer(1, filters=6), layer(1, filters=7))
    assert [tensor.shape[-1] for tensor in model.get_layer("Head").input] == [6, 7]
    assert model.get_layer("global_pool").input.shape == (None, 32, 32, 13)


def test_a_strided_layer_beside_another_is_padded():
    model = built(layer(), layer(1, stride=(2, 2), filters=6), layer(1, 2), input_shape=(9, 9, 3))
    points = zoo.end_points(model)
    assert points["Layer_2"].shape == (None, 5, 5, 6)
    assert points["Layer_3"].shape == (None, 9, 9, 4)
    # Layer 2 is zero outside its 5x5 pixels: layer 3 reads nothing of it there.
    rng = np.random.default_rng(0)
    first = keras.Model(model.input, [points["Layer_1"], points["Layer_2"]])
    one, two = first(rng.normal(size=(1, 9, 9, 3)).astype("float32"))
    third = model.get_layer("Layer_3")
    assert third.merge == "padded_concat"
    whole, alone = (np.asarray(third([one, x])) for x in (two, np.zeros_like(two)))
    assert np.abs(whole - alone)[:, :6, :6].max() > 0
    np.testing.assert_array_equal(whole[:, 6:], alone[:, 6:])
    np.testing.assert_array_equal(whole[:, :, 6:], alone[:, :, 6:])


@examples(4)
@given(genotype=layerwise_genotypes(layers=4))
def test_any_genotype_trains_saves_and_loads(tmp_path_factory, genotype):
    folder = tmp_path_factory.mktemp("model")
    genotype.save(folder / "genotype.json")
    model = zoo.NAS(folder / "genotype.json", input_shape=(None, None, 3), classes=5)
    model.compile(keras.optimizers.SGD(1e-3), "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(2, 13, 10, 3)).astype("float32")
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(x, np.array([0, 3])))
    after = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    expected = model.predict(x, verbose=0)
    assert np.isfinite(expected).all()
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.tensorflow
@examples(5)
@given(genotype=layerwise_genotypes(layers=4))
def test_exported_files_compute_what_keras_does(tmp_path_factory, genotype):
    from nasnet_zoo.export import export

    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(2)
    model = zoo.NAS(genotype, image_size=11, classes=5)
    rng = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, NASLayer):
            layer.set_weights([rng.uniform(0.2, 1, weight.shape) for weight in layer.get_weights()])
    images = rng.uniform(-1, 1, (4, 11, 11, 3)).astype("float32")
    for name in ("model.tflite", "model.onnx"):
        written = export(model, folder / name, images=images, min_agreement=0)
        assert written.difference < 1e-4


@pytest.mark.tensorflow
def test_a_saved_model_computes_what_keras_does(tmp_path):
    from nasnet_zoo.export import export

    model = built(layer(), layer(1, stride=(2, 3), filters=6), layer(1, 2), layer(2))
    images = np.random.default_rng(2).uniform(-1, 1, (4, 32, 32, 3)).astype("float32")
    assert export(model, tmp_path / "saved", images=images, min_agreement=0).difference < 1e-5


def test_what_a_network_without_cells_has_not_is_refused():
    for arguments in (
        {"auxiliary_head": True},
        {"drop_path_keep": 0.9, "drop_path_steps": 10},
        {"pool_padding": "keras"},
    ):
        with pytest.raises(ValueError, match="of a network without .* Received: "):
            zoo.NASv1_CIFAR(**arguments)
    with pytest.raises(ValueError, match="Expected genotype: .*LayerwiseGenotype.* Received: "):
        zoo.create_model(NAME, zoo.NASNET_A)
    with pytest.raises(ValueError, match="Expected genotype: .* Received: "):
        zoo.create_model("nasnet_mobile", zoo.NAS_V1)


def test_weights_of_a_file_are_loaded(tmp_path):
    model = built(layer(), layer(1), name="one")
    model.save_weights(tmp_path / "w.weights.h5")
    again = built(layer(), layer(1), weights=tmp_path / "w.weights.h5")
    for expected, found in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_layerwise_network_is_named_by_what_it_is():
    assert model_name(LayerwiseArchitecture(zoo.NAS_V1, image_size=28, channels=1)) == NAME
    assert model_name(LayerwiseArchitecture(zoo.NAS_V1.connected("chain"))) == "nas_v1_chain_15"


def test_recipes_train_layerwise_presets():
    from nasnet_zoo.training.recipes import ModelSettings

    chain = zoo.NAS_V1.connected("chain")
    assert ModelSettings(NAME, chain, image_size=28).architecture.genotype == chain
    for fields in ({"cells": 3}, {"stem_filters": 8}, {"genotype": zoo.NASNET_A}):
        with pytest.raises(ValueError, match="Expected .* Received: "):
            ModelSettings(NAME, **fields)
