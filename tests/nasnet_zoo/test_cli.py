import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
import tensorflow as tf

from nasnet_zoo.cells import NASNET_A, OPERATIONS, Genotype
from nasnet_zoo.cli import COMMANDS, EXIT_STATUS, GROUPS, command_function, main
from nasnet_zoo.cli.options import General, UsageError, documentation, read, read_general
from nasnet_zoo.models import NASNetA_1_384_FashionMNIST
from nasnet_zoo.quiet import quiet_stderr
from nasnet_zoo.search.nasnet.settings import Budget
from nasnet_zoo.training.recipes import RECIPES, changed

BACKENDS = ("keras", "tensorflow", "jax", "torch")
#: Runs a command, and prints its exit status and the backends that were imported.
RUN = """
import sys
from nasnet_zoo.cli import COMMANDS, command_function, main
from nasnet_zoo.cli.options import UsageError, read
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(status, [name for name in {backends} if name in sys.modules])
"""


def run(*words):
    code = RUN.format(backends=BACKENDS)
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("command", ["", "detect", *COMMANDS])
def test_help_and_wrong_options_import_no_backend(command):
    helped = run(*command.split(), "--help").stdout.splitlines()
    assert helped[0].startswith(f"usage: nasnet-zoo {command}".rstrip())
    assert helped[-1] == "0 []"
    wrong = run(*command.split(), "--no-such-option", "1")
    assert wrong.stdout == "2 []\n"
    assert wrong.stderr.startswith(f"nasnet-zoo {command}".rstrip() + ": ")
    assert wrong.stderr.endswith("--help)\n")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "nasnet-zoo: expected a command of demo, .*. Received: none"),
        ("no-such-command", "nasnet-zoo: expected a command of .*. Received: 'no-such-command'"),
        ("demo --seed x", "nasnet-zoo demo: --seed: expected an int. Received: 'x'"),
        ("demo --seed", "nasnet-zoo demo: expected a value for --seed. Received: fewer"),
        ("demo --seed -1", "nasnet-zoo demo: Expected seed: an int of at least 0 .* seed=-1"),
        ("predict model.keras", "nasnet-zoo predict: expected images. Received: none"),
        (
            "detect predict d.keras a.png --image-size 32",
            "--out, --json or both. Received: nei",
        ),
        ("convert w --model m --out o --background x", "--background: expected one of drop, keep. Rec"),
        ("train", "nasnet-zoo train: expected .*--data, --out. Received: none"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(words, message, capsys):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.endswith("--help)\n")
    assert error.count("\n") == 1


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nasnet-zoo {version('nasnet-zoo')}\n"


def recipe_of(*words):
    """The recipe that ``nasnet-zoo train`` takes from words."""
    required = ["--data", "digits", "--out", "out"]
    call = read(command_function("train"), ["cifar10", *required, *words], "nasnet-zoo train")
    return call.keywords["settings"]


def test_an_option_is_repeated():
    words = ["--import", "one", "models", "--import", "two"]
    assert read_general(words) == (General(imports=("one", "two")), ["models"])


def test_options_replace_the_fields_of_a_recipe(tmp_path):
    NASNET_A.save(tmp_path / "best.json")
    words = "--run.epochs 3 --optimizer.clip-norm none --augmentation.no-flip --optimizer.ema 0.5"
    found = recipe_of(*words.split(), "--model.genotype", str(tmp_path / "best.json"))
    assert recipe_of() == RECIPES["cifar10"]
    assert found == changed(
        RECIPES["cifar10"],
        run={"epochs": 3},
        optimizer={"clip_norm": None, "ema": 0.5},
        augmentation={"flip": False},
        model={"genotype": NASNET_A},
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--run.epochs x", "--run.epochs: expected an int. Received: 'x'"),
        ("--run.epochs 0", "Expected epochs: an int of at least 1. Received: epochs=0"),
        ("--epochs 1", "expected the options of this command. Received: --epochs 1"),
        (
            "--augmentation.crop centre",
            "expected one of none, pad, upsample, distorted. Received: 'centre'",
        ),
        ("--regularization.label-smoothing 1", "at least 0 and below 1. Received: label_smoothing=1"),
        ("--optimizer.learning-rate nan", "expected a finite number. Received: 'nan'"),
        ("--model.preset resnet", "Expected one of nasnet_mobile, .* Received: .*'resnet'"),
    ],
)
def test_wrong_fields_of_a_recipe_are_refused(words, message):
    with pytest.raises(UsageError, match=message):
        recipe_of(*words.split())


