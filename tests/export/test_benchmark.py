"""Measurements of files: what is counted and what is told of times."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from documented import check_figures
from settled import images, network

from nasnet_zoo.cells import NASNET_A
from nasnet_zoo.cli import main
from nasnet_zoo.export import export
from nasnet_zoo.export.benchmark import FileReport, Timing, cells, summaries

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model = network(NASNET_A, (16, 16))
    model.save(folder / "model.keras")
    export(model, folder / "official.tflite", converter="official")
    export(model, folder / "native.tflite")
    export(model, folder / "native.onnx")
    return folder


def test_the_command_counts_what_is_in_the_files(folder, capfd):
    names = [str(folder / name) for name in ("official.tflite", "native.tflite", "native.onnx")]
    out, chart = folder / "report.json", folder / "chart.svg"
    options = ["--threads", "1", "--rounds", "2", "--json", str(out), "--picture", str(chart)]
    assert main(["benchmark", *names, *options]) == 0
    check_figures("benchmark", json.loads(out.read_text()))
    official, native, onnx = json.loads(out.read_text())
    # The converter's concatenations of six split what the delegate takes.
    assert official["partitions"] > 1
    assert official["delegated"] < 1
    assert (native["partitions"], native["delegated"]) == (1, 1)
    assert onnx["delegated"] is None
    assert native["operators"]["AVERAGE_POOL_2D"] == onnx["operators"]["AveragePool"]
    # Of a process with the runtime alone: this one, begun before the others, has TensorFlow in it.
    status = Path("/proc/self/status").read_text()
    (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert all(row["size"] < row["peak_memory"] < 0.5e3 * resident for row in (official, native, onnx))
    assert official["timings"][0]["ratio"] == 1
    ElementTree.parse(chart)
    assert "native.onnx" in capfd.readouterr().out


def test_what_is_told_of_times():
    times = np.array([[[3.0, 1.0, 2.0], [8.0, 4.0, 6.0]], [[9.0, 3.0, 9.0], [9.0, 2.0, 9.0]]])
    first, second = summaries(times / 1e3, threads=1)
    assert (first.threads, first.median, first.ratio) == (1, pytest.approx(3.5), 1.0)
    assert first.p90 == pytest.approx(7.0)  # halfway between the two slowest of six
    # The best times are 1 and 4 against 3 and 2: quotients of 3 and 0.5.
    assert second.ratio == pytest.approx(1.75)


def test_a_batch_of_images(folder, capfd):
    names = [str(folder / name) for name in ("native.tflite", "native.onnx")]
    out = folder / "batch.json"
    options = ["--threads", "1", "--rounds", "1", "--json", str(out), "--batch-size", "3"]
    assert main(["benchmark", *names, *options]) == 0
    assert [row["batch_size"] for row in json.loads(out.read_text())] == [3, 3]
    assert "1 thread, 3 images at a time" in " ".join(capfd.readouterr().out.split())


def test_times_of_small_networks_are_not_rounded_to_nothing():
    times = (Timing(1, 0.0214, 0.1551, 0.6), Timing(2, 31.25, 1149.53, 1.0))
    report = FileReport(Path("m.onnx"), "ONNX Runtime", 20_000, 1, times, 41_000_000, {}, None, None)
    assert cells(report)[4:6] == ["0.021 / 0.16 ms (0.60)", "31.2 / 1149.5 ms (1.00)"]


@pytest.mark.parametrize("size", ["64", "0"])
def test_a_size_that_the_file_does_not_take(folder, capfd, size):
    command = ["benchmark", str(folder / "native.onnx"), "--image-size", size, size]
    assert main(command) == (2 if size == "0" else 1)
    error = capfd.readouterr().err
    assert "Expected image_size" in error or "an int of at least 1" in error
    assert error.count("\n") == 1


def test_the_command_exports(folder, capfd):
    (folder / "classes.txt").write_text("\n".join("abcdefg"))
    arguments = ["export", str(folder / "model.keras"), "--out", str(folder / "int8.tflite")]
    more = ["--quantization", "int8", "--images", "digits", "--limit", "20"]
    assert main([*arguments, *more, "--classes", str(folder / "classes.txt"), "--preprocess"]) == 0
    assert "int8.tflite: litert, int8" in capfd.readouterr().out
    assert "Classes: a, b, c" in (folder / "int8.tflite.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["missing.keras", "--out", "model.onnx"],
            "missing.keras: expected a Keras model. Rec",
        ),
        (["nasnet_huge", "--out", "model.onnx"], "Expected one of nasnet_mobile"),
        (["model.keras", "--out", "model.bin"], "Expected a format of saved_model, litert, onnx"),
        (
            ["model.keras", "--out", "m.onnx", "--quantization", "int8"],
            "Expected representative images",
        ),
        (["model.keras", "--out", "no/m.onnx"], "expected a file in an existing folder"),
        (["broken.keras", "--out", "m.onnx"], "broken.keras: expected a Keras model"),
    ],
)
def test_bad_input_is_one_line_and_no_file(folder, monkeypatch, capfd, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "broken.keras").write_bytes(b"broken")
    before = set(folder.iterdir())
    assert main(["export", *arguments]) == 1
    error = capfd.readouterr().err
    assert error.startswith("nasnet-zoo: ")
    assert message in error
    assert error.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_a_file_that_is_no_model(tmp_path, capfd):
    (tmp_path / "model.tflite").write_bytes(b"broken")
    assert main(["benchmark", str(tmp_path / "model.tflite")]) == 1
    assert "expected a model that can be loaded" in capfd.readouterr().err


def test_images_are_of_the_files_own_size(folder):
    batch = images(1, (16, 16))
    from nasnet_zoo.export import load_runtime

    assert load_runtime(folder / "native.onnx", threads=1).predict(batch).shape == (1, 7)
