import itertools
from collections import Counter

import numpy as np
import pytest
from evaluators import Function
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from nasnet_zoo.cells import EAS_PLAIN, EAS_SMALL
from nasnet_zoo.search import EASSpace, Journal, RandomSearch, Result, Serial, Synchronous, run_search
from nasnet_zoo.search.eas.space import LARGE_FILTERS, LARGE_UNITS

SPACE = EASSpace()
DENSE = EASSpace("densenet")
SPACES = st.sampled_from([SPACE, DENSE])
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed, space=SPACE):
    return space.sample(np.random.default_rng(seed))


def draws(space, actions):
    """What is drawn by each of a child's actions."""
    episode, found = space.episode(), []
    while count := len(episode.draws):
        found += episode.draws
        episode.decide(actions[len(found) - count : len(found)])
    assert len(found) == len(actions)
    return found


def test_an_episode_of_the_start_network_by_hand():
    # Five layers can become wider: all do, then the first, then none, then the last.
    wider = [1] * 5 + [1, 0, 0, 0, 0] + [0] * 5 + [0, 0, 0, 0, 1]
    # Block, layer and kernel of each step; a dense layer has no kernel.
    deeper = [(0, 0, 2), (0, 1, 0), (4, 0), (1, 0, 1), (4, 1)]
    child = SPACE.decode((*wider, *itertools.chain(*deeper)))
    assert child.text == (
        "conv-12-3_conv-12-5_conv-12-1_pool_conv-8-3_conv-8-3_pool_conv-8-3_pool_conv-8-3_pool_"
        "fc-24_fc-24_fc-24"
    )


def test_an_episode_of_a_densenet_by_hand():
    space = EASSpace("g4_g4_t_g4", wider=2, deeper=1)
    child = space.decode((1, 0, 0, 1, 1, 0, 0, 0))
    assert child.text == "g8_g8_g6_t_g4"
    # The start has 8 and 8; the mean growth is 6.5, and the transition reads 13 + 22.
    assert (child.stem, child.transitions) == (13, (17,))


def test_layers_at_the_greatest_width_and_poolings_are_not_drawn():
    space = EASSpace("conv-4-3_pool_fc-8", 3, 1, filters=(4, 8), units=(8,))
    assert [draw.layer for draw in draws(space, drawn(0, space))[:1]] == [0]
    widest = draws(space, (1, 0, 0, 2))
    assert [draw.kind for draw in widest] == ["wider", "block", "layer", "kernel"]
    assert space.decode((1, 0, 0, 2)).text == "conv-8-3_conv-8-5_pool_fc-8"
    dense = draws(space, (0, 0, 0, 1, 0))
    assert [draw.kind for draw in dense] == ["wider", "wider", "wider", "block", "layer"]


@examples(40)
@given(SEEDS, SPACES)
def test_children_contain_the_base_and_grow_by_as_much_as_an_episode_can(seed, space):
    child, base = space.decode(drawn(seed, space)), space.start
    assert len(child.layers) == len(base.layers) + space.deeper
    assert len(child.parted) == len(base.parted)
    for layer in child.layers:
        if not layer.parts:
            levels = space.levels[layer.kind]
            # All layers of the base are at the first level.
            assert levels.index(layer.units) <= space.wider
    assert space.from_json(space.to_json(child)) == child


@examples(10)
@given(SEEDS)
def test_the_layers_of_longer_blocks_are_drawn_among_those_that_exist(seed):
    actions = drawn(seed)
    lengths = [1] * 5
    found = dict(zip(draws(SPACE, actions), actions, strict=True))
    for step in range(SPACE.wider, SPACE.wider + SPACE.deeper):
        (block,) = (a for d, a in found.items() if d.kind == "block" and d.step == step)
        (choices,) = (d.choices for d in found if d.kind == "layer" and d.step == step)
        assert choices == lengths[block] <= SPACE.heads["layer"]
        assert (block < 4) == any(d.kind == "kernel" and d.step == step for d in found)
        lengths[block] += 1


def test_every_draw_is_uniform():
    counts = Counter()
    for seed in range(400):
        actions = drawn(seed)
        for draw, action in zip(draws(SPACE, actions), actions, strict=True):
            counts[draw.kind, draw.choices, action] += 1
    for kind, choices in {key[:2] for key in counts}:
        some = [counts[kind, choices, action] for action in range(choices)]
        mean = sum(some) / choices
        assert all(abs(count - mean) < 5 * np.sqrt(mean) + 1 for count in some)
    assert counts["wider", 2, 1] > 3000


