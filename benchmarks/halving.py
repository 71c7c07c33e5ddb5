"""Early stopping side by side: the best reward after full training against the steps of all children.

On the curves of the tabular benchmark, four evaluations each: full training, the quantile rule and
successive halving, below policies that start from the same seeds and sample minibatches of 20. Equal
children are trained once. The loop is that of a synchronous search, without a journal; at the start it
is compared with `run_search`. Prints Markdown tables and draws a picture.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from policies import MINIBATCH, POLICIES

from nasnet_zoo.files import replacing
from nasnet_zoo.search import (
    PPO,
    Experience,
    Journal,
    Policy,
    QuantileStopping,
    RegularizedEvolution,
    Reinforce,
    Serial,
    SuccessiveHalving,
    TabularBenchmark,
    run_search,
)
from nasnet_zoo.search.stopping import Rungs

Stopping = QuantileStopping | SuccessiveHalving | None
RULES: dict[str, Stopping] = {
    "full training": None,
    "median rule": QuantileStopping(0.5),
    "halving, 4 from 1": SuccessiveHalving(4),
    "halving, 2 from 1": SuccessiveHalving(2),
    "halving, 2 from 2": SuccessiveHalving(2, first=2),
}
POLICY_NAMES = ("random", "evolution, tuned")
#: What the policy learns of a child: its reward on the last rung that it comes to before the policy
#: samples again, as in a search; or on the first, in its place.
Told = Literal["last", "first"]
# Minibatches of known children after which a policy is given up.
IDLE = 5


class Search:
    """A synchronous search in a table, in memory.

    Args:
        table: Table of all children.
        policy: New policy.
        stopping: Rule of early stopping.
        told: What the policy learns of a child that climbs.
        budget: Number of evaluations to spend, each a part of a training.
    """

    def __init__(
        self, table: TabularBenchmark, policy: Policy, stopping: Stopping, told: Told, budget: int
    ) -> None:
        self.curves, self.stopping, self.told, self.budget = table.rewards, stopping, told, budget
        self.evaluations = table.evaluations
        #: Best reward after full training for each number of evaluations spent.
        self.best = np.zeros(budget + 1)
        self.spent, self.asked, idle = 0, 0, 0
        self.first: dict[int, int] = {}
        self.reached: dict[int, int] = {}
        self.rows: dict[int, int] = {}
        self.rungs: Rungs | None = None
        if isinstance(stopping, SuccessiveHalving):
            self.rungs = Rungs(stopping, self.evaluations)
        seen: list[np.ndarray] = []
        while self.spent < budget and idle < IDLE:
            proposals = policy.ask(MINIBATCH)
            rows = [row_of(table)(proposal.actions) for proposal in proposals]
            thresholds = stopping.thresholds(seen) if isinstance(stopping, QuantileStopping) else ()
            new = [n for n, row in enumerate(rows, self.asked) if self.begin(n, row, thresholds)]
            rewards = [self.reward(row) for row in rows]
            seen += [self.curves[self.rows[n], : self.reached[n]] for n in new]
            self.climb(new)
            idle = 0 if new else idle + 1
            if told == "last":
                for number in new:
                    rewards[number - self.asked] = self.reward(self.rows[number])
            pairs = enumerate(zip(proposals, rewards, strict=True), self.asked)
            policy.tell([Experience(number, *pair) for number, pair in pairs])
            self.asked += MINIBATCH
        np.maximum.accumulate(self.best, out=self.best)

    def begin(self, number: int, row: int, thresholds: tuple[float, ...]) -> bool:
        """Train a child until it stops, pauses or ends; whether it is new."""
        if row in self.first:
            return False
        self.first[row], self.rows[number] = number, row
        last = self.rungs.ends[0] if self.rungs else self.evaluations
        pairs = enumerate(zip(self.curves[row, : last - 1], thresholds, strict=False), 1)
        self.train(number, next((k for k, (r, least) in pairs if r < least), last))
        return True

    def train(self, number: int, last: int) -> None:
        """Train a child on, up to an evaluation."""
        self.spent += last - self.reached.get(number, 0)
        self.reached[number] = last
        if last == self.evaluations and self.spent <= self.budget:
            row = self.rows[number]
            self.best[self.spent] = max(self.best[self.spent], self.curves[row, -1])

    def reward(self, row: int) -> float:
        """What the policy learns of a child so far."""
        if self.rungs and self.told == "first":
            return float(self.curves[row, self.rungs.ends[0] - 1])
        return float(self.curves[row, self.reached[self.first[row]] - 1])

    def climb(self, new: list[int]) -> None:
        """Put new children on their rung, and train on what the rule promotes until it is nothing."""
        if not self.rungs:
            return
        ends = self.rungs.ends
        on = [(number, ends[0]) for number in new]
        while on:
            for number, end in on:
                rewards = [float(self.curves[self.rows[number], e - 1]) for e in ends if e <= end]
                self.rungs.put(number, tuple(rewards), end < ends[-1])
            after = dict(pairwise(ends))
            on = [(number, after[self.reached[number]]) for number in self.rungs.promotable()]
            for number, end in on:
                self.rungs.leave(number)
                self.train(number, end)


@functools.cache
def row_of(table: TabularBenchmark) -> Callable:
    """The row of actions; what was looked up once is remembered."""
    return functools.cache(table.row)


def check(table: TabularBenchmark) -> None:
    """Compare the loop with that of a search."""
    for rule in RULES.values():
        loop = Search(table, RegularizedEvolution(table.space, 20, 10, seed=1), rule, "last", 200)
        with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "j.sqlite", {}) as journal:
            policy, executor = RegularizedEvolution(table.space, 20, 10, seed=1), Serial(table)
            records = run_search(policy, table.space, executor, journal, loop.asked, stopping=rule)
        reached = {r.number: len(r.curve) for r in records if r.same_as is None}
        if reached != loop.reached:
            raise RuntimeError(f"Expected the children of run_search with {rule}. Received: others")


def search(
    table: TabularBenchmark, make: Callable, stopping: Stopping, told: Told, seeds: int, budget: int
) -> tuple[np.ndarray, np.ndarray]:
    """Best reward by evaluations spent (seeds, budget + 1), and children that were drawn (seeds,)."""
    policy, best, asked = make(table.space, seed=0), [], []
    for seed in range(seeds):
        other = make(table.space, seed=seed)
        if isinstance(policy, (PPO, Reinforce)):
            # Its functions are traced already; a seed is nothing but where it starts.
            policy.restore(other.state())
        else:
            policy = other
        found = Search(table, policy, stopping, told, budget)
        best.append(found.best)
        asked.append(found.asked)
    return np.array(best), np.array(asked)


def print_table(
    found: dict[str, tuple[np.ndarray, np.ndarray]], budgets: list[int], parts: int, good: float
) -> None:
    trainings = " | ".join(f"best after {b // parts}" for b in budgets)
    print(f"\n| rule | {trainings} | a top-1 % cell after, median | of seeds | children drawn |")
    print("| --- |" + " ---: |" * (len(budgets) + 3))
    for name, (best, asked) in found.items():
        columns = [f"{best[:, b].mean():.4f} ± {best[:, b].std():.4f}" for b in budgets]
        has = best >= good - 1e-9
        first = np.where(has.any(1), has.argmax(1) / parts, np.inf)
        columns += [f"{np.median(first):.1f}", f"{has.any(1).mean():.0%}", f"{asked.mean():.0f}"]
        print(f"| {name} | " + " | ".join(columns) + " |")


def draw(found: dict[str, dict], parts: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "nasnet-zoo", "font.size": 9})
    figure, axes = pyplot.subplots(
        1, len(found), figsize=(12, 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (policy, rules) in zip(axes[0], found.items(), strict=True):
        for number, (name, (best, _)) in enumerate(rules.items()):
            mean = np.where(best > 0, best, np.nan).mean(0)  # from where every seed has one
            axis.plot(np.arange(len(mean)) / parts, mean, f"C{number}", label=name, linewidth=1.4)
        axis.set_title(policy, fontsize=9)
        axis.set_xlabel("steps of all children, in full trainings")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("best reward after full training, mean over seeds")
    axes[0][-1].legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--trainings", type=int, default=100, help="budget, in full trainings")
    parser.add_argument("--told", choices=("last", "first"), default="last", help="see Told")
    parser.add_argument("--policies", nargs="+", default=POLICY_NAMES)
    parser.add_argument("--picture", default="docs/search-halving.svg")
    arguments = parser.parse_args()
    table = TabularBenchmark.load()
    check(table)
    parts, found = table.evaluations, {}
    budgets = [parts * arguments.trainings // share for share in (4, 2, 1)]
    for policy in arguments.policies:
        begun, found[policy] = time.perf_counter(), {}
        for name, rule in RULES.items():
            make, told = POLICIES[policy], arguments.told
            found[policy][name] = search(table, make, rule, told, arguments.seeds, budgets[-1])
        seconds = time.perf_counter() - begun
        print(f"\n{policy}: {arguments.seeds} seeds in {seconds:.0f} s", flush=True)
        print_table(found[policy], budgets, parts, table.best(0.01))
    draw(found, parts, Path(arguments.picture))


if __name__ == "__main__":
    main()