def test_the_best_are_retrained_with_four_times_the_steps_of_the_budget():
    words = "--data d --out o --budget.steps 5 --budget.filters 3 --retrain-budget.filters 6"
    call = read(command_function("search"), words.split(), "nasnet-zoo search")
    assert call.keywords["settings"].budget == Budget(steps=5, filters=3)
    assert call.keywords["retrain_budget"] == Budget(steps=20, filters=6)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (KeyError("iscrowd"), "a defect of nasnet-zoo.* --traceback shows where. KeyError: 'iscrowd'"),
        (MemoryError("Unable to allocate 9 TiB"), "expected images.* Unable to allocate 9 TiB"),
        (ValueError("two\nlines"), "two lines"),
    ],
)
def test_an_error_of_any_kind_is_one_line(raised, told, monkeypatch, capfd):
    def fail():
        warnings.warn("a warning of a command", stacklevel=2)
        raise raised

    monkeypatch.setattr("nasnet_zoo.reports.tables.models_table", fail)
    assert main(["models"]) == 1
    *before, last = capfd.readouterr().err.splitlines()
    assert re.fullmatch(f"nasnet-zoo: {told}", last)
    assert not [line for line in before if "Traceback" in line]
    assert main(["models", "--traceback"]) == 1
    *before, last = capfd.readouterr().err.splitlines()
    assert re.fullmatch(f"nasnet-zoo: {told}", last)
    assert "Traceback (most recent call last):" in before
    assert any("in fail" in line for line in before)


