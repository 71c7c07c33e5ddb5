import json
import math
import pickle
import shlex
import sys
import time

import numpy as np
import pytest

from nasnet_zoo.cells import NASNET_A, Block, CellGenotype, Genotype
from nasnet_zoo.cli import main
from nasnet_zoo.export import load_runtime
from nasnet_zoo.presets import PRESETS
from nasnet_zoo.search import Budget, Journal, LatencyMeter, LatencySettings
from nasnet_zoo.search.images import latency as latency_module
from nasnet_zoo.search.images.child import FastChild, Images
from nasnet_zoo.search.nasnet.sharing import SharedEvaluator, SharedWeights
from nasnet_zoo.search.nasnet.space import NASNetSpace

pytestmark = pytest.mark.tensorflow

BUDGET = Budget(filters=4, stem_filters=4)
CHILD = BUDGET.architecture(NASNET_A, 8, 1)


def genotype(*operations):
    cell = CellGenotype((Block((0, 1), operations),))
    return Genotype("small", cell, cell)


def script(folder, text):
    """A command that runs Python code; its last argument is the file."""
    path = folder / "it's a script.py"
    path.write_text(f"import os, sys, time\nfile = sys.argv[-1]\n{text}\n")
    return shlex.join([sys.executable, str(path)]) + " {file}"


def meter(**settings):
    return LatencyMeter(LatencySettings(**{"latency": "litert", **settings}), CHILD, 3)


