import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from nasnet_zoo import NASNet
from nasnet_zoo.cells import Genotype
from nasnet_zoo.cli import main
from nasnet_zoo.files import locked
from nasnet_zoo.search import Journal, Settings

pytestmark = pytest.mark.tensorflow

TINY = [
    *("--data", "digits", "--images", "200", "--processes", "1", "--minibatch", "2"),
    *("--space.blocks", "1", "--space.cells", "1"),
    *("--space.operations", "identity", "max_3x3", "avg_3x3", "--budget.steps", "4"),
    *("--budget.filters", "2", "--budget.stem-filters", "2", "--budget.batch-size", "16"),
    *("--budget.evaluations", "2"),
]


def journal_of(out):
    return Journal(out / "journal.sqlite", json.loads((out / "settings.json").read_text()))


def children(out):
    """What the children are and became, and the policy's state; None before there is a journal."""
    try:
        with closing(journal_of(out)) as journal:
            keys = ("number", "actions", "log_probabilities", "seed", "state", "reward", "same_as")
            records = [[getattr(r, key) for key in keys] for r in journal.children()]
            return records, (len(journal.minibatches()), journal.state())
    except (OSError, ValueError):
        return None


def finished(out):
    found = children(out)
    return sum(child[4] in ("finished", "stopped") for child in found[0]) if found else 0


@pytest.mark.usefixtures("ctrl_c_counts")
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, capfd):
    out = tmp_path / "out"
    command = ["search", *TINY, "--policy", "random", "--out", str(out)]

    def interrupt():
        while not finished(out):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert main([*command, "--children", "1000"]) == 130
    thread.join()
    done = finished(out)
    assert 1 <= done < 1000
    errors = capfd.readouterr().err.splitlines()
    assert errors[-1] == (
        f"nasnet-zoo: stopped with {done} of 1000 children done; the same command goes on from there"
    )
    before, _ = children(out)
    minibatches = done // 2 + 1  # the one under way is the last
    command += ["--children", str(2 * minibatches)]
    assert main([*command, "--seed", "1"]) == 1
    told = capfd.readouterr().err
    assert "expected seed=0, which the search in this folder has. Received: seed=1" in told
    assert main([*command, "--compare", str(tmp_path)]) == 1
    assert "journal.sqlite: expected the journal of a search. Received: no such file" in (
        capfd.readouterr().err
    )
    assert main([*command, "--compare", str(out)]) == 0
    assert f"minibatch {minibatches}: best so far" in capfd.readouterr().out
    after, (rounds, _) = children(out)
    assert [child[:4] for child in before] == [child[:4] for child in after[: len(before)]]
    assert (rounds, {child[4] for child in after}) == (minibatches, {"finished"})
    with closing(journal_of(out)) as journal:
        best = max(journal.children(), key=lambda record: (record.reward, -record.number))
        assert len(journal.minibatches()) == minibatches
    genotype = Genotype.load(out / "best.json")
    assert genotype.to_dict() == {"name": best.name, **best.architecture}
    report = (out / "report.html").read_text()
    assert f"<b>{genotype.name}</b> did best with a reward of {best.reward:.4f}" in report
    assert "random search" in report
    model = NASNet(out / "best.json", 1, 2, "cifar", 2, input_shape=(8, 8, 1), classes=10)
    assert model.output_shape == (None, 10)


@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (signal.SIGKILL, []),
        (signal.SIGKILL, ["--halving-factor", "2"]),
        pytest.param(signal.SIGINT, [], marks=pytest.mark.slow),
    ],
    ids=["kill", "kill-halving", "ctrl-c"],
)
def test_a_killed_command_continues_exactly(tmp_path, kind, options):
    arguments = ["search", *TINY, "--children", "6", "--options", "learning_rate=0.01", *options]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "nasnet_zoo", *arguments, "--out", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while finished(killed) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(kind)
    assert process.wait() == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[kind]
    assert finished(killed) < 6
    until = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in started):
        assert time.monotonic() < until, "a worker outlives the search"
        time.sleep(0.1)
    for out in (killed, whole):
        assert main([*arguments, "--out", str(out)]) == 0
    (found, (rounds, state)), (expected, (_, expected_state)) = children(killed), children(whole)
    assert rounds == 3
    assert found == expected
    assert state.keys() == expected_state.keys()
    for name, values in expected_state.items():
        np.testing.assert_array_equal(state[name], values, err_msg=name)
    assert (killed / "best.json").read_bytes() == (whole / "best.json").read_bytes()
    kept = [{path.name for path in (out / "checkpoints").glob("*")} for out in (killed, whole)]
    assert kept[0] == kept[1]
    assert bool(kept[0]) == bool(options)


