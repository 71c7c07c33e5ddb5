"""`nasnet-zoo detect predict`: pictures, boxes as JSON, and nothing that is written over."""

import json
import os
import re
import resource
import shutil
import signal

import keras
import numpy as np
import pytest
from documented import check_figures
from PIL import Image

import nasnet_zoo as zoo
from nasnet_zoo.cli import main
from nasnet_zoo.detection import FasterRCNN
from nasnet_zoo.detection.prediction import detections, predict_files
from nasnet_zoo.training.checkpoint import NotFiniteError

pytestmark = pytest.mark.tensorflow

CELL = zoo.CellGenotype((zoo.Block((0, 1), ("sep_3x3", "identity")),))
SIZE = 64


def made():
    """A detector that finds something everywhere."""
    keras.utils.set_random_seed(1)
    sizes = {"cells": 1, "filters": 8, "stem": "imagenet", "stem_filters": 8, "image_size": SIZE}
    network = zoo.NASNet(
        zoo.Genotype("small", CELL, CELL), input_shape=(None, None, 3), include_top=False, **sizes
    )
    small = {"rpn_filters": 8, "candidates": 20, "proposals": 6, "crop_size": 3, "detections": 4}
    return FasterRCNN(network, ["red", "blue"], anchor_sizes=(16.0, 32.0), score=0.01, **small)


@pytest.fixture(scope="module")
def detector():
    return made()


