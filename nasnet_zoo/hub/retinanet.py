"""KerasHub's RetinaNet, corrected where it differs from its paper (arXiv 1708.02002).

docs/keras-hub.md lists the differences.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from nasnet_zoo.detection.anchors import anchor_shapes, grid_anchors
from nasnet_zoo.detection.boxes import clip, decode, encode, iou, suppress_in_classes
from nasnet_zoo.detection.matching import IGNORED, POSITIVE, match
from nasnet_zoo.extras import import_extra

keras_hub: Any = import_extra("keras_hub", "hub")

_FORMAT = "yxyx"
# RetinaNetObjectDetector's classes of background and of ignored anchors.
_BACKGROUND_CLASS, _IGNORED_CLASS = -1, -2


def _convert(boxes: Any, source: str, target: str, images: Any) -> Any:
    """Convert boxes of ``images`` from one of Keras's formats to another."""
    height, width = ops.shape(images)[1:3]
    return keras.utils.bounding_boxes.convert_format(
        boxes, source=source, target=target, height=height, width=width
    )


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class PyramidAnchors(keras_hub.layers.AnchorGenerator):
    """Anchors of a feature pyramid for images of any size, also unknown when the graph is built.

    KerasHub's generator needs known sizes, spaces anchors by the ratio of the image's size to the map's
    (61 pixels instead of 64 at level 6 of an 800-pixel image), centres them on the corners of the
    positions, and treats aspect ratios as height over width. Here level l has a position every 2^l
    pixels with anchors on its centre, and ratios are width over height, as KerasHub documents them.

    Input: images (batch, height, width, channels). Output: a dict of (number, 4) by level, "P3" ...

    Args:
        bounding_box_format: Format of the anchors, see `keras.utils.bounding_boxes.convert_format`.
        min_level: First level of the pyramid.
        max_level: Last level of the pyramid.
        num_scales: Number of sizes at a level, spaced evenly up to the next level.
        aspect_ratios: Ratios of width to height.
        anchor_size: Smallest size at a level, in strides of that level.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def call(self, inputs: Any) -> dict[str, Any]:
        """Return the anchors of all levels."""
        height, width = ops.shape(inputs)[1:3]
        anchors = {}
        for level in range(self.min_level, self.max_level + 1):
            stride = 2**level
            sizes = [
                self.anchor_size * stride * 2 ** (k / self.num_scales) for k in range(self.num_scales)
            ]
            shapes = anchor_shapes(sizes, self.aspect_ratios)
            rows, columns = -(-height // stride), -(-width // stride)
            centred = grid_anchors(rows, columns, stride, shapes) + stride / 2
            anchors[f"P{level}"] = _convert(centred, _FORMAT, self.bounding_box_format, inputs)
        return anchors


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class AnchorTargets(keras.layers.Layer):
    """Label encoder: training targets of RetinaNet's outputs.

    Each object's best anchor is positive too, so that every object is learned. Padding and crowds match
    no anchor, unlike in KerasHub's `BoxMatcher`, whose best anchors include those of padding.

    Args:
        anchor_generator: `PyramidAnchors` or another `AnchorGenerator`.
        positive_threshold: Least IoU of a positive anchor. Default: 0.5.
        negative_threshold: IoU below which an anchor is background. Between the two thresholds it is
            ignored. Default: 0.4.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    bounding_box_format = _FORMAT

    def __init__(
        self,
        anchor_generator: Any,
        positive_threshold: float = 0.5,
        negative_threshold: float = 0.4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.anchor_generator = anchor_generator
        self.positive_threshold = positive_threshold
        self.negative_threshold = negative_threshold

    def call(self, images: Any, gt_boxes: Any, gt_classes: Any) -> tuple[Any, Any]:
        """Compute the targets of a batch.

        Args:
            images: Images, (batch, height, width, channels).
            gt_boxes: True boxes, (batch, N, 4) of (y_min, x_min, y_max, x_max) in pixels.
            gt_classes: Their classes, (batch, N), or `PADDING` or `CROWD` of
                `nasnet_zoo.detection.matching`.

        Returns:
            Deltas (batch, anchors, 4), and float32 classes (batch, anchors), where -1 is background
            and -2 is ignored.
        """
        boxes, classes = ops.cast(gt_boxes, "float32"), ops.cast(gt_classes, "int32")
        anchors = all_anchors(self.anchor_generator, images)
        matched, assignment = match(
            iou(anchors, boxes),
            classes,
            self.positive_threshold,
            self.negative_threshold,
            best_for_each=True,
        )
        deltas = encode(ops.take_along_axis(boxes, matched[..., None], axis=1), anchors)
        others = ops.where(assignment == IGNORED, _IGNORED_CLASS, _BACKGROUND_CLASS)
        targets = ops.where(
            assignment == POSITIVE, ops.take_along_axis(classes, matched, axis=1), others
        )
        return deltas, ops.cast(targets, "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "anchor_generator": keras.saving.serialize_keras_object(self.anchor_generator),
            "positive_threshold": self.positive_threshold,
            "negative_threshold": self.negative_threshold,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AnchorTargets:
        """Create the layer from its config."""
        generator = keras.saving.deserialize_keras_object(config["anchor_generator"])
        return cls(**{**config, "anchor_generator": generator})


def all_anchors(generator: Any, images: Any) -> Any:
    """The anchors of all levels of a pyramid, (number, 4) of (y_min, x_min, y_max, x_max) in pixels."""
    anchors = ops.concatenate(list(generator(images).values()), axis=0)
    return _convert(anchors, generator.bounding_box_format, _FORMAT, images)


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class PerClassSuppression(keras.layers.Layer):
    """Prediction decoder: detections by non-maximum suppression within each class.

    KerasHub's decoder suppresses boxes of other classes too, gives a box one class only, and needs a
    known number of images and boxes. Here a box may be detected as each of several classes.

    Args:
        bounding_box_format: Format of the input and output boxes. Default: "yxyx".
        iou_threshold: Largest IoU of two detections of a class, in [0, 1]. Default: 0.5.
        confidence_threshold: Least confidence of a detection, in [0, 1]. Default: 0.05.
        max_detections: Maximum number of detections of an image. Default: 100.
        candidates: Number of best pairs of box and class before the suppression. Default: 1000.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        bounding_box_format: str = _FORMAT,
        iou_threshold: float = 0.5,
        confidence_threshold: float = 0.05,
        max_detections: int = 100,
        candidates: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bounding_box_format = bounding_box_format
        self.iou_threshold = iou_threshold
        self.confidence_threshold = confidence_threshold
        self.max_detections = max_detections
        self.candidates = candidates

    def call(self, box_prediction: Any, class_prediction: Any, images: Any) -> dict[str, Any]:
        """Compute the detections of a batch.

        Args:
            box_prediction: Boxes, (batch, N, 4) in ``bounding_box_format``.
            class_prediction: Logits, (batch, N, classes).
            images: Images, (batch, height, width, channels), to which boxes are clipped.

        Returns:
            Dict of ``boxes`` (batch, detections, 4), ``confidence`` and ``labels`` (batch, detections)
            in descending order, padded with -1 after the first ``num_detections`` (batch,).
        """
        height, width = ops.shape(images)[1:3]
        boxes = _convert(box_prediction, self.bounding_box_format, _FORMAT, images)
        boxes, labels, scores, found = suppress_in_classes(
            clip(boxes, height, width)[:, :, None],
            ops.sigmoid(ops.cast(class_prediction, "float32")),
            candidates=self.candidates,
            threshold=self.iou_threshold,
            least=self.confidence_threshold,
            count=self.max_detections,
        )
        boxes = _convert(boxes, _FORMAT, self.bounding_box_format, images)
        return {
            "boxes": ops.where(found[..., None], boxes, -1.0),
            "confidence": ops.where(found, scores, -1.0),
            "labels": ops.where(found, labels, -1),
            "num_detections": ops.sum(ops.cast(found, "int32"), axis=-1),
        }

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "bounding_box_format": self.bounding_box_format,
            "iou_threshold": self.iou_threshold,
            "confidence_threshold": self.confidence_threshold,
            "max_detections": self.max_detections,
            "candidates": self.candidates,
        }


@keras.saving.register_keras_serializable(package="nasnet_zoo")
class RetinaNet(keras_hub.models.RetinaNetObjectDetector):
    """KerasHub's RetinaNet with corrections.

    It differs from `keras_hub.models.RetinaNetObjectDetector` as follows: `PyramidAnchors`,
    `AnchorTargets` and `PerClassSuppression` replace its layers; the prior probability is that of
    the classes, not of the boxes; the heads' kernels are initialized with the paper's deviation 0.01;
    the focal loss is the paper's; boxes are decoded as they are encoded; and the batch norm of the
    feature pyramid (``use_fpn_batch_norm``) uses its momentum.

    Heights and widths of images are multiples of 32, as KerasHub's feature pyramid requires.

    Args:
        backbone: `keras_hub.models.RetinaNetBackbone` on a `NASNetBackbone` or another backbone.
        num_classes: Number of classes.
        bounding_box_format: Format of the true boxes in training and of the detections. Default:
            "yxyx".
        anchor_generator: Generator of the anchors. Default: `PyramidAnchors` with 3 sizes from 4
            strides up and ratios 0.5, 1 and 2, as in the paper.
        label_encoder: Encoder whose deltas are those of `nasnet_zoo.detection.boxes.encode`. Default:
            `AnchorTargets`.
        prediction_decoder: Decoder of the predictions. Default: `PerClassSuppression`.
        classification_head_prior_probability: Initial probability of every class at every anchor.
            Default: 0.01.
        compile: Whether to compile with the defaults of `compile`. Default: true.
        **kwargs: Arguments of `keras_hub.models.RetinaNetObjectDetector`.
    """

    def __init__(
        self,
        backbone: Any,
        num_classes: int,
        bounding_box_format: str = _FORMAT,
        anchor_generator: Any = None,
        label_encoder: Any = None,
        prediction_decoder: Any = None,
        classification_head_prior_probability: float = 0.01,
        compile: bool = True,  # noqa: A002
        **kwargs: Any,
    ) -> None:
        anchor_generator = anchor_generator or PyramidAnchors(
            _FORMAT,
            backbone.min_level,
            backbone.max_level,
            num_scales=3,
            aspect_ratios=[0.5, 1.0, 2.0],
            anchor_size=4.0,
        )
        super().__init__(
            backbone,
            num_classes,
            bounding_box_format=bounding_box_format,
            anchor_generator=anchor_generator,
            label_encoder=label_encoder or AnchorTargets(anchor_generator),
            prediction_decoder=prediction_decoder or PerClassSuppression(bounding_box_format),
            compile=False,
            **kwargs,
        )
        prior = classification_head_prior_probability
        _initialize(self.classification_head, bias=-math.log((1 - prior) / prior))
        _initialize(self.box_head, bias=0.0)
        pyramid = backbone.feature_pyramid
        for norms in (pyramid.lateral_batch_norm_layers, pyramid.output_batch_norms):
            for norm in norms.values():
                norm.momentum = pyramid.batch_norm_momentum
        if compile:
            self.compile()

    def compile(
        self,
        optimizer: Any = "auto",
        box_loss: Any = "auto",
        classification_loss: Any = "auto",
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Compile as KerasHub's detector, with the paper's focal loss: alpha = 0.25, gamma = 2.

        Keras's losses are means over the coordinates of a box and over the classes. The default
        ``loss_weights`` turn them into the paper's sums.
        """
        if classification_loss == "auto":
            classification_loss = keras.losses.BinaryFocalCrossentropy(
                apply_class_balancing=True, alpha=0.25, gamma=2.0, from_logits=True, reduction="sum"
            )
        sums = {"bbox_regression": 4.0, "cls_logits": float(self.num_classes)}
        super().compile(
            optimizer,
            box_loss,
            classification_loss,
            metrics,
            **{"loss_weights": sums, **kwargs},
        )

    def decode_predictions(self, predictions: dict[str, Any], data: Any) -> dict[str, Any]:
        """Compute detections from the outputs of the model for a batch.

        Args:
            predictions: Dict of ``bbox_regression`` (batch, anchors, 4) and ``cls_logits`` (batch,
                anchors, classes).
            data: Images, (batch, height, width, channels), alone or first in a tuple.
        """
        images = data[0] if isinstance(data, (list, tuple)) else data
        deltas = ops.cast(predictions["bbox_regression"], "float32")
        boxes = decode(deltas, all_anchors(self.anchor_generator, images))
        boxes = _convert(boxes, _FORMAT, self.bounding_box_format, images)
        return self.prediction_decoder(boxes, predictions["cls_logits"], images=images)


def _initialize(head: Any, bias: float) -> None:
    """Initialize a prediction head as in the paper (section 4.1)."""
    for convolution in (*head.conv_layers, head.prediction_layer):
        kernel = convolution.kernel
        kernel.assign(keras.random.normal(kernel.shape, stddev=0.01))
    head.prediction_layer.bias.assign(ops.full(head.prediction_layer.bias.shape, bias))