def test_the_best_retrained_are_in_the_report_and_the_winner_is_best_json(tmp_path):
    out = tmp_path / "out"
    command = ["search", *TINY, "--children", "4", "--policy", "random", "--tensorboard"]
    command += ["--retrain", "2", "--retrain-budget.steps", "8", "--out", str(out)]
    assert main(command) == 0
    with closing(Journal(out / "retrained.sqlite")) as journal:
        records = journal.children()
        winner, other = sorted(records, key=lambda record: (-record.reward, record.number))
    assert Genotype.load(out / "best.json").to_dict() == {"name": winner.name, **winner.architecture}
    report = (out / "report.html").read_text()
    assert f"the winner is <b>{winner.name}</b> with a reward of {winner.reward:.4f}" in report
    assert f"{other.reward:.4f}" in report
    assert any((out / "tensorboard").iterdir())


def test_a_search_by_shared_weights_goes_on_and_trains_its_best_from_scratch(tmp_path):
    one = TINY.index("--processes")
    command = ["search", *TINY[:one], *TINY[one + 2 :], "--shared-steps", "3"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert main([*command, "--out", str(parts), "--children", "2"]) == 0
    assert main([*command, "--out", str(parts), "--children", "4", "--retrain", "1"]) == 0
    assert main([*command, "--out", str(whole), "--children", "4"]) == 0
    (found, (rounds, state)), (expected, (_, expected_state)) = children(parts), children(whole)
    assert rounds == 2
    assert found == expected
    name = "evaluator.weights"
    np.testing.assert_array_equal(state[name], expected_state[name])
    with closing(sqlite3.connect(parts / "retrained.sqlite")) as retrained:
        ((number, curve),) = retrained.execute("select number, curve from children")
    # The one with the greatest reward, trained for several parts.
    assert found[number][5] == max(child[5] for child in found)
    assert len(json.loads(curve)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", "speed=3"], "Expected options of the policy ppo: .*clip.* Received: speed"),
        (["--options", "clip=x"], "Expected clip: a finite number .* Received: clip='x'"),
        (
            ["--options", "learning_rate=nan"],
            "Expected learning_rate: .* Received: learning_rate='nan'",
        ),
        (["--options", "correction=none"], "Expected correction: one of naive, ratio, decoupled"),
        (["--options", "seed=3"], "Expected options of the policy ppo: .* Received: seed"),
        (["--options", "clip=-1"], "Expected clip: .* above 0 and below 1. Received: clip=-1"),
        (["--options", "learning_rate=0"], "Expected learning_rate: a finite number above 0"),
        (["--options", "epochs=1.5"], "Expected epochs: an int of at least 1. Received: epochs=1.5"),
        (["--policy", "random", "--options", "x=1"], "policy random: none. Received: x"),
        (
            ["--policy", "evolution", "--options", "sample=101"],
            "Expected sample: at most population=100",
        ),
        (["--import", "no_such_module"], "the name of a Python module .* Received: 'no_such_module'"),
        (["--import", "no_such.py"], "no_such.py: expected a Python file. Received: no such file"),
        (
            ["--shared-steps", "2", "--executor", "processes"],
            "Expected executor=serial for SharedEvaluator, .* Received: executor=processes",
        ),
        (["--compare", "no-such-folder"], "no-such-folder/journal.sqlite: expected the journal"),
        (["--images", "10"], "expected enough images of a class to hold out"),
        (["--reward", "accuracy * speed"], "names in reward: accuracy, parameters, .* Received: speed"),
        (["--limit", "parameters=1k"], "some child with a reward. .* above the limit: .* at most 1000"),
        (["--limit", "speed=1"], "names in limit: parameters, mult_adds, .* Received: speed"),
    ],
)
def test_what_cannot_be_searched_is_told_in_one_line_and_leaves_nothing(
    arguments, message, tmp_path, capfd
):
    command = ["search", "--data", "digits", "--out", str(tmp_path / "out"), *arguments]
    assert main(command) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("nasnet-zoo: ")
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--children 0", "Expected children: an int of at least 1. Received: children=0"),
        ("--minibatch 0", "Expected minibatch: an int of at least 1. Received: minibatch=0"),
        ("--processes 0", "--processes: expected an int of at least 1 or none. Received: '0'"),
        ("--retrain -1", "Expected retrain: an int of at least 0. Received: retrain=-1"),
        ("--images 0", "--images: expected an int of at least 1 or none. Received: '0'"),
        ("--image-size 1000000", "--image-size: expected .* at most 1024 or none. Received: '1000000'"),
        ("--seed -1", "Expected seed: an int of at least 0 and below 4294967296. Received: seed=-1"),
        ("--held-out nan", "--held-out: expected a finite number. Received: 'nan'"),
        ("--reward accuracy/", "Expected an expression .* Received: accuracy/: invalid syntax"),
        ("--limit parameters=many", "Expected a number such as 0.5, 500k or 12ms. Received: 'many'"),
        ("--held-out 1", "Expected held_out: .* Received: held_out=1.0"),
        ("--shared-steps 0", "--shared-steps: expected an int of at least 1 or none. Received: '0'"),
        ("--shared-steps 9 --early-stop-quantile 0.5", "Expected no early_stop_quantile with"),
        ("--shared-steps 9 --halving-factor 2", "Expected no halving_factor with shared_steps"),
        ("--halving-factor 1", "--halving-factor: expected an int of at least 2 or none. Rec"),
        (
            "--halving-factor 2 --early-stop-quantile 0.5",
            "Expected one of early_stop_quantile and halving_factor. Received: early_stop_quantile=0.5",
        ),
        ("--halving-first 2", "Expected halving_factor with halving_first. Received: halving_first=2"),
        (
            "--halving-factor 2 --halving-first 3",
            "Expected halving to begin below the 3 evaluations of a child. Received: halving_first=3",
        ),
        (
            "--early-stop-quantile 2",
            "--early-stop-quantile: expected .* above 0 and below 1 or none. Rec",
        ),
        ("--shared-steps 9 --asynchronous", "Expected asynchronous=False with shared_steps"),
        (
            "--executor serial --processes 2",
            "Expected options of the executor serial: none. Received: pro",
        ),
        ("--executor grid", "--executor: expected one of"),
        ("--child-timeout 0", "--child-timeout: expected a finite number above 0"),
        ("--retries -1", "Expected retries: an int of at least 0"),
        ("--space.operations conv_9x9", "Expected operations of .* Received: .'conv_9x9'"),
        ("--space.operations identity identity", "each once. Received: identity, identity"),
        ("--space.blocks 13", "Expected blocks: an int of at least 1 and of at most 12"),
        ("--space.cells 3", "Expected cells: an int of at least 1 and of at most 2"),
        ("--space.block 3", "expected the options of this command. Received: --space.block 3"),
        ("--budget.steps 0", "Expected steps: an int of at least 1"),
        ("--budget.evaluations 301", "Expected evaluations: at most steps=300"),
        ("--budget.momentum 1", "Expected momentum: .* below 1"),
        ("--retrain 1 --retrain-budget.steps 0", "Expected steps: an int of at least 1"),
    ],
)
def test_options_out_of_range_are_one_line(words, message, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["search", "--data", "digits", "--out", str(out), *words.split()]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line)
    assert line.endswith("(see nasnet-zoo search --help)")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a finished search."""
    out = tmp_path_factory.mktemp("searched") / "out"
    command = ["search", *TINY, "--policy", "random", "--out", str(out), "--children", "4"]
    assert main(command) == 0
    return out


def refused(command, out, capfd):
    """The one line of a command that ends in an error and changes nothing in its folder."""

    def contents():
        # What SQLite reads a journal by is none of its contents.
        files = (
            p for p in out.rglob("*") if p.is_file() and not re.search("-(shm|wal)$|lock$", p.name)
        )
        return {path: path.read_bytes() for path in files}

    before = contents()
    capfd.readouterr()
    assert main([*command, "--out", str(out)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert contents() == before
    return line


GO_ON = ["search", *TINY, "--policy", "random", "--children", "6"]


def test_a_second_search_of_a_folder_is_refused_while_the_first_runs(searched, capfd):
    with locked(searched):
        assert f"{searched}: expected a folder in which nothing else runs" in (
            refused(GO_ON, searched, capfd)
        )


def test_a_folder_of_other_files_is_refused(tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("mine")
    assert "with journal.sqlite). Received: one with notes.txt" in refused(GO_ON, tmp_path, capfd)
    assert os.listdir(tmp_path) == ["notes.txt"]
    (tmp_path / "notes.txt").rename(tmp_path / "journal.sqlite")
    assert "expected the journal of a search. Received: file is not" in refused(GO_ON, tmp_path, capfd)


@pytest.mark.parametrize("under", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path, under, capfd):
    (tmp_path / "file").write_text("mine")
    command = ["search", "--data", "no such data", "--out", str(tmp_path / under)]
    assert main(command) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "expected a folder" in line
    assert "no such data" not in line


@pytest.mark.parametrize("name", ["journal.sqlite", "settings.json"])
def test_a_search_does_not_start_over_its_results(searched, tmp_path, name, capfd):
    out = tmp_path / "out"
    shutil.copytree(searched, out)
    if name == "journal.sqlite":
        (out / name).unlink()
        assert "with journal.sqlite). Received: one with best.json" in refused(GO_ON, out, capfd)
        (out / name).touch()
        (out / "settings.json").unlink()
        assert f"{out / name}: expected the journal of a search. Received: an empty one" in (
            refused(GO_ON, out, capfd)
        )
        return
    settings = json.loads((out / name).read_text())
    (out / name).write_text(json.dumps(settings | {"budget.steps": 7}))
    assert f"{out / name}: expected budget.steps=4, as in journal.sqlite. Received: budget.steps=7" in (
        refused(GO_ON, out, capfd)
    )
    (out / name).write_text("{")
    assert f"{out / name}: expected settings of a search in JSON" in refused(GO_ON, out, capfd)


def test_a_search_of_another_space_is_no_comparison(searched, tmp_path, capfd):
    command = ["search", "--data", "digits", "--compare", str(searched), "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert (
        "space.blocks=1, which the search in this folder has. Received: space.blocks=5"
        in capfd.readouterr().err
    )
    assert not (tmp_path / "out").exists()


SCRIPT = """
from nasnet_zoo.search import Budget, ExecutorSettings, NASNetSpace, Settings, search_cells

