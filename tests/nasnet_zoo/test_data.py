import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasnet_zoo.data import ImageData, open_dataset
from nasnet_zoo.data.arrays import balanced, split
from nasnet_zoo.data.digits import load_digits
from nasnet_zoo.data.idx import load_idx
from nasnet_zoo.extras import import_extra

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
NAMES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}


def load(source, image_size=None, limit=None):
    return open_dataset(source, image_size, limit).in_memory()


# === Digits ===


def test_digits_are_scikit_learns_scaled_to_bytes():
    from sklearn.datasets import load_digits as reference

    data, digits = load_digits(), reference()
    assert data.train_images.shape[1:] == data.test_images.shape[1:] == (8, 8, 1)
    assert data.found == len(data.train_images) + len(data.test_images) == 1797
    ours = np.concatenate([data.train_images, data.test_images])
    theirs = np.round(digits.images / 16 * 255).astype(np.uint8)
    assert sorted(image.tobytes() for image in ours) == sorted(image.tobytes() for image in theirs)
    assert ours.max() == 255


def test_a_fifth_of_every_digit_is_held_out_and_always_the_same():
    first, second = load_digits(), load_digits()
    shares = np.bincount(first.test_labels) / (
        np.bincount(first.test_labels) + np.bincount(first.train_labels)
    )
    assert len(shares) == 10
    assert np.abs(shares - 0.2).max() < 0.01
    np.testing.assert_array_equal(first.test_images, second.test_images)


# === IDX files ===


def _idx(array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def _write_idx(folder, compressed=False, names=NAMES, **changes):
    """Writes four files of random images; ``changes`` replaces the bytes of some."""
    rng = np.random.default_rng(0)
    arrays = {}
    for (part, kind), name in names.items():
        count = 12 if part == "train" else 5
        shape = (count, 4, 6) if kind == "images" else (count,)
        array = rng.integers(0, 256 if kind == "images" else 3, shape).astype(np.uint8)
        arrays[part, kind] = array
        content = changes.get(f"{part}_{kind}", _idx(array))
        path = folder / (name + ".gz" * compressed)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return arrays


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("joint", ["-", "."])
def test_idx_files_are_read_back(tmp_path, compressed, joint):
    names = {key: name.replace("-idx", f"{joint}idx") for key, name in NAMES.items()}
    arrays = _write_idx(tmp_path, compressed, names)
    for data in (load_idx(tmp_path), load(tmp_path)):
        np.testing.assert_array_equal(data.train_images[..., 0], arrays["train", "images"])
        np.testing.assert_array_equal(data.test_images[..., 0], arrays["test", "images"])
        np.testing.assert_array_equal(data.train_labels, arrays["train", "labels"])
        np.testing.assert_array_equal(data.test_labels, arrays["test", "labels"])
        assert data.class_names == ("0", "1", "2")
        assert data.found == 17


IMAGES = _idx(np.zeros((12, 4, 6), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\x89PNG" + bytes(40), "begins with 00000803. Received: 89504e47"),
        (_idx(np.zeros(12, np.uint8)), "Received: 00000801"),
        (IMAGES[:9], "header of 16 bytes. Received: 9"),
        (IMAGES[:-1], "expected 288 bytes after the header \\(12, 4, 6\\). Received: 287"),
        (IMAGES + b"x", "Received: more"),
        (
            _idx(np.zeros((11, 4, 6), np.uint8)),
            "one label for each image to train. Received: 11 images, 12",
        ),
        (_idx(np.zeros((12, 5, 6), np.uint8)), "images of one size"),
    ],
)
def test_a_broken_idx_file_is_named(tmp_path, content, message):
    _write_idx(tmp_path, train_images=content)
    with pytest.raises(ValueError, match=message) as error:
        load_idx(tmp_path)
    assert str(error.value).startswith(str(tmp_path)) or tmp_path.name in str(error.value)


@pytest.mark.parametrize("keep", [10, 60])
def test_a_truncated_gzip_file_is_named(tmp_path, keep):
    _write_idx(tmp_path, compressed=True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz: expected a readable file"):
        load_idx(tmp_path)


def test_a_corrupt_gzip_file_is_named(tmp_path):
    _write_idx(tmp_path, compressed=True)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[20:40] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz: expected"):
        load_idx(tmp_path)


def test_a_missing_idx_file_is_named(tmp_path):
    _write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        ValueError, match="expected an IDX file with the labels to test. Received: none"
    ):
        load(tmp_path)


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_fashion_mnist_as_debian_installs_it():
    data = load(FASHION_MNIST)
    assert data.train_images.shape == (60000, 28, 28, 1)
    assert data.test_images.shape == (10000, 28, 28, 1)
    assert np.bincount(data.train_labels).tolist() == [6000] * 10
    assert data.name == "fashion-mnist"


# === Class folders ===

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


def _write_folder(folder, count=10, suffix=".png", names=COLOURS):
    for name in names:
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (20 + k, 15), COLOURS[name]).save(folder / name / f"{k}{suffix}")


