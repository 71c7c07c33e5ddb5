"""Images with boxes in COCO's format: a JSON file of annotations, and a folder of images.

Everything is read from this format; `coco_from_tfds` writes a TFDS data set in it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.cells.files import write_text
from nasnet_zoo.extras import import_extra

from .matching import CROWD

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Example:
    """An image and what is on it.

    Args:
        image_id: COCO's.
        path: of the image file.
        boxes: float32 (N, 4) of (y_min, x_min, y_max, x_max) in pixels.
        classes: int32 (N,), indices into `CocoImages.class_names`, or `CROWD`.
    """

    image_id: int
    path: Path
    boxes: np.ndarray
    classes: np.ndarray


class CocoImages:
    """A data set in COCO's format.

    Boxes are cut at the image's borders. Malformed are: a box that has no area in the image, a
    category that is not listed, an annotation of an image that is not listed, an image whose file is
    not there.

    Args:
        annotations: the JSON file.
        images: the folder of the image files.
        malformed: "refuse", or "skip" to leave them out and name them in `faults`.

    Raises:
        ValueError: if the file is not COCO's format, or naming the first malformed ones if they are
            refused.

    Attributes:
        class_names: the categories' names, in the order of their COCO ids.
        examples: one for each image, those without boxes too.
        faults: what is wrong with each malformed one that was left out.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        malformed: str = "refuse",
    ) -> None:
        if malformed not in ("refuse", "skip"):
            raise ValueError(f"Expected malformed 'refuse' or 'skip'. Received: {malformed!r}")
        self._path, folder = Path(annotations), Path(images)
        found = _read(self._path)
        categories = sorted(found["categories"], key=lambda category: category["id"])
        self.class_names = tuple(category["name"] for category in categories)
        self.category_ids = tuple(category["id"] for category in categories)
        index = {category: k for k, category in enumerate(self.category_ids)}

        faults: list[str] = []
        sizes = {image["id"]: (image["height"], image["width"]) for image in found["images"]}
        boxes: dict[int, list[tuple[list[float], int]]] = {image: [] for image in sizes}
        for annotation in found["annotations"]:
            fault, box = _checked(annotation, sizes, index)
            if fault:
                faults.append(f"annotation {annotation['id']}: {fault}")
                continue
            kind = CROWD if annotation.get("iscrowd") else index[annotation["category_id"]]
            boxes[annotation["image_id"]].append((box, kind))
        self.examples = []
        for image in found["images"]:
            path = folder / image["file_name"]
            if not path.is_file():
                faults.append(f"image {image['id']}: no file {path}")
                continue
            own = boxes[image["id"]]
            self.examples.append(
                Example(
                    image["id"],
                    path,
                    np.array([box for box, _ in own], np.float32).reshape(-1, 4),
                    np.array([kind for _, kind in own], np.int32),
                )
            )
        self.faults = tuple(faults)
        if faults and malformed == "refuse":
            more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise ValueError(f"{self._path}: {'; '.join(faults[:_SHOWN])}{more}")
        if not self.examples:
            raise ValueError(f"{self._path}: expected images in {folder}. Received: none")

    def ground_truth(self) -> Any:
        """What `pycocotools` evaluates against: all annotations, of the images that are here."""
        coco = import_extra("pycocotools.coco", "detection")
        with contextlib.redirect_stdout(io.StringIO()):
            truth = coco.COCO(os.fspath(self._path))
        return truth


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for part, fields in (
            ("images", ("id", "file_name", "height", "width")),
            ("categories", ("id", "name")),
            ("annotations", ("id", "image_id", "category_id", "bbox")),
        ):
            for entry in found[part]:
                for field in fields:
                    entry[field]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected annotations in COCO's format. Received: {error!r}"
        ) from None
    return found


def _checked(
    annotation: Mapping[str, Any], sizes: Mapping[int, tuple[int, int]], index: Mapping[int, int]
) -> tuple[str | None, list[float]]:
    """What is wrong with an annotation, or None, and its box within the image."""
    if annotation["image_id"] not in sizes:
        return f"unknown image {annotation['image_id']}", []
    if annotation["category_id"] not in index:
        return f"unknown category {annotation['category_id']}", []
    height, width = sizes[annotation["image_id"]]
    x, y, w, h = annotation["bbox"]
    box = [max(y, 0), max(x, 0), min(y + h, height), min(x + w, width)]
    if not (box[0] < box[2] and box[1] < box[3]):
        return f"no area in its image: {annotation['bbox']} of {width}x{height}", []
    return None, box


def coco_from_tfds(builder: Any, split: str, out: str | os.PathLike[str]) -> None:
    """Writes a split of a TFDS data set, such as ``coco/2017``, in COCO's format.

    The image files are those that TFDS holds, not encoded anew. ``out`` gets ``annotations.json`` and
    ``images/``.

    Args:
        builder: a `tensorflow_datasets` builder whose data is prepared, with the features of COCO.
        split: such as "train".
        out: a folder, made if it is not there.

    Raises:
        ValueError: if its examples have no boxes.
    """
    tfds = import_extra("tensorflow_datasets", "detection")
    features = builder.info.features
    of_objects = features["objects"].feature if "objects" in features else {}
    if "image" not in features or not {"bbox", "label"} <= set(of_objects):
        raise ValueError(
            f"{builder.info.name}: expected features 'image' and 'objects' with 'bbox' and 'label'. "
            f"Received: {sorted(features)}"
        )
    folder = Path(out) / "images"
    folder.mkdir(parents=True, exist_ok=True)
    names = of_objects["label"].names
    found: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
    }
    decoders = {"image": tfds.decode.SkipDecoding()}
    decode = features["image"].decode_example
    examples = tfds.as_numpy(builder.as_dataset(split, decoders=decoders))
    for number, example in enumerate(examples):
        encoded, objects = example["image"], example["objects"]
        height, width = np.asarray(decode(encoded)).shape[:2]
        kind = ".png" if encoded[:4] == b"\x89PNG" else ".jpg"
        image_id = int(example.get("image/id", number))
        name = f"{image_id:012}{kind}"
        (folder / name).write_bytes(encoded)
        found["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
        for k, (box, label) in enumerate(zip(objects["bbox"], objects["label"], strict=True)):
            y, x, y_end, x_end = (box * [height, width, height, width]).tolist()
            crowd = "is_crowd" in objects and bool(objects["is_crowd"][k])
            area = objects["area"][k] if "area" in objects else (y_end - y) * (x_end - x)
            found["annotations"].append(
                {
                    "id": len(found["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "bbox": [x, y, x_end - x, y_end - y],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    write_text(Path(out) / "annotations.json", json.dumps(found))
