"""The commands `search best`, `list` and `show` beside what the journal and the folder hold."""

import csv
import itertools
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from documented import check_figures
from evaluators import Function

from nasnet_zoo.cells import Genotype
from nasnet_zoo.cells.draw import genotype_svg
from nasnet_zoo.cli import main
from nasnet_zoo.files import locked
from nasnet_zoo.search import (
    Journal,
    NASNetSpace,
    RandomSearch,
    Result,
    Serial,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.results import ranked_retrained, read_results
from nasnet_zoo.search.search import ranked

pytestmark = pytest.mark.tensorflow

TINY = [
    *("search", "--data", "digits", "--images", "200", "--processes", "1", "--minibatch", "2"),
    *("--policy", "random", "--space.blocks", "1", "--space.cells", "1"),
    *("--space.operations", "identity", "max_3x3", "avg_3x3", "--budget.steps", "4"),
    *("--budget.filters", "2", "--budget.stem-filters", "2", "--budget.batch-size", "16"),
    *("--budget.evaluations", "2"),
]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _nothing_changes(request):
    """The commands leave every file of the search as it was, and make none beside them."""
    folder = request.getfixturevalue("folder") if "folder" in request.fixturenames else None
    before = folder and contents(folder)
    yield
    assert not folder or contents(folder) == before


def run(capfd, *words):
    capfd.readouterr()
    assert main(["search", *map(str, words)]) == 0
    return capfd.readouterr().out


def refused(capfd, *words):
    capfd.readouterr()
    assert main(["search", *map(str, words)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    return line


def facts(out):
    """The lines before the table of blocks, by name."""
    lines = out.split("\n\n")[0].splitlines()
    return {line[:20].strip(): line[20:].strip() for line in lines}


# === A real search ===


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "out"
    assert main([*TINY, "--children", "4", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def retrained(real, tmp_path_factory):
    out = tmp_path_factory.mktemp("retrained") / "out"
    shutil.copytree(real, out)
    command = [*TINY, "--children", "4", "--retrain", "2", "--retrain-budget.steps", "8"]
    found = out.with_suffix(".json")
    assert main([*command, "--out", str(out), "--json", str(found)]) == 0
    check_figures("search", json.loads(found.read_text()))
    return out


@pytest.mark.parametrize("fixture", ["real", "retrained"])
def test_the_best_child_is_that_of_best_json(fixture, request, tmp_path, capfd):
    folder = request.getfixturevalue(fixture)
    before = contents(folder)
    out = run(capfd, "best", folder, "--out", tmp_path / "best.json")
    for command, words in (("best", []), ("list", []), ("show", ["0"])):
        found = run(capfd, command, folder, *words, "--json")
        check_figures(f"search {command}", json.loads(found))
    refusal = refused(capfd, "list", folder, "--json", folder / "settings.json")
    assert "expected the name of a file of its own" in refusal
    assert contents(folder) == before
    assert (tmp_path / "best.json").read_bytes() == (folder / "best.json").read_bytes()
    told = facts(out)
    assert f"child {told['child']}" == Genotype.load(tmp_path / "best.json").name
    journal = "journal.sqlite" if fixture == "real" else "retrained.sqlite"
    with closing(sqlite3.connect(folder / journal)) as database:
        ((reward,),) = database.execute("select max(reward) from children").fetchall()
    assert told["reward" if fixture == "real" else "retrained"] == f"{reward:.4f}"


def test_the_list_holds_what_the_journal_holds(retrained, tmp_path, capfd):
    before = contents(retrained)
    names = ("number", "state", "reward", "seconds", "version", "parent", "same_as")
    out = run(capfd, "list", retrained, "--sort", "number", "--json", tmp_path / "l.json")
    run(capfd, "list", retrained, "--sort", "number", "--csv", tmp_path / "l.csv")
    assert contents(retrained) == before
    rows = json.loads((tmp_path / "l.json").read_text())
    with closing(sqlite3.connect(retrained / "journal.sqlite")) as database:
        query = f"select {', '.join(names)}, costs from children order by number"
        expected = database.execute(query).fetchall()
    with closing(sqlite3.connect(retrained / "retrained.sqlite")) as database:
        rewards = dict(database.execute("select number, reward from children"))
    found = [tuple(row[name] for name in names) for row in rows]
    assert found == [child[:-1] for child in expected]
    for row, (*_, costs) in zip(rows, expected, strict=True):
        costs = json.loads(costs)
        assert {*costs} == {"parameters", "mult_adds", "activation_memory"}
        assert costs == {name: row[name] for name in costs}
    assert {r["number"]: r["retrained_reward"] for r in rows if r["retrained_reward"]} == rewards
    with (tmp_path / "l.csv").open() as file:
        read = list(csv.DictReader(file))
    assert read == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]
    heading, *lines = out.splitlines()
    assert "retrained" in heading
    for line, row in zip(lines, rows, strict=True):
        assert line.split()[:3] == [str(row["number"]), "finished", f"{row['reward']:.4f}"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_exported_children_are_all_that_the_journal_holds(real, tmp_path, kind, capfd):
    out = tmp_path / "out"
    shutil.copytree(real, out)
    assert main([*TINY, "--children", "4", "--out", str(out), "--export", kind]) == 0
    text = (out / f"children.{kind}").read_text()
    if kind == "jsonl":
        found = [json.loads(line) for line in text.splitlines()]
    else:
        found = [dict(row) for row in csv.DictReader(text.splitlines())]
    with Journal(out / "journal.sqlite") as journal:
        expected = [vars(record) for record in journal.children()]
    nested = ("actions", "architecture", "costs", "curve", "metrics")
    if kind == "csv":
        found = [
            {n: json.loads(text) if n in nested else text for n, text in row.items()} for row in found
        ]
        expected = [
            {n: v if n in nested else "" if v is None else str(v) for n, v in row.items()}
            for row in expected
        ]
    assert found == json.loads(json.dumps(expected))


def test_a_search_that_goes_on_keeps_the_winner_of_the_retrained(retrained, tmp_path, capfd):
    """Unless it finds a child that is better than those that were."""
    out = tmp_path / "out"
    shutil.copytree(retrained, out)
    best = (out / "best.json").read_bytes()
    assert main([*TINY, "--children", "4", "--out", str(out)]) == 0
    assert (out / "best.json").read_bytes() == best
    told = facts(run(capfd, "best", out))
    assert f"<b>child {told['child']}</b> with a reward of" in (out / "report.html").read_text()


def _touched(path):
    path.touch()


def _opened(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("pragma journal_mode = wal")


@pytest.mark.parametrize("begin", [_touched, _opened])
def test_a_retraining_that_was_killed_at_its_beginning_counts_for_nothing(real, tmp_path, begin, capfd):
    out = tmp_path / "out"
    shutil.copytree(real, out)
    begin(out / "retrained.sqlite")
    assert "retrained" not in facts(run(capfd, "best", out))
    assert main([*TINY, "--children", "4", "--out", str(out)]) == 0
    assert (out / "best.json").read_bytes() == (real / "best.json").read_bytes()
    assert main([*TINY, "--children", "4", "--retrain", "1", "--out", str(out)]) == 0
    assert "retrained" in facts(run(capfd, "best", out))


def test_a_damaged_retraining_is_an_error_before_the_search_goes_on(real, tmp_path, capfd):
    out = tmp_path / "out"
    shutil.copytree(real, out)
    (out / "retrained.sqlite").write_text("noise" * 999)
    before = contents(out)
    assert main([*TINY, "--children", "6", "--out", str(out)]) == 1
    line = refused(capfd, "best", out)
    assert line.startswith(f"nasnet-zoo: {out}/retrained.sqlite: expected the journal of a search.")
    after = contents(out)
    assert before == {name: after[name] for name in before}


def test_the_winner_is_one_of_the_retrained_while_they_are_the_best(real):
    first, second, *_ = best = ranked(read_results(real).children)
    again = [replace(first, reward=0.3), replace(second, reward=0.4)]
    assert [record.number for record in ranked_retrained(best, again)] == [
        second.number,
        first.number,
    ]
    assert ranked_retrained(best, []) == []
    assert ranked_retrained(best, [replace(first, reward=0.3), replace(second, reward=None)]) == []
    better = replace(first, number=99, key="[9]", reward=1.0)
    assert ranked_retrained([*best, better], again) == []


# === A search of which we know what it found ===

SPACE = NASNetSpace(2, ("identity", "sep_3x3", "max_3x3"), ("add",), cells=2)
WHY = "images too small\nfor this child"


def sampled(folder, children):
    """Searches; of the children every third cannot be trained, and every sixth is stopped."""
    # The cost of a random child is asked for first, to see which ones there are.
    numbers = itertools.count(-1)

    def train(trial):
        if trial.number % 3 == 2:
            raise ValueError(WHY)
        reward = (7 * trial.number % 10) / 10
        status = "stopped" if trial.number % 6 == 1 else "finished"
        return Result(reward, (reward / 2, reward), status)

    def cost(genotype):
        return {"parameters": 10_000 - (next(numbers) // 2) * 1000, "mult_adds": 2_500_000}

    journal = Journal(folder / "journal.sqlite", {"policy": "random", "space.kind": "nasnet"})
    executor = Serial(Function(train, cost))
    run_search(RandomSearch(SPACE), SPACE, executor, journal, children, Synchronous(5))
    return journal


def untrained(record, number):
    return replace(record, number=number, state="asked", reward=None, curve=(), message=None)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    journal = sampled(folder, 10)
    # The twelfth is the third again, and the last waits for its turn.
    third, last = replace(journal.child(2), number=12, same_as=2, message=None), journal.child(0)
    journal.commit_ask([untrained(last, 10), third])
    journal.close()
    return folder


@pytest.fixture
def folder(known):
    return known


def test_a_child_that_failed_is_shown_with_its_reason(folder, tmp_path, capfd):
    out = run(capfd, "list", folder, "--sort", "number", "--json", tmp_path / "l.json")
    rows = {row["number"]: row for row in json.loads((tmp_path / "l.json").read_text())}
    failed = {number for number, row in rows.items() if row["message"]}
    assert failed == {2, 5, 8, 12} == {n for n, row in rows.items() if row["state"] == "failed"}
    assert {rows[number]["message"] for number in failed} == {" ".join(WHY.split())}
    line = next(line for line in out.splitlines() if line.split()[0] == "2")
    assert line.rstrip().endswith("  images too small for this child")
    assert {number for number, row in rows.items() if row["state"] == "stopped"} == {1, 7}
    for number in (2, 12):
        told = facts(run(capfd, "show", folder, number))
        assert (told["state"], told["error"]) == ("failed", "images too small for this child")
    assert told["same as"] == "child 2"


def test_a_child_in_full(folder, tmp_path, capfd):
    record = read_results(folder).child(7)
    out = run(capfd, "show", folder, 7, "--picture", tmp_path / "child.svg")
    told = facts(out)
    assert (told["reward"], told["learning curve"]) == ("0.9000", "0.4500, 0.9000")
    assert (told["parameters"], told["mult-adds"], told["minibatch"]) == ("7,000", "2.50 M", "1")
    assert (told["seed"], told["state"]) == (str(record.seed), "stopped")
    genotype = Genotype.from_dict({"name": "child 7", **record.architecture})
    assert (tmp_path / "child.svg").read_text(encoding="utf-8") == genotype_svg(genotype)
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.split("\n\n")[1].splitlines()[1:]]
    states = ("h_i", "h_i-1", "2", "3")
    expected = []
    for name, cell in (("normal", genotype.normal), ("reduction", genotype.reduction)):
        for k, block in enumerate(cell.blocks):
            left, right = (
                f"{name} of {states[state]}"
                for name, state in zip(block.operations, block.inputs, strict=True)
            )
            leaves = ["yes"] if 2 + k in cell.outputs else []
            expected.append([name, str(2 + k), left, right, "add", *leaves])
    assert lines == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # Rewards of 0, 1, 3, 4, 6, 7 and 9: 0, 0.7, 0.1, 0.8, 0.2, 0.9 and 0.3; the failed have 0.
        ("reward", [7, 4, 1, 9, 6, 3, 0, 2, 5, 8, 12, 10]),
        ("number", [*range(11), 12]),
        ("parameters", [8, 9, 6, 7, 4, 5, 2, 3, 12, 0, 1, 10]),
    ],
)
def test_the_order_of_a_list(folder, order, expected, tmp_path, capfd):
    for top in (None, 4):
        words = [] if top is None else ["--top", top]
        out = run(capfd, "list", folder, "--sort", order, *words, "--csv", tmp_path / "l.csv")
        assert [int(line.split()[0]) for line in out.splitlines()[1:]] == expected[:top]
        with (tmp_path / "l.csv").open() as file:
            assert [int(row["number"]) for row in csv.DictReader(file)] == expected[:top]


def test_the_list_has_the_accuracy_where_the_reward_is_an_expression(tmp_path, capfd):
    command = [*TINY, "--children", "4", "--executor", "serial", "--out", str(tmp_path / "out")]
    command.remove("--processes")
    command.remove("1")
    assert main([*command, "--reward", "accuracy - parameters / 100k"]) == 0
    run(capfd, "list", tmp_path / "out", "--csv", tmp_path / "list.csv")
    with (tmp_path / "list.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        reward = float(row["accuracy"]) - float(row["parameters"]) / 100_000
        assert float(row["reward"]) == pytest.approx(reward)


def test_a_stopped_child_is_not_the_best(folder, capfd):
    assert facts(run(capfd, "best", folder))["child"] == "4"


# === While it runs, and after it was killed ===


def test_a_search_is_read_while_it_runs(tmp_path, capfd):
    with locked(tmp_path), closing(sampled(tmp_path, 5)) as journal:
        assert len(run(capfd, "list", tmp_path).splitlines()) == 6
        before = contents(tmp_path)
        assert facts(run(capfd, "best", tmp_path))["reward"] == "0.8000"
        after = contents(tmp_path)
        for name in ("journal.sqlite", "journal.sqlite-wal"):
            assert after[name] == before[name]
        assert after.keys() == before.keys()
        # It goes on, and what it adds is seen.
        journal.commit_ask([untrained(journal.child(0), 5)])
        assert len(run(capfd, "list", tmp_path).splitlines()) == 7


KILLED = """
import os, pathlib, signal, sys
sys.path[:0] = {tests!r}
from test_results import sampled
sampled(pathlib.Path({folder!r}), 5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_search_left_in_its_log_is_read_and_stays_there(tmp_path, request, capfd):
    code = KILLED.format(tests=list(map(str, request.path.parents[:2])), folder=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    before = contents(tmp_path)
    assert before["journal.sqlite-wal"]
    assert len(run(capfd, "list", tmp_path).splitlines()) == 6
    after = contents(tmp_path)
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        assert after[name] == before[name]


# === What is refused ===


@pytest.mark.parametrize("action", [["best"], ["list"], ["show", "0"]])
def test_a_folder_that_holds_no_search_is_told_in_one_line(action, tmp_path, capfd):
    name, *number = action
    (tmp_path / "file").write_text("mine")
    for path, received in [
        (tmp_path, "a folder without"),
        (tmp_path / "none", "no such folder"),
        (tmp_path / "file", "a file"),
    ]:
        line = refused(capfd, name, path, *number)
        expected = "expected the folder of a search (with journal.sqlite)"
        assert line == f"nasnet-zoo: {path}: {expected}. Received: {received}"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_shown_or_written_is_told_in_one_line(folder, tmp_path, capfd):
    journal = folder / "journal.sqlite"
    for words, message in [
        (["show", folder, "13"], "expected the number of a child, 0 to 11. Received: 13"),
        (["show", folder, "0", "--picture", tmp_path / "a.png"], "a picture of type svg"),
        (["show", folder, "0", "--picture", tmp_path / "no/a.svg"], "in an existing folder"),
        (["best", folder, "--out", journal], "expected the name of a file of its own"),
        (
            ["list", folder, "--sort", "x"],
            "Expected sort: one of reward, number, parameters, mult_adds. Received: x",
        ),
        (["list", folder, "--csv", journal], "expected the name of a file of its own"),
        (["list", folder, "--json", tmp_path / "no/a.json"], "in an existing folder"),
    ]:
        assert message in refused(capfd, *words)
    assert not list(tmp_path.iterdir())


def test_a_search_without_a_trained_child_has_no_best(tmp_path, capfd):
    Journal(tmp_path / "journal.sqlite", {}).close()
    assert "expected a search with a trained child. Received: none" in refused(capfd, "best", tmp_path)
    assert "expected the number of a child, none so far" in refused(capfd, "show", tmp_path, 0)
    assert len(run(capfd, "list", tmp_path).splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected --data, --out. Received: none"),
        (["--data", "digits"], "expected --out. Received: none"),
        (["unknown"], "expected the options of this command. Received: unknown"),
        (["--data", "digits", "best", "folder"], "Received: best folder"),
        (["list", "folder", "--top", "0"], "--top: expected an int of at least 1 or none"),
        (["show", "folder", "-1"], "Expected number: an int of at least 0"),
    ],
)
def test_wrong_usage_is_one_line(words, message, capfd):
    assert main(["search", *words]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line


def test_the_help_shows_the_actions(capfd):
    with pytest.raises(SystemExit):
        main(["search", "--help"])
    out = capfd.readouterr().out
    assert "--data DATA" in out
    assert "`nasnet-zoo search best`, `list` and `show`" in out
