"""Recipes of detectors, runs that are stopped and go on, and the command line."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from nasnet_zoo.cli import main
from nasnet_zoo.detection.coco import CocoImages
from nasnet_zoo.detection.recipes import DETECTION_RECIPES, find_recipe
from nasnet_zoo.detection.training import load_detector, train_detector

pytest.importorskip("pycocotools")
pytestmark = pytest.mark.tensorflow

NAMES = ("red", "blue")
TINY = dataclasses.replace(
    find_recipe("pasted"),
    filters=4,
    stem_filters=4,
    image_size=64,
    epochs=2,
    batch_size=2,
    anchor_size=32.0,
    rpn_filters=8,
    candidates=40,
    proposals=8,
    box_samples=8,
    crop_size=3,
)


def made(folder, count, names=NAMES):
    """Squares of the classes' colours on grey."""
    rng = np.random.default_rng(count)
    (folder / "images").mkdir(parents=True)
    coco = {"images": [], "annotations": [], "categories": []}
    coco["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    for k in range(count):
        pixels = np.full((64, 64, 3), 100, np.uint8)
        kind, side = int(rng.integers(2)), int(rng.integers(16, 40))
        y, x = (int(v) for v in rng.integers(0, 64 - side, 2))
        pixels[y : y + side, x : x + side] = ((255, 0, 0), (0, 0, 255))[kind]
        Image.fromarray(pixels).save(folder / f"images/{k}.png")
        coco["images"].append({"id": k, "file_name": f"{k}.png", "height": 64, "width": 64})
        box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
        coco["annotations"].append({"id": k + 1, "image_id": k, "category_id": kind + 1, **box})
    (folder / "annotations.json").write_text(json.dumps(coco))
    return CocoImages(folder / "annotations.json", folder / "images")


def test_recipes_are_the_papers():
    mobile, large = DETECTION_RECIPES["coco_mobile"], DETECTION_RECIPES["coco_large"]
    assert (mobile.model, mobile.architecture.image_size) == ("nasnet_mobile", 600)
    assert (large.model, large.architecture.image_size) == ("nasnet_large", 1200)
    for recipe in (mobile, large):
        assert recipe.weights == "imagenet"
        assert recipe.train_batch_norm is False
        assert (recipe.proposals, recipe.box_samples, recipe.crop_size) == (300, 64, 17)
    with pytest.raises(ValueError, match="Expected one of coco_mobile, coco_large, pasted"):
        find_recipe("coco")


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path):
    train, test = made(tmp_path / "train", 8), made(tmp_path / "test", 2)
    whole = train_detector(TINY, train, test, tmp_path / "whole", verbose=0)
    checkpoint = tmp_path / "stopped"

    class StoppedError(Exception):
        pass

    class Breaking(CocoImages):
        """A test set that is gone once there is a checkpoint: the second evaluation fails."""

        @property
        def examples(self):
            if (checkpoint / "checkpoint.npz").exists():
                raise StoppedError
            return self._kept

        @examples.setter
        def examples(self, examples):
            self._kept = examples

    parts = (tmp_path / "test/annotations.json", tmp_path / "test/images")
    with pytest.raises(StoppedError):
        train_detector(TINY, train, Breaking(*parts), checkpoint, verbose=0)
    resumed = train_detector(TINY, train, test, checkpoint, verbose=0)
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=ours.path)
    with open(checkpoint / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"rpn_objectness", "rpn_boxes", "classes", "boxes", "val_AP", "val_ARl"} <= set(rows[0])


@pytest.mark.slow
def test_the_command_line_trains_evaluates_and_predicts(tmp_path, capsys):
    made(tmp_path / "train", 8)
    made(tmp_path / "test", 3)
    made(tmp_path / "other", 4, ("car", "cat"))
    parts = {
        k: [str(tmp_path / k / "annotations.json"), str(tmp_path / k / "images")]
        for k in ("train", "test", "other")
    }
    fields = [
        f"{f.name}={getattr(TINY, f.name)}"
        for f in dataclasses.fields(TINY)
        if getattr(TINY, f.name) != getattr(find_recipe("pasted"), f.name)
    ]
    train = ["detect", "train", "pasted", "--set", *fields, "epochs=1"]
    out = str(tmp_path / "run")
    assert main([*train, "--train", *parts["train"], "--test", *parts["test"], "--out", out]) == 0
    file = f"{out}/detector.keras"
    assert load_detector(file).class_names == list(NAMES)

    results = tmp_path / "results.json"
    command = ["detect", "evaluate", file, "--test", *parts["test"], "--image-size", "64"]
    capsys.readouterr()
    assert main([*command, "--json", str(results)]) == 0
    told = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert len(told) == 12
    assert 0 <= float(told["AP"]) <= 1
    assert all(
        set(r) == {"image_id", "category_id", "bbox", "score"} for r in json.loads(results.read_text())
    )

    pictures = [str(tmp_path / f"test/images/{k}.png") for k in range(2)]
    drawn = tmp_path / "drawn"
    command = ["detect", "predict", file, *pictures, "--out", str(drawn), "--image-size", "64"]
    assert main([*command, "--score", "0"]) == 0
    assert Image.open(drawn / "1.png").size == (64, 64)

    # From a detector of other classes: what knows of no classes is kept.
    again = str(tmp_path / "again")
    others = ["--train", *parts["other"], "--test", *parts["other"], "--out", again, "--from", file]
    assert main([*train, "learning_rate=0", *others]) == 0
    ours, theirs = load_detector(again + "/detector.keras"), load_detector(file)
    for one, other in zip(
        ours.network.trainable_weights, theirs.network.trainable_weights, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert ours.class_names == ["car", "cat"]


def test_what_is_no_detector_is_refused(tmp_path, capsys):
    (tmp_path / "detector.keras").write_text("nothing")
    command = ["detect", "predict", str(tmp_path / "detector.keras"), "x.png", "--out", str(tmp_path)]
    assert main([*command, "--image-size", "64"]) == 1
    assert "expected a detector" in capsys.readouterr().err
