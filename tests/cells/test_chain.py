"""Chains of layers as genotypes: their tokens, what they refuse, and their pictures."""

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from strategies import chain_genotypes

from nasnet_zoo.cells import (
    EAS_PLAIN,
    EAS_SMALL,
    ChainGenotype,
    ChainLayer,
    DenseNetGenotype,
    PlainGenotype,
)
from nasnet_zoo.cells.chain import read_blocks
from nasnet_zoo.cells.draw_chain import chain_svg
from nasnet_zoo.cells.networks import network_genotype


def test_tokens_are_those_of_the_paper():
    assert EAS_SMALL.text == "conv-4-3_pool_conv-4-3_pool_conv-4-3_pool_conv-4-3_pool_fc-8"
    assert EAS_SMALL.layers[0] == ChainLayer("conv", 4, 3)
    assert EAS_SMALL.layers[-1] == ChainLayer("fc", 8)
    assert EAS_SMALL.parted == ((0,), (2,), (4,), (6,), (8,))
    dense = DenseNetGenotype.parse("g4_g6_t_g8")
    assert dense.layers == tuple(ChainLayer(*layer) for layer in [("g", 4), ("g", 6), ("t",), ("g", 8)])
    assert dense.parted == ((0, 1), (3,))


@given(genotype=chain_genotypes())
def test_json_tokens_and_blocks_hold_every_genotype(genotype):
    assert ChainGenotype.from_json(genotype.to_json()) == genotype
    assert network_genotype(json.loads(json.dumps(genotype.to_dict()))) == genotype
    assert read_blocks(genotype.name, [block for _, block in genotype.blocks()]) == genotype
    names = [name for name, _ in genotype.blocks()]
    assert len(set(names)) == len(names)
    wide = genotype.grown(genotype.layers)
    assert wide.grown(wide.layers) == wide


def test_a_densenet_is_twice_its_mean_growth_wide_and_halves():
    dense = DenseNetGenotype.parse("g4_g6_t_g8_t_g5")
    # The mean is 5.75.
    assert (dense.stem, dense.transitions) == (11, ((11 + 4 + 6) // 2, (10 + 8) // 2))
    narrow = DenseNetGenotype("narrow", dense.layers, stem=4)
    assert (narrow.stem, narrow.transitions) == (4, (7, 7))


def test_stem_and_transitions_of_a_grown_densenet_never_become_narrower():
    dense = DenseNetGenotype.parse("g4_g12_t_g12")
    assert (dense.stem, dense.transitions) == (18, (17,))
    copied = dense.grown(DenseNetGenotype.parse("g4_g4_g4_g12_t_g12").layers)
    assert (copied.stem, copied.transitions) == (18, (21,))  # the mean is 7.2
    wider = dense.grown(DenseNetGenotype.parse("g12_g12_t_g16").layers)
    assert (wider.stem, wider.transitions) == (26, (25,))
    kept = DenseNetGenotype("kept", dense.layers, 40, (50,))
    assert kept.grown(wider.layers) == DenseNetGenotype("kept", wider.layers, 40, (50,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "layers[0]: expected conv-F-K, pool, fc-U, gK or t. Received: ''"),
        ("conv-4-3_pol", "layers[1]: expected conv-F-K, pool, fc-U, gK or t. Received: 'pol'"),
        ("conv-4", "layers[0]: expected conv-F-K"),
        ("conv-0-3_pool", "layers[0].units: expected an int from 1 to 100000. Received: 0"),
        ("conv-4-100_pool", "layers[0].kernel: expected an int from 1 to 99. Received: 100"),
        ("fc-8", "layers[0]: expected conv. Received: 'fc'"),
        ("pool", "layers[0]: expected conv. Received: 'pool'"),
        ("conv-4-3_fc-8", "layers[1]: expected conv or pool. Received: 'fc'"),
        ("conv-4-3", "layers[1]: expected conv or pool. Received: 'the end'"),
        ("conv-4-3_pool_pool", "layers[2]: expected fc or the end. Received: 'pool'"),
        ("conv-4-3_pool_fc-8_conv-4-3_pool", "layers[2]: expected conv. Received: 'fc'"),
        ("conv-4-3_pool_fc-8_pool", "layers[3]: expected fc or the end. Received: 'pool'"),
        ("conv-4-3_g4", "layers[1]: expected conv or pool. Received: 'g'"),
    ],
)
def test_what_is_no_plain_network_is_refused_with_its_place(text, message):
    with pytest.raises(ValueError, match="^layers") as caught:
        PlainGenotype.parse(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"chain": "t_g4"}, "layers[0]: expected g. Received: 't'"),
        ({"chain": "g4_t"}, "layers[2]: expected g. Received: 'the end'"),
        ({"chain": "g4_conv-4-3"}, "layers[1]: expected g or t or the end. Received: 'conv'"),
        ({"chain": "g4", "stem": -1}, "stem: expected an int from 1 to 100000. Received: -1"),
        ({"chain": "g4", "stem": "8"}, "stem: expected an int from 1 to"),
        ({"chain": "g4_t_g4", "transitions": [4, 4]}, "transitions: expected 1 numbers of channels"),
        ({"chain": "g4_t_g4", "transitions": [0]}, "transitions[0]: expected an int from 1 to"),
        ({"chain": "g4", "transitions": 3}, "transitions: expected a list. Received: 3"),
        ({"chain": 3}, "chain: expected a string. Received: 3"),
        ({"chain": "conv-4-3_pool", "stem": 4}, "genotype: expected only the keys"),
        ({"name": "x"}, "genotype: expected the key 'chain'"),
        ({"chain": "g4", "name": 3}, "name: expected a string"),
    ],
)
def test_what_is_no_genotype_is_refused_with_its_place(data, message):
    with pytest.raises(ValueError, match="expected") as caught:
        ChainGenotype.from_dict(data)
    assert str(caught.value).startswith(message)


def test_layers_of_no_such_kind_or_type_are_refused():
    with pytest.raises(ValueError, match=r"^layer.kind: expected one of conv, fc, pool, g, t\. Rec"):
        ChainLayer("dense", 3)
    with pytest.raises(ValueError, match=r"^layer.kernel: expected 0 of a fc\. Received: 3"):
        ChainLayer("fc", 3, 3)
    with pytest.raises(ValueError, match=r"^layers\[0\]: expected a ChainLayer\. Received: 3"):
        PlainGenotype("x", (3,))
    with pytest.raises(ValueError, match="^layers: expected from 1 to 1,000 layers. Received: \\(\\)"):
        PlainGenotype("x", ())


@pytest.mark.parametrize("genotype", [EAS_PLAIN, DenseNetGenotype.parse("g4_t_g6", "a <b> & c")])
def test_pictures_show_every_layer(genotype):
    svg = chain_svg(genotype)
    root = ElementTree.fromstring(svg)
    labels = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(labels) == len(genotype.layers) + 3  # image, classifier, caption
    assert genotype.name in labels
    assert ("3×3 conv, 128" in labels) == (genotype is EAS_PLAIN)
