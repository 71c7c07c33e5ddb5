"""Recipes of detectors, runs that are stopped and go on, and the command line."""

import csv
import functools
import json
import zipfile

import keras
import numpy as np
import pytest
from documented import check_figures
from PIL import Image
from recipe_fields import SHARED, without

import nasnet_zoo as zoo
from nasnet_zoo.cli import main
from nasnet_zoo.detection.coco import CocoImages
from nasnet_zoo.detection.evaluation import evaluate
from nasnet_zoo.detection.recipes import DETECTION_RECIPES, find_recipe
from nasnet_zoo.detection.training import (
    CocoEvaluation,
    build_detector,
    load_detector,
    train_detector,
)
from nasnet_zoo.files import locked
from nasnet_zoo.models import dtype_policy
from nasnet_zoo.training.checkpoint import NotFiniteError
from nasnet_zoo.training.recipes import changed, flat
from nasnet_zoo.training.schedules import learning_rate
from nasnet_zoo.training.training import make_optimizer

pytest.importorskip("pycocotools")
pytestmark = pytest.mark.tensorflow

NAMES = ("red", "blue")
CELL = zoo.CellGenotype((zoo.Block((0, 1), ("sep_3x3", "identity")),))
GENOTYPE = zoo.Genotype("small", CELL, CELL)
TINY = changed(
    find_recipe("pasted"),
    model={"filters": 4, "stem_filters": 4, "image_size": 64},
    run={"epochs": 2, "batch_size": 2},
    detector={
        "anchor_size": 32.0,
        "rpn_filters": 8,
        "candidates": 40,
        "proposals": 8,
        "box_samples": 8,
        "crop_size": 3,
    },
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
    assert (mobile.model.preset, mobile.model.image_size) == ("nasnet_mobile", 600)
    assert (large.model.preset, large.model.image_size) == ("nasnet_large", 1200)
    for recipe in (mobile, large):
        assert recipe.model.weights == "imagenet"
        detector = recipe.detector
        assert detector.train_batch_norm is False
        assert (detector.proposals, detector.box_samples, detector.crop_size) == (300, 64, 17)
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
    pasted = flat(find_recipe("pasted"))
    fields = {name: value for name, value in flat(TINY).items() if value != pasted[name]}
    fields["run.epochs"] = 1
    train = ["detect", "train", "pasted"]
    for name, value in fields.items():
        train += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    out = str(tmp_path / "run")
    found = tmp_path / "found.json"
    command = [*train, "--train", *parts["train"], "--test", *parts["test"], "--out", out]
    assert main([*command, "--json", str(found)]) == 0
    check_figures("detect train", json.loads(found.read_text()))
    file = f"{out}/detector.keras"
    assert load_detector(file).class_names == list(NAMES)

    results = tmp_path / "results.json"
    command = ["detect", "evaluate", file, "--test", *parts["test"], "--image-size", "64"]
    capsys.readouterr()
    assert main([*command, "--detections", str(results), "--json", str(tmp_path / "metrics.json")]) == 0
    told = dict(line.split() for line in capsys.readouterr().out.splitlines())
    found = json.loads(results.read_text())
    assert {tuple(r) for r in found} == {("image_id", "category_id", "bbox", "score")}
    expected = evaluate(CocoImages(*parts["test"]), found)
    assert told == {name: f"{value:.3f}" if value >= 0 else "-" for name, value in expected.items()}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    check_figures("detect evaluate", metrics)
    assert metrics == {name: value if value >= 0 else None for name, value in expected.items()}

    pictures = [str(tmp_path / f"test/images/{k}.png") for k in range(2)]
    drawn = tmp_path / "drawn"
    command = ["detect", "predict", file, *pictures, "--out", str(drawn), "--image-size", "64"]
    assert main([*command, "--score", "0"]) == 0
    assert Image.open(drawn / "1.png").size == (64, 64)

    # From a detector of other classes: what knows of no classes is kept. Such a step moves no float32.
    again = str(tmp_path / "again")
    others = ["--train", *parts["other"], "--test", *parts["other"], "--out", again]
    others += ["--start-from", file, "--optimizer.learning-rate", "1e-30"]
    assert main([*train, *others]) == 0
    ours, theirs = load_detector(again + "/detector.keras"), load_detector(file)
    for one, other in zip(
        ours.network.trainable_weights, theirs.network.trainable_weights, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert ours.class_names == ["car", "cat"]


# === Recipes ===


def with_(**changes):
    return changed(changed(TINY, model={"genotype": GENOTYPE}), **changes)


@functools.cache
def run_of(recipe):
    """What a recipe makes: the detector, its optimizer and the steps' learning rates."""
    keras.utils.clear_session()  # automatic names begin anew
    keras.utils.set_random_seed(0)
    with dtype_policy(recipe.run.precision):
        detector = build_detector(recipe, NAMES)
    optimizer = make_optimizer(recipe.optimizer, recipe.run, steps_per_epoch=10)
    rate = learning_rate(recipe.optimizer, recipe.run.epochs, steps_per_epoch=10)
    rates = [float(rate(step)) for step in range(0, 10 * recipe.run.epochs, 3)]
    config = {k: v for k, v in optimizer.get_config().items() if k not in ("name", "learning_rate")}
    sums = [np.abs(np.asarray(v, np.float64)).sum() for v in detector.network.weights]
    types = [layer.compute_dtype for layer in detector.network.layers]
    return json.dumps([detector.get_config(), config, rates, sums, types], default=str)


#: Changes of every field that make it change what a recipe builds.
BUILT = {
    **SHARED,
    "detector.anchor_size": {"detector": {"anchor_size": 16.0}},
    "detector.rpn_filters": {"detector": {"rpn_filters": 4}},
    "detector.candidates": {"detector": {"candidates": 20}},
    "detector.proposals": {"detector": {"proposals": 4}},
    "detector.box_samples": {"detector": {"box_samples": 4}},
    "detector.crop_size": {"detector": {"crop_size": 4}},
    "detector.train_batch_norm": {"detector": {"train_batch_norm": False}},
}
#: Fields that only the training loop reads.
LOOP = {"model.weights", "model.image_size", "flip"}
LOOP |= {"run.epochs", "run.batch_size", "run.steps_per_execution"}
#: Fields of networks that detectors are not built on.
OTHERS = {"model.width", "model.group_lasso"}


def test_every_field_of_a_recipe_is_one_of_these():
    assert flat(TINY).keys() == {*BUILT, *LOOP, *OTHERS}


def test_equal_recipes_make_equal_runs():
    assert run_of(with_()) == run_of.__wrapped__(with_())


@pytest.mark.parametrize("field", BUILT)
def test_a_field_has_an_effect(field):
    changes = BUILT[field]
    assert run_of(with_(**changes)) != run_of(with_(**without(changes, field)))


def test_a_recipe_starts_from_weights(tmp_path):
    network = build_detector(with_(), NAMES).network
    for weight in network.weights:
        weight.assign(np.full(weight.shape, 0.5))
    network.save_weights(tmp_path / "a.weights.h5")
    found = build_detector(with_(model={"weights": str(tmp_path / "a.weights.h5")}), NAMES).network
    for weight in found.weights:
        np.testing.assert_array_equal(weight, np.full(weight.shape, 0.5), err_msg=weight.path)


@pytest.mark.slow
def test_the_training_loop_follows_its_fields(tmp_path):
    train, test = made(tmp_path / "train", 8), made(tmp_path / "test", 2)
    runs = {
        "whole": {},
        "epochs": {"run": {"epochs": 1}},
        "batches": {"run": {"batch_size": 4}},
        "size": {"model": {"image_size": 48}},
        "flipped": {"flip": True},
        "two": {"run": {"steps_per_execution": 2}},
    }
    losses = {}
    for name, changes in runs.items():
        train_detector(with_(**changes), train, test, tmp_path / name, verbose=0)
        with open(tmp_path / name / "history.csv", newline="") as file:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses["epochs"]) == 1
    assert losses["two"] == pytest.approx(losses["whole"], rel=1e-4)
    for name in ("batches", "size", "flipped"):
        assert losses[name] != pytest.approx(losses["whole"], rel=1e-4), name


@pytest.mark.parametrize("field", ["evaluation.keep", "augmentation.cutout", "model.dropout"])
def test_a_field_that_a_detector_has_not_is_refused(field, capsys):
    command = ["detect", "train", "pasted", "--train", "a", "b", "--test", "c", "d", "--out", "e"]
    assert main([*command, f"--{field}", "1"]) == 2
    assert f"Received: --{field} 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.image_size", 0),
        ("model.image_size", 1_000_000),
        ("model.image_size", 64.0),
        ("run.epochs", 0),
        ("run.batch_size", 0),
        ("optimizer.learning_rate", -1.0),
        ("optimizer.learning_rate", float("inf")),
        ("optimizer.learning_rate", float("nan")),
        ("detector.anchor_size", 0.0),
        ("detector.anchor_size", float("nan")),
        ("detector.rpn_filters", 0),
        ("detector.candidates", 0),
        ("detector.candidates", 1_000_000),
        ("detector.proposals", 0),
        ("detector.box_samples", 0),
        ("detector.crop_size", 1),
        ("detector.crop_size", 1000),
        ("detector.train_batch_norm", 1),
    ],
)
def test_a_value_out_of_range_is_refused(field, value):
    part, name = field.split(".")
    with pytest.raises(ValueError, match=rf"Expected .*{name}.* Received: .*{name}={value}"):
        with_(**{part: {name: value}})


