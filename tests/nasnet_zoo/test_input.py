import importlib
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from numbered_images import Numbered, NumberedStream, numbered, prepared
from PIL import Image
from strategies import examples

from nasnet_zoo.data import ImageData, open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.data.streams import ArraySource, FolderSource, broken_images_named
from nasnet_zoo.data.tfds import TfdsSource, from_tfds
from nasnet_zoo.training import RECIPES, changed
from nasnet_zoo.training.input import (
    augment,
    cut_out,
    distorted_crop,
    evaluation_batches,
    mixup_share,
    padded_crop,
    training_batches,
    varied_color,
)
from nasnet_zoo.training.recipes import AugmentationSettings

pytestmark = pytest.mark.tensorflow

PLAIN = changed(
    RECIPES["digits"],
    model={"image_size": 8},
    run={"batch_size": 5},
    augmentation={"crop": "none", "pad": 4, "flip": False},
)


def keys(number):
    return tf.constant([0, number], tf.int64)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).uniform(-1, 1, (24, 24, 3)).astype("float32")


# === Order ===


@pytest.mark.parametrize("count", [2, 23])
def test_every_epoch_holds_each_image_once_in_its_own_order(count):
    stream = ArraySource(numbered(count)).training(seed=3, start=0).take(3 * count)
    positions, images, labels = zip(*stream.as_numpy_iterator(), strict=True)
    assert list(positions) == list(range(3 * count))
    values = [int(image[0, 0, 0]) for image in images]
    assert list(labels) == [value % 3 for value in values]
    epochs = [values[k * count : (k + 1) * count] for k in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count > 2:
        assert epochs[0] != epochs[1] != epochs[2]
        other = ArraySource(numbered(count)).training(seed=4, start=0).take(count)
        assert [int(image[0, 0, 0]) for _, image, _ in other.as_numpy_iterator()] != epochs[0]


@pytest.mark.parametrize("start", [0, 3, 40])
@pytest.mark.parametrize("more", [{}, {"mixup": 0.2, "rand_augment_layers": 2}], ids=str)
def test_a_stream_from_a_later_step_is_the_rest_of_the_whole_one(start, more):
    recipe = changed(PLAIN, augmentation={"crop": "pad", "pad": 2, "flip": True, "cutout": 3, **more})
    source = ArraySource(numbered(23))
    whole = list(training_batches(source, recipe, seed=1).skip(start).take(2).as_numpy_iterator())
    rest = list(training_batches(source, recipe, 1, start).take(2).as_numpy_iterator())
    for (images, labels), (later_images, later_labels) in zip(whole, rest, strict=True):
        np.testing.assert_array_equal(images, later_images)
        np.testing.assert_array_equal(labels, later_labels)


def test_test_images_come_once_in_order_scaled_to_one():
    batches = evaluation_batches(ArraySource(numbered(23)), 8, batch_size=4).as_numpy_iterator()
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_allclose(images[:, 0, 0, 0], (200 + np.arange(7)) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(labels.argmax(-1), (200 + np.arange(7)) % 3)


# === Augmentation ===


@given(st.integers(0, 1000))
@examples(10)
def test_a_padded_crop_is_a_window_of_the_bordered_image(number):
    image = np.arange(1, 37, dtype="float32").reshape(6, 6, 1)
    bordered = np.pad(image, ((2, 2), (2, 2), (0, 0)), constant_values=-1)
    crop = padded_crop(tf.constant(image), 2, keys(number)).numpy()
    windows = [bordered[i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
    assert sum(np.array_equal(crop, window) for window in windows) == 1


@given(st.integers(0, 1000))
@examples(10)
def test_an_upsampled_crop_is_a_window_of_the_larger_image(number):
    image = np.arange(36, dtype="float32").reshape(6, 6, 1)
    larger = normalize(tf.image.resize(image, (10, 10), antialias=True)).numpy()
    crop = augment(image, AugmentationSettings("upsample", pad=2), 6, keys(number)).numpy()
    windows = [larger[i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
    assert sum(np.allclose(crop, window, atol=1e-6) for window in windows) == 1


def test_padded_crops_reach_every_offset():
    image = tf.constant(np.arange(1, 37, dtype="float32").reshape(6, 6, 1))
    many = tf.map_fn(
        lambda k: padded_crop(image, 1, tf.stack([0, k])),
        tf.range(400, dtype=tf.int64),
        fn_output_signature=tf.float32,
    )
    assert len({crop.tobytes() for crop in many.numpy()}) == 9


@given(st.integers(0, 1000), st.integers(1, 30))
@examples(15)
def test_cutout_greys_a_square_around_a_pixel(number, side):
    image = np.ones((20, 24, 1), "float32")
    greyed = cut_out(tf.constant(image), side, keys(number)).numpy()[..., 0] == 0
    rows, columns = (np.flatnonzero(greyed.any(axis)) for axis in (1, 0))
    assert greyed.sum() == len(rows) * len(columns)
    for places, length in ((rows, 20), (columns, 24)):
        assert len(places) == places[-1] - places[0] + 1 <= side
        inside = places[0] > 0 and places[-1] < length - 1
        # The centre is a pixel of the image: at most half of the square lies outside.
        assert len(places) == side if inside else len(places) >= min(side // 2, length // 2)


def test_cutout_covers_every_pixel_sometimes():
    image = tf.ones((6, 6, 1))
    many = tf.map_fn(
        lambda k: cut_out(image, 2, tf.stack([0, k])),
        tf.range(300, dtype=tf.int64),
        fn_output_signature=tf.float32,
    ).numpy()
    assert (many == 0).any(0).all()
    # A pixel is covered by 4 of the 36 squares, one at the upper left edges by fewer.
    assert (many[:, 3, 3] == 0).mean() == pytest.approx(4 / 36, abs=0.06)


@given(st.integers(0, 1000))
@examples(15)
def test_a_distorted_crop_keeps_to_its_limits(number):
    image = tf.zeros((200, 300, 3), tf.uint8)
    height, width, _ = distorted_crop(image, keys(number)).shape
    assert 0.05 * 60_000 * 0.97 <= height * width <= 60_000
    assert 0.74 <= width / height <= 1.35


def test_half_of_the_images_are_mirrored(noise):
    recipe = changed(PLAIN, model={"image_size": 24}, augmentation={"flip": True})
    image = np.round((noise + 1) * 127.5).astype(np.uint8)
    straight = image / np.float32(127.5) - 1
    mirrored = 0
    for number in range(60):
        made = augment(tf.constant(image), recipe.augmentation, 24, keys(number)).numpy()
        flipped = not np.allclose(made, straight, atol=1e-6)
        np.testing.assert_allclose(made[:, ::-1] if flipped else made, straight, atol=1e-6)
        mirrored += flipped
    assert 15 <= mirrored <= 45


def test_colors_stay_in_range_and_pixels_in_place(noise):
    made = varied_color(tf.constant(noise), keys(1)).numpy()
    assert made.shape == noise.shape
    assert -1 <= made.min() < made.max() <= 1
    assert np.corrcoef(made.ravel(), noise.ravel())[0, 1] > 0.7
    assert not np.allclose(made, noise)


def first_batch(recipe, source=None):
    source = ArraySource(numbered(23, classes=10)) if source is None else source
    return next(iter(training_batches(source, recipe, seed=1).as_numpy_iterator()))


def test_a_mixed_batch_mixes_labels_as_images_with_those_before_them():
    """Images of one value each are a line from 0 to 1 between them: it tells the share."""
    recipe = changed(PLAIN, run={"batch_size": 16})
    images, labels = first_batch(recipe)
    mixed, mixed_labels = first_batch(changed(recipe, augmentation={"mixup": 1.0}))
    values, mixed_values = images[:, 0, 0, 0], mixed[:, 0, 0, 0]
    before = np.roll(values, 1)
    shares = (mixed_values - before) / (values - before)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert np.ptp(shares) > 0.3
    own = shares[:, None]
    np.testing.assert_allclose(
        mixed_labels, own * labels + (1 - own) * np.roll(labels, 1, 0), atol=2e-4
    )
    np.testing.assert_allclose(mixed_labels.sum(-1), 1, atol=1e-6)
    assert np.ptp(mixed, axis=(1, 2, 3)).max() < 1e-6


@pytest.mark.parametrize("alpha", [0.002, 0.2, 1.0, 8.0])
def test_shares_of_mixup_are_of_the_beta_distribution(alpha):
    draws = tf.data.Dataset.range(4000).map(lambda k: mixup_share(alpha, tf.stack([k, k])))
    shares = np.array(list(draws.as_numpy_iterator()))
    assert np.isfinite(shares).all()
    expected = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    for level in (0.001, 0.1, 0.3, 0.5, 0.8, 0.999):
        assert (shares < level).mean() == pytest.approx((expected < level).mean(), abs=0.03)


def test_rand_augment_varies_images_by_its_magnitude_and_leaves_labels(noise):
    image = np.round((noise + 1) * 127.5).astype(np.uint8)
    source = ArraySource(ImageData(*[image[None], np.zeros(1, int)] * 2, ("a",), "one", 2))
    recipe = changed(PLAIN, model={"image_size": 24}, run={"batch_size": 40})
    plain, labels = first_batch(recipe, source)
    distances = []
    for magnitude in (0.0, 3.0, 9.0):
        made, same = first_batch(
            changed(
                recipe, augmentation={"rand_augment_layers": 1, "rand_augment_magnitude": magnitude}
            ),
            source,
        )
        np.testing.assert_array_equal(same, labels)
        assert made.dtype == plain.dtype
        assert -1 <= made.min() < made.max() <= 1
        distances.append(np.abs(made - plain).mean(axis=(1, 2, 3)))
    # At 0 only two of the fourteen operations do anything.
    assert (distances[0] < 1e-6).mean() > 0.7
    assert distances[0].mean() < distances[1].mean() < distances[2].mean()
    assert (distances[2] > 0.01).mean() > 0.5


def test_what_is_off_draws_nothing():
    """The batches of recipes that were written before mixup and RandAugment."""
    recipe = changed(PLAIN, augmentation={"crop": "pad", "pad": 2, "flip": True, "cutout": 3})
    images, labels = first_batch(recipe)
    assert zlib.crc32(images.tobytes()) == 134809022
    assert zlib.crc32(labels.tobytes()) == 1826384344


@pytest.mark.parametrize("crop", ["none", "pad", "upsample", "distorted"])
def test_the_saturation_of_every_crop_is_varied_in_the_pipeline(crop):
    """Whose graph has to know the number of channels; brightness alone shifts all three alike."""
    image = np.full((1, 24, 24, 3), [150, 120, 100], np.uint8)
    source = ArraySource(ImageData(*[image, np.zeros(1, int)] * 2, ("a",), "one", 2))
    recipe = changed(
        PLAIN,
        model={"image_size": 24},
        run={"batch_size": 20},
        augmentation={"crop": crop, "pad": 0 if crop == "pad" else 4, "color": True},
    )
    images, _ = first_batch(recipe, source)
    saturation = (images[:, 5, 5].max(-1) - images[:, 5, 5].min(-1)) * 127.5
    assert saturation.min() < 40
    assert saturation.max() > 60


# === Sources ===


@pytest.fixture
def folder(tmp_path):
    for name, value in (("cat", 40), ("dog", 200)):
        (tmp_path / name).mkdir()
        for k in range(5):
            array = np.full((10 + k, 12, 3), value + k, np.uint8)
            Image.fromarray(array).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_a_folder_is_read_file_by_file(folder):
    source = open_dataset(folder)
    assert isinstance(source, FolderSource)
    assert (source.class_names, source.train_size, source.test_size) == (("cat", "dog"), 8, 2)
    examples = list(source.training(0, 0).take(8).as_numpy_iterator())
    values = sorted(int(image[0, 0, 0]) for _, image, _ in examples)
    tested = sorted(int(image[0, 0, 0]) for image, _ in source.testing().as_numpy_iterator())
    assert sorted(values + tested) == [*range(40, 45), *range(200, 205)]
    assert all((image[0, 0, 0] >= 200) == label for _, image, label in examples)


def test_a_broken_image_is_named(folder):
    (folder / "dog" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    recipe = changed(PLAIN, run={"batch_size": 2})
    source = open_dataset(folder)
    message = r"dog/2\.png: expected a readable image. Received: none of PNG, JPEG"
    with pytest.raises(ValueError, match=message), broken_images_named(source):
        list(training_batches(source, recipe).take(8).as_numpy_iterator())


def test_an_image_that_is_gone_or_cut_short_is_named(folder):
    recipe = changed(PLAIN, run={"batch_size": 2})
    for name in ("3.jpg", "4.jpg"):
        Image.new("RGB", (40, 40), "red").save(folder / "dog" / name)
        (folder / "dog" / name).with_suffix(".png").unlink()
    source = open_dataset(folder)
    cut = folder / "dog" / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"dog/3\.jpg: expected"), broken_images_named(source):
        list(training_batches(source, recipe).take(8).as_numpy_iterator())
    cut.unlink()
    with pytest.raises(OSError, match=r"dog/3\.jpg: expected an image"), broken_images_named(source):
        list(training_batches(source, recipe).take(8).as_numpy_iterator())


@pytest.mark.parametrize(
    "source",
    [
        "./missing",
        "/does/not/exist",
        "no_such_data_set",
        "my pictures",
        "mnist(",
        "mnist:9",
        "Bäume",
        "a/b:c",
        "",
        "7",
    ],
)
def test_what_is_no_data_is_refused(source):
    with pytest.raises(ValueError, match="which is no such folder and no such data set") as refused:
        open_dataset(source)
    assert "\n" not in str(refused.value)


def test_another_version_of_a_data_set_is_refused():
    with pytest.raises(ValueError, match="mnist:9.9.9: expected a data set of TFDS. Received: "):
        open_dataset("mnist:9.9.9")


@pytest.fixture
def tfds_folder(tmp_path, monkeypatch):
    """Where data sets opened by name are; TFDS reads the variable of the environment only once."""
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_small_tfds_data_set_is_found_by_name_and_held_in_memory(tfds_folder):
    source = open_dataset("numbered")
    assert isinstance(source, ArraySource)
    assert (tfds_folder / "numbered" / "1.0.0").is_dir()
    assert (source.name, source.class_names) == ("numbered", ("a", "b", "c"))
    assert (source.train_size, source.test_size, source.channels) == (40, 7, 1)
    examples = source.training(0, 0).take(40).as_numpy_iterator()
    pairs = {(int(image[0, 0, 0]), int(label)) for _, image, label in examples}
    assert pairs == {(k, k % 3) for k in range(40)}


def test_a_configuration_of_a_tfds_data_set_is_found_by_its_name(tfds_folder):
    small, large = (open_dataset(f"numbered_sizes/{size}") for size in (8, 16))
    assert (small.name, large.name) == ("numbered_sizes/8", "numbered_sizes/16")
    assert large.data.train_images.shape == (40, 16, 16, 1)
    with pytest.raises(
        ValueError, match="numbered_sizes/9: expected a data set of TFDS. Received"
    ) as told:
        open_dataset("numbered_sizes/9")
    assert "\n" not in str(told.value)


def test_a_data_set_of_a_package_is_prepared_by_its_name(tmp_path, tfds_folder, monkeypatch):
    """As TFDS's own ones are, whose lists of checksums lie in their package."""
    package = tmp_path / "packaged"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "numbered_in_package.py").write_text(
        "from numbered_images import Numbered\nclass NumberedInPackage(Numbered):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("packaged.numbered_in_package")
    assert open_dataset("numbered_in_package").train_size == 40
    assert (tfds_folder / "numbered_in_package" / "1.0.0").is_dir()


def test_a_tfds_data_set_without_test_images_is_refused(tmp_path):
    class NumberedToTrain(Numbered):
        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples("train")}

    builder = prepared(NumberedToTrain, tmp_path)
    with pytest.raises(ValueError, match="expected the splits 'train' and .*. Received: \\['train'\\]"):
        from_tfds(builder)


def test_a_large_tfds_data_set_is_streamed_and_resumed(tmp_path):
    source = from_tfds(prepared(NumberedStream, tmp_path))
    assert isinstance(source, TfdsSource)

    def values(start, count):
        stream = source.training(5, start).take(count).as_numpy_iterator()
        found = [(int(position), int(image[0, 0, 0]), int(label)) for position, image, label in stream]
        assert all(label == value % 3 for _, value, label in found)
        return [(position, value) for position, value, _ in found]

    whole = values(0, 100)
    first, second = [v for _, v in whole[:40]], [v for _, v in whole[40:80]]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    for start in (7, 40, 50):
        assert values(start, 100 - start) == whole[start:]
    tested = [int(image[0, 0, 0]) for image, _ in source.testing().as_numpy_iterator()]
    assert sorted(tested) == list(range(200, 207))
    for arguments in ({"limit": 3}, {"image_size": 8}):
        with pytest.raises(ValueError, match="images of one size that fit into memory. Received: 40"):
            open_dataset(source, **arguments)
    with pytest.raises(ValueError, match="images of one size that fit into memory. Received: 40"):
        source.in_memory()
