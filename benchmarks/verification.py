"""Whether the check of exported files refuses files with one wrong weight: a table of mutants.

For each weight tensor of a file in turn its numbers become zeros, its filters change places, its zero
point moves by one or its scale doubles. A mutant is killed if the check refuses it, equivalent if it is
accepted and no image has another class, and has survived otherwise.

    python benchmarks/verification.py --data FOLDER [--share 10]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

import nasnet_zoo as zoo
from nasnet_zoo.data import open_dataset
from nasnet_zoo.export import FORMATS, export

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from mutants import Judge, mutants

SUFFIXES = {"litert": ".tflite", "onnx": ".onnx"}
FATES = ("killed", "equivalent", "survived")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--images", type=int, default=200, help="test images (default: 200)")
    parser.add_argument("--share", type=int, default=1, help="try every n-th mutant (default: 1)")
    arguments = parser.parse_args()
    data = open_dataset(arguments.data, limit=1000).in_memory()
    images = zoo.preprocess_input(data.test_images[: arguments.images].astype(np.float32))
    model = zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist")
    print("| file | mutants | killed | equivalent | survived | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, suffix in SUFFIXES.items():
            for numbers in FORMATS[name]:
                path, begun = Path(folder) / f"model{suffix}", time.perf_counter()
                export(model, path, quantization=numbers, representative=data.train_images[:200])
                judge, fates = Judge(model, path, images), Counter()
                for number, (tensor, mutation, mutant) in enumerate(mutants(path)):
                    if number % arguments.share == 0:
                        fate = judge(mutant)
                        fates[fate] += 1
                        if fate == "survived":
                            print(f"survived: {tensor}, {mutation}", file=sys.stderr)
                counts = " | ".join(str(fates[fate]) for fate in FATES)
                seconds = time.perf_counter() - begun
                total = sum(fates.values())
                print(f"| {name} {numbers} | {total} | {counts} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
