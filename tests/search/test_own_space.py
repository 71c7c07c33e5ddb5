"""The example of docs/own-space.md is searched as NASNet's cells are."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nasnet_zoo import cli
from nasnet_zoo.search import PPO, Evaluator, Journal, Result, SequenceController, Step
from nasnet_zoo.search.controller import Categorical

pytestmark = pytest.mark.tensorflow

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_space.py"
EXECUTORS = ("serial", "processes", pytest.param("ray", marks=pytest.mark.slow))
POLICIES = ("ppo", "reinforce", "random", "evolution", "predictor", "optuna:TPESampler")
# The population of the example's evolution is whole after two minibatches.
CHILDREN = 25


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(EXAMPLE.parent))
    import own_space

    yield own_space
    sys.path.remove(str(EXAMPLE.parent))
    del sys.modules["own_space"]


@pytest.fixture(scope="module")
def searched(example, tmp_path_factory):
    """The folders of serial searches, by policy."""
    found = {}

    def search(policy):
        if policy not in found:
            found[policy] = tmp_path_factory.mktemp("own") / policy
            example.main(str(found[policy]), policy, "serial", CHILDREN)
        return found[policy]

    return search


def children(out):
    with Journal(out / "journal.sqlite") as journal:
        return journal.children()


def facts(out):
    """What a search that was repeated exactly has in common: all but the seconds."""
    facts = [{**vars(record), "seconds": None} for record in children(out)]
    with Journal(out / "journal.sqlite") as journal:
        return facts, {name: array.tobytes() for name, array in journal.state().items()}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_searches_it(searched, policy):
    records = children(searched(policy))
    assert [record.number for record in records] == list(range(CHILDREN))
    assert [record.learned for record in records] == [number // 10 for number in range(CHILDREN)]
    assert max(record.reward for record in records) > 0.9
    mutants = {record.number for record in records if record.parent is not None}
    if policy == "predictor":  # mutants are some of its candidates, once it has learned from ten
        assert mutants
        assert min(mutants) >= 10
    else:
        assert mutants == ({20, 21, 22, 23, 24} if policy == "evolution" else set())
    drawn = {record.log_probabilities is not None for record in records}
    assert drawn == {policy in ("ppo", "reinforce")}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("executor", EXECUTORS[1:])
def test_every_executor_finds_the_same(example, searched, tmp_path, policy, executor):
    example.main(str(tmp_path), policy, executor, CHILDREN)
    assert facts(tmp_path) == facts(searched(policy))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_asynchronous(example, tmp_path, executor):
    example.main(str(tmp_path), executor=executor, children=12, asynchronous=True)
    records = children(tmp_path)
    assert sorted(record.number for record in records) == list(range(12))
    assert {record.learned for record in records} == {0, 1}


def test_children_fail_with_the_reason_of_their_value_error(searched):
    failed = [record for record in children(searched("random")) if record.state == "failed"]
    assert failed
    for record in failed:
        assert record.architecture["classifier"] == "multinomial"
        assert (record.reward, record.metrics) == (0.0, {})
        assert record.message.startswith("Negative values in data passed to MultinomialNB")


def test_equal_pipelines_are_evaluated_once(example):
    space = example.PipelineSpace()
    gaussian = example.CHOICES["classifier"].index("Gaussian")
    first, second = (space.decode((1, 2, gaussian, strength)) for strength in (0, 3))
    assert space.key(first) == space.key(second)
    assert space.key(first) != space.key(space.decode((1, 2, gaussian - 1, 0)))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_of_the_program_ends_the_search(example, monkeypatch, tmp_path, executor):
    monkeypatch.setattr(example, "CrossValidation", Broken)
    with pytest.raises((RuntimeError, AttributeError), match="no attribute 'imagse'"):
        example.main(str(tmp_path), executor=executor)
    assert {record.state for record in children(tmp_path)} == {"asked"}


class Broken(Evaluator):
    def __init__(self, images, labels):
        self.images = images

    def evaluate(self, trial):
        return Result(len(self.imagse))


@pytest.mark.slow
def test_a_killed_search_goes_on_as_if_it_had_not_been(searched, tmp_path):
    command = [sys.executable, EXAMPLE, "--out", tmp_path, "--executor", "serial"]
    command += ["--children", str(CHILDREN)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while finished(tmp_path) < 12:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert finished(tmp_path) < CHILDREN
    subprocess.run(command, check=True, capture_output=True)
    assert facts(tmp_path) == facts(searched("ppo"))


def finished(out):
    try:
        return sum(record.reward is not None for record in children(out))
    except ValueError:  # before there is a journal
        return 0


def test_report_and_best(searched):
    out = searched("ppo")
    best = max(children(out), key=lambda record: record.reward)
    written = json.loads((out / "best.json").read_text())
    assert written == {"name": best.name, **best.architecture}
    report = (out / "report.html").read_text()
    for shown in ("inputs", "classifier: SVM", "scaler: standard", f"{best.reward:.4f}"):
        assert shown in report


def test_commands_on_its_folder(searched, capsys, tmp_path):
    out, records = str(searched("random")), children(searched("random"))
    capsys.readouterr()  # of the search, if no other test has begun it
    assert cli.main(["search", "best", out, "--out", str(tmp_path / "best.json")]) == 0
    best = max(records, key=lambda record: record.reward)
    assert capsys.readouterr().out.split()[:2] == ["child", str(best.number)]
    written = json.loads((tmp_path / "best.json").read_text())
    assert written == {"name": best.name, **best.architecture}
    assert cli.main(["search", "list", out, "--sort", "inputs", "--csv", str(tmp_path / "a.csv")]) == 0
    assert "Negative values in data passed to MultinomialNB" in capsys.readouterr().out
    with (tmp_path / "a.csv").open() as file:
        inputs = [int(row["inputs"]) for row in csv.DictReader(file)]
    assert inputs == sorted(record.costs["inputs"] for record in records)
    assert cli.main(["search", "show", out, "3"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown[shown.index("{") :]) == records[3].architecture
    assert cli.main(["search", "show", out, "3", "--picture", str(tmp_path / "a.svg")]) == 1
    assert "expected a search of one of the command" in capsys.readouterr().err


def test_a_head_of_ones_own(example):
    class Tempered(Categorical):
        def logits(self, hidden, step):
            return super().logits(hidden, step) / 2

    class TemperedController(SequenceController):
        head_class = Tempered

    class TemperedPPO(PPO):
        controller_class = TemperedController

    space = example.PipelineSpace()
    # The first choice depends on nothing before it: its probabilities are square roots, normalised.
    first = np.array([[action, 0, 0, 0] for action in range(space.choices[0])], np.int32)
    policies = [policy(space, seed=1) for policy in (PPO, TemperedPPO)]
    ordinary, tempered = (policy.controller.predict(first) for policy in policies)
    assert (tempered.entropies.numpy() > ordinary.entropies.numpy()).all()
    roots = np.exp(ordinary.log_probabilities[:, 0].numpy() / 2)
    found = np.exp(tempered.log_probabilities[:, 0].numpy())
    np.testing.assert_allclose(found, roots / roots.sum(), rtol=1e-5)


def test_a_search_goes_on_only_in_the_same_space(example, searched, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(searched("random"), out)
    more = (*example.PipelineSpace.steps[:-1], Step("strength", 5))
    monkeypatch.setattr(example.PipelineSpace, "steps", more)
    with pytest.raises(
        ValueError, match=r"expected space.steps=.*\['strength', 4\].* Received: .* 5\]"
    ):
        example.main(str(out), "random", "serial", CHILDREN)
