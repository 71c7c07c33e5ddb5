import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_zoo.cells import COMBINATIONS, OPERATIONS, SEARCH_COMBINATIONS, SEARCH_OPERATIONS, Genotype
from nasnet_zoo.search import random_genotype

# A chi-square statistic of k degrees of freedom has mean k and variance 2k; beyond six standard
# deviations a uniform draw is refuted.


def _is_uniform(counts):
    counts = np.asarray(counts, float)
    expected = counts.sum() / len(counts)
    degrees = len(counts) - 1
    return ((counts - expected) ** 2 / expected).sum() < degrees + 6 * np.sqrt(2 * degrees)


def test_every_choice_is_uniform():
    rng = np.random.default_rng(0)
    genotypes = [random_genotype(rng) for _ in range(2000)]
    for kind in ("normal", "reduction"):
        cells = [getattr(genotype, kind) for genotype in genotypes]
        for k in range(5):
            blocks = [cell.blocks[k] for cell in cells]
            for side in (0, 1):
                states = [block.inputs[side] for block in blocks]
                assert _is_uniform(np.bincount(states, minlength=2 + k))
                names = [block.operations[side] for block in blocks]
                assert _is_uniform([names.count(name) for name in SEARCH_OPERATIONS])
            combinations = [block.combination for block in blocks]
            assert _is_uniform([combinations.count(name) for name in SEARCH_COMBINATIONS])


def test_the_bound_refutes_a_biased_draw():
    assert not _is_uniform([400, 300, 300])


def test_choices_are_independent_of_each_other():
    rng = np.random.default_rng(0)
    blocks = [random_genotype(rng, blocks=1).normal.blocks[0] for _ in range(4000)]
    pairs = [2 * block.inputs[0] + block.inputs[1] for block in blocks]
    assert _is_uniform(np.bincount(pairs, minlength=4))


@given(
    st.integers(0, 2**32),
    st.integers(1, 9),
    st.sets(st.sampled_from(sorted(OPERATIONS)), min_size=1),
    st.sets(st.sampled_from(sorted(COMBINATIONS)), min_size=1),
)
def test_what_is_drawn_is_valid_and_within_the_space(seed, blocks, operations, combinations):
    rng = np.random.default_rng(seed)
    genotype = random_genotype(rng, blocks, sorted(operations), sorted(combinations), name="drawn")
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert genotype.name == "drawn"
    for cell in (genotype.normal, genotype.reduction):
        assert len(cell.blocks) == blocks
        assert {name for block in cell.blocks for name in block.operations} <= operations
        assert {block.combination for block in cell.blocks} <= combinations
        read = {state for block in cell.blocks for state in block.inputs}
        assert set(cell.outputs) == set(range(2, 2 + blocks)) - read


def test_a_seed_fixes_the_draws():
    draws = [random_genotype(np.random.default_rng(seed)) for seed in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 0}, "Expected blocks of at least 1. Received: blocks=0"),
        ({"operations": ()}, "at least one name in operations"),
        ({"combinations": ()}, "at least one name in combinations"),
        ({"operations": ("conv_9x9",)}, "conv_9x9"),
    ],
)
def test_what_is_not_a_space_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_genotype(np.random.default_rng(0), **arguments)
