"""Cells in the place of the 3x3 convolutions of one DenseNet, with equal parameters ([P] section 4.2).

    python benchmarks/tree_cells.py --data FOLDER --out runs/tree_cells.json --processes 2

Trains a DenseNet with the grouped 3x3 convolution, TreeCell-A, TreeCell-B and NASNet-A's normal cell
from several seeds on a part of Fashion-MNIST, and judges them on the test images. The growth of each
network is the one whose parameters are nearest to those of NASNet-A's. Prints a Markdown table. It can
be stopped at any moment and goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from outcomes import outcomes

from nasnet_zoo.architecture import Network, architecture_cost
from nasnet_zoo.bases import TreeArchitecture
from nasnet_zoo.cells import GROUPED_CONV_3X3, NASNET_A, TREECELL_A, TREECELL_B, TreeCell
from nasnet_zoo.cells.base_blocks import DenseLayer
from nasnet_zoo.cells.graph import Node, cell_graph
from nasnet_zoo.data import open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.files import write_text
from nasnet_zoo.search import Processes, Trial
from nasnet_zoo.search.images.child import FastChild, Images
from nasnet_zoo.search.images.settings import ChildBudget

#: States that NASNet-A's normal cell joins: a cell of F filters has six times as many channels.
STATES = 6


@dataclass(frozen=True)
class NASNetLayer(DenseLayer):
    """A layer of a DenseNet with NASNet-A's normal cell in the place of the tree."""

    def nodes(self, source: str, channels: int) -> tuple[Node, ...]:
        graph = cell_graph(NASNET_A.normal, self.filters // STATES, 1, [channels], [1])
        return graph.renamed("cell", {"input_0": source}).nodes


@dataclass(frozen=True)
class NASNetInDenseNet(TreeArchitecture):
    """A DenseNet of NASNet-A's normal cells, whose growth is a multiple of six."""

    def cell(self, kind: type[TreeCell], filters: int, stride: int = 1) -> TreeCell:
        return NASNetLayer(self.genotype.root, filters, stride)


@dataclass(frozen=True, kw_only=True)
class Budget(ChildBudget):
    """The training of a network that is one already."""

    def architecture(self, genotype: Any, image_size: int, channels: int) -> Network:
        return genotype


def network(cell: str, width: int, layers: int, size: int) -> TreeArchitecture:
    kind = NASNetInDenseNet if cell == "NASNet-A" else TreeArchitecture
    genotypes = {"TreeCell-A": TREECELL_A, "TreeCell-B": TREECELL_B}
    genotype = genotypes.get(cell, GROUPED_CONV_3X3)
    return kind(genotype, "densenet", layers, width, image_size=size, channels=1)


def parameters(architecture: Network) -> int:
    return architecture_cost(architecture, 10).parameters


def arms(width: int, layers: int, size: int) -> dict[str, TreeArchitecture]:
    """The networks by their cells."""
    nasnet = network("NASNet-A", width, layers, size)
    found = {}
    for cell in ("grouped 3x3", "TreeCell-A", "TreeCell-B"):
        made = [network(cell, k, layers, size) for k in range(2, 4 * width, 2)]
        found[cell] = min(made, key=lambda a: abs(parameters(a) - parameters(nasnet)))
    return {**found, "NASNet-A": nasnet}


def images(folder: str, size: int, count: int) -> Images:
    """``count`` training images, and all test images."""
    part = open_dataset(folder, size, count).in_memory()
    train, test = (normalize(some).numpy() for some in (part.train_images, part.test_images))
    labels = part.train_labels.astype(np.int32), part.test_labels.astype(np.int32)
    return Images(train, labels[0], test, labels[1], len(part.class_names))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--out", required=True, help="file for the accuracies")
    parser.add_argument(
        "--width", type=int, default=12, help="growth of the DenseNet of NASNet-A, a multiple of six"
    )
    parser.add_argument("--layers", type=int, default=2, help="of each of the three stages")
    parser.add_argument("--size", type=int, default=14, help="of the images, in pixels")
    parser.add_argument("--images", type=int, default=20_000, help="to train on")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    path = Path(arguments.out)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    networks = arms(arguments.width, arguments.layers, arguments.size)
    child = FastChild(
        images(arguments.data, arguments.size, arguments.images), Budget(steps=arguments.steps)
    )
    runs = [
        (f"{cell}, seed {seed}", made, seed)
        for seed, (cell, made) in itertools.product(range(arguments.seeds), networks.items())
    ]
    trials = [
        Trial(number, child.prepare(made), seed)
        for number, (key, made, seed) in enumerate(runs)
        if key not in found
    ]
    with Processes(child, arguments.processes) as executor:
        for outcome in outcomes(executor, trials):
            key = runs[outcome.number][0]
            found[key] = outcome.result.reward
            write_text(path, json.dumps(found, indent=2) + "\n")
            print(f"{key}: {outcome.result.reward:.2%}", flush=True)
    print_table(networks, found, arguments.seeds)


def print_table(networks: dict[str, TreeArchitecture], found: dict[str, float], seeds: int) -> None:
    print("| cell | growth | parameters | multiply-adds | test accuracy | spread |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for cell, made in networks.items():
        cost = architecture_cost(made, 10)
        values = [found[f"{cell}, seed {seed}"] for seed in range(seeds)]
        spread = statistics.stdev(values) if seeds > 1 else 0.0
        size = f"{made.width} | {cost.parameters:,} | {cost.mult_adds / 1e6:.1f} M"
        print(f"| {cell} | {size} | {statistics.mean(values):.2%} | {spread:.2%} |")


if __name__ == "__main__":
    main()
