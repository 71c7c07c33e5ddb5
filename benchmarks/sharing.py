"""Weight sharing against training from scratch: what it costs, and how well it ranks children.

Trains shared weights on the space, the data and the networks of the tabular benchmark, judges
children of the table by them, and prints how their ranks agree with those of the rewards from
scratch (Spearman, Kendall), besides those of the same children after a part of their training.
"""

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from scipy.stats import kendalltau, spearmanr

from nasnet_zoo.architecture import network_graph
from nasnet_zoo.cells import CIFAR
from nasnet_zoo.data import open_dataset
from nasnet_zoo.search import (
    PPO,
    Budget,
    Callback,
    Journal,
    RandomSearch,
    Record,
    Serial,
    TabularBenchmark,
    run_search,
)
from nasnet_zoo.search.images.child import Child, Images, network_inputs
from nasnet_zoo.search.images.search import search_images
from nasnet_zoo.search.nasnet.sharing import SharedEvaluator, SharedWeights

POLICIES = {
    "all alike": RandomSearch,
    "PPO in turn": lambda space, seed: PPO(space, seed, learning_rate=0.01, entropy_weight=0.0001),
}


class Pace(Callback):
    """Prints a line for every minibatch."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def learned(self, records: Sequence[Record], metrics: Mapping[str, float]) -> None:
        mean = np.mean([record.reward for record in records])
        seconds = time.perf_counter() - self._begun
        print(f"{records[-1].number + 1} children: mean reward {mean:.3f}, {seconds:.0f} s", flush=True)


def judged(
    shared: SharedWeights, table: TabularBenchmark, rows: np.ndarray, images: Images
) -> list[float]:
    """The rewards of children by shared weights, on the same 2,000 held-out images."""
    batch = network_inputs(images.held_out_images[:2000]), images.held_out_labels[:2000]
    return [shared.reward(table.space.genotype(table.actions[row]), *batch) for row in rows]


def costs(shared: SharedWeights, table: TabularBenchmark, images: Images) -> None:
    """Processor seconds of a step of a child, eager as in sharing and traced as in training."""
    budget, times = shared.budget, []
    size = budget.batch_size
    batch = network_inputs(images.train_images[:size]), images.train_labels[:size]
    for row in range(5):
        genotype = table.space.genotype(table.actions[row])
        shared.train(genotype, *batch, 0.0)
        begun = time.process_time()
        for _ in range(5):
            shared.train(genotype, *batch, 0.0)
        eager = (time.process_time() - begun) / 5
        size, channels = shared.image_shape[1:]
        graph = network_graph(budget.architecture(genotype, size, channels), images.classes)
        child = Child(graph, shared.image_shape, CIFAR)
        step = tf.function(child.step)
        arguments = *map(tf.constant, batch), tf.constant(0.0), budget
        begun = time.process_time()
        step(*arguments)
        traced = time.process_time() - begun
        begun = time.process_time()
        for _ in range(20):
            step(*arguments)
        times.append((eager, traced, (time.process_time() - begun) / 20))
    eager, traced, step = np.mean(times, 0)
    print(
        f"eager step {eager:.3f} s; tracing {traced:.2f} s, traced step {step:.3f} s of the processor"
    )
    print(f"tracing pays from {traced / (eager - step):.0f} steps of a child", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", help="file of a tabular benchmark. Default: the package's")
    parser.add_argument(
        "--data", default="/usr/share/datasets/fashion-mnist", help="folder of IDX files"
    )
    parser.add_argument("--minibatches", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100, help="of the shared weights in a minibatch")
    parser.add_argument("--judge", type=int, default=100, help="children of the table to judge")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = TabularBenchmark.load(arguments.table)
    about = table.about
    images = search_images(
        open_dataset(arguments.data, about["image_size"]).in_memory(), about["held_out"]
    )
    budget = dataclasses.replace(Budget(**about["budget"]), learning_rate=0.05)
    rows = np.random.default_rng(0).permutation(len(table.actions))[: arguments.judge]
    final = table.final[rows]
    costs(SharedWeights(images.train_images.shape[1:], images.classes, budget), table, images)

    lines = []

    def compare(name: str, rewards: np.ndarray, seconds: str) -> None:
        spearman, kendall = spearmanr(rewards, final)[0], kendalltau(rewards, final)[0]
        figures = f"{np.mean(rewards):.4f} | {np.std(rewards):.4f} | {spearman:.2f} | {kendall:.2f}"
        lines.append(f"| {name} | {figures} | {seconds} |")

    parts = table.rewards.shape[1]
    for part in range(parts):
        compare(f"from scratch, {part + 1}/{parts} of the steps", table.rewards[rows, part], "")
    for name, make in POLICIES.items():
        shared = SharedWeights(images.train_images.shape[1:], images.classes, budget, arguments.seed)
        evaluator = SharedEvaluator(table.space, shared, images, arguments.steps, seed=arguments.seed)
        begun = time.process_time()
        with Journal(":memory:", {}) as journal:
            run_search(
                make(table.space, seed=arguments.seed),
                table.space,
                Serial(evaluator),
                journal,
                20 * arguments.minibatches,
                callbacks=[Pace()],
                remember=False,
            )
        seconds = time.process_time() - begun
        compare(
            f"shared weights, {name}", np.array(judged(shared, table, rows, images)), f"{seconds:.0f}"
        )
    print(
        f"\n{len(rows)} children, {arguments.minibatches * arguments.steps} steps of shared weights\n"
    )
    print("| reward | mean | spread | Spearman | Kendall | processor seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