@examples(30)
@given(SEEDS, SPACES)
def test_a_mutation_changes_one_draw_and_what_follows_from_it(seed, space):
    rng = np.random.default_rng(seed)
    actions = space.sample(rng)
    changed = space.mutate(actions, rng)
    before, after = (dict(zip(draws(space, some), some, strict=True)) for some in (actions, changed))
    (where,) = [draw for draw in before.keys() & after.keys() if before[draw] != after[draw]]
    for draw in before.keys() ^ after.keys():
        assert draw.step >= where.step


def test_episodes_that_make_the_same_network_are_one_child():
    space = EASSpace("conv-4-3_pool_conv-4-3_pool", wider=2, deeper=1)
    first, second = (1, 0, 0, 1, 0, 0, 1), (0, 1, 1, 0, 0, 0, 1)
    assert space.decode(first) == space.decode(second)
    assert space.key(space.decode(first)) == space.key(space.decode(second))
    assert space.key(space.decode(first)) != space.key(space.decode((1, 0, 0, 1, 1, 0, 1)))


def test_traits_are_the_layers_of_each_block():
    child = (*([1] * 5 + [0] * 15), *([0, 0, 1] + [0, 1, 1] + [4, 0] * 1 + [1, 0, 0] + [1, 1, 2]))
    traits = list(SPACE.traits(child))
    assert len(traits) == len(set(traits)) == 10
    assert sum(trait[0][0] == 0 for trait in traits) == 3


def test_features_and_descriptions():
    assert SPACE.features(EAS_PLAIN) == {"layers": 5.0, "filters": 60.0, "units": 256.0}
    assert DENSE.features(DENSE.start) == {"layers": 6.0, "growth": 4.0}
    assert SPACE.describe(EAS_SMALL) == EAS_SMALL.text
    assert SPACE.draw(EAS_SMALL).count("<rect") == 1 + 9 + 2


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("abc", "Expected actions: a sequence of ints. Received: 'abc'"),
        ((0.5,), "Expected actions: a sequence of ints"),
        ((True,) * 4, "Expected actions: a sequence of ints"),
        ((), "action 0, step 0, wider 0: expected an int from 0 to below 2. Received: no more actions"),
        ((0, 2), "action 1, step 0, wider 2: expected an int from 0 to below 2. Received: 2"),
        ((*[0] * 20, 5), "action 20, step 4, block: expected an int from 0 to below 5. Received: 5"),
        ((*[0] * 21, 1), "action 21, step 4, layer: expected an int from 0 to below 1. Received: 1"),
        ([0] * 36, "Expected 35 actions, with which the architecture is complete. Received: 36"),
    ],
)
def test_other_actions_are_refused_with_their_place(actions, message):
    with pytest.raises(ValueError, match="xpected") as caught:
        SPACE.decode(actions)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wider": 0, "deeper": 0}, "Expected wider and deeper: at least one step"),
        ({"filters": ()}, "Expected filters: at least one number, in increasing order. Received: ()"),
        ({"units": (16, 8)}, "Expected units: at least one number, in increasing order"),
        ({"filters": (8, 16)}, r"Expected base: widths among \(8, 16\) and .* layer 0, conv-4-3"),
        ({"kernels": (1, 5)}, r"Expected base: .* kernels among \(1, 5\). Received: layer 0, conv-4-3"),
        ({"base": "g4_t_g4", "growths": (2, 6)}, "Expected base: .* Received: layer 0, g4"),
        ({"base": "conv-4-3"}, r"base, layers\[1\]: expected conv or pool. Received: 'the end'"),
        ({"base": "resnet"}, r"base, layers\[0\]: expected conv-F-K, pool, fc-U, gK or t"),
        ({"wider": -1}, "Expected wider: "),
    ],
)
def test_spaces_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        EASSpace(**fields)


def test_the_larger_levels_fit_the_paper_s_start_network():
    space = EASSpace(EAS_PLAIN.text, filters=LARGE_FILTERS, units=LARGE_UNITS)
    assert (len(LARGE_FILTERS), len(LARGE_UNITS)) == (13, 11)
    assert space.decode((*[1] * 20, *[0] * 15)).layers[0].units == 128


def test_what_it_is_tells_spaces_apart():
    spaces = [SPACE, DENSE, EASSpace(wider=3), EASSpace(filters=(4, 8)), EASSpace(deeper=4)]
    for one, other in itertools.combinations(spaces, 2):
        assert one.about() != other.about()


def test_a_search_runs_and_a_known_network_is_not_evaluated_again(tmp_path):
    space = EASSpace("conv-4-3_pool", wider=1, deeper=1)
    calls = []

    def reward(trial):
        calls.append(trial.child.text)
        return Result(len(trial.child.layers) / 10)

    with Journal(tmp_path / "journal.sqlite", {"policy": "random"}) as journal:
        policy = RandomSearch(space, 0)
        run_search(policy, space, Serial(Function(reward)), journal, 24, Synchronous(4), seed=1)
    assert len(calls) == len(set(calls)) <= 6  # two widths, three kernels
