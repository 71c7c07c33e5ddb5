"""COCO's format with every oddity of the real one: reading, the input pipeline, evaluation."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from nasnet_zoo.data import read_pixels, read_size
from nasnet_zoo.data.streams import broken_images_named
from nasnet_zoo.detection import CROWD, PADDING
from nasnet_zoo.detection.coco import CocoImages, coco_from_tfds
from nasnet_zoo.detection.evaluation import METRICS, detect, evaluate
from nasnet_zoo.detection.input import evaluation_batches, training_batches

pytest.importorskip("pycocotools")

# Category ids with gaps and out of order, as COCO's.
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
SIZES = {7: (40, 60), 3: (64, 32), 11: (50, 50)}


def annotation(number, image, category, bbox, **more):
    whole = {"id": number, "image_id": image, "category_id": category, "bbox": bbox}
    return {**whole, "area": bbox[2] * bbox[3], "iscrowd": 0, **more}


GOOD = [
    annotation(1, 7, 18, [10.5, 5.0, 20.0, 30.0]),
    annotation(2, 7, 1, [50.0, 0.0, 15.0, 20.0]),  # 5 pixels outside on the right
    annotation(3, 3, 90, [2.0, 2.0, 12.0, 40.0]),
    annotation(
        4, 3, 1, [0.0, 0.0, 32.0, 64.0], iscrowd=1, segmentation={"counts": [], "size": [64, 32]}
    ),
]
BAD = [
    (
        annotation(5, 7, 18, [3.0, 5.0, 1e-30, 10.0]),
        "annotation 5: expected a bbox with an area in its image",
    ),
    (
        annotation(5, 7, 18, [3.0, 5.0, -1.0, 10.0], area=9),
        "annotation 5: expected a bbox with an area in its image",
    ),
    ({**GOOD[0], "id": 5, "bbox": "1, 2, 3, 4"}, "annotation 5: expected bbox: 4 values"),
    ({**GOOD[0], "id": 5, "bbox": [1, 2, 3]}, "annotation 5: expected bbox: 4 values"),
    ({**GOOD[0], "id": 5, "bbox": [1, 2, 3, None]}, "annotation 5: expected bbox: 4 values"),
    ({**GOOD[0], "id": 5, "bbox": [1, 2, 3, 10**400]}, "annotation 5: expected bbox"),
    ({**GOOD[0], "id": 5, "bbox": [0] * 10_000}, "annotation 5: expected bbox"),
    ({**GOOD[0], "id": 5, "bbox": None}, "annotation 5: expected bbox"),
    ({**GOOD[0], "id": 5, "image_id": "7"}, "annotation 5: expected image_id: an int"),
    ({**GOOD[0], "id": 5, "image_id": [7]}, "annotation 5: expected image_id: an int"),
    ({**GOOD[0], "id": 5, "category_id": None}, "annotation 5: expected category_id: an int"),
    ({**GOOD[0], "id": 5, "category_id": {}}, "annotation 5: expected category_id: an int"),
    ({**GOOD[0], "id": 5, "area": "x"}, "annotation 5: expected area: a finite number of at least 0"),
    ({**GOOD[0], "id": 5, "iscrowd": 2}, "annotation 5: expected iscrowd: true or false or"),
    (GOOD[0], "annotation 1: expected an id of its own. Received: one that an earlier one has"),
    ({**GOOD[0], "id": None}, "annotation at index 0: expected id: an int"),
    ({**GOOD[0], "id": 1.5}, "annotation at index 0: expected id: an int"),
    ({**GOOD[0], "id": 10**30}, "annotation 10*: expected id: an int"),
    ({"id": 5, "image_id": 7, "category_id": 18}, "annotation 5: expected bbox. Received: none"),
    ([1, 2], "annotation at index 0: expected an object. Received: a list"),
    (None, "annotation at index 0: expected an object. Received: none"),
    (
        annotation(5, 7, 18, [70.0, 5.0, 10.0, 10.0]),
        "annotation 5: expected a bbox with an area in its image",
    ),
    (
        annotation(6, 7, 18, [10.0, 5.0, 0.0, 10.0]),
        "annotation 6: expected a bbox with an area in its image",
    ),
    (
        annotation(7, 7, 17, [1.0, 1.0, 5.0, 5.0]),
        "annotation 7: expected a category that is listed. Received: 17",
    ),
    (
        annotation(8, 99, 18, [1.0, 1.0, 5.0, 5.0]),
        "annotation 8: expected an image that is listed. Received: image 99",
    ),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for image_id, (height, width) in SIZES.items():
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{image_id:012}.png")
    # A grey image, as some of COCO's are.
    Image.fromarray(np.full(SIZES[11], 99, np.uint8)).save(tmp_path / "images/000000000011.png")
    write(tmp_path)
    return tmp_path


def listed(number, **more):
    height, width = SIZES.get(number, (9, 9))
    name = f"{number:012}.png"
    return {"id": number, "file_name": name, "height": height, "width": width, **more}


def write(folder, annotations=GOOD, images=None, categories=CATEGORIES):
    images = [listed(k) for k in SIZES] if images is None else images
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(whole))


def read(folder, **options):
    return CocoImages(folder / "annotations.json", folder / "images", **options)


def test_boxes_categories_crowds_and_empty_images(folder):
    source = read(folder)
    assert source.class_names == ("person", "dog", "toothbrush")
    first, second, third = source.examples
    np.testing.assert_allclose(first.boxes, [[5, 10.5, 35, 30.5], [0, 50, 20, 60]])
    assert list(first.classes) == [1, 0]
    assert list(second.classes) == [2, CROWD]
    assert third.boxes.shape == (0, 4)


def test_only_what_is_needed_has_to_be_there(folder):
    """Many tools write neither ``area`` nor ``iscrowd``."""
    bare = [{k: a[k] for k in ("id", "image_id", "category_id", "bbox")} for a in GOOD]
    write(folder, bare)
    source = read(folder)
    assert list(source.examples[1].classes) == [2, 0]
    found = evaluate(source, detect(Perfect(source, 32), source, 32))
    assert found["AP50"] == pytest.approx(1.0)


@pytest.mark.parametrize("bad", BAD, ids=[told for _, told in BAD])
def test_malformed_annotations_are_named_or_skipped(folder, bad):
    entry, told = bad
    write(folder, [entry, *GOOD])
    assert_named_or_skipped(folder, told)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (listed(12), "image 12: expected the file .*000000000012.png"),
        (listed(7), "image 7: expected an id of its own"),
        (
            listed(12, file_name="../000000000007.png"),
            "image 12: expected a file_name within",
        ),
        (listed(12, file_name="/etc/x.png"), "image 12: expected a file_name within"),
        (listed(12, file_name="x" * 5000), "image 12: expected the file x*"),
        (listed(12, file_name=3), "image 12: expected file_name: a text. Received: file_name=3"),
        (
            listed(12, height="9"),
            "image 12: expected height: an int .* Received: height='9'",
        ),
        (listed(12, width=0), "image 12: expected width: an int of at least 1"),
        (listed(12, width=None), "image 12: expected width: an int of at least 1"),
        (listed(12, file_name=f"{7:012}.png"), "image 12: expected the height .* 40x60. Received: 9x9"),
        (listed(12, file_name="../annotations.json"), "image 12: expected a file_name within"),
        (listed(12, file_name="text.png"), "image 12: .*text.png: expected a readable image"),
        ({"id": 12, "file_name": "a.png", "height": 9}, "image 12: expected width. Received: none"),
        ({**listed(12), "id": "12"}, "image at index 3: expected id: an int"),
        ([], "image at index 3: expected an object. Received: a list"),
    ],
)
def test_malformed_images_are_named_or_skipped(folder, entry, told):
    (folder / "images/text.png").write_text("no image")
    more = [annotation(9, 12, 1, [1, 1, 5, 5])] if told.startswith("image 12") else []
    write(folder, [*GOOD, *more], images=[*(listed(k) for k in SIZES), entry])
    assert_named_or_skipped(folder, told)


def assert_named_or_skipped(folder, told):
    with pytest.raises(ValueError, match=f"annotations.json: {told}") as raised:
        read(folder)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    source = read(folder, malformed="skip")
    assert len(source.faults) == 1
    assert sum(len(example.classes) for example in source.examples) == len(GOOD)
    assert len(source.ground_truth().anns) == len(GOOD)


def test_what_is_skipped_is_not_expected_of_a_detector(folder):
    write(folder, [GOOD[0], *(bad for bad, _ in BAD), annotation(50, 12, 18, [1, 1, 5, 5])])
    source = read(folder, malformed="skip")
    assert len(source.faults) == len(BAD) + 1
    found = evaluate(source, detect(Perfect(source, 32), source, 32))
    assert found["AR100"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("categories", "told"),
    [
        ([], "expected categories. Received: none"),
        ([{"id": 1, "name": 3}], "category 1: expected name: a text. Received: name=3"),
        ([{"id": 1, "name": ""}], "category 1: expected a name of its own. Received: ''"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "category 2: expected a name of its own"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "category 1: expected an id of its own"),
        ([{"id": "1", "name": "a"}], "category at index 0: expected id: an int"),
        ([{"id": True, "name": "a"}], "category at index 0: expected id: an int"),
        ([{"id": 1}], "category 1: expected name. Received: none"),
        (["cat"], "category at index 0: expected an object. Received: a str"),
    ],
)
def test_malformed_categories_are_refused(folder, categories, told):
    write(folder, categories=categories)
    for malformed in ("refuse", "skip"):
        with pytest.raises(ValueError, match=f"annotations.json: {told}"):
            read(folder, malformed=malformed)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "no JSON at line 1, column 2"),
        (b"", "nothing"),
        (b"\xff\xfe{}", "bytes that are no text"),
        (b"[" * 100_000, "lists nested too deeply"),
        (b'{"images": [NaN]}', "the number NaN"),
        (b"[]", "a list"),
        (b'{"images": []}', "none"),
        (b'{"images": 3}', "a int"),
    ],
)
def test_what_is_no_annotation_file_is_refused(folder, content, told):
    (folder / "annotations.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"expected annotations in COCO's format.*Received: {told}"):
        read(folder)


def test_a_data_set_has_images(folder):
    write(folder, [], images=[])
    with pytest.raises(ValueError, match="annotations.json: expected images in .* Received: none"):
        read(folder)
    write(folder, [annotation(1, 7, 18, [3, 5, 20, 12345])])
    text = (folder / "annotations.json").read_text().replace("12345", "1e999")
    (folder / "annotations.json").write_text(text)
    with pytest.raises(ValueError, match="annotation 1: expected bbox: 4 values: a finite number"):
        read(folder)
    with pytest.raises(FileNotFoundError, match="none.json: expected annotations in COCO's format"):
        CocoImages(folder / "none.json", folder / "images")
    with pytest.raises(ValueError, match="Expected malformed: one of refuse, skip"):
        read(folder, malformed="ignore")


def test_an_annotation_may_have_id_0(folder):
    write(folder, [annotation(0, 7, 18, [10.5, 5.0, 20.0, 30.0])])
    source = read(folder)
    found = evaluate(source, detect(Perfect(source, 32), source, 32))
    assert found["AR100"] == pytest.approx(1.0)


# === Image files ===


def turned(pixels, path, orientation):
    """Stores pixels so that they are seen as they are where EXIF's orientation is heeded."""
    stored = {3: np.rot90(pixels, 2), 6: np.rot90(pixels, 1), 8: np.rot90(pixels, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_images_are_upright(tmp_path, orientation, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    path = tmp_path / f"a{suffix}"
    turned(pixels, path, orientation)
    assert read_size(path) == (5, 7)
    np.testing.assert_array_equal(read_pixels(path), pixels)


def test_boxes_are_those_of_the_upright_image(folder):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:35, 10:30] = 255
    turned(pixels, folder / f"images/{7:012}.png", 6)
    write(folder, [annotation(1, 7, 18, [10, 5, 20, 30])], images=[listed(7)])
    source = read(folder)
    for dataset in (training_batches(source, 60, 1, flip=False), evaluation_batches(source, 60, 1)):
        image = next(iter(dataset))[0].numpy()[0]
        np.testing.assert_array_equal(image[:40], pixels / 127.5 - 1.0)
    # As they are stored they have another height and width.
    write(folder, [], images=[listed(7, height=60, width=40)])
    with pytest.raises(ValueError, match="the upright image, 40x60. Received: 60x40"):
        read(folder)


def test_every_kind_of_image_has_its_colours(tmp_path):
    pixels = np.zeros((6, 6, 3), np.uint8)
    pixels[:, :3], pixels[:, 3:] = (255, 0, 0), (0, 0, 255)
    image = Image.fromarray(pixels)
    image.quantize(4).save(tmp_path / "palette.png")
    image.quantize(4).save(tmp_path / "palette.bmp")
    image.quantize(4).save(tmp_path / "palette.gif")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    image.save(tmp_path / "a.webp", lossless=True)
    image.save(tmp_path / "a.ppm")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 8
    for path in paths:
        np.testing.assert_allclose(read_pixels(path), pixels, atol=12, err_msg=path.name)


def test_16_bits_are_scaled_to_8(tmp_path):
    grey = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif", "a.pgm"):
        Image.fromarray(grey).save(tmp_path / name)
        expected = np.repeat(np.arange(256).reshape(16, 16, 1), 3, axis=-1)
        np.testing.assert_array_equal(read_pixels(tmp_path / name), expected)


def test_images_of_a_pixel_and_of_a_line(folder):
    shapes = {7: (1, 1), 3: (1, 500), 11: (500, 1)}
    for number, shape in shapes.items():
        Image.fromarray(np.full((*shape, 3), 200, np.uint8)).save(folder / f"images/{number:012}.png")
    images = [listed(k, height=h, width=w) for k, (h, w) in shapes.items()]
    write(folder, [annotation(1, 7, 18, [0, 0, 1, 1])], images=images)
    source = read(folder)
    batch, targets = next(iter(training_batches(source, 32, 3, flip=False)))
    painted = sorted(int(np.sum(image[..., 0] > 0)) for image in batch.numpy())
    assert painted == [32, 32, 32 * 32]
    assert np.max(targets["boxes"]) == 32


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_broken_image_is_named(folder, kind):
    path = folder / f"images/{3:012}.png"
    Image.open(path).save(path, format=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    source = read(folder)  # which looks at the heads of the files
    message = rf"{path}: expected a readable image. Received: .*truncated[^\n]*$"
    with pytest.raises(ValueError, match=message):
        detect(lambda images: pytest.fail("no detector is asked"), source, 32)
    with pytest.raises(ValueError, match=message), broken_images_named(source):
        list(training_batches(source, 32, 3).take(1))
    path.unlink()
    with pytest.raises(OSError, match=f"{path}: expected an image. Received: no such file"):
        detect(lambda images: pytest.fail("no detector is asked"), source, 32)


def test_batches_are_fitted_into_squares_with_their_boxes(folder):
    source = read(folder)
    images, targets = next(iter(training_batches(source, 32, 3, flip=False)))
    assert images.shape == (3, 32, 32, 3)
    assert targets["boxes"].shape == (3, 2, 4)
    wide = next(k for k in range(3) if list(targets["classes"][k]) == [1, 0])
    scale = 32 / 60
    np.testing.assert_allclose(
        targets["boxes"][wide, 0], np.array([5, 10.5, 35, 30.5]) * scale, rtol=1e-5
    )
    np.testing.assert_array_equal(images[wide, round(40 * scale) :], 0.0)
    empty = next(k for k in range(3) if list(targets["classes"][k]) == [PADDING, PADDING])
    np.testing.assert_array_equal(targets["boxes"][empty], 0.0)


def test_a_mirrored_image_has_mirrored_boxes(folder):
    source = read(folder)
    plain = {int(c[0]): (x, b) for x, b, c in stream(source, flip=False, count=6)}
    seen = set()
    for x, b, c in stream(source, flip=True, count=12):
        x0, b0 = plain[int(c[0])]
        if int(c[0]) != 1:
            continue
        flipped = not np.array_equal(x, x0)
        seen.add(flipped)
        width = 32  # the wide image fills the square's width
        if flipped:
            np.testing.assert_allclose(b[0, [1, 3]], width - b0[0, [3, 1]], atol=1e-4)
            np.testing.assert_allclose(x[:, ::-1], x0, atol=1e-6)
    assert seen == {False, True}


def stream(source, flip, count):
    batches = training_batches(source, 32, 1, seed=3, flip=flip).take(count)
    for images, targets in batches.as_numpy_iterator():
        yield images[0], targets["boxes"][0], targets["classes"][0]


def test_training_goes_on_where_it_stopped(folder):
    source = read(folder)
    whole = list(training_batches(source, 32, 2, seed=5).take(6).as_numpy_iterator())
    rest = list(training_batches(source, 32, 2, seed=5, start=4).take(2).as_numpy_iterator())
    for (x, y), (x0, y0) in zip(rest, whole[4:], strict=True):
        np.testing.assert_array_equal(x, x0)
        np.testing.assert_array_equal(y["boxes"], y0["boxes"])


class Perfect:
    """A detector that knows the truth."""

    def __init__(self, source, size, shift=0.0):
        self.examples = iter(source.examples)
        self.scales = [s for _, scales in evaluation_batches(source, size, 8) for s in scales.numpy()]
        self.shift, self.seen = shift, 0

    def __call__(self, images):
        count = len(images)
        boxes, classes = np.zeros((count, 4, 4), "float32"), np.zeros((count, 4), "int32")
        number = np.zeros(count, "int32")
        for k in range(count):
            example = next(self.examples)
            real = example.classes >= 0
            number[k] = real.sum()
            boxes[k, : number[k]] = example.boxes[real] * self.scales[self.seen] + self.shift
            classes[k, : number[k]] = example.classes[real]
            self.seen += 1
        return {"boxes": boxes, "classes": classes, "scores": np.full((count, 4), 0.9), "count": number}


def test_the_truth_is_evaluated_as_perfect(folder):
    source = read(folder)
    results = detect(Perfect(source, 32), source, 32, batch_size=2)
    assert [r["category_id"] for r in results] == [18, 1, 90]
    np.testing.assert_allclose(results[0]["bbox"], [10.5, 5.0, 20.0, 30.0], rtol=1e-5)
    found = evaluate(source, results)
    assert tuple(found) == METRICS
    # COCO's true box of the person reaches over the border; ours is cut there.
    assert found["AP50"] == pytest.approx(1.0)
    assert found["APl"] == -1.0


def test_detections_elsewhere_are_worth_nothing(folder):
    source = read(folder)
    found = evaluate(source, detect(Perfect(source, 32, shift=40.0), source, 32))
    assert found["AP"] == 0.0
    assert evaluate(source, [])["AP"] == 0.0


def test_tfds_examples_become_coco_s(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    # TFDS gives it as it is stored, and its boxes with it.
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    sideways, exif = tmp_path / "sideways.png", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(sideways, exif=exif)

    class Boxed(tfds.core.GeneratorBasedBuilder):
        """Three images with boxes, as COCO's in TFDS."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            objects = {
                "area": np.int64,
                "bbox": tfds.features.BBoxFeature(),
                "is_crowd": np.bool_,
                "label": tfds.features.ClassLabel(names=["person", "dog"]),
            }
            features = {
                "image": tfds.features.Image(encoding_format="png"),
                "image/id": np.int64,
                "objects": tfds.features.Sequence(objects),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for k in range(3):
                box = tfds.features.BBox(ymin=0.1, xmin=0.2, ymax=0.6, xmax=0.7)
                objects = [{"area": 250, "bbox": box, "is_crowd": k == 2, "label": 1}] * k
                yield (
                    k,
                    {
                        "image": os.fspath(sideways) if k == 1 else np.full((20, 40, 3), 7, np.uint8),
                        "image/id": 100 + k,
                        "objects": objects,
                    },
                )

    builder = Boxed(data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    coco_from_tfds(builder, "train", tmp_path / "coco")
    source = read(tmp_path / "coco")
    by_id = {example.image_id: example for example in source.examples}
    assert sorted(by_id) == [100, 101, 102]
    np.testing.assert_allclose(by_id[101].boxes, [[2, 8, 12, 28]], rtol=1e-5)
    np.testing.assert_array_equal(read_pixels(by_id[101].path), pixels)
    assert list(by_id[102].classes) == [CROWD, CROWD]
    assert source.class_names == ("person", "dog")
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        coco_from_tfds(builder, "train", tmp_path / "coco")
