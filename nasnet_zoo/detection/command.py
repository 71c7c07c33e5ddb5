"""What the commands ``nasnet-zoo detect train``, ``evaluate`` and ``predict`` do."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Literal

from nasnet_zoo.data import read_size
from nasnet_zoo.fields import with_fields
from nasnet_zoo.files import check_folder, check_writable, write_text, writing

from .coco import CocoImages
from .evaluation import check_class_names, detect, evaluate
from .prediction import as_results, draw, picture_paths, predict_files
from .recipes import find_recipe
from .training import load_detector, train_detector


def train_command(arguments: argparse.Namespace) -> None:
    """Trains a detector by the arguments of ``nasnet-zoo detect train``."""
    train_detector(
        with_fields(find_recipe(arguments.recipe), arguments.set),
        _coco(arguments.train, arguments.malformed),
        _coco(arguments.test, arguments.malformed),
        arguments.out,
        start_from=arguments.start_from,
        seed=arguments.seed,
        tensorboard=arguments.tensorboard,
    )


def evaluate_command(arguments: argparse.Namespace) -> dict[str, float]:
    """Evaluates a detector by the arguments of ``nasnet-zoo detect evaluate``."""
    detector = load_detector(arguments.detector)
    source = _coco(arguments.test, arguments.malformed)
    if arguments.json:
        check_writable(arguments.json, [arguments.detector, arguments.test[0], *source.paths])
    check_class_names(arguments.detector, detector.class_names, arguments.test[0], source.class_names)
    results = detect(detector, source, arguments.image_size)
    if arguments.json:
        write_text(arguments.json, json.dumps(results))
    return evaluate(source, results)


def predict_command(arguments: argparse.Namespace) -> None:
    """Draws and lists detections by the arguments of ``nasnet-zoo detect predict``."""
    if not arguments.out and not arguments.json:
        raise ValueError("Expected --out FOLDER, --json FILE or both. Received: neither")
    images = [Path(name) for name in arguments.images]
    for image in images:
        read_size(image)
    if arguments.out:
        check_folder(arguments.out)
    pictures = picture_paths(images, Path(arguments.out)) if arguments.out else []
    if arguments.json:
        check_writable(arguments.json, [arguments.detector, *images])
    detector = load_detector(arguments.detector)
    predictions = predict_files(detector, images, arguments.image_size, arguments.score)
    results = []
    for number, (path, pixels, found) in enumerate(predictions):
        line = f"{path}: {len(found['scores'])} found"
        if arguments.out:
            with writing(arguments.out):
                pictures[number].parent.mkdir(parents=True, exist_ok=True)
            draw(pixels, found, detector.class_names, pictures[number])
            line += f", drawn in {pictures[number]}"
        results += as_results(path, found, detector.class_names)
        print(line)
    if arguments.json:
        write_text(arguments.json, json.dumps(results))


def _coco(parts: tuple[str, str], malformed: Literal["refuse", "skip"]) -> CocoImages:
    annotations, images = parts
    return CocoImages(annotations, images, malformed)
