"""Weight sharing against training from scratch: what it costs, and how well it ranks children.

Trains shared weights on the space, the data and the networks of the tabular benchmark, judges
children of the table by them, and prints how their ranks agree with those of the rewards from
scratch (Spearman, Kendall), besides those of the same children after a part of their training.
"""

import argparse
import dataclasses
import time
from collections.abc import Mapping
from contextlib import closing

import numpy as np
import tensorflow as tf
from scipy.stats import kendalltau, spearmanr

from nasnet_zoo.architecture import network_graph
from nasnet_zoo.cells import CIFAR
from nasnet_zoo.data import open_dataset
from nasnet_zoo.search import PPO, RandomSearch
from nasnet_zoo.search.child import Child, Images
from nasnet_zoo.search.folder import search_images
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.search import Callback, Here, run_search
from nasnet_zoo.search.settings import Budget
from nasnet_zoo.search.sharing import SharedWeights, Sharing
from nasnet_zoo.search.tabular import TabularBenchmark

POLICIES = {
    "all alike": RandomSearch,
    "PPO in turn": lambda space, seed: PPO(space, seed, learning_rate=0.01, entropy_weight=0.0001),
}


class Rounds(Callback):
    """Prints a line for every minibatch."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._begun = journal, time.perf_counter()

    def learned(self, round: int, told: Mapping[str, float]) -> None:  # noqa: A002
        mean = np.mean([record.reward for record in self._journal.children(round)])
        seconds = time.perf_counter() - self._begun
        print(f"round {round + 1}: mean reward {mean:.3f}, {seconds:.0f} s", flush=True)


def judged(
    shared: SharedWeights, table: TabularBenchmark, rows: np.ndarray, images: Images
) -> list[float]:
    """The rewards of children by shared weights, on the same 2,000 held-out images."""
    batch = images.held_out_images[:2000], images.held_out_labels[:2000]
    return [shared.reward(table.space.genotype(table.tokens[row]), *batch) for row in rows]


def costs(shared: SharedWeights, table: TabularBenchmark, images: Images) -> None:
    """Processor seconds of a step of a child, eager as in sharing and traced as in training."""
    budget, times = shared.budget, []
    batch = images.train_images[: budget.batch_size], images.train_labels[: budget.batch_size]
    for row in range(5):
        genotype = table.space.genotype(table.tokens[row])
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
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=100, help="of the shared weights in a round")
    parser.add_argument("--judge", type=int, default=100, help="children of the table to judge")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = TabularBenchmark.load(arguments.table)
    about = table.about
    images = search_images(
        open_dataset(arguments.data, about["image_size"]).in_memory(), about["held_out"]
    )
    budget = dataclasses.replace(Budget(**about["budget"]), learning_rate=0.05)
    rows = np.random.default_rng(0).permutation(len(table.tokens))[: arguments.judge]
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
        policy = make(table.space, seed=arguments.seed)
        policy = Sharing(policy, table.space, shared, images, arguments.steps, seed=arguments.seed)
        begun = time.process_time()
        with closing(Journal(":memory:", {})) as journal:
            run_search(
                policy,
                table.space,
                Here(policy.judge),
                journal,
                20 * arguments.rounds,
                callbacks=[Rounds(journal)],
                remember=False,
            )
        seconds = time.process_time() - begun
        compare(
            f"shared weights, {name}", np.array(judged(shared, table, rows, images)), f"{seconds:.0f}"
        )
    print(f"\n{len(rows)} children, {arguments.rounds * arguments.steps} steps of shared weights\n")
    print("| reward | mean | spread | Spearman | Kendall | processor seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