@pytest.fixture(scope="module")
def file(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("detector") / "detector.keras"
    detector.save(path)
    return path


def picture(path, height=40, width=60, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def contents(folder):
    return {
        os.fspath(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def predict(file, *arguments):
    command = ["detect", "predict", str(file), *map(str, arguments)]
    return main([*command, "--image-size", str(SIZE), "--score", "0"])


def test_photographs_are_not_written_over(file, tmp_path, capsys):
    photos = [picture(tmp_path / name) for name in ("a.png", "b.jpg")]
    before = contents(tmp_path)
    for out in (tmp_path, tmp_path / "x" / ".."):
        assert predict(file, *photos, "--out", out) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "expected a folder without pictures of these names" in line
        assert "a.png" in line
    # Nor by a link to the folder.
    (tmp_path / "link").symlink_to(tmp_path)
    assert predict(file, *photos, "--out", tmp_path / "link") == 1
    (tmp_path / "link").unlink()
    assert contents(tmp_path) == before


def test_what_is_in_the_folder_is_kept(file, tmp_path, capsys):
    photo, out = picture(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert predict(file, photo, "--out", out) == 0
    assert sorted(os.listdir(out)) == ["a.png", "notes.txt"]
    (out / "a.png").write_text("mine")
    capsys.readouterr()
    assert predict(file, photo, "--out", out) == 1
    assert "one with a.png" in capsys.readouterr().err
    assert contents(out) == {"a.png": b"mine", "notes.txt": b"mine"}


def test_pictures_of_equal_names_are_numbered(file, tmp_path):
    sizes = {"x/a.png": 30, "y/a.png": 40, "z/A.png": 50, "z/a_2.png": 20, "z/a.jpg": 10}
    photos = [picture(tmp_path / name, height=height) for name, height in sizes.items()]
    out = tmp_path / "out"
    assert predict(file, *photos, "--out", out) == 0
    heights = {path.name: Image.open(path).height for path in out.iterdir()}
    assert heights == {"a.png": 30, "a_2.png": 40, "A_3.png": 50, "a_2_2.png": 20, "a.jpg": 10}


def test_an_image_of_another_suffix_is_drawn_as_png(file, tmp_path):
    photo = picture(tmp_path / "photo", format="JPEG")
    assert predict(file, photo, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out/photo.png").format == "PNG"


def test_boxes_as_json(detector, file, tmp_path, capsys):
    photos = [picture(tmp_path / "a.png", 40, 60), picture(tmp_path / "x/a.png", 128, 96)]
    assert predict(file, *photos, "--json", tmp_path / "found.json") == 0
    check_figures("detect predict", json.loads((tmp_path / "found.json").read_text()))
    found = json.loads((tmp_path / "found.json").read_text())
    assert {entry["file_name"] for entry in found} == {str(photo) for photo in photos}
    assert not (tmp_path / "out").exists()
    for path, pixels, expected in predict_files(detector, photos, SIZE, 0.0):
        own = [entry for entry in found if entry["file_name"] == str(path)]
        assert len(own) == len(expected["scores"]) > 0
        for entry, box, score, kind in zip(own, *expected.values(), strict=True):
            y, x, y_end, x_end = box
            assert entry["category_name"] == ["red", "blue"][kind]
            assert entry["score"] == pytest.approx(score)
            np.testing.assert_allclose(entry["bbox"], [x, y, x_end - x, y_end - y], rtol=1e-6)
            assert (box >= 0).all()
            assert (box <= [*pixels.shape[:2], *pixels.shape[:2]]).all()
    # Boxes are in pixels of the file: that of 128x96 is brought to half its size.
    assert max(entry["bbox"][1] + entry["bbox"][3] for entry in found) > SIZE


def test_a_turned_photograph_is_seen_upright(detector, file, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "upright.png")
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    paths = [tmp_path / "upright.png", tmp_path / "turned.png"]
    (_, one, found), (_, other, same) = predict_files(detector, paths, SIZE, 0.0)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found["boxes"], same["boxes"])
    assert predict(file, paths[1], "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out/turned.png").size == (60, 40)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.png"], "expected --out, --json or both. Received: neither"),
        (["none.png", "--out", "out"], "none.png: expected an image. Received: no such file"),
        (["a.png", "none.png", "--out", "out"], "none.png: expected an image. Received: no such file"),
        (["folder", "--out", "out"], "folder: expected an image. Received: is a directory"),
        (
            ["a.png", "--out", "text.txt"],
            "text.txt: expected a folder. Received: a file",
        ),
        (["a.png", "--out", "text.txt/x"], "text.txt/x: expected a folder"),
        (["a.png", "--json", "no/found.json"], "no/found.json: expected a file in an existing folder"),
        (["a.png", "--json", "folder.json"], "folder.json: expected the name of a file to write"),
        (["a.png", "--json", "a.png"], "expected the name of a .json file, or none"),
        (["a.png", "--out", "out", "--image-size", "1"], "Expected image_size: an int of at least 16"),
        (["a.png", "--out", "out", "--image-size", "1000000"], "Received: image_size=1000000"),
    ],
)
def test_an_error_is_told_before_the_work(file, tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "text.txt").write_text("mine")
    before = contents(tmp_path)
    command = ["detect", "predict", str(file), "--image-size", "64", "--score", "0"]
    assert main([*command, *arguments]) in (1, 2)
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert told in line
    assert output.out == ""
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("score", ["nan", "2", "-0.1", "x"])
def test_a_score_is_a_share(detector, score, capsys):
    command = ["detect", "predict", "d.keras", "a.png", "--image-size", "64", "--json", "new.json"]
    assert main([*command, "--score", score]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("score: (a|expected a) finite number( of at least 0 and of at most 1)?. Rec", line)
    if score != "x":
        with pytest.raises(ValueError, match="Expected score: a finite number of at least 0"):
            predict_files(detector, ["a.png"], SIZE, float(score))


def test_a_detector_s_own_file_is_not_written_over(file, tmp_path, capsys):
    copy = tmp_path / "detector.keras"
    shutil.copy(file, copy)
    assert predict(copy, picture(tmp_path / "a.png"), "--json", copy) == 2
    assert "expected the name of a .json file" in capsys.readouterr().err
    assert copy.read_bytes() == file.read_bytes()


def test_a_full_disk_is_one_line(file, tmp_path, capsys):
    photo, out = picture(tmp_path / "a.png", 200, 200), tmp_path / "out"
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert predict(file, photo, "--out", out) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{out / 'a.png'}: expected to write it. Received: file too large" in line
    assert not list(out.iterdir())


@pytest.mark.parametrize("layer", ["rpn_objectness", "rpn_boxes", "class_logits", "class_boxes"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_no_empty_image(layer, value):
    model = made()
    weight = getattr(model, layer).weights[1]
    weight.assign(np.full(weight.shape, value))
    images = np.zeros((1, SIZE, SIZE, 3), "float32")
    with pytest.raises(NotFiniteError, match="Expected a detector of finite numbers"):
        detections(model, images)
