"""Data sets in COCO's format: a JSON file of annotations and a folder of images."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, check, checked
from nasnet_zoo.data import is_turned, read_size
from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import read_json, write_text

from .matching import CROWD

#: Maximum number of faults in a message, and of characters of a fault.
_SHOWN, _LENGTH = 3, 300

#: Range of the integers of `pycocotools`.
_Id = Annotated[int, Interval(ge=-(2**63), lt=2**63)]
_CATEGORY = {"id": _Id, "name": str}
_IMAGE = {"id": _Id, "file_name": str, "height": PositiveInt, "width": PositiveInt}
_ANNOTATION = {
    "id": _Id,
    "image_id": _Id,
    "category_id": _Id,
    "bbox": tuple[float, float, float, float],
    "area": NonNegativeFloat,
    "iscrowd": bool | Literal[0, 1],
}
_OPTIONAL = ("area", "iscrowd")


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its boxes.

    Args:
        image_id: COCO's id of the image.
        path: Path of the image file.
        boxes: Boxes clipped to the image, float32 (N, 4) of (y_min, x_min, y_max, x_max) in pixels.
        classes: Indices into `CocoImages.class_names`, or `CROWD`, int32 (N,).
        annotations: Annotations of the boxes for `pycocotools`, with ``image_id``, ``category_id``,
            ``bbox``, ``area`` and ``iscrowd``.
    """

    image_id: int
    path: Path
    boxes: np.ndarray
    classes: np.ndarray
    annotations: tuple[Mapping[str, Any], ...]