def _check_colours(images, labels):
    for image, label in zip(images, labels, strict=True):
        expected = list(COLOURS.values())[label]
        assert np.abs(image.astype(int) - expected).max() < 20


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".BMP"])
def test_class_folders_are_split_by_class(tmp_path, suffix):
    _write_folder(tmp_path, suffix=suffix)
    (tmp_path / "red" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    data = load(tmp_path)
    assert data.class_names == ("blue", "green", "red")
    assert data.train_images.shape == (24, 32, 32, 3)
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2]
    _check_colours(data.train_images, data.train_labels)
    _check_colours(data.test_images, data.test_labels)


def test_train_and_test_folders_are_taken_as_they_are(tmp_path):
    _write_folder(tmp_path / "train", count=4)
    _write_folder(tmp_path / "test", count=1, names=["blue", "red"])
    data = load(tmp_path, image_size=9)
    assert data.train_images.shape == (12, 9, 9, 3)
    assert data.test_labels.tolist() == [0, 2]
    _check_colours(data.test_images, data.test_labels)
    assert data.found == 14


def test_a_limit_reads_no_more_images_than_it_says(tmp_path):
    _write_folder(tmp_path / "train", count=6)
    _write_folder(tmp_path / "test", count=2)
    # Images left out are not read: broken ones among them do no harm.
    chosen = set(balanced(np.repeat(np.arange(3), 6), 3).tolist())
    for k in set(range(18)) - chosen:
        (tmp_path / "train" / list(COLOURS)[k // 6] / f"{k % 6}.png").write_bytes(b"broken")
    data = load(tmp_path, limit=3)
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 1, 2]
    assert data.found == 24


def test_an_image_on_its_side_is_turned_upright(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(5):
            image = Image.new("RGB", (8, 8), "black")
            image.paste("white", (0, 0, 8, 4))
            exif = Image.Exif()
            exif[0x0112] = 3  # turned by 180 degrees
            image.save(tmp_path / name / f"{k}.png", exif=exif)
    image = load(tmp_path, image_size=8).train_images[0]
    assert image[0].max() == 0
    assert image[-1].min() == 255


# The second is what Pillow would hand to another program.
@pytest.mark.parametrize(
    "content", [b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_an_unreadable_image_is_named(tmp_path, content):
    _write_folder(tmp_path)
    (tmp_path / "green" / "3.png").write_bytes(content)
    with pytest.raises(ValueError, match="3.png: expected a readable image"):
        load(tmp_path)


def test_a_truncated_image_is_named(tmp_path):
    _write_folder(tmp_path, suffix=".jpg")
    path = tmp_path / "green" / "3.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="3.jpg: expected a readable image"):
        load(tmp_path)


def test_folders_without_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least two class folders. Received: \\[\\]"):
        load(tmp_path)
    (tmp_path / "only").mkdir()
    with pytest.raises(ValueError, match="Received: \\['only'\\]"):
        load(tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="only: expected images .*. Received: none"):
        load(tmp_path)


def test_a_class_that_only_test_has_is_named(tmp_path):
    _write_folder(tmp_path / "train", count=2, names=["blue", "red"])
    _write_folder(tmp_path / "test", count=2)
    with pytest.raises(ValueError, match="expected the classes of train. Received: \\['green'\\]"):
        load(tmp_path)


# === Subsets, checks ===


def test_a_limit_is_spread_evenly():
    data = load("digits", limit=205)
    assert sorted(np.bincount(data.train_labels)) == [20] * 5 + [21] * 5
    assert data.found == 1797
    with pytest.raises(ValueError, match="Expected limit: an int of at least 1"):
        load("digits", limit=0)


def test_a_small_class_leaves_its_part_to_others():
    labels = np.array([0] * 2 + [1] * 50 + [2] * 50)
    assert np.bincount(labels[balanced(labels, 30)]).tolist() == [2, 14, 14]
    assert balanced(labels, 200).tolist() == list(range(102))


def test_a_split_holds_out_a_share_of_every_class():
    labels = np.array([0] * 10 + [1] * 100 + [2])
    kept, held_out = split(labels, 0.3)
    assert sorted([*kept, *held_out]) == list(range(111))
    assert np.bincount(labels[held_out], minlength=3).tolist() == [3, 30, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((4, 8, 8, 1), np.float64)}, "uint8 images .* to train"),
        ({"test_images": np.zeros((4, 8, 8), np.uint8)}, "uint8 images .* to test"),
        ({"test_labels": np.zeros(3, np.int64)}, "one label for each image to test"),
        ({"train_labels": np.full(4, 2)}, "labels from 0 to 1 to train. Received: 2 to 2"),
        ({"test_images": np.zeros((4, 8, 8, 1), np.float32)}, "test images of type uint8"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int64)
    fields = {f"{part}_images": images for part in ("train", "test")}
    fields |= {f"{part}_labels": labels for part in ("train", "test")}
    with pytest.raises(ValueError, match=message):
        ImageData(**{**fields, **changes}, class_names=("a", "b"), name="set", found=8)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 65535), (0, np.nan)])
def test_pixels_are_from_0_to_255(low, high):
    images, labels = np.full((4, 8, 8, 1), low, np.float32), np.zeros(4, np.int64)
    images[0] = high
    with pytest.raises(ValueError, match="set: expected pixels from 0 to 255. Received: "):
        ImageData(images, labels, images, labels, ("a",), "set", 8)


def test_a_missing_package_names_the_extra():
    with pytest.raises(ImportError, match="'no_such_package', of the extra 'demo' of nasnet-zoo"):
        import_extra("no_such_package.datasets", "demo")
