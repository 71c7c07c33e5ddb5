"""Layer-wise genotypes, their graphs, and the network of the paper."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, layerwise_genotypes

from nasnet_zoo.cells import NAS_V1, JoinStates, LayerGenotype, LayerwiseGenotype, NASLayer
from nasnet_zoo.cells.layers import run_graph
from nasnet_zoo.cells.primitives import CIFAR, MERGES


def layer(*inputs, stride=(1, 1), filters=4, **fields):
    return LayerGenotype((3, 3), filters, inputs, stride, **fields)


def test_the_published_network_is_that_of_figure_7():
    assert len(NAS_V1.layers) == 15
    assert sum(len(layer.inputs) for layer in NAS_V1.layers) == 65
    assert NAS_V1.loose_ends == (15,)
    assert {layer.stride for layer in NAS_V1.layers} == {(1, 1)}
    channels = [
        sum(NAS_V1.layers[number - 1].filters for number in layer.inputs) or 3
        for layer in NAS_V1.layers
    ]
    assert channels == [3, 36, 84, 120, 72, 168, 216, 132, 168, 324, 336, 240, 360, 180, 276]


def test_the_controls_have_the_same_layers_and_other_connections():
    every, chain = NAS_V1.connected("all"), NAS_V1.connected("chain")
    assert every.layers[3].inputs == (1, 2, 3)
    assert chain.layers[3].inputs == (3,)
    assert every.layers[0].inputs == chain.layers[0].inputs == ()
    for other in (every, chain):
        pairs = zip(other.layers, NAS_V1.layers, strict=True)
        assert all(
            dataclasses.replace(a, inputs=()) == dataclasses.replace(b, inputs=()) for a, b in pairs
        )


@given(genotype=layerwise_genotypes())
def test_json_holds_every_genotype(genotype):
    assert LayerwiseGenotype.from_json(genotype.to_json()) == genotype
    assert LayerwiseGenotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype


FIRST = {"kernel": [3, 3], "filters": 4}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({**FIRST, "inputs": [2]}, r"layers[1].inputs[0]: expected a layer before it, 1 to 1."),
        ({**FIRST, "inputs": [0]}, "layers[1].inputs[0]: expected a layer of at least 1."),
        ({**FIRST, "inputs": [1, 1]}, "layers[1].inputs[1]: expected a layer of at least 2."),
        ({**FIRST, "inputs": ["1"]}, "layers[1].inputs[0]: expected a layer of at least 1."),
        ({**FIRST, "inputs": 1}, "layers[1].inputs: expected a list."),
        ({**FIRST, "kernel": [3]}, "layers[1].kernel: expected a height and a width."),
        ({**FIRST, "kernel": [3, 0]}, "layers[1].kernel[1]: expected an int from 1 to 99."),
        ({**FIRST, "kernel": 3}, "layers[1].kernel: expected a height and a width."),
        ({**FIRST, "stride": [True, 1]}, "layers[1].stride[0]: expected an int from 1 to 99."),
        ({**FIRST, "filters": 0}, "layers[1].filters: expected an int from 1 to 100000."),
        ({**FIRST, "filters": None}, "layers[1].filters: expected an int from 1 to 100000."),
        ({**FIRST, "kind": "max_pool"}, "layers[1].filters: expected 0 of a max_pool."),
        ({**FIRST, "kind": "sum_pool"}, "layers[1].kind: expected one of conv, max_pool, avg_pool."),
        (
            {"kernel": [2, 2], "kind": "avg_pool"},
            "layers[1].kernel: expected odd sizes of an avg_pool.",
        ),
        ({**FIRST, "anchor": [1]}, "layers[1]: expected only the keys"),
        ({"filters": 4}, "layers[1]: expected the key 'kernel'."),
        ([], "layers[1]: expected an object."),
    ],
)
def test_a_broken_genotype_names_the_place(second, message):
    with pytest.raises(ValueError, match=r"Received: ") as error:
        LayerwiseGenotype.from_dict({"name": "broken", "layers": [FIRST, second]})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "genotype: expected an object."),
        ({"layers": []}, "layers: expected from 1 to 1,000 layers."),
        ({"layers": 3}, "layers: expected a list of layers."),
        ({"name": 1, "layers": [FIRST]}, "name: expected a string without control characters."),
        (
            {"layers": [{**FIRST, "inputs": [1]}]},
            "layers[0].inputs[0]: expected no layer before",
        ),
    ],
)
def test_broken_data_names_the_place(data, message):
    with pytest.raises(ValueError, match=r"Received: ") as error:
        LayerwiseGenotype.from_dict(data)
    assert str(error.value).startswith(message)


# === The compile rules ===


def test_outputs_of_other_strides_are_padded_at_the_bottom_and_right():
    small, large = np.ones((1, 2, 3, 1)), np.full((1, 4, 3, 2), 2.0)
    joined = np.asarray(MERGES["padded_concat"]([small, large]))
    assert joined.shape == (1, 4, 3, 3)
    assert joined[0, :, 0, 0].tolist() == [1, 1, 0, 0]
    assert joined[0, :2, :, 0].min() == 1
    assert joined[..., 1:].min() == 2
    assert MERGES["padded_concat"].output_shape([(2, 3, 1), (4, 3, 2)]) == (4, 3, 3)
    assert MERGES["padded_concat"].output_shape([(None, 3, 1), (4, 3, 2)]) == (None, 3, 3)


def test_strides_are_those_of_the_largest_input():
    genotype = LayerwiseGenotype(
        "strides", (layer(stride=(2, 1)), layer(stride=(1, 3)), layer(1, 2, stride=(2, 2)), layer(1, 3))
    )
    assert genotype.strides == ((2, 1), (1, 3), (2, 2), (2, 1))
    assert genotype.merge((1, 2)) == genotype.merge((1, 3)) == "padded_concat"
    assert genotype.merge((1, 4)) == "concat"
    assert genotype.merge((1,)) is None


@given(genotype=layerwise_genotypes(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_sizes_follow_from_strides_at_every_size(genotype, height, width):
    from nasnet_zoo.architecture import LayerwiseArchitecture, layer_name, network_graph

    graph = network_graph(LayerwiseArchitecture(genotype), 5)
    shapes = graph.shapes([(height, width, 3)])
    for number, (down, right) in enumerate(genotype.strides, 1):
        assert shapes[layer_name(number)][:2] == (-(-height // down), -(-width // right))


def test_a_layer_computes_convolution_batch_norm_and_relu_of_what_it_joins():
    keras.utils.set_random_seed(1)
    nas = NASLayer(LayerGenotype((1, 5), 6, (1, 2), (2, 1)), "padded_concat", hyperparameters=CIFAR)
    rng = np.random.default_rng(1)
    first, second = (rng.normal(size=shape).astype("float32") for shape in ((2, 7, 6, 2), (2, 4, 6, 3)))
    found = np.asarray(nas([first, second]))
    joined = np.concatenate([first, np.pad(second, ((0, 0), (0, 3), (0, 0), (0, 0)))], -1)
    kernel, scale, offset, mean, variance = (
        np.asarray(w) for w in nas._primitive_weights[0] + nas._primitive_weights[1]
    )
    assert kernel.shape == (1, 5, 5, 6)
    conv = np.asarray(keras.ops.conv(joined, kernel, (2, 1), "same"))
    expected = np.maximum((conv - mean) / np.sqrt(variance + CIFAR.bn_epsilon) * scale + offset, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.shape == (2, 4, 6, 6) == nas.compute_output_shape([first.shape, second.shape])
    clone = NASLayer.from_config(nas.get_config())
    assert (clone.layer, clone.merge) == (nas.layer, nas.merge)
    assert (
        JoinStates.from_config(JoinStates((1, 1), "padded_concat").get_config()).merge
        == "padded_concat"
    )


@examples(10)
@given(genotype=layerwise_genotypes(layers=4))
def test_every_layer_s_output_has_the_shape_that_is_declared(genotype):
    from nasnet_zoo.architecture import LayerwiseArchitecture, network_graph

    graph = network_graph(LayerwiseArchitecture(genotype), 5)
    rng = np.random.default_rng(0)
    weights = [
        [
            rng.normal(size=weight.shape).astype("float32") ** 2
            for weight in primitive.weights(shape[2], 0)
        ]
        for _, _, primitive, shape in graph.steps([(7, 10, 3)])
    ]
    images = rng.normal(size=(2, 7, 10, 3)).astype("float32")
    (logits,), _ = run_graph(graph, [images], weights, False, CIFAR)
    assert logits.shape == (2, 1, 1, 5)
    assert graph.output_shapes([(7, 10, 3)]) == ((1, 1, 5),)