class CocoImages:
    """A data set in COCO's format.

    Boxes are in pixels of the image after it is turned upright by its EXIF orientation, and are clipped
    to it. The default ``area`` of an annotation is that of its box, the default ``iscrowd`` is 0.

    An image or an annotation is malformed if a value is missing or of another type, or if an earlier
    one has the same id. An image is also malformed if its file is missing, outside the folder, broken,
    or differs in height or width; an annotation, if its box has no area within the image, or its image
    or category is not listed.

    Args:
        annotations: Path of the JSON file.
        images: Folder of the image files.
        malformed: "refuse" raises an error for malformed images and annotations. "skip" leaves them
            out, an image with its annotations, and lists them in `faults`. Default: "refuse".

    Raises:
        ValueError: If the file is not in COCO's format, a category is malformed, or images or
            annotations are malformed and refused. The message has the first of them.
        OSError: If the file cannot be read.

    Attributes:
        class_names: Names of the categories in the order of their COCO ids.
        category_ids: COCO ids of the categories.
        examples: One `Example` for each image, with or without boxes.
        faults: Messages about the images and annotations that were left out.
    """

    @checked
    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images: str | os.PathLike[str],
        malformed: Literal["refuse", "skip"] = "refuse",
    ) -> None:
        path, folder = Path(annotations), Path(images)
        found = _read(path)
        categories = _categories(path, found["categories"])
        self.category_ids, self.class_names = tuple(categories), tuple(categories.values())

        faults: list[str] = []
        entries, files = {}, {}
        for entry in _valid("image", found["images"], _IMAGE, faults):
            with _noted(f"image {entry['id']}", faults):
                files[entry["id"]] = _file(entry, folder)
                entries[entry["id"]] = entry
        listed = {entry["id"] for entry in found["images"] if _has_id(entry)}
        kept: dict[int, list[tuple[dict[str, Any], np.ndarray]]] = {key: [] for key in entries}
        for annotation in _valid("annotation", found["annotations"], _ANNOTATION, faults):
            image = annotation["image_id"]
            with _noted(f"annotation {annotation['id']}", faults):
                if image not in listed:
                    raise ValueError(f"expected an image that is listed. Received: image {image}")
                if annotation["category_id"] not in categories:
                    raise ValueError(
                        f"expected a category that is listed. Received: {annotation['category_id']}"
                    )
                if image in entries:
                    kept[image].append((_complete(annotation), _box(annotation, entries[image])))
        self.faults = tuple(faults)
        if faults and malformed == "refuse":
            more = f", and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise ValueError(f"{path}: {'; '.join(faults[:_SHOWN])}{more}")
        if not entries:
            raise ValueError(f"{path}: expected images in {folder}. Received: none")
        self.examples = [self._example(key, files[key], kept[key]) for key in entries]

    def _example(
        self, image_id: int, path: Path, kept: list[tuple[dict[str, Any], np.ndarray]]
    ) -> Example:
        classes = [
            CROWD if annotation["iscrowd"] else self.category_ids.index(annotation["category_id"])
            for annotation, _ in kept
        ]
        boxes = np.array([box for _, box in kept], np.float32).reshape(-1, 4)
        annotations = tuple(annotation for annotation, _ in kept)
        return Example(image_id, path, boxes, np.array(classes, np.int32), annotations)

    @property
    def paths(self) -> list[Path]:
        """Paths of the image files."""
        return [example.path for example in self.examples]

    def ground_truth(self) -> Any:
        """The images and annotations as a `pycocotools.coco.COCO`."""
        coco = import_extra("pycocotools.coco", "detection")
        truth = coco.COCO()
        annotations = [a for example in self.examples for a in example.annotations]
        truth.dataset = {
            "images": [{"id": example.image_id} for example in self.examples],
            # `pycocotools` treats a true box of id 0 as unmatched.
            "annotations": [{**a, "id": number} for number, a in enumerate(annotations, start=1)],
            "categories": [
                {"id": key, "name": name}
                for key, name in zip(self.category_ids, self.class_names, strict=True)
            ],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
        return truth


def _read(path: Path) -> dict[str, list[Any]]:
    found = read_json(path, "annotations in COCO's format")
    for part in ("images", "categories", "annotations"):
        if not isinstance(found, dict) or not isinstance(found.get(part), list):
            raise ValueError(
                f"{path}: expected annotations in COCO's format, an object with a list of {part}. "
                f"Received: {_kind(found.get(part)) if isinstance(found, dict) else _kind(found)}"
            )
    return found


def _kind(value: Any) -> str:
    return "none" if value is None else f"a {type(value).__name__}"


def _categories(path: Path, entries: list[Any]) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    faults: list[str] = []
    names: dict[int, str] = {}
    for entry in _valid("category", entries, _CATEGORY, faults):
        name = names[entry["id"]] = entry["name"]
        if not name or list(names.values()).count(name) > 1:
            faults.append(f"category {entry['id']}: expected a name of its own. Received: {name!r}")
    if faults or not names:
        raise ValueError(f"{path}: {faults[0] if faults else 'expected categories. Received: none'}")
    return dict(sorted(names.items()))


def _valid(
    kind: str, entries: list[Any], fields: Mapping[str, Any], faults: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the entries with all fields and a unique id. Add the faults of the others to a list."""
    seen: set[int] = set()
    for number, entry in enumerate(entries):
        place = f"{kind} {entry['id']}" if _has_id(entry) else f"{kind} at index {number}"
        with _noted(place, faults):
            if not isinstance(entry, dict):
                raise ValueError(f"expected an object. Received: {_kind(entry)}")
            for name, annotation in fields.items():
                if name in entry:
                    check(name, entry[name], annotation)
                elif name not in _OPTIONAL:
                    raise ValueError(f"expected {name}. Received: none")
            if entry["id"] in seen:
                raise ValueError("expected an id of its own. Received: one that an earlier one has")
            seen.add(entry["id"])
            yield entry


@contextlib.contextmanager
def _noted(place: str, faults: list[str]) -> Iterator[None]:
    """Turn a `ValueError` inside the block into a fault."""
    try:
        yield
    except ValueError as error:
        fault = str(error)
        fault = f"{place}: {fault[:1].lower()}{fault[1:]}"
        faults.append(f"{fault[:_LENGTH]}..." if len(fault) > _LENGTH else fault)


def _has_id(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("id")) is int


def _file(entry: Mapping[str, Any], folder: Path) -> Path:
    """Find the file of an image.

    Raises:
        ValueError: If it is not in the folder, or is not the image that the entry describes.
    """
    name = entry["file_name"]
    if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir:
        raise ValueError(f"expected a file_name within the folder of the images. Received: {name!r}")
    path = folder / name
    if not os.path.isfile(path):
        raise ValueError(f"expected the file {path}. Received: none")
    height, width = read_size(path)
    if (height, width) != (entry["height"], entry["width"]):
        raise ValueError(
            f"expected the height and width of the upright image, {height}x{width}. "
            f"Received: {entry['height']}x{entry['width']}"
        )
    return path


def _complete(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce an annotation to the values that `pycocotools` needs, with defaults."""
    _, _, w, h = annotation["bbox"]
    values = {"area": w * h, "iscrowd": 0, **annotation}
    return {name: values[name] for name in ("image_id", "category_id", "bbox", "area", "iscrowd")}


def _box(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> np.ndarray:
    """Clip a box to its image, (y_min, x_min, y_max, x_max).

    Raises:
        ValueError: If the box has no area within the image.
    """
    x, y, w, h = annotation["bbox"]
    height, width = image["height"], image["width"]
    box = np.array([max(y, 0), max(x, 0), min(y + h, height), min(x + w, width)], np.float32)
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(
            f"expected a bbox with an area in its image of {width}x{height}. "
            f"Received: {annotation['bbox']}"
        )
    return box


def coco_from_tfds(builder: Any, split: str, out: str | os.PathLike[str]) -> None:
    """Write a split of a TFDS data set, such as ``coco/2017``, in COCO's format.

    Image files are copied unless they have an EXIF orientation, which TFDS ignores; such images are
    saved as PNG without it. ``out`` gets ``annotations.json`` and ``images/``.

    Args:
        builder: `tensorflow_datasets` builder whose data is prepared, with the features of COCO.
        split: Name of the split, such as "train".
        out: New or empty folder.

    Raises:
        ValueError: If the examples have no boxes, or ``out`` is not empty.
    """
    tfds = import_extra("tensorflow_datasets", "detection")
    pillow = import_extra("PIL.Image", "detection")
    features = builder.info.features
    of_objects = features["objects"].feature if "objects" in features else {}
    if "image" not in features or not {"bbox", "label"} <= set(of_objects):
        raise ValueError(
            f"{builder.info.name}: expected features 'image' and 'objects' with 'bbox' and 'label'. "
            f"Received: {sorted(features)}"
        )
    if os.path.lexists(out) and not (os.path.isdir(out) and not os.listdir(out)):
        raise ValueError(f"{os.fspath(out)}: expected a new or empty folder. Received: one with files")
    folder = Path(out) / "images"
    folder.mkdir(parents=True)
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
        pixels = np.asarray(decode(encoded))
        height, width = pixels.shape[:2]
        kind = ".png" if encoded[:4] == b"\x89PNG" else ".jpg"
        image_id = int(example.get("image/id", number))
        name = f"{image_id:012}{kind}"
        (folder / name).write_bytes(encoded)
        if is_turned(folder / name):
            (folder / name).unlink()
            name = f"{image_id:012}.png"
            grey = pixels.shape[-1] == 1
            pillow.fromarray(pixels[..., 0] if grey else pixels).save(folder / name)
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