def test_averages_of_weights_are_evaluated(tmp_path):
    detector = build_detector(with_(), NAMES)
    optimizer = keras.optimizers.SGD(use_ema=True)
    optimizer.build(detector.trainable_variables)
    detector.compile(optimizer, jit_compile=False)
    before = [np.array(weight) for weight in detector.trainable_variables]
    for weight, average in zip(before, optimizer._model_variables_moving_average, strict=True):
        average.assign(np.full(weight.shape, np.nan))
    evaluation = CocoEvaluation(made(tmp_path, 2), 64)
    evaluation.set_model(detector)
    with pytest.raises(NotFiniteError):
        evaluation.on_epoch_end(0, {})
    for weight, variable in zip(before, detector.trainable_variables, strict=True):
        np.testing.assert_array_equal(variable, weight)


# === What cannot be done is told before the work ===


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "detector.keras"
    build_detector(with_(), NAMES).save(path)
    return path


def rewritten(file, path, change):
    """A copy of a .keras file with another config."""
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"])
                content = json.dumps(config)
            target.writestr(name, content)


def no_detectors(folder, file):
    """Files that are no detectors, with what is told of each."""
    (folder / "text.keras").write_text("nothing")
    (folder / "empty.keras").write_text("")
    (folder / "cut.keras").write_bytes(file.read_bytes()[:-5000])
    (folder / "folder.keras").mkdir()
    (folder / "weights.h5").write_text("nothing")
    x = keras.Input((4,))
    keras.Model(x, keras.layers.Dense(2)(x)).save(folder / "classifier.keras")
    executed = keras.Model(x, keras.layers.Lambda(lambda values: 2 * values)(x))
    executed.save(folder / "lambda.keras")
    network = keras.saving.serialize_keras_object(executed)
    rewritten(file, folder / "nested.keras", lambda config: config.update(network=network))
    rewritten(file, folder / "bare.keras", lambda config: config.pop("network"))
    rewritten(file, folder / "range.keras", lambda config: config.update(crop_size=0))
    broken = load_detector(file)
    broken.class_logits.bias.assign([0.0, np.nan, 0.0])
    broken.save(folder / "nan.keras")
    return {
        "text.keras": "expected a detector. Received: ",
        "empty.keras": "expected a detector. Received: ",
        "cut.keras": "expected a detector. Received: ",
        "folder.keras": "expected a detector. Received: is a directory",
        "weights.h5": "expected a detector, a .keras file. Received: 'weights.h5'",
        "classifier.keras": "expected a detector. Received: Functional",
        "missing.keras": "expected a detector. Received: no such file or directory",
        "lambda.keras": "expected a detector. Received: .*[Ll]ambda",
        "nested.keras": "expected a detector. Received: .*[Ll]ambda",
        "bare.keras": "expected a detector. Received: .*network",
        "range.keras": "expected a detector. Received: .*Expected crop_size: an int of at least 2",
        "nan.keras": "expected finite weights. Received: .*class_logits/bias",
    }


