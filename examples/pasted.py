"""Makes a small detection data set: real handwritten digits pasted on textured canvases.

python examples/pasted.py digits OUT [--images 6000] [--seed 0]

The digits are scikit-learn's; instead of ``digits``, the folder of other grey images on black, such as
Fashion-MNIST (Debian packages it as dataset-fashion-mnist). OUT gets a ``train`` and a ``test`` part in
COCO's format, each ``annotations.json`` and ``images/``; the pictures of the one are from the training
images, those of the other from the test images. On a canvas of 256x256 lie one to five pictures, 40 to
120 pixels in size, which may overlap.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from nasnet_zoo.data import open_dataset

SIZE = 256


def texture(rng: np.random.Generator) -> np.ndarray:
    """Blotches of colour on several scales."""
    canvas = np.zeros((SIZE, SIZE, 3), np.float32)
    for cells, strength in ((4, 50), (16, 30), (64, 15)):
        noise = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        layers = [Image.fromarray(noise[..., k]).resize((SIZE, SIZE), Image.BICUBIC) for k in range(3)]
        canvas += strength * np.stack([np.asarray(layer) for layer in layers], -1)
    return canvas + rng.uniform(60, 140)


def paste(canvas: np.ndarray, picture: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Puts a picture somewhere on the canvas in a random colour; its box as COCO's (x, y, w, h)."""
    side = int(rng.integers(40, 121))
    grey = np.asarray(Image.fromarray(picture).resize((side, side), Image.BILINEAR), np.float32) / 255
    y, x = rng.integers(0, SIZE - side, 2)
    color = rng.uniform(120, 255, 3)
    cover = np.clip(grey * 8, 0, 1)[..., None]
    part = canvas[y : y + side, x : x + side]
    part[:] = part * (1 - cover) + cover * grey[..., None] * color
    seen = cover[..., 0] > 0.5
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    return [int(v) for v in (x + columns[0], y + rows[0], width, height)]


def make(
    pictures: np.ndarray, labels: np.ndarray, names: list[str], count: int, seed: int, out: Path
) -> None:
    """Writes ``count`` canvases and their annotations."""
    rng = np.random.default_rng(seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
    coco = {"images": [], "annotations": [], "categories": categories}
    for image_id in range(count):
        canvas = texture(rng)
        for index in rng.integers(len(pictures), size=rng.integers(1, 6)):
            box = paste(canvas, pictures[index], rng)
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": int(labels[index]) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        name = f"{image_id:06}.png"
        picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
        picture.save(out / "images" / name, compress_level=3)
        entry = {"id": image_id, "file_name": name, "height": SIZE, "width": SIZE}
        coco["images"].append(entry)
    (out / "annotations.json").write_text(json.dumps(coco))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", help="digits, or a folder of IDX files or of class folders")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=6000, help="to train on; a tenth to test on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.images < 10:
        parser.error(f"expected at least 10 images. Received: {arguments.images}")
    if arguments.out.exists() and (arguments.out.is_file() or any(arguments.out.iterdir())):
        parser.error(f"{arguments.out}: expected a new or empty folder. Received: one with files")
    data = open_dataset(arguments.pictures).in_memory()
    count, seed, names = arguments.images, arguments.seed, data.class_names
    train, test = data.train_images[..., 0], data.test_images[..., 0]
    make(train, data.train_labels, names, count, seed, arguments.out / "train")
    make(test, data.test_labels, names, count // 10, seed + 1, arguments.out / "test")


if __name__ == "__main__":
    main()
