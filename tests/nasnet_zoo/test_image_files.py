"""Folders of image files as people have them, and how single files are read."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from nasnet_zoo.cli.comparison import sample_images
from nasnet_zoo.data import open_dataset, read_pixels
from nasnet_zoo.data.folders import class_files
from nasnet_zoo.data.resizing import as_bytes, resize_with_crop
from nasnet_zoo.data.streams import read_image
from nasnet_zoo.detection.coco import CocoImages
from nasnet_zoo.detection.input import evaluation_batches as detector_batches
from nasnet_zoo.search.images.search import search_images
from nasnet_zoo.training import RECIPES, changed
from nasnet_zoo.training.input import evaluation_batches, training_batches

pytestmark = pytest.mark.tensorflow

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


def _write_folder(folder, count):
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (20 + k, 15), colour).save(folder / name / f"{k}.png")


# === Folders ===


def _listed(folder):
    """For each class the names of its files, relative to the class's folder."""
    train, test, names = class_files(folder)
    found = {name: [] for name in names}
    for paths, labels in (train, test):
        for path, label in zip(paths, labels, strict=True):
            found[names[label]].append(os.fspath(path.relative_to(folder / names[label])))
    return {name: sorted(files) for name, files in found.items()}


def test_images_in_folders_inside_a_class_belong_to_it(tmp_path):
    _write_folder(tmp_path, count=3)
    inside = tmp_path / "red" / "more" / "x.png"  # a folder that is named like an image
    inside.mkdir(parents=True)
    (tmp_path / "red" / ".cache").mkdir()
    for folder in (inside, tmp_path / "red" / ".cache"):
        Image.new("RGB", (9, 9), COLOURS["red"]).save(folder / "9.png")
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    (tmp_path / "blue").rename(elsewhere)
    (tmp_path / "blue").symlink_to(elsewhere)
    files = ["0.png", "1.png", "2.png"]
    expected = {"blue": files, "green": files, "red": [*files, "more/x.png/9.png"]}
    assert _listed(tmp_path) == expected
    # As Keras reads folders, but for hidden ones.
    shutil.rmtree(tmp_path / "red" / ".cache")
    theirs = keras.utils.image_dataset_from_directory(tmp_path, follow_links=True)
    listed = (os.path.relpath(path, tmp_path) for path in theirs.file_paths)
    assert sorted(listed) == sorted(f"{name}/{file}" for name in expected for file in expected[name])


def _in_a_circle(folder):
    (folder / "red" / "loop").symlink_to(folder / "red")
    return "red/loop: expected a folder of images. Received: a link to a folder around it"


def _broken_image_link(folder):
    (folder / "red" / "x.png").symlink_to(folder / "missing.png")
    return "red/x.png: expected a file or a folder. Received: a link that leads nowhere"


def _broken_class_link(folder):
    (folder / "white").symlink_to(folder / "missing")
    return "white: expected a file or a folder. Received: a link that leads nowhere"


def _empty_class(folder):
    (folder / "white").mkdir()
    (folder / "white" / "notes.txt").write_text("no image")
    return "white: expected images .*.png, .*. Received: none"


def _few_images(folder):
    for path in folder.glob("*/[1-9]*"):
        path.unlink()
    return "expected at least 3 images in a class, .*. Received: at most 1"


def _empty_test(folder):
    (folder / "train").mkdir()
    for name in COLOURS:
        (folder / name).rename(folder / "train" / name)
        (folder / "test" / name).mkdir(parents=True)
    return "test: expected images in the class folders. Received: none"


@pytest.mark.parametrize(
    "spoil",
    [_in_a_circle, _broken_image_link, _broken_class_link, _empty_class, _few_images, _empty_test],
)
def test_what_would_vanish_is_named(tmp_path, spoil):
    _write_folder(tmp_path, count=4)
    message = spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path)


# === Decoding ===


def _photo(size=(64, 48)):
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _turned(image, path):
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    image.save(path, exif=exif)


#: How an image is written, and how far what is read may be from it.
WAYS = {
    "plain.png": (lambda image, path: image.save(path), 0),
    "grey.png": (lambda image, path: image.convert("L").save(path), None),
    "palette.png": (lambda image, path: image.quantize(16).save(path), None),
    "palette.bmp": (lambda image, path: image.quantize(16).save(path), None),
    "clear.png": (lambda image, path: image.convert("RGBA").save(path), 0),
    "plain.bmp": (lambda image, path: image.save(path), 0),
    "plain.ppm": (lambda image, path: image.save(path), 0),
    "plain.tif": (lambda image, path: image.save(path), 0),
    "plain.tiff": (lambda image, path: image.save(path, compression="tiff_lzw"), 0),
    "plain.webp": (lambda image, path: image.save(path, lossless=True), 0),
    "plain.gif": (lambda image, path: image.quantize(16).save(path), None),
    "plain.jpg": (lambda image, path: image.save(path, quality=75), None),
    "fine.jpg": (lambda image, path: image.save(path, quality=98, subsampling=0), None),
    "progressive.jpg": (lambda image, path: image.save(path, progressive=True), None),
    "grey.jpg": (lambda image, path: image.convert("L").save(path), None),
    "cmyk.jpg": (lambda image, path: image.convert("CMYK").save(path, quality=98), None),
    "turned.jpg": (_turned, None),
    "turned.png": (_turned, None),
    "png_named.jpg": (lambda image, path: image.save(path, format="PNG"), 0),
}


