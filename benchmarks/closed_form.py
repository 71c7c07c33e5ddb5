"""Policies on a closed-form reward whose optimum is known, beside random search, over many seeds.

    python benchmarks/closed_form.py --seeds 20 --children 4000

A hidden architecture is drawn. The reward of a child is the cube of the share of its draws that are
those of the hidden one: 1 for that alone. All policies are asked for minibatches of 20.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from nasnet_zoo.search.nas.layerwise_space import LayerwiseSpace
from nasnet_zoo.search.nas.recurrent_space import RecurrentSpace
from nasnet_zoo.search.space import SequenceSpace

SPACES: Mapping[str, SequenceSpace] = {"nas-conv": LayerwiseSpace(3), "nas-rnn": RecurrentSpace(8)}
#: By title: the policy and its options. Those of the paper are for 12,800 children.
POLICIES: Mapping[str, tuple[str, dict[str, float]]] = {
    "nas": ("nas", {}),
    "nas, tuned": ("nas", {"learning_rate": 0.006, "entropy_weight": 0.01}),
    "evolution": ("evolution", {}),
    "random": ("random", {}),
}
MINIBATCH = 20


def rewards(space: SequenceSpace, title: str, children: int, seed: int) -> list[float]:
    """The rewards of the children of one search, in order."""
    from nasnet_zoo.search import POLICIES as KNOWN
    from nasnet_zoo.search import Experience

    # Three words: a policy draws its child from two, its seed and the number of the child.
    hidden = np.array(space.sample(np.random.default_rng([7, seed, 1])))
    name, options = POLICIES[title]
    policy = KNOWN[name](space, seed=seed, **options)
    found: list[float] = []
    while len(found) < children:
        minibatch = []
        for proposal in policy.ask(MINIBATCH):
            reward = float((np.array(proposal.actions) == hidden).mean() ** 3)
            minibatch.append(Experience(len(found), proposal, reward))
            found.append(reward)
        policy.tell(minibatch)
    return found[:children]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", choices=SPACES, default="nas-conv")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--children", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    space, children = SPACES[arguments.space], arguments.children
    table = Table("policy", "best", "first best", "last tenth", "found", "seconds a search", box=None)
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        for title in arguments.policies:
            start = time.perf_counter()
            search = functools.partial(rewards, space, title, children)
            runs = np.array(list(pool.map(search, range(arguments.seeds))))
            seconds = (time.perf_counter() - start) * arguments.processes / arguments.seeds
            table.add_row(title, *summary(runs), f"{seconds:.0f}")
    Console().print(
        f"{arguments.space}: {len(space.choices)} draws, {arguments.seeds} seeds, {children:,} "
        "children; mean and standard deviation over seeds"
    )
    Console().print(table)


def summary(runs: np.ndarray) -> list[Any]:
    """Of rewards (seeds, children): the best, when it came, the mean of the last, how often it is 1."""
    best, last = runs.max(1), runs[:, -runs.shape[1] // 10 :].mean(1)
    spread = [f"{values.mean():.3f} ± {values.std():.3f}" for values in (best, last)]
    return [spread[0], f"{runs.argmax(1).mean():,.0f}", spread[1], f"{(best == 1).mean():.0%}"]


if __name__ == "__main__":
    main()