# === Settings ===


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latency": "tflite"}, "Expected latency: one of litert, litert-int8, onnx or none"),
        ({"latency_threads": 2}, "Expected latency with latency_threads. Received: latency_threads=2"),
        ({"latency_command": "time {file}"}, "Expected latency with latency_command"),
        (
            {"latency": "onnx", "latency_threads": 2, "latency_command": "time {file}"},
            "Expected latency_threads without latency_command",
        ),
        (
            {"latency": "onnx", "latency_command": "adb shell"},
            "with {file} in it. Received: 'adb shell'",
        ),
        ({"latency": "onnx", "latency_command": ""}, "with {file} in it. Received: ''"),
        ({"latency": "onnx", "latency_command": "a '{file}"}, "No closing quotation"),
        ({"latency": "onnx", "latency_target": "4@1057"}, "a multiple of 24 from 96, such as 4@1056"),
        ({"latency": "onnx", "latency_target": "4@72"}, "a multiple of 24 from 96, such as 4@1056"),
        ({"latency": "onnx", "latency_target": "0@1056"}, "Expected latency_target"),
        ({"latency": "onnx", "latency_target": "mobile"}, "Expected latency_target"),
        ({"latency": "onnx", "latency_image_size": 0}, "Expected latency_image_size"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{")) as error:
        LatencySettings(**settings)
    assert "\n" not in str(error.value)


def test_the_target_is_the_child_or_a_network_of_the_paper():
    assert LatencySettings(latency="onnx").network(CHILD, 3) == (CHILD, 3)
    found, classes = LatencySettings(latency="onnx", latency_image_size=16).network(CHILD, 3)
    assert (found.image_size, found.filters, classes) == (16, 4, 3)
    mobile = PRESETS["nasnet_mobile"]
    target = LatencySettings(latency="onnx", latency_target="4@1056")
    assert target.network(CHILD, 3) == (mobile.architecture, mobile.classes)
    target = LatencySettings(latency="onnx", latency_target="6@4032", latency_image_size=331)
    found, _ = target.network(BUDGET.architecture(genotype("sep_3x3", "identity"), 8, 1), 3)
    assert (found.cells, found.filters, found.image_size) == (6, 168, 331)
    assert found.genotype == genotype("sep_3x3", "identity")


# === On this machine ===


@pytest.mark.parametrize("kind", ["litert", "litert-int8", "onnx"])
def test_children_are_measured_in_their_runtime(kind):
    ours = meter(latency=kind)
    found = ours.measure(genotype("sep_3x3", "max_3x3"))
    assert found.keys() == {"latency", "latency_ratio"}
    assert all(type(value) is float and 0 < value < math.inf for value in found.values())
    assert found["latency"] == found["latency_ratio"] * ours.yardstick.milliseconds
    assert ours.yardstick.runtime.image_shape == (8, 8, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["litert", "litert-int8", "onnx"])
def test_cells_are_measured_at_deployment_size(kind):
    ours = meter(latency=kind, latency_target="4@1056")
    found = ours.measure(genotype("sep_3x3", "max_3x3"))
    assert ours.yardstick.runtime.image_shape == (224, 224, 3)
    # One block a cell is a third of NASNet-A's work and less.
    assert found["latency_ratio"] < 1


def test_evaluators_measure_in_the_process_of_the_search_alone():
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    images = Images(pixels, np.zeros(2, np.int32), pixels, np.zeros(2, np.int32), 3)
    cells, space = genotype("identity", "max_3x3"), NASNetSpace(blocks=1)
    shared = SharedWeights((8, 8, 1), 3, BUDGET)
    for ours in (meter(), None):
        for evaluator in (
            FastChild(images, BUDGET, ours),
            SharedEvaluator(space, shared, images, 1, latency=ours),
        ):
            costs = {**evaluator.cost(cells), **evaluator.measure(cells)}
            known = {"parameters", "mult_adds", "activation_memory"}
            assert costs.keys() == known | ({"latency", "latency_ratio"} if ours else set())
            state = evaluator.state()
            evaluator.restore(state)
            if ours:
                evaluator.restore({**state, "yardstick": np.array(7.5)})
                measured = evaluator.measure(cells)
                assert measured["latency"] == measured["latency_ratio"] * 7.5
                for wrong in (np.array([1.0, 2.0]), np.array(0.0), np.array(math.inf)):
                    with pytest.raises(ValueError, match="Expected yardstick: "):
                        evaluator.restore({**state, "yardstick": wrong})
    # What is sent to workers holds no loaded file.
    child = FastChild(images, BUDGET, meter())
    child.measure(cells)
    sent = pickle.loads(pickle.dumps(child))
    assert "yardstick" in vars(child.latency)
    assert "yardstick" not in vars(sent.latency)


def test_images_that_are_too_small_are_the_childs_failure():
    ours = meter(latency_target="1@96", latency_image_size=2)
    with pytest.raises(ValueError, match="the images are too small: Stem_Conv has the shape"):
        ours.measure(NASNET_A)


@pytest.mark.usefixtures("custom_operations")
def test_what_cannot_be_exported_is_not_taken_for_a_slow_child():
    with pytest.raises(RuntimeError, match="cannot export a child to measure its latency: .*Tanh"):
        meter().measure(genotype("tanh", "identity"))


# === By a command ===


def test_a_command_gets_a_verified_file_of_the_child(tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    copy = f"""
import shutil
folder = {str(taken)!r}
shutil.copy(file, f"{{folder}}/{{len(os.listdir(folder))}}.tflite")
print(os.stat(file).st_size)
"""
    ours = meter(latency="litert-int8", latency_command=script(tmp_path, copy))
    found = ours.measure(genotype("sep_3x3", "max_3x3"))
    yardstick, child = (taken / f"{k}.tflite" for k in range(2))
    assert found["latency"] == pytest.approx(child.stat().st_size)
    assert found["latency_ratio"] == child.stat().st_size / yardstick.stat().st_size
    runtime = load_runtime(child)
    assert runtime.image_shape == (8, 8, 1)
    assert runtime.predict(np.zeros((1, 8, 8, 1), np.float32)).shape == (1, 3)
    assert "int8" in runtime.metadata["quantization"]
    # The yardstick is timed once.
    ours.measure(genotype("sep_3x3", "identity"))
    assert len(list(taken.iterdir())) == 3


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("print('no device'); sys.exit(3)", ChildProcessError, "exit status 3: no device"),
        ("print(1)\nsys.exit('offline\\nnow')", ChildProcessError, "exit status 1: offline now"),
        ("print('12 ms')", ChildProcessError, "one number above 0. Received: '12 ms'"),
        ("print(1)\nprint(2)", ChildProcessError, "Received: '1 2'"),
        ("", ChildProcessError, "Received: ''"),
        ("print('nan')", ChildProcessError, "Received: 'nan'"),
        ("print('inf')", ChildProcessError, "Received: 'inf'"),
        ("print(-1)", ChildProcessError, "Received: '-1'"),
        ("sys.stdout.buffer.write(bytes(range(256)))", ChildProcessError, "Received: "),
    ],
)
def test_a_command_that_does_not_work(tmp_path, text, error, message):
    words = shlex.split(script(tmp_path, text))
    with pytest.raises(error, match=message) as found:
        latency_module._run(words, tmp_path / "model.tflite")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("program", ["no_such_program", "/"])
def test_a_command_that_is_none(tmp_path, program):
    with pytest.raises(OSError, match=f"a program that can be run. Received: '{program}': "):
        latency_module._run([program, "{file}"], tmp_path)


def test_a_command_that_hangs_ends_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(latency_module, "_TIMEOUT", 2.0)
    started = tmp_path / "started"
    hangs = f"""
if not os.fork():
    with open({str(started)!r}, "w") as written:
        written.write(str(os.getpid()))
time.sleep(600)
"""
    with pytest.raises(TimeoutError, match="Expected latency_command to end within 2 s"):
        latency_module._run(shlex.split(script(tmp_path, hangs)), tmp_path / "model.tflite")
    pid = int(started.read_text())
    deadline = time.monotonic() + 30
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_may_leave_a_process_behind(tmp_path):
    # As adb does with its server.
    leaves = "if not os.fork(): time.sleep(3); sys.exit()\nprint(7.5)"
    words = shlex.split(script(tmp_path, leaves))
    assert latency_module._run(words, tmp_path / "model.tflite") == 7.5


def test_no_shell_reads_a_command(tmp_path):
    words = shlex.split(
        script(tmp_path, "print(len(sys.argv[-1].split(';')))").replace("{file}", "'a;b;{file}'")
    )
    assert latency_module._run(words, tmp_path / "$(touch x).tflite") == 3.0


# === In a search ===

TINY = [
    *("--data", "digits", "--images", "200", "--processes", "1", "--minibatch", "2", "--children", "4"),
    *("--space.blocks", "1", "--space.cells", "1", "--policy", "random", "--budget.steps", "1"),
    *("--space.operations", "identity", "sep_3x3", "max_3x3", "--budget.evaluations", "1"),
    *("--budget.filters", "2", "--budget.stem-filters", "2", "--budget.batch-size", "16"),
]


def test_a_search_for_a_device(tmp_path, capfd):
    size = script(tmp_path, "print(os.stat(file).st_size / 1000)")
    out = tmp_path / "out"
    command = ["search", *TINY, "--out", str(out), "--latency", "litert", "--latency-command", size]
    command += ["--reward", "accuracy / latency_ratio", "--limit", "latency=1s"]
    assert main(command) == 0
    with Journal(out / "journal.sqlite") as journal:
        records = journal.children()
    assert len(records) == 4
    for record in records:
        if record.state == "finished" and record.same_as is None:
            expected = record.metrics["accuracy"] / record.costs["latency_ratio"]
            assert record.reward == pytest.approx(expected, rel=1e-12)
    assert len({record.costs["latency"] for record in records}) > 1
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["latency"], settings["latency_command"]) == ("litert", size)
    # It goes on with the same measurement alone.
    assert main([*command, "--children", "5"]) == 0
    before = (out / "settings.json").read_bytes()
    capfd.readouterr()
    assert main([*command, "--children", "6", "--latency-image-size", "16"]) == 1
    assert "latency_image_size" in capfd.readouterr().err
    assert (out / "settings.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--latency", "litert", "--latency-command", "no_such_program {file}"], "no_such_program"),
        (["--latency", "litert", "--latency-command", "true {file}"], "one number above 0"),
        (["--latency", "onnx"], "Expected 'onnxruntime', of the extra 'export'"),
    ],
)
def test_what_cannot_be_measured_is_one_line_before_anything_is_written(
    tmp_path, words, message, capfd, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out = tmp_path / "out"
    assert main(["search", *TINY, "--out", str(out), *words]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert not out.exists()


def test_an_option_without_latency_is_a_wrong_option(tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["search", *TINY, "--out", str(out), "--latency-threads", "2"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "Expected latency with latency_threads" in line
