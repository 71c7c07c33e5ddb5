"""Policies on a closed-form reward whose optimum is known, beside random search, over many seeds.

    python benchmarks/closed_form.py --seeds 20 --children 4000

A hidden architecture is drawn. The reward of a child is the cube of the share of its draws that are
those of the hidden one: 1 for that alone. Of tree cells, whose draws depend on those before, it is
the cube of the share of the paths from the root that both have. Minibatches are of 20.
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
from nasnet_zoo.search.path_level.space import TreeCellSpace
from nasnet_zoo.search.space import Actions, SequenceSpace, Space

SPACES: Mapping[str, Space] = {
    "nas-conv": LayerwiseSpace(3),
    "nas-rnn": RecurrentSpace(8),
    "path-level": TreeCellSpace(),
}
#: By title: the policy and its options. Those of the paper are for 12,800 children.
POLICIES: Mapping[str, tuple[str, dict[str, float]]] = {
    "nas": ("nas", {}),
    "nas, tuned": ("nas", {"learning_rate": 0.006, "entropy_weight": 0.01}),
    "path-level": ("path-level", {}),
    "path-level, slower": ("path-level", {"learning_rate": 0.003}),
    "evolution": ("evolution", {}),
    "random": ("random", {}),
}
MINIBATCH = 20


def takes(space: Space, title: str) -> bool:
    """Whether a policy is one of a space: each controller is of one kind."""
    of_sequences = {"nas": True, "path-level": False}.get(POLICIES[title][0])
    return of_sequences in (None, isinstance(space, SequenceSpace))


def likeness(space: Space, one: Actions, other: Actions) -> float:
    """The share of what two architectures have in common."""
    if isinstance(space, SequenceSpace):
        return float((np.array(one) == other).mean())
    first, second = set(space.traits(one)), set(space.traits(other))
    return 2 * len(first & second) / (len(first) + len(second))


def rewards(space: Space, title: str, children: int, seed: int) -> list[float]:
    """The rewards of the children of one search, in order."""
    from nasnet_zoo.search import POLICIES as KNOWN
    from nasnet_zoo.search import Experience

    # Three words: a policy draws its child from two, its seed and the number of the child.
    hidden = space.sample(np.random.default_rng([7, seed, 1]))
    name, options = POLICIES[title]
    policy = KNOWN[name](space, seed=seed, **options)
    found: list[float] = []
    while len(found) < children:
        minibatch = []
        for proposal in policy.ask(MINIBATCH):
            reward = likeness(space, proposal.actions, hidden) ** 3
            minibatch.append(Experience(len(found), proposal, reward))
            found.append(reward)
        policy.tell(minibatch)
    return found[:children]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", choices=SPACES, default="nas-conv")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, help="default: all of the space")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--children", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    space, children = SPACES[arguments.space], arguments.children
    table = Table("policy", "best", "first best", "last tenth", "found", "seconds a search", box=None)
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        for title in arguments.policies or [one for one in POLICIES if takes(space, one)]:
            start = time.perf_counter()
            search = functools.partial(rewards, space, title, children)
            runs = np.array(list(pool.map(search, range(arguments.seeds))))
            seconds = (time.perf_counter() - start) * arguments.processes / arguments.seeds
            table.add_row(title, *summary(runs), f"{seconds:.0f}")
    Console().print(
        f"{arguments.space}: {arguments.seeds} seeds, {children:,} children; mean and standard "
        "deviation over seeds"
    )
    Console().print(table)


def summary(runs: np.ndarray) -> list[Any]:
    """Of rewards (seeds, children): the best, when it came, the mean of the last, how often it is 1."""
    best, last = runs.max(1), runs[:, -runs.shape[1] // 10 :].mean(1)
    spread = [f"{values.mean():.3f} ± {values.std():.3f}" for values in (best, last)]
    return [spread[0], f"{runs.argmax(1).mean():,.0f}", spread[1], f"{(best == 1).mean():.0%}"]


if __name__ == "__main__":
    main()
