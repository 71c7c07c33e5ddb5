import itertools

import numpy as np
import pytest
from evaluators import Digit, Function
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume

from nasnet_zoo.search import Journal, RandomSearch, Result, Serial, Synchronous, run_search
from nasnet_zoo.search.objectives import Objectives, hypervolume, pareto_front
from nasnet_zoo.search.search import ranked

# Few values, so that points are often equal in some objective.
POINTS = st.integers(1, 3).flatmap(
    lambda count: arrays(
        float, st.tuples(st.integers(0, 12), st.just(count)), elements=st.integers(0, 5).map(float)
    )
)


@given(POINTS)
def test_the_front_is_what_no_other_point_dominates(points):
    dominated = {
        k
        for k, other in itertools.permutations(range(len(points)), 2)
        if (points[other] >= points[k]).all() and (points[other] > points[k]).any()
    }
    assert pareto_front(points).tolist() == sorted(set(range(len(points))) - dominated)


@given(POINTS)
def test_the_hypervolume_is_optunas(points):
    # Optuna's objectives are to be small, and its reference has to be weakly dominated by all points.
    inside = points[(points > 1).all(1)]
    expected = compute_hypervolume(-inside, -np.ones(points.shape[1])) if len(inside) else 0.0
    assert hypervolume(points, np.ones(points.shape[1])) == pytest.approx(expected)


def searched(tmp_path, measure=None, children=8, **objectives):
    """A search of the digits: a digit's accuracy is a tenth of it, its parameters are its square."""

    class Squares(Function):
        objective = "accuracy"

        def measure(self, architecture):
            return measure(architecture) if measure else {}

    trained = []

    def evaluate(trial):
        trained.append(trial.child)
        return Result(trial.child / 10)

    evaluator = Squares(evaluate, lambda digit: {"parameters": digit**2})
    space = Digit()
    tmp_path.mkdir(exist_ok=True)
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        run_search(
            RandomSearch(space),
            space,
            Serial(evaluator),
            journal,
            children,
            Synchronous(4),
            objectives=Objectives(**objectives),
        )
        return journal.children(), trained


def digit(record):
    return record.architecture["digit"]


def test_the_reward_is_the_expression_and_the_accuracy_is_kept(tmp_path):
    records, _ = searched(tmp_path, reward="accuracy - parameters / 200", children=20)
    for record in records:
        assert record.reward == pytest.approx(digit(record) / 10 - digit(record) ** 2 / 200)
        first = record if record.same_as is None else records[record.same_as]
        assert first.objectives("accuracy") == {
            "accuracy": digit(record) / 10,
            "parameters": digit(record) ** 2,
        }
    # x / 10 - x² / 200 is greatest at 10; at 9 it is 0.495.
    assert digit(ranked(records)[0]) == max(map(digit, records))


def test_a_child_above_a_limit_fails_without_being_evaluated(tmp_path):
    records, trained = searched(tmp_path, limit={"parameters": "0.03k"}, children=20)
    assert max(trained) <= 5
    above = [record for record in records if digit(record) > 5]
    assert above
    for record in above:
        assert (record.state, record.reward, record.seconds) == ("failed", 0.0, 0.0)
        first = records[record.same_as if record.same_as is not None else record.number]
        assert first.message == f"above the limit: parameters={digit(record) ** 2}, at most 30"
    assert max(map(digit, ranked(records))) <= 5


def test_each_different_child_within_the_limits_is_measured_once(tmp_path):
    measured = []

    def measure(architecture):
        measured.append(architecture)
        return {"latency": float(architecture)}

    first, _ = searched(tmp_path, measure, 8, limit={"parameters": 30, "latency": 3})
    again, trained = searched(tmp_path, measure, 40, limit={"parameters": 30, "latency": 3})
    assert again[:8] == first
    # The first one is measured before the search, to see whether it can be.
    assert sorted(measured[1:]) == sorted({digit(r) for r in again} & set(range(6)))
    assert max(trained, default=0) <= 3
    for record in again:
        if digit(record) < 6:
            assert record.costs["latency"] == digit(record)
        assert (record.state == "failed") == (digit(record) > 3)


