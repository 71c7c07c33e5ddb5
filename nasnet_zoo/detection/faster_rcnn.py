"""Faster R-CNN ([R]; [N] section 4.2) with the settings of [D]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from nasnet_zoo.cells import Cell
from nasnet_zoo.checking import Seed, Share, checked
from nasnet_zoo.network import Stem

from .anchors import anchor_shapes, grid_anchors
from .boxes import area, clip, decode, encode, iou, suppress, suppress_in_classes, top_k
from .crops import crop_and_resize
from .halves import split_network
from .matching import POSITIVE, match, sample
from .ranges import AnchorSize, AspectRatio, Count, CropSize, Filters

LOSSES = ("rpn_objectness", "rpn_boxes", "classes", "boxes")


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class FasterRCNN(keras.Model):
    """A two-stage detector: a network's first half proposes regions, its second half classifies them.

    Input: images of any size, (batch, height, width, channels) in [-1, 1]. Output: a dict of ``boxes``
    (batch, detections, 4) of (y_min, x_min, y_max, x_max) in pixels, ``scores`` and ``classes`` (batch,
    detections) in descending order of the score, padded with zeros after the first ``count`` (batch,).
    The scores of an image are NaN if a value in the network is not finite.

    `fit` takes batches of images and a dict of ``boxes`` (batch, N, 4) and ``classes`` (batch, N). The
    class of padding is -1 (`PADDING`) and that of crowds -2 (`CROWD`). The losses are part of the
    model: ``compile(optimizer)``.

    Args:
        network: Model of this package with its weights, such as ``NASNetMobile(include_top=False)``.
            The last layers of a classifier are not used.
        class_names: Names of the classes, each unique.
        anchor_sizes: Square roots of the anchors' areas in pixels. Default: 64, 128, 256, 512 ([D]).
        aspect_ratios: Ratios of width to height of the anchors. Default: 0.5, 1, 2 ([D]).
        rpn_filters: Filters of the 3x3 convolution of the region proposals. Default: 512 ([D]).
        candidates: Number of best proposals before non-maximum suppression. Default: 1000.
        proposals: Number of proposals to classify, after the suppression. Default: 300 ([R]).
        rpn_nms_iou: Largest IoU of two proposals, in [0, 1]. Default: 0.7 ([D]).
        rpn_samples: Anchors of each image that are sampled for the losses, at most half of them
            positive. Default: 256 ([R]).
        box_samples: Proposals of each image that are sampled for the losses, at most a quarter of them
            positive. Default: 64 ([D]).
        crop_size: Height and width of the feature crop of a proposal. Default: 17 ([D]).
        detections: Maximum number of detections of an image. Default: 100 ([D]).
        nms_iou: Largest IoU of two detections of a class, in [0, 1]. Default: 0.6 ([D]).
        score: Least score of a detection, in [0, 1]. Default: 0.05.
        train_batch_norm: Whether batch norm uses and updates the statistics of the batch in training.
            Default: false ([N]), for pretrained weights and small batches.
        seed: Seed of the sampling. Default: 0.

    Raises:
        ValueError: If an argument is out of range, two classes have the same name, or ``network`` is
            not a model of this package.
    """

    @checked
    def __init__(
        self,
        network: keras.Model,
        class_names: Sequence[str],
        *,
        anchor_sizes: Sequence[AnchorSize] = (64.0, 128.0, 256.0, 512.0),
        aspect_ratios: Sequence[AspectRatio] = (0.5, 1.0, 2.0),
        rpn_filters: Filters = 512,
        candidates: Count = 1000,
        proposals: Count = 300,
        rpn_nms_iou: Share = 0.7,
        rpn_samples: Count = 256,
        box_samples: Count = 64,
        crop_size: CropSize = 17,
        detections: Count = 100,
        nms_iou: Share = 0.6,
        score: Share = 0.05,
        train_batch_norm: bool = False,
        seed: Seed = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, values in (("anchor_sizes", anchor_sizes), ("aspect_ratios", aspect_ratios)):
            if not values:
                raise ValueError(f"Expected {name}: at least 1. Received: {name}={values!r}")
        names = list(class_names)
        if isinstance(class_names, str) or not names or len(set(names)) < len(names) or "" in names:
            raise ValueError(
                f"Expected class_names: at least 1 class, each with a name of its own. "
                f"Received: {class_names=}"
            )
        # === Config ===
        self._own = {
            "class_names": list(class_names),
            "anchor_sizes": list(anchor_sizes),
            "aspect_ratios": list(aspect_ratios),
            "rpn_filters": rpn_filters,
            "candidates": candidates,
            "proposals": proposals,
            "rpn_nms_iou": rpn_nms_iou,
            "rpn_samples": rpn_samples,
            "box_samples": box_samples,
            "crop_size": crop_size,
            "detections": detections,
            "nms_iou": nms_iou,
            "score": score,
            "train_batch_norm": train_batch_norm,
            "seed": seed,
        }
        for name, value in self._own.items():
            setattr(self, name, value)

        self.classes = classes = len(class_names)

        # === Layers ===
        self.network = network
        self.first_half, self.box_head = split_network(network)
        self.stride = math.prod(x.stride for x in self.first_half.layers if isinstance(x, (Stem, Cell)))
        self._anchor_shapes = anchor_shapes(anchor_sizes, aspect_ratios)
        normal = keras.initializers.TruncatedNormal(stddev=0.01)
        options = {"kernel_initializer": normal, "dtype": network.dtype_policy}
        anchors = len(self._anchor_shapes)
        self.rpn_conv = keras.layers.Conv2D(
            rpn_filters, 3, padding="same", activation="relu6", name="rpn_conv", **options
        )
        options["dtype"] = "float32"
        self.rpn_objectness = keras.layers.Conv2D(anchors, 1, name="rpn_objectness", **options)
        self.rpn_boxes = keras.layers.Conv2D(4 * anchors, 1, name="rpn_boxes", **options)
        scaled = {"kernel_initializer": keras.initializers.VarianceScaling(), "dtype": "float32"}
        self.class_logits = keras.layers.Dense(classes + 1, name="class_logits", **scaled)
        self.class_boxes = keras.layers.Dense(4 * classes, name="class_boxes", **scaled)
        self._seed = keras.random.SeedGenerator(seed)
        self._losses_seen = [keras.metrics.Mean(name=name) for name in LOSSES]
        states = [tensor.shape[-1] for tensor in self.first_half.outputs]
        self._channels = states
        self.rpn_conv.build((None, None, None, sum(states)))
        for layer in (self.rpn_objectness, self.rpn_boxes):
            layer.build((None, None, None, self.rpn_filters))
        for layer in (self.class_logits, self.class_boxes):
            layer.build((None, self.box_head.output.shape[-1]))
        self.built = True

    # === First stage ===

    def propose(self, images: Any, training: bool = False) -> dict[str, Any]:
        """Compute features and region proposals.

        Returns:
            Dict of ``features`` (batch, height, width, channels), ``anchors`` (A, 4), ``objectness``
            (batch, A) as logits, ``deltas`` (batch, A, 4), ``proposals`` (batch, `proposals`, 4) and
            ``found`` (batch, `proposals`), the mask of the proposals that are not padding.
        """
        states = self.first_half(images, training=training and self.train_batch_norm)
        return self.propose_on(states, _sizes(images)[1:])

    def propose_on(self, states: Sequence[Any], image_size: tuple[Any, Any]) -> dict[str, Any]:
        """Propose regions on what the first half makes of images; see `propose`.

        Args:
            states: Outputs of ``first_half``, (batch, height, width, channels) each.
            image_size: Height and width of the images.
        """
        features = ops.concatenate(states, axis=-1)
        batch, height, width = _sizes(features)
        hidden = self.rpn_conv(features)
        objectness = ops.reshape(self.rpn_objectness(hidden), (batch, -1))
        deltas = ops.reshape(self.rpn_boxes(hidden), (batch, -1, 4))
        anchors = grid_anchors(height, width, self.stride, self._anchor_shapes)
        proposals, found = self._proposals(image_size, anchors, objectness, deltas)
        return {
            "features": features,
            "anchors": anchors,
            "objectness": objectness,
            "deltas": deltas,
            "proposals": proposals,
            "found": found,
        }

    def _proposals(
        self, image_size: tuple[Any, Any], anchors: Any, objectness: Any, deltas: Any
    ) -> tuple[Any, Any]:
        boxes = clip(decode(ops.stop_gradient(deltas), anchors), *image_size)
        scores, index = top_k(ops.stop_gradient(objectness), self.candidates)
        boxes = ops.take_along_axis(boxes, index[..., None], axis=1)
        kept = ops.logical_and(suppress(boxes, scores, self.rpn_nms_iou), area(boxes) > 0.0)
        scores, index = top_k(ops.where(kept, scores, -1e9), self.proposals)
        return ops.take_along_axis(boxes, index[..., None], axis=1), scores > -1e9

    # === Second stage ===

    def crops(self, features: Any, boxes: Any, image_size: tuple[Any, Any]) -> Any:
        """Resample features in boxes (batch, N, 4): (batch * N, crop_size, crop_size, channels)."""
        height, width = image_size
        scale = ops.cast(ops.stack([height, width, height, width]), "float32")
        crops = crop_and_resize(features, boxes / scale, self.crop_size)
        return ops.reshape(crops, (-1, self.crop_size, self.crop_size, features.shape[-1]))

    def pool(self, crops: Any, training: bool = False) -> Any:
        """Compute the second half of the network on crops; its means, (batch * N, channels)."""
        states, first = [], 0
        for channels in self._channels:
            states.append(crops[..., first : first + channels])
            first += channels
        found = self.box_head(states, training=training and self.train_batch_norm)
        return ops.mean(ops.cast(found, "float32"), axis=(1, 2))

    def classify(self, pooled: Any, boxes: Any) -> tuple[Any, Any]:
        """Logits (batch, N, classes + 1), background first, and deltas (batch, N, classes, 4).

        Args:
            pooled: What `pool` makes of the crops of ``boxes``.
            boxes: Boxes, (batch, N, 4).
        """
        batch, count = ops.shape(boxes)[0], ops.shape(boxes)[1]
        logits = ops.reshape(self.class_logits(pooled), (batch, count, self.classes + 1))
        return logits, ops.reshape(self.class_boxes(pooled), (batch, count, self.classes, 4))

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        """Detect objects, or in training return the output of `propose` for the losses."""
        proposed = self.propose(images, training)
        if training:
            return proposed
        image_size = _sizes(images)[1:]
        crops = self.crops(proposed["features"], proposed["proposals"], image_size)
        return self.detect(proposed, self.pool(crops), image_size)

    def detect(
        self, proposed: dict[str, Any], pooled: Any, image_size: tuple[Any, Any]
    ) -> dict[str, Any]:
        """Classify proposals and suppress all but the best; the outputs of `call`.

        Args:
            proposed: Output of `propose`.
            pooled: What `pool` makes of the crops of its proposals.
            image_size: Height and width of the images.
        """
        logits, deltas = self.classify(pooled, proposed["proposals"])
        boxes = decode(deltas, proposed["proposals"][:, :, None])
        boxes = clip(boxes, *image_size)
        scores = ops.softmax(logits, axis=-1)[..., 1:]
        scores = ops.where(proposed["found"][..., None], scores, 0.0)
        found = self._detections(boxes, scores)
        # NaN is below every score and would look like an image without objects.
        finite = _finite(proposed["objectness"], proposed["deltas"], logits, deltas)
        return {**found, "scores": ops.where(finite[:, None], found["scores"], float("nan"))}

    def _detections(self, boxes: Any, scores: Any) -> dict[str, Any]:
        """Select the best of boxes (batch, N, classes, 4) by non-maximum suppression in each class."""
        boxes, classes, scores, found = suppress_in_classes(
            boxes,
            scores,
            candidates=self.candidates,
            threshold=self.nms_iou,
            least=self.score,
            count=self.detections,
        )
        return {
            "boxes": ops.where(found[..., None], boxes, 0.0),
            "scores": scores,
            "classes": ops.where(found, classes, 0),
            "count": ops.sum(ops.cast(found, "int32"), axis=-1),
        }

    # === Losses ===

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras's metrics and the means of the four losses."""
        return [*super().metrics, *self._losses_seen]

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **_: Any
    ) -> Any:
        """Add up `detection_losses` and the regularization for `fit`."""
        _, height, width = _sizes(x)
        found = self.detection_losses(y_pred, y["boxes"], y["classes"], (height, width))
        for metric, loss in zip(self._losses_seen, found, strict=True):
            metric.update_state(loss)
        # [D] gives the losses of boxes a weight of 2.
        objectness, rpn_boxes, classes, boxes = found
        total = objectness + 2.0 * rpn_boxes + classes + 2.0 * boxes
        return sum(self.losses, start=total)

    def detection_losses(
        self, proposed: dict[str, Any], boxes: Any, classes: Any, image_size: tuple[Any, Any]
    ) -> tuple[Any, Any, Any, Any]:
        """Compute the losses of both stages.

        Args:
            proposed: Output of `propose`.
            boxes: True boxes, (batch, N, 4).
            classes: Classes of the true boxes, `PADDING` or `CROWD`, int32 (batch, N).
            image_size: Height and width of the images.

        Returns:
            Losses of objectness and boxes of the anchors, and of classes and boxes of the proposals.
        """
        boxes, classes = ops.cast(boxes, "float32"), ops.cast(classes, "int32")
        anchors = proposed["anchors"]
        matched, assignment = match(iou(anchors, boxes), classes, 0.7, 0.3, best_for_each=True)
        index, drawn = sample(assignment, self.rpn_samples, 0.5, self._seed)
        positive = ops.logical_and(_at(assignment, index) == POSITIVE, drawn)
        objectness = ops.binary_crossentropy(
            ops.cast(positive, "float32"), _at(proposed["objectness"], index), from_logits=True
        )
        targets = encode(_at(boxes, _at(matched, index)), ops.take(anchors, index, axis=0))
        rpn_boxes = _smooth_l1(_at(proposed["deltas"], index) - targets)
        rpn = _mean(objectness, drawn, drawn), _mean(rpn_boxes, positive, drawn)

        # True boxes are proposals too, so that there are positive ones from the first step on.
        proposals = ops.stop_gradient(ops.concatenate([proposed["proposals"], boxes], axis=1))
        exists = ops.concatenate([proposed["found"], classes >= 0], axis=1)
        matched, assignment = match(iou(proposals, boxes), classes, 0.5, 0.5)
        assignment = ops.where(exists, assignment, -1)
        index, drawn = sample(assignment, self.box_samples, 0.25, self._seed)
        positive = ops.logical_and(_at(assignment, index) == POSITIVE, drawn)
        proposals, matched = _at(proposals, index), _at(matched, index)
        crops = self.crops(proposed["features"], proposals, image_size)
        logits, deltas = self.classify(self.pool(crops, training=True), proposals)
        true_class = ops.where(positive, _at(classes, matched), -1)
        class_loss = ops.sparse_categorical_crossentropy(true_class + 1, logits, from_logits=True)
        targets = encode(_at(boxes, matched), proposals)
        own = ops.one_hot(true_class, self.classes)[..., None]
        box_loss = _smooth_l1(ops.sum(deltas * own, axis=2) - targets)
        return *rpn, _mean(class_loss, drawn, drawn), _mean(box_loss, positive, drawn)

    # === Config ===

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, the network as a serialised Keras model."""
        network = keras.saving.serialize_keras_object(self.network)
        return {"network": network, "name": self.name, **self._own}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> FasterRCNN:
        """Create a detector of the same kind with new weights."""
        network = keras.saving.deserialize_keras_object(config["network"], custom_objects)
        return cls(**{**config, "network": network})


def _sizes(images: Any) -> tuple[Any, Any, Any]:
    """Batch size, height and width: ints if they are known, else scalar tensors."""
    known, here = images.shape, ops.shape(images)
    batch, height, width = (here[k] if known[k] is None else known[k] for k in range(3))
    return batch, height, width


def _finite(*values: Any) -> Any:
    """Whether all values of an image are finite, (batch,). LiteRT has no `isfinite`."""
    largest = float(np.finfo(np.float32).max)
    parts = [ops.all(ops.abs(v) <= largest, axis=tuple(range(1, len(v.shape)))) for v in values]
    return ops.all(ops.stack(parts), axis=0)


def _at(values: Any, index: Any) -> Any:
    """values[b, index[b, k]]: (batch, K, ...) from (batch, N, ...) and (batch, K)."""
    index = index if len(values.shape) == 2 else index[..., None]
    return ops.take_along_axis(values, index, axis=1)


def _smooth_l1(difference: Any) -> Any:
    """Huber's loss with delta 1, summed over the coordinates: (...) from (..., 4)."""
    size = ops.abs(difference)
    return ops.sum(ops.where(size < 1.0, 0.5 * size**2, size - 0.5), axis=-1)


def _mean(losses: Any, where: Any, among: Any) -> Any:
    """Sum over ``where``, divided by the number of ``among``; the mean over images."""
    total = ops.sum(ops.where(where, losses, 0.0), axis=-1)
    number = ops.sum(ops.cast(among, "float32"), axis=-1)
    return ops.mean(total / ops.maximum(number, 1.0))
