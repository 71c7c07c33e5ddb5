"""ScheduledDropPath against constant drop path and none, at equal budget ([N] section 3.2).

Trains the Fashion-MNIST recipe at 14x14 pixels on a part of the training images, few enough to
overfit, once for each arm and seed, and prints a Markdown table of the test accuracy of the last
epoch. It can be stopped at any moment and goes on where it was.
"""

import argparse
import csv
import dataclasses
import statistics
from pathlib import Path

from nasnet_zoo.data import open_dataset
from nasnet_zoo.training import RECIPES, changed, train

ARMS = {
    "none": {},
    "ScheduledDropPath": {"drop_path_version": "v3"},
    "constant drop path": {"drop_path_version": "constant"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--out", default="runs/drop_path")
    parser.add_argument(
        "--images", type=int, default=2000, help="to train on, and to test on twice as many"
    )
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--keep", type=float, default=0.8, help="final probability to keep a path")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = open_dataset(arguments.data).in_memory()
    part = open_dataset(data, limit=arguments.images).in_memory()
    data = dataclasses.replace(data, train_images=part.train_images, train_labels=part.train_labels)
    accuracies: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
    for seed in range(arguments.seeds):
        for arm, fields in ARMS.items():
            recipe = changed(
                RECIPES["fashion_mnist"],
                model={"filters": 8, "stem_filters": 16, "image_size": 14},
                run={"epochs": arguments.epochs},
                regularization={"drop_path_keep": arguments.keep, **fields} if fields else {},
            )
            out = Path(arguments.out) / f"{arm.replace(' ', '_')}-{seed}"
            train(recipe, data, out, seed=seed, verbose=2)
            with open(out / "history.csv", newline="", encoding="utf-8") as file:
                last = list(csv.DictReader(file))[-1]
            accuracies[arm].append((float(last["accuracy"]), float(last["val_accuracy"])))
            print_table(accuracies)


def print_table(accuracies: dict[str, list[tuple[float, float]]]) -> None:
    print("| drop path | runs | training accuracy | test accuracy | spread |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for arm, runs in accuracies.items():
        if runs:
            trained, tested = zip(*runs, strict=True)
            spread = max(tested) - min(tested)
            print(
                f"| {arm} | {len(runs)} | {statistics.mean(trained):.2%} | "
                f"{statistics.mean(tested):.2%} | {spread:.2%} |"
            )


if __name__ == "__main__":
    main()
