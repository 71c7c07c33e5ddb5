"""Trains every child of a small space once, for `nasnet_zoo.search.TabularBenchmark`.

The space is small enough to be enumerated by canonical form, so every child that a policy samples
has its entry. It can be stopped at any moment and goes on where it was; at the end it writes
``tabular.npz``. Some children are then trained once more from another seed, to say how much of the
spread of the rewards is noise.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nasnet_zoo.data import open_dataset
from nasnet_zoo.search import (
    Budget,
    Callback,
    Experience,
    Journal,
    NASNetSpace,
    Processes,
    Proposal,
    Record,
    Synchronous,
    TabularBenchmark,
    run_search,
)
from nasnet_zoo.search.images.child import FastChild, Images
from nasnet_zoo.search.images.search import search_images

SPACE = NASNetSpace(1, ("identity", "sep_3x3", "conv_3x3", "max_3x3"), ("add",), cells=2)
BUDGET = Budget(filters=8, stem_filters=16, steps=100, batch_size=128, learning_rate=0.1, evaluations=4)
IMAGE_SIZE = 7
HELD_OUT = 1 / 12


class Enumeration:
    """A policy that asks for every child of a space once, in a fixed random order."""

    def __init__(self, space: NASNetSpace) -> None:
        everything = itertools.product(*map(range, space.choices))
        forms = sorted({space.canonical(actions) for actions in everything})
        self.children = np.random.default_rng(0).permutation(np.array(forms, np.int32)).tolist()
        self.version = self._asked = 0

    def ask(self, count: int) -> list[Proposal]:
        self._asked += count
        chosen = self.children[self._asked - count : self._asked]
        return [Proposal(tuple(actions), self.version) for actions in chosen]

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        self.version += 1
        return {}

    def state(self) -> dict[str, np.ndarray]:
        return {"asked": np.array(self._asked), "version": np.array(self.version)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._asked, self.version = int(state["asked"]), int(state["version"])


class Pace(Callback):
    """Prints a line for every child."""

    def __init__(self) -> None:
        self._begun, self._done = time.monotonic(), 0

    def rewarded(self, record: Record) -> None:
        self._done += 1
        pace = (time.monotonic() - self._begun) / self._done
        print(f"{record.number:5} {record.reward:.4f}, {pace:.2f} s a child", flush=True)


def train_all(path: Path, images: Images, seed: int, children: int) -> list[Record]:
    """Trains the first children of the enumeration, with one process of one thread."""
    settings = {"budget": dataclasses.asdict(BUDGET), "seed": seed}
    with (
        Journal(path, settings) as journal,
        Processes(FastChild(images, BUDGET), processes=1, children_per_process=200) as executor,
    ):
        # A minibatch of one, as this policy learns nothing: it goes on at any number of children.
        records = run_search(
            Enumeration(SPACE),
            SPACE,
            executor,
            journal,
            children,
            Synchronous(1),
            seed,
            callbacks=[Pace()],
        )
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
    images = search_images(open_dataset(arguments.data, IMAGE_SIZE).in_memory(), HELD_OUT)
    total = len(Enumeration(SPACE).children)
    count = min(arguments.children or total, total)
    again = min(arguments.again, count)
    print(f"{SPACE.size} sequences of actions make {total} children", flush=True)
    records = train_all(out / "children.sqlite", images, 0, count)
    about = {
        "data": "Fashion-MNIST",
        "image_size": IMAGE_SIZE,
        "held_out": HELD_OUT,
        "train_images": len(images.train_labels),
        "held_out_images": len(images.held_out_labels),
        "budget": dataclasses.asdict(BUDGET),
        "children_of_space": total,
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
