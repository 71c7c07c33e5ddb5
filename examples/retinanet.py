"""Trains KerasHub's RetinaNet on a small NASNet-A, on a data set in COCO's format.

python examples/retinanet.py DATA OUT [--from DETECTOR] [--epochs 6]

DATA holds a ``train`` and a ``test`` part, each ``annotations.json`` and ``images/``, as
`examples/pasted.py` makes them; images are 256x256. The backbone begins with random weights, or with
those of a Faster R-CNN that recipe ``pasted`` trained, such as ``RUN/detector.keras``. OUT gets
``history.csv`` with COCO's numbers on the test part after every epoch, and at the end ``model.keras``.
Stopped, the same command goes on.
"""

import argparse
from pathlib import Path

import keras
import keras_hub

from nasnet_zoo.detection.coco import CocoImages
from nasnet_zoo.detection.evaluation import detect, evaluate
from nasnet_zoo.detection.input import training_batches
from nasnet_zoo.detection.recipes import find_recipe
from nasnet_zoo.detection.training import build_detector
from nasnet_zoo.hub import NASNetBackbone, PyramidAnchors, RetinaNet
from nasnet_zoo.training.training import fit_resumable

SIZE, BATCH = 256, 4


def build(network: keras.Model, classes: int) -> RetinaNet:
    """A RetinaNet on P4, P5 and P6, whose anchors are 32 to 203 pixels in size."""
    pyramid = keras_hub.models.RetinaNetBackbone(
        NASNetBackbone(network), min_level=4, max_level=6, use_p5=False
    )
    anchors = PyramidAnchors("yxyx", 4, 6, num_scales=3, aspect_ratios=[0.5, 1.0, 2.0], anchor_size=2.0)
    return RetinaNet(
        pyramid, classes, anchor_generator=anchors, pre_logits_num_conv_layers=2, compile=False
    )


class Evaluation(keras.callbacks.Callback):
    """Logs COCO's twelve numbers after every epoch."""

    def __init__(self, test: CocoImages) -> None:
        super().__init__()
        self.test = test

    def detections(self, images):
        """KerasHub's detections under the names that `detect` knows."""
        found = self.model.predict_on_batch(images)
        names = {
            "boxes": "boxes",
            "scores": "confidence",
            "classes": "labels",
            "count": "num_detections",
        }
        return {ours: found[theirs] for ours, theirs in names.items()}

    def on_epoch_end(self, epoch, logs=None):
        """Evaluates."""
        found = evaluate(self.test, detect(self.detections, self.test, SIZE))
        logs.update({f"val_{name}": value for name, value in found.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", dest="start", type=Path, metavar="DETECTOR")
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    train, test = (
        CocoImages(arguments.data / part / "annotations.json", arguments.data / part / "images")
        for part in ("train", "test")
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    if arguments.start:
        start = keras.models.load_model(arguments.start)
    else:
        start = build_detector(find_recipe("pasted"), train.class_names)
    detector = build(start.network, len(train.class_names))
    steps = len(train.examples) // BATCH
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, arguments.epochs * steps, warmup_target=1e-3, warmup_steps=steps // 4
    )
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=10.0)
    optimizer.build(detector.trainable_variables)
    detector.compile(optimizer, jit_compile=False)

    def batches(start: int):
        return training_batches(train, SIZE, BATCH, start=start).map(
            lambda images, objects: (
                images,
                {"boxes": objects["boxes"], "labels": objects["classes"]},
            )
        )

    fit_resumable(detector, arguments.out, batches, steps, arguments.epochs, [Evaluation(test)])
    detector.save(arguments.out / "model.keras")


if __name__ == "__main__":
    main()
