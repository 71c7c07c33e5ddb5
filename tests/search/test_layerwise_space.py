"""NAS's space of layer-wise networks: its tokens, its sizes, and the networks that they make."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_zoo.architecture import LayerwiseArchitecture, architecture_cost
from nasnet_zoo.cells import LayerwiseGenotype
from nasnet_zoo.search import NAS_V3_SPACE, LayerwiseSpace
from nasnet_zoo.search.space import AnchorStep

SMALL = LayerwiseSpace(3, heights=(1, 3), widths=(3,), filters=(4, 8))
GROWING = LayerwiseSpace(6, grow_to=20)


@st.composite
def spaces(draw):
    """Any space of few layers."""
    layers, steps = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    return LayerwiseSpace(
        layers,
        grow_to=layers + 2 * steps if steps else None,
        grow_every=draw(st.integers(1, 5)),
        heights=tuple(draw(st.sets(st.sampled_from([1, 3, 5]), min_size=1))),
        filters=(4, 6),
        strides=draw(st.sampled_from([(1,), (2,), (1, 2, 3)])),
        kinds=draw(st.sampled_from([("conv",), ("conv", "max_pool", "avg_pool")])),
    )


def test_tokens_of_fifteen_layers():
    space = LayerwiseSpace(15)
    anchors = [step for step in space.steps if isinstance(step, AnchorStep)]
    assert len(space.steps) - len(anchors) == 45
    assert sum(len(step.draws) for step in anchors) == 105
    assert math.prod(space.choices) == 2**195
    # The order of layer N in figure 4: the anchor point before the number of filters.
    first = [step.kind for step in space.steps[:4]]
    assert first == ["height 1", "width 1", "anchor", "filters 1"]
    # Each choice has a softmax of its own.
    softmaxes = {step.kind for step in space.steps if not isinstance(step, AnchorStep)}
    assert len(softmaxes) == 45
    strided = LayerwiseSpace(2, strides=(1, 2, 3)).steps
    kinds = "height {0},width {0},stride height {0},stride width {0},anchor,filters {0}"
    assert [step.kind for step in strided] == (kinds.format(1) + "," + kinds.format(2)).split(",")


def test_samples_grow_as_in_the_paper():
    numbers = (0, 1_599, 1_600, 11_200, 12_799, 10**6)
    assert [GROWING.depth(number) for number in numbers] == [6, 6, 8, 20, 20, 20]
    assert GROWING.lengths == tuple(3 * d + d * (d - 1) // 2 for d in range(6, 21, 2))
    assert GROWING.length(1_600) == GROWING.lengths[1]
    assert LayerwiseSpace(6).lengths == (33,)


def test_tokens_are_read_layer_by_layer():
    space = LayerwiseSpace(3, strides=(1, 2, 3), kinds=("conv", "max_pool"))
    first = (0, 3, 1, 0, 2, 1)  # conv, 7x3, stride 1x3, 36 filters
    second = (1, 1, 1, 1, 1, 0, 3)  # max pool, 3x3, stride 2x2, reads the image, filters ignored
    third = (0, 0, 2, 0, 0, 1, 1, 3)  # conv, 1x5, stride 1x1, reads both, 64 filters
    genotype = space.decode((*first, *second, *third))
    assert space.describe(genotype).splitlines() == [
        "1: 7×3 conv, 36, stride 1×3 <- image",
        "2: 3×3 max pool, stride 2×2 <- image",
        "3: 1×5 conv, 64 <- 1 2",
    ]
    other = (*first, *second[:-1], 0, *third)
    assert space.key(space.decode(other)) == space.key(genotype)
    assert space.features(genotype)["inputs of a layer"] == pytest.approx(2 / 3)
    assert space.features(genotype)["filter width"] == 4


@given(space=spaces(), seed=st.integers(0, 2**16))
def test_samples_and_mutants_are_networks_of_the_space(space, seed):
    rng = np.random.default_rng(seed)
    actions = space.sample(rng)
    genotype = space.decode(actions)
    assert space.from_json(space.to_json(genotype)).layers == genotype.layers
    assert space.lengths.index(len(actions)) == (len(genotype.layers) - space.layers) // 2
    mutant = space.mutate(actions, rng)
    assert space.check(mutant) == mutant != actions
    if len(mutant) == len(actions):
        assert sum(a != b for a, b in zip(actions, mutant, strict=True)) == 1
    else:
        places = [space.lengths.index(len(a)) for a in (actions, mutant)]
        assert abs(places[0] - places[1]) == 1
        shorter = min(len(actions), len(mutant))
        assert actions[:shorter] == mutant[:shorter]
    assert len(list(space.traits(actions))) <= len(actions)
    assert "<svg" in space.draw(genotype)


def test_samples_are_uniform():
    rng = np.random.default_rng(0)
    space = LayerwiseSpace(1, grow_to=3, grow_by=1, heights=(1,), widths=(1,), filters=(4, 8))
    drawn = Counter(space.sample(rng) for _ in range(12_000))
    assert len(drawn) == 2 + 8 + 64
    for actions, count in drawn.items():
        expected = 4_000 / {3: 2, 7: 8, 12: 64}[len(actions)]
        assert abs(count - expected) < 5 * expected**0.5
    mutants = Counter(len(GROWING.mutate(GROWING.sample(rng), rng)) for _ in range(300))
    assert set(mutants) <= set(GROWING.lengths)


def test_actions_of_another_space_are_refused():
    for actions in ((0,) * 11, (0,) * 13, (2, *(0,) * 11), (0.0,) * 12, ((0,) * 12,)):
        with pytest.raises(ValueError, match="Expected 12 ints .* Received: "):
            SMALL.decode(actions)


@pytest.mark.parametrize(
    "fields",
    [
        {"layers": 0},
        {"grow_to": 4},
        {"grow_to": 9},
        {"grow_every": 0},
        {"heights": ()},
        {"widths": (3, 3)},
        {"filters": (0,)},
        {"strides": (1.5,)},
        {"kinds": ("dense",)},
        {"kinds": ("conv", "avg_pool"), "heights": (2,)},
        {"block": 3, "strides": (1, 2)},
        {"pool_after": (6,)},
        {"pool_after": (4, 2)},
        {"pool_after": (2,), "kinds": ("conv", "max_pool")},
    ],
    ids=str,
)
def test_a_space_out_of_range_is_refused(fields):
    with pytest.raises(ValueError, match="Expected .*Received: "):
        LayerwiseSpace(**fields)


# === Blocks and poolings, as v3 has them ===


def test_a_block_is_fully_connected_and_hands_on_all_its_layers():
    space = LayerwiseSpace(2, heights=(1,), widths=(1,), filters=(4,), block=3)
    chosen = space.decode((0, 0, 0, 0, 0, 1, 0))
    # The last pooling, of one pixel, lets the classifier read the whole second block.
    assert [layer.inputs for layer in chosen.layers] == [
        *((), (1,), (1, 2)),
        *((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5)),
        (4, 5, 6),
    ]
    apart = space.decode((0, 0, 0, 0, 0, 0, 0))
    assert [layer.inputs for layer in apart.layers[3:]] == [(), (4,), (4, 5), (1, 2, 3), (4, 5, 6)]
    assert apart.loose_ends == (7, 8)


def test_after_a_pooling_everything_is_read_pooled():
    space = LayerwiseSpace(3, heights=(1,), widths=(1,), filters=(4,), pool_after=(1, 2))
    # 2 reads 1, and 3 reads both.
    genotype = space.decode((0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0))
    kinds = [layer.kind for layer in genotype.layers]
    assert kinds == ["conv", "max_pool", "conv", "max_pool", "max_pool", "conv"]
    assert [layer.inputs for layer in genotype.layers] == [(), (1,), (2,), (2,), (3,), (4, 5)]
    assert genotype.strides[-1] == (4, 4)
    assert [genotype.merge(layer.inputs) for layer in genotype.layers].count("padded_concat") == 0


def test_v3_has_the_size_that_the_paper_s_two_rows_imply():
    """Networks of about 7.1 M parameters, 40 filters added to each layer, have about 37.4 M."""
    more = dataclasses.replace(NAS_V3_SPACE, more_filters=40)
    rng, found = np.random.default_rng(0), []
    while len(found) < 12:
        actions = list(NAS_V3_SPACE.sample(rng))
        position = 0
        for step in NAS_V3_SPACE.steps:
            if step.kind.startswith("filters"):  # wide ones: narrow networks are too small
                actions[position] = int(rng.choice([2, 3, 3]))
            position += len(step.draws)
        small, large = (
            architecture_cost(LayerwiseArchitecture(space.decode(actions)), 10).parameters / 1e6
            for space in (NAS_V3_SPACE, more)
        )
        if abs(small - 7.1) < 0.5:
            found.append(large)
    assert 30 < min(found) < np.median(found) < max(found) < 42
    genotype = NAS_V3_SPACE.decode(actions)
    assert sum(layer.kind == "conv" for layer in genotype.layers) == 39
    assert LayerwiseGenotype.from_json(genotype.to_json()) == genotype
