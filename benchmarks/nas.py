"""A real search for layer-wise networks, and its winner beside its first children and random search.

    python benchmarks/nas.py --data FOLDER --out runs/nas --children 240

Searches nas-conv on a part of Fashion-MNIST's training images twice at equal budget: with the paper's
controller, and at random. Then it trains both winners and the first children from several seeds on more
images, for longer, and judges them on the test images. Prints Markdown tables. It can be stopped at any
moment and goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from outcomes import outcomes

from nasnet_zoo.data import open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.files import write_text
from nasnet_zoo.search import (
    ExecutorSettings,
    Journal,
    LayerwiseBudget,
    LayerwiseSettings,
    LayerwiseSpace,
    Processes,
    Record,
    Trial,
    search_layers,
)
from nasnet_zoo.search.images.child import FastChild, Images

SETTINGS = LayerwiseSettings(
    # So few minibatches need a higher learning rate than 12,800 children do.
    options={"learning_rate": 0.006, "entropy_weight": 0.01},
    space=LayerwiseSpace(4, filters=(4, 8, 12)),
    budget=LayerwiseBudget(steps=80, batch_size=32, evaluations=5),
    images=6000,
    held_out=1 / 3,
    image_size=14,
)
SEARCHES = {
    "nas": SETTINGS,
    "random": dataclasses.replace(SETTINGS, policy="random", options={}),
}
COMPARED = dataclasses.replace(SETTINGS.budget, steps=600, batch_size=64)
FIRST = 20


def accuracies(records: Sequence[Record]) -> list[float]:
    """The accuracies of children; 0 of those that failed."""
    return [record.objectives("accuracy").get("accuracy", 0.0) for record in records]


def print_searches(found: dict[str, list[Record]]) -> None:
    print(f"| search | children | first {FIRST} | last {FIRST} | best | parameters of the best |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, records in found.items():
        values = accuracies(records)
        best = records[int(np.argmax(values))]
        means = (statistics.mean(values[part]) for part in (slice(FIRST), slice(-FIRST, None)))
        shown = (f"{value:.2%}" for value in (*means, max(values)))
        print(f"| {name} | {len(records)} | {' | '.join(shown)} | {best.costs['parameters']:,} |")


def test_images(folder: str, count: int) -> Images:
    """``count`` training images to learn from, judged on all test images."""
    part = open_dataset(folder, SETTINGS.image_size, count).in_memory()
    train, test = (normalize(part.__dict__[name]).numpy() for name in ("train_images", "test_images"))
    labels = part.train_labels.astype(np.int32), part.test_labels.astype(np.int32)
    return Images(train, labels[0], test, labels[1], len(part.class_names))


def compare(
    arms: dict[str, list[Record]], images: Images, seeds: int, path: Path, processes: int
) -> None:
    """Print the test accuracies of children by arm; what is in the file is not trained again."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    child = FastChild(images, COMPARED)
    keys = [
        f"{arm}, {r.name}, seed {k}" for arm, some in arms.items() for r in some for k in range(seeds)
    ]
    records = [record for some in arms.values() for record in some for _ in range(seeds)]
    trials = [
        Trial(number, child.prepare(SETTINGS.space.from_json(record.architecture)), number % seeds)
        for number, (key, record) in enumerate(zip(keys, records, strict=True))
        if key not in found
    ]
    with Processes(child, processes) as executor:
        for outcome in outcomes(executor, trials):
            found[keys[outcome.number]] = outcome.result.reward
            write_text(path, json.dumps(found, indent=2) + "\n")
            print(f"{keys[outcome.number]}: {outcome.result.reward:.2%}", flush=True)
    print("| children | trained | test accuracy | spread |")
    print("| --- | ---: | ---: | ---: |")
    for arm in arms:
        values = [found[key] for key in keys if key.startswith(f"{arm},")]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"| {arm} | {len(values)} | {statistics.mean(values):.2%} | {spread:.2%} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--out", required=True, help="folder for the searches and the comparison")
    parser.add_argument("--children", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison")
    parser.add_argument("--images", type=int, default=20000, help="to train on in the comparison")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    out, found = Path(arguments.out), {}
    for name, settings in SEARCHES.items():
        search_layers(
            arguments.data,
            out / name,
            settings,
            arguments.children,
            executor=ExecutorSettings(processes=arguments.processes),
            compare=out / "random" if name == "nas" and (out / "random").exists() else None,
        )
        with Journal(out / name / "journal.sqlite") as journal:
            found[name] = journal.children()
    print_searches(found)
    winners = {
        f"winner of {name}": [max(records, key=lambda record: record.reward or 0.0)]
        for name, records in found.items()
    }
    arms = {**winners, f"first {FIRST}": found["nas"][:FIRST]}
    images = test_images(arguments.data, arguments.images)
    compare(arms, images, arguments.seeds, out / "comparison.json", arguments.processes)


if __name__ == "__main__":
    main()
