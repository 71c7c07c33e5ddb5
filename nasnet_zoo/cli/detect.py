"""``nasnet-zoo detect train``, ``evaluate``, ``predict`` and ``export``."""

from __future__ import annotations

import dataclasses
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from nasnet_zoo.checking import Seed, Share
from nasnet_zoo.detection.ranges import ImageSize
from nasnet_zoo.detection.recipes import DetectionRecipe, find_recipe
from nasnet_zoo.export.settings import Format, format_of
from nasnet_zoo.files import check_folder, check_writable, write_text, writing

from .options import UsageError, defaults_from
from .shared import Json, recipe_defaults

Coco = Annotated[
    tuple[str, str],
    arg(metavar="JSON IMAGES", help="Annotation file in COCO's format, and folder of the images."),
]
Malformed = Annotated[
    Literal["refuse", "skip"],
    arg(help="What to do with malformed images and annotations: refuse them, or leave them out."),
]
Detector = Annotated[str, arg(metavar="DETECTOR", help="A detector.keras.")]


@defaults_from(recipe_defaults(find_recipe, "coco_mobile"))
def train(
    name: Annotated[str, arg(metavar="RECIPE")],
    /,
    *,
    train: Coco,
    test: Coco,
    out: str,
    start_from: str | None = None,
    malformed: Malformed = "refuse",
    seed: Seed = 0,
    tensorboard: bool = False,
    settings: Annotated[DetectionRecipe, arg(name="")],
    json: Json = None,
) -> dict[str, Any]:
    """Train a Faster R-CNN by a recipe.

    Run again with the same --out, it continues where it was stopped. The defaults of the recipe's
    options are those of RECIPE, or without a name those of coco_mobile.

    Args:
        name: coco_mobile, coco_large or pasted. Stands before all options.
        out: Folder for the checkpoint, the history and the detector.
        start_from: A .keras file of a detector or a classifier whose weights to start from.
        seed: Seed of all random draws.
        tensorboard: Whether to write events to OUT/tensorboard.
        settings: Recipe.

    Example:
        nasnet-zoo detect train pasted --train a.json train --test b.json test --out runs/pasted
    """
    from nasnet_zoo.detection.coco import CocoImages
    from nasnet_zoo.detection.training import train_detector
    from nasnet_zoo.quiet import start_backend
    from nasnet_zoo.training.history import last_epoch

    start_backend()
    train_detector(
        settings,
        CocoImages(*train, malformed),
        CocoImages(*test, malformed),
        out,
        start_from=start_from,
        seed=seed,
        tensorboard=tensorboard,
    )
    print(f"Wrote {out}/detector.keras")
    return {"model": f"{out}/detector.keras", **last_epoch(Path(out, "history.csv"))}


def evaluate(
    detector: Detector,
    /,
    *,
    test: Coco,
    image_size: ImageSize,
    malformed: Malformed = "refuse",
    detections: str | None = None,
    json: Json = None,
) -> dict[str, float | None]:
    """Print COCO's twelve numbers of a detector.

    Args:
        image_size: Pixels of the longer side that images are resized to.
        detections: File for the detections, in the JSON format of COCO's server.

    Example:
        nasnet-zoo detect evaluate detector.keras --test test.json test --image-size 600
    """
    from nasnet_zoo.detection import evaluation
    from nasnet_zoo.detection.coco import CocoImages
    from nasnet_zoo.detection.training import load_detector
    from nasnet_zoo.quiet import start_backend

    start_backend()
    model = load_detector(detector)
    source = CocoImages(*test, malformed)
    inputs: list[str | Path] = [detector, test[0], *source.paths]
    if json:
        json.check(inputs)
    if detections:
        check_writable(detections, inputs)
    evaluation.check_class_names(detector, model.class_names, test[0], source.class_names)
    results = evaluation.detect(model, source, image_size)
    if detections:
        write_text(detections, dumps(results))
    found = {n: v if v >= 0 else None for n, v in evaluation.evaluate(source, results).items()}
    for name, value in found.items():
        print(f"{name:6} -" if value is None else f"{name:6} {value:.3f}")
    return found


def predict(
    detector: Detector,
    images: tuple[str, ...],
    /,
    *,
    image_size: ImageSize,
    score: Share = 0.5,
    out: str | None = None,
    json: Json = None,
) -> list[dict[str, Any]]:
    """Draw or list detections on images.

    Args:
        images: Image files.
        image_size: Pixels of the longer side that images are resized to.
        score: Lowest score of a detection, in [0, 1].
        out: Folder for the images with the detections drawn on them.

    Example:
        nasnet-zoo detect predict detector.keras a.jpg b.jpg --image-size 600 --out drawn
    """
    if not out and not json:
        message = "expected --out, --json or both. Received: neither"
        raise UsageError("nasnet-zoo detect predict", message)
    from nasnet_zoo.data import read_size
    from nasnet_zoo.detection import prediction
    from nasnet_zoo.detection.training import load_detector
    from nasnet_zoo.progress import track
    from nasnet_zoo.quiet import start_backend

    paths = [Path(name) for name in images]
    for path in paths:
        read_size(path)
    if out:
        check_folder(out)
    pictures = prediction.picture_paths(paths, Path(out)) if out else []
    if json:
        json.check([detector, *paths])
    start_backend()
    model = load_detector(detector)
    predictions = prediction.predict_files(model, paths, image_size, score)
    results = []
    for number, (path, pixels, found) in enumerate(track(predictions, "detect", len(paths))):
        line = f"{path}: {len(found['scores'])} found"
        if out:
            with writing(out):
                pictures[number].parent.mkdir(parents=True, exist_ok=True)
            prediction.draw(pixels, found, model.class_names, pictures[number])
            line += f", drawn in {pictures[number]}"
        results += prediction.as_results(path, found, model.class_names)
        print(line)
    return results


def export(
    detector: Detector,
    /,
    *,
    out: str,
    image_size: ImageSize,
    format: Format | None = None,  # noqa: A002
    images: tuple[str, ...] = (),
    json: Json = None,
) -> dict[str, Any]:
    """Write a detector as a SavedModel, LiteRT or ONNX file, and compare that file with Keras.

    The file takes uint8 images, and holds the non-maximum suppression too.

    Args:
        out: A .tflite or .onnx file, or a folder for a SavedModel.
        image_size: Pixels of the sides of the images.
        format: Format of the file. Default: by the name of --out.
        images: Image files to compare on. Default: two generated images.

    Example:
        nasnet-zoo detect export detector.keras --out detector.tflite --image-size 600 --images a.jpg
    """
    path = Path(out)
    format_of(path, format)

    import numpy as np

    from nasnet_zoo.data import read_pixels
    from nasnet_zoo.data.resizing import as_bytes
    from nasnet_zoo.detection.input import fitted, squared
    from nasnet_zoo.detection.training import load_detector
    from nasnet_zoo.export.detector import export_detector
    from nasnet_zoo.quiet import start_backend

    start_backend()
    model = load_detector(detector)
    squares = [squared(fitted(read_pixels(name), image_size)[0], image_size) for name in images]
    result = export_detector(
        model,
        path,
        format,
        image_size=(image_size, image_size),
        images=as_bytes(np.stack(squares)) if squares else None,
    )
    print(result)
    return {**dataclasses.asdict(result), "path": out}