budget = Budget(steps=4, filters=2, stem_filters=2, batch_size=16, evaluations=2)
space = NASNetSpace(1, ("identity", "max_3x3"), cells=1)
settings = Settings("random", space=space, budget=budget, images=200)
search_cells("digits", "out", settings, 1, executor=ExecutorSettings(processes=2))
"""


def test_a_script_without_a_main_guard_is_told_so_and_leaves_nothing(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if re.match(r"\w*Error", line)]
    assert lines == [
        'RuntimeError: Expected a script that searches below `if __name__ == "__main__":`, as every '
        "worker process runs the rest of it. Received: a script that searches without this guard"
    ]
    assert done.stderr.count("Traceback") == 1
    assert not (tmp_path / "out").exists()


OPERATIONS = """
from dataclasses import dataclass

from keras import ops

from nasnet_zoo.cells import register_operation
from nasnet_zoo.cells.operations import conv
from nasnet_zoo.cells.primitives import Primitive

@dataclass(frozen=True)
class Sine(Primitive):
    def __call__(self, x, weights, training, hyper):
        return ops.sin(x), ()

register_operation("sine", lambda stride, channels, filters: (*conv(1, stride), Sine()))
"""


@pytest.mark.usefixtures("registry")
def test_an_imported_file_registers_operations_to_search_with(tmp_path, capfd):
    (tmp_path / "my_sines.py").write_text(OPERATIONS)
    out = tmp_path / "out"
    command = ["search", *TINY, "--policy", "random", "--out", str(out), "--children", "2"]
    command += ["--space.operations", "sine"]
    assert main(command) == 2
    assert "Received: ['sine']" in capfd.readouterr().err
    assert main([*command, "--import", str(tmp_path / "my_sines.py")]) == 0
    assert {child[4] for child in children(out)[0]} == {"finished"}
    assert Genotype.load(out / "best.json").normal.blocks[0].operations == ("sine", "sine")
    (tmp_path / "json.py").write_text("")
    assert main([*command, "--import", str(tmp_path / "json.py")]) == 1
    assert "json.py: expected a file whose name no other module has" in capfd.readouterr().err


def test_settings_in_one_level_name_every_field():
    settings = Settings(options={"clip": 0.1})
    flat = settings.to_dict()
    assert (flat["options.clip"], flat["budget.steps"], flat["space.cells"]) == (0.1, 300, 2)
    assert json.loads(json.dumps(flat)).keys() == flat.keys()
