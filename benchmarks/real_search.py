"""Two real searches at equal budget, for accuracy and for accuracy and latency, and their fronts.

Both search cells on a part of Fashion-MNIST's training images, and both measure the latency of each
child's int8 file; only the reward of the second one has it. The Pareto front of each, NASNet-A's cells
and random ones of the same space are then trained with the same F and N from several seeds, on more
images and for longer, evaluated on the test images, exported as int8 files and timed side by side.
Prints Markdown tables. It can be stopped at any moment and goes on where it was.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from outcomes import outcomes

from nasnet_zoo.architecture import architecture_cost
from nasnet_zoo.cells import NASNET_A, Genotype
from nasnet_zoo.data import open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.export import load_runtime
from nasnet_zoo.export.benchmark import time_runs
from nasnet_zoo.files import write_text
from nasnet_zoo.search import Budget, ExecutorSettings, Processes, Record, Settings, Trial, search_cells
from nasnet_zoo.search.front import front
from nasnet_zoo.search.images.child import Images
from nasnet_zoo.search.images.exported import ExportedChild
from nasnet_zoo.search.images.settings import LatencySettings
from nasnet_zoo.search.objectives import hypervolume, pareto_front

KIND = "litert-int8"
#: The reward of each search. Half the latency is worth 3.5 % of the accuracy.
REWARDS = {"accuracy": None, "accuracy and latency": "accuracy * latency_ratio ** -0.05"}
SETTINGS = Settings(
    policy="predictor",
    minibatch=6,
    budget=Budget(filters=8, stem_filters=16, steps=80, batch_size=32, evaluations=1),
    images=6000,
    held_out=1 / 3,
    image_size=14,
)
COMPARED = dataclasses.replace(SETTINGS.budget, steps=600, batch_size=64)
#: What a hypervolume is measured from: test accuracy, and latency as a multiple of NASNet-A's.
WORST = 0.8, 2.0


class Arm(NamedTuple):
    """Cells that are compared."""

    group: str
    name: str
    genotype: Genotype


def evenly(found: Sequence[Record], most: int) -> list[Record]:
    """At most ``most`` records, evenly from all."""
    places = np.linspace(0, len(found) - 1, min(most, len(found)))
    return [found[place] for place in places.round().astype(int)]


def comparison_images(data: Any, count: int) -> Images:
    """``count`` training images to learn from, judged on all test images."""
    part = open_dataset(data, limit=count).in_memory()
    return Images(
        normalize(part.train_images).numpy(),
        part.train_labels.astype(np.int32),
        normalize(data.test_images).numpy(),
        data.test_labels.astype(np.int32),
        len(data.class_names),
    )


def compare(arms: Sequence[Arm], images: Images, seeds: int, out: Path, processes: int) -> list[list]:
    """The metrics of each arm by seed; what is in the file already is not trained again."""
    path = out / "comparison.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    keys = [f"{arm.name}, seed {seed}" for arm in arms for seed in range(seeds)]
    child = ExportedChild(images, COMPARED, out, KIND)
    trials = [
        Trial(number, child.prepare(arms[number // seeds].genotype), number % seeds)
        for number, key in enumerate(keys)
        if key not in found
    ]
    with Processes(child, processes) as executor:
        for number, result in ((o.number, o.result) for o in outcomes(executor, trials)):
            found[keys[number]] = {"accuracy": result.reward, **result.metrics}
            write_text(path, json.dumps(found, indent=2) + "\n")
            print(f"{keys[number]}: {result.reward:.2%}", flush=True)
    return [[found[f"{arm.name}, seed {seed}"] for seed in range(seeds)] for arm in arms]


def latencies(files: Iterable[Path], seeds: int) -> np.ndarray:
    """Milliseconds of an image, of each arm: the median over rounds and seeds of the best of three."""
    least = time_runs([load_runtime(file, 1) for file in files], 40).min(2) * 1e3
    return np.median(least.reshape(-1, seeds * least.shape[1]), 1)


def print_tables(arms: Sequence[Arm], runs: Sequence[list], ms: np.ndarray, size: int) -> None:
    ratios = ms / ms[[arm.genotype for arm in arms].index(NASNET_A)]
    accuracies = np.array([[run["accuracy"] for run in of_arm] for of_arm in runs])
    print(
        "| cells | parameters | multiply-adds | int8, ms | ratio | test accuracy | int8, 500 images |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for arm, of_arm, accuracy, time, ratio in zip(arms, runs, accuracies, ms, ratios, strict=True):
        cost = architecture_cost(COMPARED.architecture(arm.genotype, size, 1), 10)
        file = statistics.mean(run["file_accuracy"] for run in of_arm)
        print(
            f"| {arm.name} | {cost.parameters:,} | {cost.mult_adds / 1e6:.1f} M | {time:.3f} | "
            f"{ratio:.2f} | {accuracy.mean():.2%} ± {accuracy.std(ddof=1):.2%} | {file:.2%} |"
        )
    values = np.stack([accuracies.mean(1), -ratios], 1)
    groups = {
        group: values[[arm.group == group for arm in arms]]
        for group in dict.fromkeys(arm.group for arm in arms)
    }
    names = list(groups)
    print(
        "\n| front of | cells on it | hypervolume | "
        + " | ".join(f"beaten by {n}" for n in names)
        + " |"
    )
    print("| --- | ---: | ---: " + "| ---: " * len(names) + "|")
    worst = np.array([WORST[0], -WORST[1]])
    for group, of_group in groups.items():
        beaten = [
            sum(any((b >= a).all() and (b > a).any() for b in groups[other]) for a in of_group)
            for other in names
        ]
        print(
            f"| {group} | {len(pareto_front(of_group))} of {len(of_group)} | "
            f"{hypervolume(of_group, worst):.4f} | " + " | ".join(map(str, beaten)) + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--out", required=True, help="folder for the searches and the comparison")
    parser.add_argument("--children", type=int, default=204, help="of each search")
    parser.add_argument("--front", type=int, default=5, help="cells of each front that are compared")
    parser.add_argument("--random", type=int, default=3, help="random cells in the comparison")
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison")
    parser.add_argument("--images", type=int, default=20000, help="to train on in the comparison")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    out = Path(arguments.out)
    data = open_dataset(arguments.data, SETTINGS.image_size).in_memory()
    arms = []
    for name, reward in REWARDS.items():
        children = search_cells(
            data,
            out / name.replace(" ", "_"),
            dataclasses.replace(SETTINGS, reward=reward),
            arguments.children,
            latency=LatencySettings(latency=KIND),
            executor=ExecutorSettings(processes=arguments.processes),
            references=True,
        )
        best = front(children, "accuracy", ("latency",))
        print(f"{name}: {len(best)} children on the front")
        arms += [
            Arm(name, f"{name}, child {r.number}", SETTINGS.space.from_json(r.architecture))
            for r in evenly(best, arguments.front)
        ]
    arms.append(Arm("NASNet-A", "NASNet-A", NASNET_A))
    rng, space = np.random.default_rng(1), SETTINGS.space
    drawn = [space.genotype(space.sample(rng)) for _ in range(arguments.random)]
    arms += [Arm("random", f"random {number}", genotype) for number, genotype in enumerate(drawn)]
    images = comparison_images(data, arguments.images)
    runs = compare(arms, images, arguments.seeds, out, arguments.processes)
    files = [out / run["file"] for of_arm in runs for run in of_arm]
    print_tables(arms, runs, latencies(files, arguments.seeds), data.train_images.shape[1])


if __name__ == "__main__":
    main()
