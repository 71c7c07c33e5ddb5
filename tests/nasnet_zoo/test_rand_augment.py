import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from nasnet_zoo.training import rand_augment as ours
from nasnet_zoo.training.rand_augment import OPERATIONS, rand_augment

pytestmark = pytest.mark.tensorflow

RNG = np.random.default_rng(0)
#: Noise, a photograph's smooth shades, few pixels of few values, and one value only.
IMAGES = {
    "noise": RNG.integers(0, 256, (24, 31, 3)),
    "smooth": 40 + np.add.outer(3 * np.arange(26), 2 * np.arange(22))[..., None] + [0, 20, 55],
    "few": RNG.choice([3, 90, 91, 200], (9, 11, 3)),
    "grey": RNG.integers(30, 180, (25, 20, 1)),
    "constant": np.full((8, 8, 3), 77),
}
IMAGES = {name: image.astype(np.uint8) for name, image in IMAGES.items()}


@pytest.fixture(params=IMAGES)
def image(request):
    return IMAGES[request.param]


def pillow(image):
    return Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])


def differ(found, expected):
    """The largest difference of a value."""
    assert found.dtype == tf.uint8
    expected = np.asarray(expected).reshape(found.shape)
    return int(np.abs(found.numpy().astype(int) - expected).max())


# === Against Pillow ===


def test_operations_without_a_magnitude_are_pillows(image):
    # Pillow cuts off what is behind the point.
    assert differ(ours.autocontrast(image), ImageOps.autocontrast(pillow(image))) <= 1
    assert differ(ours.equalize(image), ImageOps.equalize(pillow(image))) == 0


@pytest.mark.parametrize("dropped", range(5))
def test_posterizing_is_pillows(image, dropped):
    expected = ImageOps.posterize(pillow(image), 8 - dropped)
    assert differ(ours.posterize(tf.constant(image), tf.constant(dropped)), expected) == 0


@pytest.mark.parametrize("threshold", [0, 1, 90, 128, 255, 256])
def test_solarizing_is_pillows(image, threshold):
    expected = ImageOps.solarize(pillow(image), threshold)
    assert differ(ours.solarize(tf.constant(image), threshold), expected) == 0


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.7, 1.0, 1.4, 1.9])
@pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
def test_enhancements_are_pillows(name, image, factor):
    expected = getattr(ImageEnhance, name.capitalize())(pillow(image)).enhance(factor)
    found = getattr(ours, name)(tf.constant(image), tf.constant(factor))
    assert differ(found, expected) <= (0 if factor == 1.0 else 2)


def moved(image, matrix=None, degrees=None):
    """Pillow's image; and where it took no pixel from beyond the outermost centres."""

    def by_pillow(picture, grey):
        fill = (grey,) * 3 if picture.mode == "RGB" else grey
        if degrees is not None:
            return picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=fill)
        arguments = Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        return picture.transform(picture.size, *arguments, fillcolor=fill)

    inner = np.zeros(image.shape[:2], np.uint8)
    inner[1:-1, 1:-1] = 255
    inside = np.asarray(by_pillow(Image.fromarray(inner), 0)) == 255
    return np.asarray(by_pillow(pillow(image), 128)), inside


MOVES = {
    "shear_x": lambda s, h, w: {"matrix": (1, 0.3 * s, 0, 0, 1, 0)},
    "shear_y": lambda s, h, w: {"matrix": (1, 0, 0, 0.3 * s, 1, 0)},
    "translate_x": lambda s, h, w: {"matrix": (1, 0, 150 / 331 * s * w, 0, 1, 0)},
    "translate_y": lambda s, h, w: {"matrix": (1, 0, 0, 0, 1, 150 / 331 * s * h)},
    "rotate": lambda s, h, w: {"degrees": 30 * s},
}


# On the two small images the edge, which is interpolated differently, is the most of it.
@pytest.mark.parametrize("image", ["noise", "smooth", "grey"], indirect=True)
@pytest.mark.parametrize("strength", [-1.0, -0.37, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", MOVES)
def test_moves_are_pillows_at_every_strength(name, image, strength):
    expected, inside = moved(image, **MOVES[name](strength, *image.shape[:2]))
    found = OPERATIONS[name](tf.constant(image), tf.constant(strength)).numpy().astype(int)
    difference = np.abs(found - expected.reshape(found.shape))
    assert inside.sum() > 10
    assert difference[inside].max() <= 1
    if strength:
        # What lies beyond the image is grey in both.
        grey = (found == 128).all(-1) & (expected.reshape(found.shape) == 128).all(-1)
        assert grey.sum() > 0
        assert (grey | inside).mean() > 0.6
    else:
        assert difference.max() == 0


# === Draws ===


def key(number):
    return tf.constant([5, number], tf.int64)


def test_magnitude_0_leaves_the_image_but_for_two_operations(image):
    for name, apply in OPERATIONS.items():
        if name not in ("autocontrast", "equalize"):
            assert differ(apply(tf.constant(image), tf.constant(0.0)), image) == 0, name


def test_every_operation_is_drawn_equally_often_in_both_directions(monkeypatch):
    """Each operation replaced by one that writes its number and its strength."""
    for number, name in enumerate(list(OPERATIONS)):
        monkeypatch.setitem(
            OPERATIONS, name, lambda image, s, n=number: tf.cast([n, s * 50 + 50], tf.uint8)
        )
    draw = tf.function(lambda k: rand_augment(tf.zeros(2, tf.uint8), 1, 4.0, tf.stack([k, k])))
    drawn = np.array([draw(k).numpy() for k in tf.range(1400, dtype=tf.int64)])
    assert set(drawn[:, 1]) == {30, 70}
    for half in (30, 70):
        counts = np.bincount(drawn[drawn[:, 1] == half, 0], minlength=14)
        # 50 each on average, with a standard deviation of 7.
        assert counts.min() > 20
        assert counts.max() < 85


def test_equal_keys_give_equal_images_and_others_others():
    image = tf.constant(IMAGES["noise"])
    draw = tf.function(lambda k: rand_augment(image, 2, 9.0, k))
    images = [draw(key(number)).numpy() for number in range(20)]
    for number, before in enumerate(images):
        np.testing.assert_array_equal(draw(key(number)), before)
    assert len({made.tobytes() for made in images}) > 12


def test_layers_follow_one_another_with_draws_of_their_own():
    image = tf.constant(IMAGES["smooth"])
    once = [rand_augment(image, 1, 9.0, key(number)).numpy() for number in range(12)]
    twice = [rand_augment(image, 2, 9.0, key(number)).numpy() for number in range(12)]
    assert sum(not np.array_equal(a, b) for a, b in zip(once, twice, strict=True)) >= 6