def test_what_is_no_detector_is_refused(file, tmp_path, capsys):
    made(tmp_path / "test", 2)
    data = [str(tmp_path / "test" / name) for name in ("annotations.json", "images")]
    for name, told in no_detectors(tmp_path, file).items():
        with pytest.raises((ValueError, OSError), match=f"{name}: {told}") as raised:
            load_detector(tmp_path / name)
        assert "\n" not in str(raised.value)
        command = ["detect", "evaluate", str(tmp_path / name), "--test", *data, "--image-size", "64"]
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"nasnet-zoo: {raised.value}"


def test_other_classes_than_the_detector_s_are_refused(file, tmp_path, capsys):
    for folder, names, told in (
        ("order", ("blue", "red"), "with 'red' as class 0. Received: 2 classes, with 'blue'"),
        ("name", ("red", "green"), "with 'blue' as class 1. Received: 2 classes, with 'green'"),
        ("more", ("red", "blue", "green"), "with None as class 2. Received: 3 classes, with 'green'"),
    ):
        made(tmp_path / folder, 2, names)
        data = [str(tmp_path / folder / name) for name in ("annotations.json", "images")]
        json_file = tmp_path / f"{folder}.json"
        command = ["detect", "evaluate", str(file), "--test", *data, "--image-size", "64"]
        assert main([*command, "--json", str(json_file)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{data[0]}: expected the 2 classes of {file}, {told}" in line
        assert not json_file.exists()


def test_an_evaluation_that_cannot_be_done(file, tmp_path, capsys):
    made(tmp_path / "test", 2)
    data = [str(tmp_path / "test" / name) for name in ("annotations.json", "images")]
    annotations = (tmp_path / "test/annotations.json").read_bytes()
    for options, told in (
        (["--json", str(tmp_path / "no/found.json")], "expected a file in an existing folder"),
        (["--json", data[0]], "expected the name of a file of its own"),
        (["--detections", f"{data[1]}/0.png"], "expected the name of a file of its own"),
        (["--image-size", "1"], "Expected image_size: an int of at least 16 and of at most 4096"),
        (["--image-size", "1000000"], "Expected image_size: an int of at least 16 and of at most 4096"),
    ):
        command = ["detect", "evaluate", str(file), "--test", *data, "--image-size", "64"]
        assert main([*command, *options]) in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert (tmp_path / "test/annotations.json").read_bytes() == annotations
    assert Image.open(tmp_path / "test/images/0.png").size == (64, 64)


def test_a_training_that_cannot_begin_leaves_nothing(file, tmp_path):
    train, test = made(tmp_path / "train", 2), made(tmp_path / "test", 2)
    other = made(tmp_path / "other", 2, ("car", "cat"))
    for arguments, options, told in (
        ((with_(), train, other), {}, "test data: expected the 2 classes of the training data"),
        (
            (with_(run={"batch_size": 3}), train, test),
            {},
            "Expected at least 3 images to train on",
        ),
        ((with_(), train, test), {"seed": -1}, "Expected seed: an int of at least 0"),
        ((with_(), train, test), {"start_from": tmp_path / "none.keras"}, "none.keras: expected a det"),
        (
            (with_(detector={"rpn_filters": 9}), train, test),
            {"start_from": file},
            "detectors that differ in classes only",
        ),
    ):
        with pytest.raises((ValueError, OSError), match=told):
            train_detector(*arguments, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()


def test_a_folder_is_one_run_s(tmp_path):
    train, test = made(tmp_path / "train", 2), made(tmp_path / "test", 2)
    out = tmp_path / "run"
    with (
        locked(out),
        pytest.raises(ValueError, match=f"{out}: expected a folder in which nothing else"),
    ):
        train_detector(with_(), train, test, out)
    assert not out.exists()
    out.mkdir()
    (out / "detector.keras").write_text("mine")
    with pytest.raises(
        ValueError, match=f"{out}: expected a new or empty folder, or that of a training"
    ):
        train_detector(with_(), train, test, out)
    assert (out / "detector.keras").read_text() == "mine"
