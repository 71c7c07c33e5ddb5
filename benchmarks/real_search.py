"""A real search, and its winner against NASNet-A's cells and random ones at equal budget, F and N.

Searches with PPO on a part of Fashion-MNIST's training images, trains the best children anew, and then
trains the winner, NASNet-A and random cells of the same space from several seeds on more images, for
longer, and judges them on the test images. Prints a Markdown table. It can be stopped at any moment
and goes on where it was.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import numpy as np
from outcomes import outcomes

from nasnet_zoo.architecture import architecture_cost
from nasnet_zoo.cells import NASNET_A, Genotype
from nasnet_zoo.data import open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.files import write_text
from nasnet_zoo.search import Budget, ExecutorSettings, Processes, Settings, Trial, search_cells
from nasnet_zoo.search.nasnet.child import FastChild, Images

SETTINGS = Settings(
    # So few minibatches need a higher learning rate than 20,000 children do.
    options={"learning_rate": 0.01, "entropy_weight": 0.001},
    budget=Budget(filters=8, stem_filters=16, steps=80, batch_size=32, evaluations=1),
    images=6000,
    held_out=1 / 3,
    image_size=14,
)
LONGER = dataclasses.replace(SETTINGS.budget, steps=320)
COMPARED = dataclasses.replace(SETTINGS.budget, steps=600, batch_size=64)


def test_images(data, count):
    """``count`` training images to learn from, judged on all test images."""
    part = open_dataset(data, limit=count).in_memory()
    return Images(
        normalize(part.train_images).numpy(),
        part.train_labels.astype(np.int32),
        normalize(data.test_images).numpy(),
        data.test_labels.astype(np.int32),
        len(data.class_names),
    )


def compare(arms: dict[str, Genotype], images: Images, seeds: int, path: Path, processes: int):
    """Accuracies by arm; what is in the file already is not trained again."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    keys = [(arm, seed) for seed in range(seeds) for arm in arms]
    child = FastChild(images, COMPARED)
    trials = [
        Trial(number, child.prepare(arms[arm]), seed)
        for number, (arm, seed) in enumerate(keys)
        if f"{arm}, seed {seed}" not in found
    ]
    with Processes(child, processes) as executor:
        for outcome in outcomes(executor, trials):
            arm, seed = keys[outcome.number]
            found[f"{arm}, seed {seed}"] = outcome.result.reward
            write_text(path, json.dumps(found, indent=2) + "\n")
            print(f"{arm}, seed {seed}: {outcome.result.reward:.2%}", flush=True)
    return {arm: [found[f"{arm}, seed {seed}"] for seed in range(seeds)] for arm in arms}


def print_table(arms: dict[str, Genotype], accuracies: dict[str, list[float]], size: int) -> None:
    groups = {
        name: [arm for arm in arms if arm.startswith(name)] for name in ("winner", "NASNet-A", "random")
    }
    print("| cells | trained | parameters | test accuracy | spread |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, members in groups.items():
        costs = [architecture_cost(COMPARED.architecture(arms[arm], size, 1), 10) for arm in members]
        runs = [accuracy for arm in members for accuracy in accuracies[arm]]
        spread = statistics.stdev(runs) if len(runs) > 1 else 0.0
        parameters = statistics.mean(cost.parameters for cost in costs)
        print(
            f"| {name} | {len(runs)} | {parameters:,.0f} | {statistics.mean(runs):.2%} | {spread:.2%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--out", required=True, help="folder for the search and the comparison")
    parser.add_argument("--children", type=int, default=300)
    parser.add_argument("--retrain", type=int, default=10, help="children to train anew")
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison")
    parser.add_argument("--random", type=int, default=5, help="random cells in the comparison")
    parser.add_argument("--images", type=int, default=20000, help="to train on in the comparison")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    out = Path(arguments.out)
    data = open_dataset(arguments.data, SETTINGS.image_size).in_memory()
    winner, *_ = search_cells(
        data,
        out,
        SETTINGS,
        arguments.children,
        retrain_best=arguments.retrain,
        retrain_budget=LONGER,
        executor=ExecutorSettings(processes=arguments.processes),
    )
    rng = np.random.default_rng(1)
    drawn = [SETTINGS.space.sample(rng) for _ in range(arguments.random)]
    arms = {
        "winner": SETTINGS.space.from_json(winner.architecture),
        "NASNet-A": NASNET_A,
        **{f"random {k}": SETTINGS.space.genotype(actions) for k, actions in enumerate(drawn)},
    }
    images = test_images(data, arguments.images)
    path = out / "comparison.json"
    print_table(
        arms,
        compare(arms, images, arguments.seeds, path, arguments.processes),
        data.train_images.shape[1],
    )


if __name__ == "__main__":
    main()
