"""``nasnet-zoo convert``."""

import dataclasses
import json
import re

import pytest
from documented import check_figures
from weights_helpers import images, randomise, run, save_legacy, tiny, tiny_keras

import nasnet_zoo as zoo
from nasnet_zoo.cli import main
from nasnet_zoo.presets import PRESETS
from nasnet_zoo.weights import load_weights

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def command(monkeypatch):
    """Runs the command with a model that is small enough for a test."""
    small = dataclasses.replace(
        PRESETS["nasnet_mobile"].architecture, cells=1, filters=8, stem_filters=8
    )
    monkeypatch.setitem(
        PRESETS, "tiny", dataclasses.replace(PRESETS["nasnet_mobile"], architecture=small)
    )

    def run_command(*arguments):
        return main(["convert", *map(str, arguments), "--model", "tiny"])

    return run_command


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    model = randomise(tiny_keras())
    path = save_legacy(model, tmp_path_factory.mktemp("keras") / "model.h5")
    model.save(path.with_name("model.keras"))
    model.save_weights(path.with_name("model.weights.h5"))
    return model, path


@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model.weights.h5"])
def test_a_keras_file(command, keras_file, tmp_path, capsys, name):
    theirs, path = keras_file[0], keras_file[1].with_name(name)
    out = tmp_path / "model.weights.h5"
    assert command(path, "--out", out) == 0
    assert capsys.readouterr().out == f"loaded       491  from keras.applications weights in {path}\n"
    assert list(tmp_path.iterdir()) == [out]
    ours = tiny(weights=out, pool_padding="keras")
    x = images(64, 64)
    assert abs(run(ours, x) - run(theirs, x)).max() < 1e-5


def test_other_classes_and_parts(command, keras_file, tmp_path, capsys):
    out = tmp_path / "model.weights.h5"
    found = tmp_path / "found.json"
    command(keras_file[1], "--out", out, "--classes", 5, "--auxiliary-head", "--json", found)
    check_figures("convert", json.loads(found.read_text()))
    table = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in table] == [
        ["loaded", "489"],
        ["missing", "2"],
        ["missing", "12"],
        ["unused", "2"],
    ]
    command(keras_file[1], "--out", out, "--no-include-top")
    report = load_weights(tiny(include_top=False), out)
    assert not report.missing
    assert not report.unused


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("absent.h5", "model.weights.h5", "absent.h5: .*no such file"),
        ("absent.keras", "model.weights.h5", "absent.keras: .*no such file"),
        ("absent.safetensors", "model.weights.h5", "absent.safetensors: .*no such file"),
        ("model.pth", "model.weights.h5", "Convert it once"),
        ("absent.h5", "model.h5", r"named \*\.weights\.h5"),
        ("absent.h5", "nowhere/model.weights.h5", "folder to exist"),
    ],
)
def test_errors_are_one_line_and_leave_nothing_behind(command, tmp_path, capsys, source, out, message):
    assert command(tmp_path / source, "--out", tmp_path / out) == 1
    assert re.fullmatch(f"nasnet-zoo: .*{message}.*\n", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_is_refused(tmp_path, capsys):
    assert (
        main(["convert", "imagenet", "--model", "nasnet", "--out", str(tmp_path / "x.weights.h5")]) == 1
    )
    assert "Received: model='nasnet'" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_old_file(command, keras_file, tmp_path, capsys):
    out = tmp_path / "model.weights.h5"
    out.write_bytes(b"old")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert command(keras_file[1], "--out", out) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "file too large" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_background_class_to_keep_is_one_class_more(command, keras_file, tmp_path, capsys):
    command(keras_file[1], "--out", tmp_path / "model.weights.h5", "--background", "keep")
    assert "1000 classes in the source, 1001 in the model" in capsys.readouterr().out
    assert zoo.list_models().count("tiny") == 1
