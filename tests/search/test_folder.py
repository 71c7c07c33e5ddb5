import json
import os
import re
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
from nasnet_zoo.search.folder import Settings
from nasnet_zoo.search.journal import Journal

pytestmark = pytest.mark.tensorflow

TINY = [
    *("--data", "digits", "--images", "200", "--processes", "1", "--minibatch", "2"),
    *("--space", "blocks=1", "cells=1", "operations=identity,max_3x3,avg_3x3"),
    *("--budget", "steps=4", "filters=2", "stem_filters=2", "batch_size=16", "parts=2"),
]


@pytest.fixture
def ctrl_c_counts():
    """Ctrl-C counts here and in children, though a shell has what runs in its background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def journal_of(out):
    return Journal(out / "journal.sqlite", json.loads((out / "settings.json").read_text()))


def children(out):
    """What the children are and became, and the policy's state; None before there is a journal."""
    try:
        with closing(journal_of(out)) as journal:
            keys = ("number", "tokens", "log_probability", "seed", "state", "reward", "same_as")
            return [[getattr(r, key) for key in keys] for r in journal.children()], journal.policy()
    except (OSError, ValueError):
        return None


def finished(out):
    found = children(out)
    return sum(child[4] == "finished" for child in found[0]) if found else 0


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
    assert "begun there, with seed=0. Received: seed=1" in capfd.readouterr().err
    assert main([*command, "--compare", str(tmp_path)]) == 1
    assert "Expected the folder of a search to compare with" in capfd.readouterr().err
    assert main([*command, "--compare", str(out)]) == 0
    assert f"minibatch {minibatches}: best so far" in capfd.readouterr().out
    after, (rounds, _) = children(out)
    assert [child[:4] for child in before] == [child[:4] for child in after[: len(before)]]
    assert (rounds, {child[4] for child in after}) == (minibatches, {"finished"})
    with closing(journal_of(out)) as journal:
        best = max(journal.children(), key=lambda record: (record.reward, -record.number))
        assert len(journal.told()) == minibatches
    genotype = Genotype.load(out / "best.json")
    assert genotype == Genotype.from_dict(best.genotype)
    report = (out / "report.html").read_text()
    assert f"<b>{genotype.name}</b> did best with a reward of {best.reward:.4f}" in report
    assert "random search" in report
    model = NASNet(out / "best.json", 1, 2, "cifar", 2, input_shape=(8, 8, 1), classes=10)
    assert model.output_shape == (None, 10)


@pytest.mark.slow
@pytest.mark.usefixtures("ctrl_c_counts")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_continues_exactly(tmp_path, kind):
    command = [sys.executable, "-m", "nasnet_zoo", "search", *TINY, "--children", "6", "--tensorboard"]
    command += ["--options", "learning_rate=0.01", "--retrain", "2", "--retrain-budget", "steps=8"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command, "--out", str(killed)], stderr=subprocess.DEVNULL)
    while finished(killed) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(kind)
    assert process.wait() == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[kind]
    until = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in started):
        assert time.monotonic() < until, "a worker outlives the search"
        time.sleep(0.1)
    for out in (killed, whole):
        assert subprocess.run([*command, "--out", str(out)]).returncode == 0
    (found, (rounds, state)), (expected, (_, expected_state)) = children(killed), children(whole)
    assert rounds == 3
    assert found == expected
    for name, values in expected_state.items():
        np.testing.assert_array_equal(state[name], values, err_msg=name)
    assert (killed / "best.json").read_bytes() == (whole / "best.json").read_bytes()
    assert any((killed / "tensorboard").iterdir())
    with closing(sqlite3.connect(killed / "retrained.sqlite")) as retrained:
        assert retrained.execute("select state from children").fetchall() == [("finished",)] * 2


def test_a_search_by_shared_weights_goes_on_and_trains_its_best_from_scratch(tmp_path):
    command = ["search", *TINY, "--shared-steps", "3"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert main([*command, "--out", str(parts), "--children", "2"]) == 0
    assert main([*command, "--out", str(parts), "--children", "4", "--retrain", "1"]) == 0
    assert main([*command, "--out", str(whole), "--children", "4"]) == 0
    (found, (rounds, state)), (expected, (_, expected_state)) = children(parts), children(whole)
    assert rounds == 2
    assert found == expected
    np.testing.assert_array_equal(state["weights"], expected_state["weights"])
    with closing(sqlite3.connect(parts / "retrained.sqlite")) as retrained:
        ((number, result),) = retrained.execute("select number, result from children")
    # The one with the greatest reward, trained for several parts.
    assert found[number][5] == max(child[5] for child in found)
    assert len(json.loads(result)["rewards"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", "speed=3"], "Expected options of the policy ppo. Received: .*'speed'"),
        (["--options", "clip=x"], "Expected a number for clip. Received: 'x'"),
        (["--space", "operations=conv_9x9"], "conv_9x9"),
        (["--budget", "steps=0"], "Expected steps and batch_size of at least 1"),
        (["--budget", "step=1"], "Expected a field of cells, filters, .* Received: 'step'"),
        (["--children", "0"], "Expected children of at least 1"),
        (["--held-out", "1"], "Received: .*held_out=1.0"),
        (["--stop-hopeless", "2"], "Expected a quantile above 0 and below 1"),
        (["--shared-steps", "0"], "Expected shared_steps of at least 1"),
        (["--shared-steps", "9", "--stop-hopeless", "0.5"], "and no stop_hopeless"),
        (["--images", "10"], "expected enough images of a class to hold out"),
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


def test_settings_in_one_level_name_every_field():
    settings = Settings(options={"clip": 0.1})
    flat = settings.to_dict()
    assert (flat["options.clip"], flat["budget.steps"], flat["space.cells"]) == (0.1, 300, 2)
    assert json.loads(json.dumps(flat)).keys() == flat.keys()