def test_a_child_that_cannot_be_measured_fails_with_the_reason(tmp_path):
    def measure(architecture):
        if architecture == 4:
            raise ValueError("four\nis too many")
        return {"latency": 1.0}

    records, trained = searched(tmp_path, measure, 40, reward="accuracy / latency")
    (first, *_) = [record for record in records if digit(record) == 4]
    assert (first.state, first.reward, first.message) == ("failed", 0.0, "four is too many")
    assert 4 not in trained
    assert "latency" not in first.costs


def test_a_reward_that_is_no_number_fails_the_child(tmp_path):
    records, _ = searched(tmp_path, reward="accuracy / parameters", children=40)
    (zero, *_) = [record for record in records if digit(record) == 0]
    assert (zero.state, zero.reward) == ("failed", 0.0)
    assert "float division by zero for accuracy=0, parameters=0" in zero.message
    assert zero.objectives("accuracy")["accuracy"] == 0.0


def test_a_child_with_a_reward_below_0_fails_and_is_not_better_than_one_that_failed(tmp_path):
    records, _ = searched(tmp_path / "above", reward="accuracy - parameters / 100", children=40)
    for record in records:
        # x / 10 - x² / 100 is 0 at 10: nothing is below.
        assert record.state == "finished"
    records, _ = searched(tmp_path / "lower", reward="accuracy - parameters / 50", children=40)
    for record in records:
        value = digit(record) / 10 - digit(record) ** 2 / 50
        assert record.reward == pytest.approx(max(value, 0))
        assert (record.state == "failed") == (digit(record) > 5)
    worst = next(record for record in records if digit(record) == 9)
    assert worst.message.endswith("at least 0, the reward of a child that fails. Received: -0.72")


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ({"reward": "accuracy * speed"}, "names in reward: accuracy, parameters. Received: speed"),
        ({"limit": {"speed": 1}}, "names in limit: parameters. Received: speed"),
        (
            {"names": ("accuracy", "speed")},
            "names in objectives: accuracy, parameters. Received: speed",
        ),
        (
            {"limit": {"parameters": -1.0}},
            "some child with a reward. Received: 1,000 random children, the last above the limit",
        ),
        (
            {"reward": "-1 - parameters"},
            "the last without one: Expected -1 - parameters to be at least 0",
        ),
        (
            {"reward": "accuracy / (parameters - parameters)"},
            "the last without one: .* float division by zero for accuracy=1, parameters=",
        ),
    ],
)
def test_what_cannot_be_looked_for_is_refused_before_the_first_child(objectives, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        searched(tmp_path, **objectives)
    assert "\n" not in str(error.value)
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.children() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ("accuracy",)}, "Expected objectives: at least two different names"),
        ({"names": ("accuracy", "accuracy")}, "Expected objectives: at least two different names"),
        ({"limit": {"parameters": "many"}}, "Expected a number such as"),
        ({"limit": {"parameters": True}}, "limit of parameters"),
        ({"reward": "accuracy /"}, "Expected an expression"),
    ],
)
def test_what_are_no_objectives(arguments, message):
    with pytest.raises(ValueError, match=message):
        Objectives(**arguments)


def test_objectives_are_turned_so_that_more_is_better():
    found = Objectives(names=("latency", "accuracy")).values(
        "accuracy", {"accuracy": 0.5, "latency": 3}
    )
    assert found == (-3, 0.5)


def test_a_policy_of_several_objectives_learns_them_and_nothing_of_failed_children(tmp_path):
    told = []

    class Remembers(RandomSearch):
        def tell(self, minibatch):
            told.extend(minibatch)
            return super().tell(minibatch)

    space, evaluator = (
        Digit(),
        Function(lambda trial: Result(trial.child / 10), lambda d: {"size": d**2}),
    )
    evaluator.objective = "accuracy"
    objectives = Objectives("accuracy * 2", {"size": 49}, ("accuracy", "size"))
    with Journal(tmp_path / "j.sqlite", {}) as journal:
        policy = Remembers(space)
        run_search(policy, space, Serial(evaluator), journal, 30, objectives=objectives)
        records = journal.children()
    assert len({record.key for record in records}) < 30
    for record, experience in zip(records, told, strict=True):
        value = digit(record)
        assert experience.reward == pytest.approx(value / 5 if value <= 7 else 0)
        assert experience.objectives == ((value / 10, -(value**2)) if value <= 7 else ())
