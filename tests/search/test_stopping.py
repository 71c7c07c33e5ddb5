import pytest
from evaluators import Function

from nasnet_zoo.search import (
    Journal,
    NASNetSpace,
    Record,
    RegularizedEvolution,
    Result,
    Serial,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.search import ranked
from nasnet_zoo.search.stopping import QuantileStopping

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=2, operations=("identity", "sep_3x3"), combinations=("add",), cells=1)


def record(number, curve, state="finished", same_as=None):
    return Record(
        number, (), "", {}, 0, 0, state=state, reward=curve[-1], curve=tuple(curve), same_as=same_as
    )


def test_thresholds_worked_by_hand():
    earlier = [
        record(0, [0.1, 0.5, 0.9]),
        record(1, [0.2, 0.4, 0.8]),
        record(2, [0.3, 0.3, 0.7]),
        record(3, [0.0], "stopped"),  # it counts where it came to
        record(4, [0.9, 0.9], state="failed"),
        record(5, [0.3, 0.3, 0.7], same_as=2),
    ]
    earlier = [r.curve for r in earlier if r.has_curve]
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

    def __call__(self, trial):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.thresholds.append(trial.thresholds)
        names = [name for block in trial.child.normal.blocks for name in block.operations]
        share = names.count("sep_3x3") / len(names)
        rewards = [share / 2, share / 1.5, share]
        for stop in (1, 2):
            if trial.stops(rewards[:stop]):
                return Result(rewards[stop - 1], rewards[:stop], "stopped")
        return Result(share, rewards)


def search(path, train):
    journal = Journal(path, {})
    policy = RegularizedEvolution(SPACE, population=30, sample=3, seed=1)
    try:
        rule = QuantileStopping(0.5, after=8)
        executor = Serial(Function(train))
        return run_search(policy, SPACE, executor, journal, 30, Synchronous(10), stopping=rule)
    finally:
        journal.close()


def test_thresholds_are_those_of_the_minibatches_before_even_when_a_search_is_resumed(tmp_path):
    curves = Curves()
    whole = search(tmp_path / "whole.sqlite", curves)
    versions = {r.number: r.version for r in whole}
    trained = [r.number for r in whole if r.same_as is None]
    by_version = [
        {h for n, h in zip(trained, curves.thresholds, strict=True) if versions[n] == k}
        for k in range(3)
    ]
    assert by_version[0] == {()}
    for number in (1, 2):
        earlier = [r.curve for r in whole if r.version < number and r.has_curve]
        assert by_version[number] == {QuantileStopping(0.5, after=8).thresholds(earlier)}
    stopped = [r for r in whole if r.state == "stopped" and r.same_as is None]
    assert stopped
    assert all(r.reward == r.curve[-1] for r in stopped)
    best = ranked(whole)
    assert not {r.number for r in stopped} & {r.number for r in best}
    assert [r.reward for r in best] == sorted((r.reward for r in best), reverse=True)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts.sqlite", Curves(dies_after=len(trained) - 3))
    assert [vars(r) | {"seconds": 0} for r in search(tmp_path / "parts.sqlite", Curves())] == [
        vars(r) | {"seconds": 0} for r in whole
    ]
