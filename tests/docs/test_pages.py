"""Every code block of README.md and docs/ is run, with small budgets."""

import re
import runpy
import shutil
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from doc_pages import PAGES, ROOT, blocks_of, commands_of, run_page, small_options
from PIL import Image

import nasnet_zoo
from nasnet_zoo import weights
from nasnet_zoo.cli import COMMANDS, command_function
from nasnet_zoo.cli.options import UsageError, read
from nasnet_zoo.data import open_dataset

pytestmark = pytest.mark.tensorflow
# Pages of a little Python. All others are slow.
QUICK = ("relatives",)
LANGUAGES = {"", "python", "sh", "json", "kotlin", "swift", "html"}
# Reasons of blocks that are not run, and on how many blocks of all pages each of them stands.
NOT_RUN = {
    "it sets up an environment": 4,
    "it needs a phone": 4,
    "it needs a cluster": 4,
    "it needs COCO": 2,
    "it needs the published weights": 4,
    "it takes hours": 2,
    "it serves until it is stopped": 1,
    "a part of examples/web, which a test runs": 1,
}


def test_the_blocks_that_are_not_run_are_few_and_have_a_known_reason():
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert {block.language for block in blocks} <= LANGUAGES
    assert Counter(block.reason for block in blocks if block.reason) == Counter(NOT_RUN)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_block_escapes(page):
    """The pattern finds every fence of a page."""
    fences = len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.M))
    assert fences == 2 * sum(not block.hidden for block in blocks_of(page))


def test_the_extras_of_the_pages_exist():
    declared = set(re.findall(r"^(\w+) =$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.M))
    named = set()
    for page in PAGES:
        for extras in re.findall(r"'?\.\[([a-z,]+)\]'", page.read_text(encoding="utf-8")):
            named |= set(extras.split(","))
    assert named
    assert named <= declared


COMMANDS_OF_PAGES = [(page.stem, words) for page in PAGES for words in commands_of(page)]


def test_commands_have_the_options_that_the_pages_give_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nasnet_zoo.NAS_V1.save("mine.json")
    for search in ("search", "first"):
        Path(f"runs/{search}").mkdir(parents=True)
        nasnet_zoo.NASNET_A.save(f"runs/{search}/best.json")
    refused = []
    for page, words in COMMANDS_OF_PAGES:
        length = 2 if " ".join(words[:2]) in COMMANDS else 1
        name = " ".join(words[:length])
        for small in ([], small_options(["nasnet-zoo", *words])):
            try:
                read(command_function(name), [*words[length:], *small], f"nasnet-zoo {name}")
            except UsageError as error:
                refused.append((page, str(error)))
    assert refused == []


def test_the_list_of_benchmarks_is_whole():
    listed = set(re.findall(r"benchmarks/(\w+)\.py", (ROOT / "docs/benchmarks.md").read_text()))
    helpers = {"outcomes", "peers", "simulated", "staleness"}  # of scale.py
    assert listed == {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - helpers


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with what the reader of a page has: data sets and photographs."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("examples", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    data = open_dataset("digits", image_size=16).in_memory()
    _write_class_folders(data, folder / "FOLDER")
    (folder / "cifar10").symlink_to("FOLDER")
    (folder / "fashion_mnist").symlink_to(ROOT / "tests/data/fashion_mnist")
    _write_coco(folder)
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "street.jpg"):
        Image.fromarray(rng.integers(0, 256, (96, 128, 3), np.uint8)).save(folder / name)
    (folder / "ptb").mkdir()
    for part in ("train", "valid", "test"):
        (folder / "ptb" / f"ptb.{part}.txt").write_text("the cell reads the state of the cell\n" * 400)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The file of a small network that tells digits in colour apart."""
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    data = open_dataset("digits", image_size=16).in_memory()
    keras.utils.set_random_seed(0)
    small = {"cells": 1, "filters": 4, "stem": "cifar", "stem_filters": 4}
    sizes = {"input_shape": (16, 16, 3), "classes": 10}
    model = nasnet_zoo.NASNet(nasnet_zoo.NASNET_A, hyperparameters=nasnet_zoo.CIFAR, **small, **sizes)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    images = nasnet_zoo.preprocess_input(np.repeat(data.train_images, 3, -1))
    model.fit(images, data.train_labels, batch_size=32, epochs=2, verbose=0)
    model.save(path)
    return path


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """Weights as large as those that are downloaded for ImageNet."""
    path = tmp_path_factory.mktemp("mobile") / "mobile.weights.h5"
    nasnet_zoo.NASNetMobile().save_weights(path)
    return path


def _write_class_folders(data, folder):
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        for digit in range(10):
            of_class = folder / part / str(digit)
            of_class.mkdir(parents=True)
            for k, image in enumerate(images[labels == digit][:8]):
                grey = Image.fromarray(image.squeeze(-1).astype(np.uint8))
                grey.convert("RGB").save(of_class / f"{k}.png")


def _write_coco(folder):
    data = open_dataset("digits").in_memory()
    make = runpy.run_path(str(ROOT / "examples/pasted.py"))["make"]
    (folder / "annotations").mkdir()
    for part, number in (("train", 0), ("val", 1)):
        out = folder / f"{part}2017"
        make(data.train_images[..., 0], data.train_labels, data.class_names, 4, number, out)
        annotations = folder / f"annotations/instances_{part}2017.json"
        shutil.move(out / "annotations.json", annotations)
        for image in (out / "images").iterdir():
            shutil.move(image, out / image.name)
    for name, source in (("TRAIN", "train2017"), ("TEST", "val2017")):
        (folder / f"{name}.json").symlink_to(f"annotations/instances_{source}.json")
        (folder / f"{name}_IMAGES").symlink_to(source)


def _parameters():
    for page in PAGES:
        if any(block.language and block.reason is None for block in blocks_of(page)):
            marks = () if page.stem in QUICK else pytest.mark.slow
            yield pytest.param(page, marks=marks, id=page.stem)


@pytest.mark.parametrize("page", _parameters())
def test_page(page, request, tmp_path, monkeypatch):
    text = page.read_text(encoding="utf-8")
    if "nasnet_zoo.hub" in text:
        pytest.importorskip("keras_hub")
    if page.stem not in QUICK:
        for path in request.getfixturevalue("prepared").iterdir():
            (tmp_path / path.name).symlink_to(path)
    if "model.keras" in text:
        shutil.copy(request.getfixturevalue("trained"), tmp_path)  # a page may replace it
    if "imagenet" in text:  # in the place of the download
        path = request.getfixturevalue("mobile")
        (tmp_path / path.name).symlink_to(path)
        monkeypatch.setattr(weights, "fetch_imagenet", lambda model: path)
    run_page(page, tmp_path, monkeypatch)
