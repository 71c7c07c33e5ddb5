import pytest

from nasnet_zoo.search import RegularizedEvolution, SearchSpace
from nasnet_zoo.search.child import Trained
from nasnet_zoo.search.journal import Journal, Record
from nasnet_zoo.search.search import Here, ranked, run_search
from nasnet_zoo.search.stopping import QuantileStopping

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(blocks=2, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)


def record(number, rewards, state="finished", same_as=None):
    result = {"rewards": rewards, "losses": [], "stopped": len(rewards) < 3}
    return Record(number, 0, (), (), {}, None, 0, state, rewards[-1], result, same_as=same_as)


def test_thresholds_worked_by_hand():
    earlier = [
        record(0, [0.1, 0.5, 0.9]),
        record(1, [0.2, 0.4, 0.8]),
        record(2, [0.3, 0.3, 0.7]),
        record(3, [0.0]),  # stopped: it counts where it came to
        record(4, [0.9, 0.9], state="failed"),
        record(5, [0.3, 0.3, 0.7], same_as=2),
    ]
    assert QuantileStopping(0.5, after=3).thresholds(earlier) == pytest.approx((0.15, 0.4, 0.8))
    assert QuantileStopping(0.5, after=4).thresholds(earlier) == pytest.approx((0.15,))
    assert QuantileStopping(0.5, after=5).thresholds(earlier) == ()
    assert QuantileStopping(0.25, after=3).thresholds(earlier) == pytest.approx((0.075, 0.35, 0.75))


@pytest.mark.parametrize(("quantile", "after"), [(0, 1), (1, 1), (0.5, 0), (float("nan"), 1)])
def test_what_is_no_rule_is_refused(quantile, after):
    with pytest.raises(ValueError, match="Expected (quantile|after): "):
        QuantileStopping(quantile, after)


class Curves:
    """Three parts of training, the reward growing to the share of separable convolutions."""

    def __init__(self, dies_after=1000):
        self.left, self.thresholds = dies_after, []

    def __call__(self, job):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.thresholds.append(job.thresholds)
        names = [name for block in job.genotype.normal.blocks for name in block.operations]
        share = names.count("sep_3x3") / len(names)
        rewards = [share / 2, share / 1.5, share]
        for part, least in enumerate(job.thresholds[:2]):
            if rewards[part] < least:
                return Trained(tuple(rewards[: part + 1]), (1.0,) * (part + 1), stopped=True)
        return Trained(tuple(rewards), (1.0,) * 3)


def search(path, train):
    journal = Journal(path, {})
    policy = RegularizedEvolution(SPACE, population=30, sample=3, seed=1)
    try:
        rule = QuantileStopping(0.5, after=8)
        return run_search(policy, SPACE, Here(train), journal, 30, minibatch=10, stopping=rule)
    finally:
        journal.close()


def test_thresholds_are_those_of_the_minibatches_before_even_when_a_search_is_resumed(tmp_path):
    curves = Curves()
    whole = search(tmp_path / "whole.sqlite", curves)
    rounds = {r.number: r.round for r in whole}
    trained = [r.number for r in whole if r.same_as is None]
    by_round = [
        {h for n, h in zip(trained, curves.thresholds, strict=True) if rounds[n] == k} for k in range(3)
    ]
    assert by_round[0] == {()}
    for number in (1, 2):
        earlier = [r for r in whole if r.round < number]
        assert by_round[number] == {QuantileStopping(0.5, after=8).thresholds(earlier)}
    stopped = [r for r in whole if r.result.get("stopped")]
    assert stopped
    assert all(r.reward == r.result["rewards"][-1] for r in stopped)
    best = ranked(whole)
    assert not {r.number for r in stopped} & {r.number for r in best}
    assert [r.reward for r in best] == sorted((r.reward for r in best), reverse=True)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts.sqlite", Curves(dies_after=len(trained) - 3))
    assert [vars(r) | {"seconds": 0} for r in search(tmp_path / "parts.sqlite", Curves())] == [
        vars(r) | {"seconds": 0} for r in whole
    ]