def test_memory_that_tensorflow_cannot_have_is_one_line(monkeypatch, capfd):
    def fail():
        tf.zeros((1 << 40, 1 << 10))

    monkeypatch.setattr("nasnet_zoo.reports.tables.models_table", fail)
    assert main(["models"]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("nasnet-zoo: expected images")


@pytest.mark.tensorflow
def test_operations_of_a_module_are_known_to_every_command(tmp_path, capfd):
    (tmp_path / "mine.py").write_text(
        "from nasnet_zoo.cells import register_operation\n"
        "from nasnet_zoo.cells.operations import separable\n"
        "register_operation('sep_9x9', lambda stride, channels, filters: separable(9, stride))\n"
    )
    cell = {"blocks": [{"inputs": [0, 1], "operations": ["sep_9x9", "identity"]}]}
    genotype, out = tmp_path / "mine.json", tmp_path / "m.tflite"
    genotype.write_text(json.dumps({"normal": cell, "reduction": cell}))
    command = ["export", "nasnet_a_1_384_fashion_mnist", "--genotype", str(genotype), "--out", str(out)]
    assert main(command) == 2
    assert "Received: 'sep_9x9'" in capfd.readouterr().err
    try:
        assert main([*command, "--import", str(tmp_path / "mine.py")]) == 0
    finally:
        OPERATIONS.pop("sep_9x9", None)
    assert "values as simulated" in capfd.readouterr().out


@pytest.mark.tensorflow
def test_warnings_of_a_command_are_shown(tmp_path):
    """Only what the backend writes while it starts is hidden."""
    weights = tmp_path / "three.weights.h5"
    NASNetA_1_384_FashionMNIST(classes=3).save_weights(weights)
    command = ["export", "nasnet_a_1_384_fashion_mnist", "--weights", str(weights)]
    done = subprocess.run(
        [sys.executable, "-m", "nasnet_zoo", *command, "--out", str(tmp_path / "m.onnx")],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("nasnet-zoo: warning: Not all weights were used")
    assert "predictions" in line


def test_help_lists_the_commands_by_task(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = capsys.readouterr().out
    places = [out.index(f"\n{task}:\n") for task in GROUPS]
    assert places == sorted(places)
    for (task, group), end in zip(GROUPS.items(), [*places[1:], len(out)], strict=True):
        part = out[out.index(f"\n{task}:\n") : end]
        assert all(re.search(f"^  {name} +[A-Z].*\\.$", part, re.MULTILINE) for name in group)
    assert "--traceback" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_the_command_takes(name, capsys):
    (example,) = documentation(command_function(name)).examples
    words = shlex.split(example.description.partition(" > ")[0])
    prog = f"nasnet-zoo {name}"
    assert words[: len(prog.split())] == prog.split()
    read(command_function(name), words[len(prog.split()) :], prog)
    with pytest.raises(SystemExit, match="0"):
        main([*name.split(), "--help"])
    assert f"\nExample:\n  {example.description}\n" in capsys.readouterr().out


def test_exit_statuses_are_documented(capsys):
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.*?) \|$", page, re.MULTILINE)
    assert {int(status): told for status, told in rows} == EXIT_STATUS
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert all(f"{status} {told}" in out for status, told in EXIT_STATUS.items())


def test_ctrl_c_ends_with_130(monkeypatch, capfd):
    def stop():
        raise KeyboardInterrupt("stopped after 3 children")

    monkeypatch.setattr("nasnet_zoo.reports.tables.models_table", stop)
    assert main(["models"]) == 130
    assert capfd.readouterr().err == "nasnet-zoo: stopped after 3 children\n"


def test_a_reader_that_has_gone_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "nasnet_zoo", "models"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_error_is_one_line_and_no_files(tmp_path, capfd):
    (tmp_path / "set").mkdir()
    out = tmp_path / "out"
    assert main(["demo", "--data", str(tmp_path / "set"), "--out", str(out)]) == 1
    output = capfd.readouterr()
    assert output.err == (
        f"nasnet-zoo: {tmp_path / 'set'}: expected at least two class folders. Received: []\n"
    )
    assert not out.exists()


def test_the_module_is_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nasnet_zoo", "demo", "--data", "missing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "nasnet-zoo: Expected 'digits', the path of a folder, or the name of a data set of TFDS. "
        "Received: 'missing', which is no such folder and no such data set"
    )
    assert "Traceback" not in done.stderr


def test_quiet_keeps_native_notes_away_and_exceptions_alive(capfd):
    with pytest.raises(ValueError, match="told"), quiet_stderr():  # noqa: PT012
        os.write(2, b"a note of a native library\n")
        raise ValueError("told")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


STARTED = """
from nasnet_zoo.quiet import start_backend
start_backend()
import tensorflow as tf
tf.function(tf.transpose)(tf.zeros((2, 2), tf.int32))
"""


@pytest.mark.tensorflow
def test_a_started_backend_says_nothing_of_the_processor():
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True)
    assert done.stderr == ""


# === The demo ===


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_tiny_demo_does_the_main_job(tmp_path):
    from rich.console import Console

    from nasnet_zoo.demo import SEARCH, run_demo
    from nasnet_zoo.export.formats import load_runtime

    budget = dataclasses.replace(SEARCH.budget, filters=4, steps=40)
    tiny = dataclasses.replace(SEARCH, images=600, budget=budget, minibatch=2)
    with (tmp_path / "log").open("w") as log:
        results = [run_demo("digits", tmp_path / out, 3, tiny, 3, 4, Console(file=log)) for out in "ab"]
    result, again = results
    assert sorted(record.number for record in result.ranking) == [0, 1, 2]
    rewards = [record.reward for record in result.ranking]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards == [record.reward for record in again.ranking]
    assert result.accuracy > 0.4
    assert Genotype.load(tmp_path / "a" / "winner.json") == result.winner
    written = {path.name for path in (tmp_path / "a").iterdir()}
    pictures = {"winner.svg", "winner-normal.svg", "winner-reduction.svg"}
    models = {"saved_model", "model.tflite", "model.onnx"}
    cards = {f"{name}.md" for name in models}
    assert written == {"winner.json", "report.html", "front"} | pictures | models | cards
    for export in result.exports:
        assert export.difference < 1e-4
        assert abs(export.accuracy - result.accuracy) <= 1 / 300
        assert load_runtime(tmp_path / "a" / export.name).size == export.size
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 3
    assert "a sample of 959 out of 1,797 images" in page
