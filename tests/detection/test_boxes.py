"""Boxes, anchors, matching, crops and suppression against references and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from nasnet_zoo.detection.anchors import anchor_shapes, grid_anchors
from nasnet_zoo.detection.boxes import clip, decode, encode, iou, suppress
from nasnet_zoo.detection.crops import crop_and_resize
from nasnet_zoo.detection.matching import CROWD, IGNORED, NEGATIVE, PADDING, POSITIVE, match, sample

coco_mask = pytest.importorskip("pycocotools.mask")


def random_boxes(seed, *shape, size=100.0):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, size, (*shape, 2))
    return np.concatenate([corners, corners + rng.uniform(1, size / 2, (*shape, 2))], -1).astype(
        "float32"
    )


boxes_of = st.integers(0, 2**32 - 1)


@given(boxes_of)
def test_iou_is_coco_s(seed):
    ours, theirs = random_boxes(seed, 7), random_boxes(seed + 1, 5)
    xywh = [
        np.stack([b[:, 1], b[:, 0], b[:, 3] - b[:, 1], b[:, 2] - b[:, 0]], -1).astype("float64")
        for b in (ours, theirs)
    ]
    np.testing.assert_allclose(iou(ours, theirs), coco_mask.iou(*xywh, [0] * 5), atol=1e-5)


def test_deltas_by_hand():
    # A box twice as high, shifted down by half an anchor's height.
    anchor, box = np.float32([[0, 0, 10, 20]]), np.float32([[0, 0, 20, 20]])
    np.testing.assert_allclose(encode(box, anchor), [[5.0, 0.0, np.log(2) / 0.2, 0.0]], atol=1e-6)


@given(boxes_of)
def test_decoding_undoes_encoding(seed):
    boxes, anchors = random_boxes(seed, 6), random_boxes(seed + 1, 6)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, atol=1e-2)


def test_a_wild_delta_gives_a_finite_box():
    box = np.array(decode(np.float32([[0, 0, 1e6, 1e6]]), np.float32([[0, 0, 16, 16]])))
    np.testing.assert_allclose(box, [[8 - 500, 8 - 500, 8 + 500, 8 + 500]], rtol=1e-4)


def test_clipping_keeps_the_part_within_the_image():
    clipped = clip(np.float32([[-5, 3, 20, 40], [30, 30, 40, 40]]), 10, 20)
    np.testing.assert_array_equal(clipped, [[0, 3, 10, 20], [10, 20, 10, 20]])


@given(boxes_of, st.floats(0.1, 0.9))
def test_suppression_is_tensorflow_s(seed, threshold):
    boxes = random_boxes(seed, 2, 30)
    scores = np.random.default_rng(seed + 2).uniform(size=(2, 30)).astype("float32")
    kept = np.array(suppress(boxes, scores, threshold))
    for image in range(2):
        expected = tf.image.non_max_suppression(boxes[image], scores[image], 30, threshold)
        assert set(np.flatnonzero(kept[image])) == set(expected.numpy())


def test_suppression_takes_a_chain_in_order():
    # The second falls to the first, so the third, which only the second overlaps, stays.
    boxes = np.float32([[[0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]]])
    kept = suppress(boxes, np.float32([[0.9, 0.8, 0.7]]), 0.3)
    np.testing.assert_array_equal(kept, [[True, False, True]])


def test_anchors_by_hand():
    shapes = anchor_shapes([16, 32], [0.25, 1.0])
    np.testing.assert_allclose(shapes, [[32, 8], [16, 16], [64, 16], [32, 32]])
    anchors = np.array(grid_anchors(2, 3, 16, shapes))
    assert anchors.shape == (2 * 3 * 4, 4)
    np.testing.assert_allclose(anchors[1], [-8, -8, 8, 8])
    np.testing.assert_allclose(anchors[-1], [0, 16, 32, 48])  # row 1, column 2: centred on (16, 32)


def test_matching_by_hand():
    overlaps = np.float32(
        [[[0.8, 0.1, 0.9], [0.5, 0.2, 0.0], [0.1, 0.2, 0.0], [0.2, 0.1, 0.0], [0.0, 0.6, 0.0]]]
    )
    index, assignment = match(overlaps, np.int32([[3, 1, PADDING]]), 0.7, 0.3, best_for_each=True)
    assert list(np.array(assignment)[0]) == [POSITIVE, IGNORED, NEGATIVE, NEGATIVE, POSITIVE]
    assert np.array(index)[0, 0] == 0  # the padding overlaps more, and is no box
    assert np.array(index)[0, 4] == 1  # the best of box 1, though below 0.7


def test_a_crowd_is_neither_object_nor_background():
    overlaps = np.float32([[[0.9, 0.2], [0.1, 0.8], [0.1, 0.1]]])
    _, assignment = match(overlaps, np.int32([[CROWD, 0]]), 0.5, 0.5, best_for_each=True)
    assert list(np.array(assignment)[0]) == [IGNORED, POSITIVE, NEGATIVE]


def test_an_image_without_boxes_has_only_background():
    _, assignment = match(np.zeros((1, 4, 2), "float32"), np.full((1, 2), PADDING), 0.7, 0.3, True)
    assert list(np.array(assignment)[0]) == [NEGATIVE] * 4


@given(boxes_of, st.integers(2, 25), st.floats(0.2, 0.8))
def test_samples_hold_the_share_and_never_what_is_ignored(seed, size, share):
    assignment = np.random.default_rng(seed).integers(-1, 2, (3, 20))
    index, drawn = (
        np.array(x) for x in sample(assignment, size, share, keras.random.SeedGenerator(seed))
    )
    for image in range(3):
        chosen = index[image][drawn[image]]
        assert len(set(chosen)) == len(chosen)
        kinds = assignment[image][chosen]
        positive, negative = (assignment[image] == 1).sum(), (assignment[image] == 0).sum()
        taken = min(positive, max(1, int(size * share)))
        assert (kinds == IGNORED).sum() == 0
        assert (kinds == POSITIVE).sum() == taken
        assert (kinds == NEGATIVE).sum() == min(negative, size - taken)


@given(boxes_of, st.integers(2, 7), st.integers(1, 12), st.integers(1, 12))
def test_crops_are_tensorflow_s(seed, size, height, width):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, height, width, 3)).astype("float32")
    boxes = rng.uniform(-0.3, 1.3, (2, 4, 4)).astype("float32")
    expected = tf.image.crop_and_resize(features, boxes.reshape(-1, 4), [0] * 4 + [1] * 4, (size, size))
    crops = np.array(crop_and_resize(features, boxes, size)).reshape(8, size, size, 3)
    np.testing.assert_allclose(crops, expected, atol=1e-4)
