"""COCO's format with every oddity of the real one: reading, the input pipeline, evaluation."""

import json

import numpy as np
import pytest
from PIL import Image

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
    (annotation(5, 7, 18, [70.0, 5.0, 10.0, 10.0]), "annotation 5: no area in its image"),
    (annotation(6, 7, 18, [10.0, 5.0, 0.0, 10.0]), "annotation 6: no area in its image"),
    (annotation(7, 7, 17, [1.0, 1.0, 5.0, 5.0]), "annotation 7: unknown category 17"),
    (annotation(8, 99, 18, [1.0, 1.0, 5.0, 5.0]), "annotation 8: unknown image 99"),
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
    write(tmp_path, GOOD)
    return tmp_path


def write(folder, annotations, images=SIZES):
    entries = [
        {
            "id": k,
            "file_name": f"{k:012}.png",
            "height": SIZES.get(k, (9, 9))[0],
            "width": SIZES.get(k, (9, 9))[1],
        }
        for k in images
    ]
    whole = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
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


@pytest.mark.parametrize(("bad", "told"), BAD, ids=[told for _, told in BAD])
def test_malformed_annotations_are_named_or_skipped(folder, bad, told):
    write(folder, [*GOOD, bad])
    with pytest.raises(ValueError, match=told):
        read(folder)
    source = read(folder, malformed="skip")
    assert len(source.faults) == 1
    assert sum(len(example.classes) for example in source.examples) == len(GOOD)


def test_a_missing_file_is_named_or_skipped(folder):
    write(folder, GOOD, images=[*SIZES, 12])
    with pytest.raises(ValueError, match=r"image 12: no file .*000000000012\.png"):
        read(folder)
    assert len(read(folder, malformed="skip").examples) == 3


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": 3}'])
def test_what_is_no_annotation_file_is_refused(folder, text):
    (folder / "annotations.json").write_text(text)
    with pytest.raises(ValueError, match="expected annotations in COCO's format"):
        read(folder)


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
                        "image": np.full((20, 40, 3), 7, np.uint8),
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
    assert list(by_id[102].classes) == [CROWD, CROWD]
    assert source.class_names == ("person", "dog")
