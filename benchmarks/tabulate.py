"""Trains every child of a small space once, for `nasnet_zoo.search.tabular`.

The space is small enough to be enumerated by canonical form, so every child that a policy samples
has its entry. It can be stopped at any moment and goes on where it was; at the end it writes
``tabular.npz``. Some children are then trained once more from another seed, to say how much of the
spread of the rewards is noise.
"""

import argparse
import dataclasses
import itertools
import os
import time
from pathlib import Path

import numpy as np

from nasnet_zoo.data import load_data, split
from nasnet_zoo.network import architecture_cost
from nasnet_zoo.search import SearchSpace
from nasnet_zoo.search.child import Budget, Images
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.search import run_search
from nasnet_zoo.search.tabular import TabularBenchmark
from nasnet_zoo.search.workers import LocalWorkers

SPACE = SearchSpace(1, ("identity", "sep_3x3", "conv_3x3", "max_3x3"), ("add",), cells=2)
BUDGET = Budget(filters=8, stem_filters=16, steps=100, batch_size=128, learning_rate=0.1, parts=4)
# Fashion-MNIST's pixels are averaged four by four, to 7x7.
SHRINK = 4
HELD_OUT = 1 / 12


class Enumeration:
    """A policy that asks for every child of a space once, in a fixed random order."""

    def __init__(self, space: SearchSpace) -> None:
        everything = itertools.product(*map(range, space.choices))
        forms = sorted({space.canonical(tokens) for tokens in everything})
        self.children = np.random.default_rng(0).permutation(np.array(forms, np.int32))
        self._asked = 0

    def ask(self, count: int) -> np.ndarray:
        self._asked += count
        return self.children[self._asked - count : self._asked]

    def tell(self, tokens: np.ndarray, rewards: np.ndarray) -> dict[str, float]:
        return {}

    def state(self) -> dict[str, np.ndarray]:
        return {"asked": np.array(self._asked)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self._asked = int(state["asked"])


def fashion_mnist(folder: str) -> Images:
    """The training images, a twelfth of every class held out; the test images take no part."""
    data = load_data(folder)
    count, size, _, channels = data.train_images.shape
    small = size // SHRINK
    blocks = data.train_images.reshape(count, small, SHRINK, small, SHRINK, channels)
    images = (blocks.mean((2, 4)) / 127.5 - 1.0).astype(np.float32)
    kept, held_out = split(data.train_labels, HELD_OUT)
    labels = data.train_labels.astype(np.int32)
    return Images(images[kept], labels[kept], images[held_out], labels[held_out], len(data.class_names))


def train_all(path: Path, images: Images, seed: int, children: int) -> list:
    """Trains the first children of the enumeration, with one process of one thread."""
    _, size, _, channels = images.train_images.shape
    begun = time.monotonic()
    done = 0

    def cost(genotype):
        return architecture_cost(BUDGET.architecture(genotype, size, channels), images.classes)

    def watch(told, record):
        nonlocal done
        done += 1
        pace = (time.monotonic() - begun) / done
        print(
            f"{record.number:5} {record.reward:.4f} {record.seconds:6.2f} s, {pace:.2f} s a child",
            flush=True,
        )

    journal = Journal(path, {"budget": dataclasses.asdict(BUDGET), "seed": seed})
    with LocalWorkers(images, BUDGET, processes=1, children_per_process=200) as workers:
        records = run_search(
            Enumeration(SPACE), SPACE, workers, journal, children, 1, seed, cost, watch
        )
    journal.close()
    return records[:children]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="/usr/share/datasets/fashion-mnist", help="folder of IDX files"
    )
    parser.add_argument("--out", required=True, help="folder of the journals and the table")
    parser.add_argument("--children", type=int, help="train only so many")
    parser.add_argument("--again", type=int, default=60, help="children to train from a second seed")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    images = fashion_mnist(arguments.data)
    total = len(Enumeration(SPACE).children)
    count = min(arguments.children or total, total)
    again = min(arguments.again, count)
    print(f"{SPACE.size} sequences of tokens make {total} children", flush=True)
    records = train_all(out / "children.sqlite", images, 0, count)
    about = {
        "data": "Fashion-MNIST, 7x7 pixels",
        "train_images": len(images.train_labels),
        "held_out_images": len(images.held_out_labels),
        "budget": dataclasses.asdict(BUDGET),
        "children_of_space": total,
        "load": os.getloadavg()[2],
    }
    if again:
        second = train_all(out / "again.sqlite", images, 1, again)
        pairs = [[a.reward, b.reward] for a, b in zip(records, second, strict=False)]
        about["two_seeds"] = pairs
    table = TabularBenchmark.of(SPACE, records, about)
    table.save(out / "tabular.npz")
    print(f"{len(table.final)} children, rewards {table.final.min():.4f} to {table.final.max():.4f}")


if __name__ == "__main__":
    main()