@pytest.mark.parametrize("name", WAYS)
def test_every_kind_of_image_is_read_alike_by_all(tmp_path, name):
    write, difference = WAYS[name]
    for size in ((64, 48), (37, 53)):
        image, path = _photo(size), tmp_path / name
        write(image, path)
        found = read_pixels(path)
        np.testing.assert_array_equal(read_image(tf.constant(os.fspath(path))).numpy(), found)
        with Image.open(path) as written:
            expected = np.asarray(ImageOps.exif_transpose(written).convert("RGB"))
        np.testing.assert_array_equal(found, expected)
        if difference is not None:
            np.testing.assert_allclose(found, np.asarray(image), atol=difference)


def test_of_16_bits_the_upper_8_are_kept(tmp_path):
    values = np.arange(0, 65536, 37, dtype=np.uint16)[:1764].reshape(42, 42)
    for name in ("x.png", "x.tif"):
        Image.fromarray(values).save(tmp_path / name)
        found = read_image(tf.constant(os.fspath(tmp_path / name))).numpy()
        np.testing.assert_array_equal(found, np.repeat((values >> 8)[..., None], 3, axis=-1))
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ValueError, match="f.tif: expected a readable image. Received: floating-point"):
        read_pixels(tmp_path / "f.tif")


# === Alike everywhere ===


def _expected(path, size):
    """The central square of the upright image, resized once, in [-1, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.float32)
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side]
    return tf.image.resize(square, (size, size), antialias=True).numpy() / 127.5 - 1


def _copies(folder, path, count=5):
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            shutil.copy(path, folder / name / f"{k}{path.suffix}")
    return folder


def _searched(folder, size):
    return search_images(open_dataset(folder, size).in_memory(), 0.2).train_images[0]


def _trained(folder, size):
    recipe = changed(
        RECIPES["digits"],
        model={"image_size": size},
        run={"batch_size": 2},
        augmentation={"crop": "none", "pad": 4, "flip": False},
    )
    return next(training_batches(open_dataset(folder), recipe).as_numpy_iterator())[0][0]


def _evaluated(folder, size):
    return next(evaluation_batches(open_dataset(folder), size).as_numpy_iterator())[0][0]


@pytest.mark.parametrize("seen", [_searched, _trained, _evaluated])
def test_a_large_image_is_resized_once(tmp_path, seen):
    """Not from a thumbnail of 32 pixels."""
    photo = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(photo)
    folder = _copies(tmp_path / "photos", photo)
    np.testing.assert_allclose(seen(folder, 64), _expected(photo, 64), atol=1e-6)


@pytest.mark.parametrize("size", [(24, 24), (40, 24), (24, 41)])
def test_a_photo_on_its_side_is_the_same_for_all(tmp_path, size):
    photo = tmp_path / "photo.jpg"
    _turned(_photo(size), photo)
    folder, expected = _copies(tmp_path / "photos", photo), _expected(photo, 16)
    with Image.open(photo) as stored:
        unturned = np.asarray(stored.convert("RGB").resize((16, 16))) / 127.5 - 1
    assert np.abs(unturned - expected).max() > 0.5
    for seen in (_searched, _trained, _evaluated):
        np.testing.assert_allclose(seen(folder, 16), expected, atol=1e-6)
    source = open_dataset(folder)
    exported, _ = sample_images(source, source.testing(), (16, 16, 3), 2)
    np.testing.assert_array_equal(exported[0], as_bytes(expected))
    if size == (24, 24):  # others are padded for a detector
        boxless = {"images": [{"id": 1, "file_name": "photo.jpg", "height": 24, "width": 24}]}
        boxless |= {"categories": [{"id": 1, "name": "a"}], "annotations": []}
        (tmp_path / "coco.json").write_text(json.dumps(boxless))
        coco = CocoImages(tmp_path / "coco.json", tmp_path)
        images, _ = next(detector_batches(coco, 16, 1).as_numpy_iterator())
        np.testing.assert_allclose(images[0], expected, atol=1e-6)


def test_every_kind_of_image_is_searched_trained_on_and_evaluated(tmp_path):
    for name, (write, _) in WAYS.items():
        for part in ("train", "test"):
            for label in ("a", "b"):
                (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
                write(_photo(), tmp_path / part / label / name)
    source, data = open_dataset(tmp_path), open_dataset(tmp_path, image_size=16).in_memory()
    assert source.train_size == len(data.train_images) == 2 * len(WAYS)
    images = np.concatenate([x for x, _ in evaluation_batches(source, 16).as_numpy_iterator()])
    np.testing.assert_allclose(data.test_images / 127.5 - 1, images, atol=1e-6)
    trained = source.training(0, 0).take(source.train_size).as_numpy_iterator()
    assert len({image.tobytes() for _, image, _ in trained}) > 5


def test_a_crop_has_the_aspect_ratio_of_the_size():
    image = np.arange(20 * 30, dtype=np.float32).reshape(20, 30, 1)
    for size, part in (((10, 5), image[:, 10:20]), ((4, 12), image[5:15])):
        expected = tf.image.resize(part, size, antialias=True)
        np.testing.assert_array_equal(resize_with_crop(image, size), expected)
