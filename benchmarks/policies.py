"""Policies side by side: how many children each samples until it finds a good cell.

On the tabular benchmark, where a child's reward is looked up instead of trained, and on a reward in
closed form whose best child is known. Every policy starts from the same seeds and samples
minibatches of 20. Prints Markdown tables and draws a picture.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nasnet_zoo.files import replacing
from nasnet_zoo.search import (
    PPO,
    Actions,
    Experience,
    NASNetSpace,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
    TabularBenchmark,
)

MINIBATCH = 20
CLOSED_FORM = NASNetSpace(blocks=2, operations=("identity", "sep_3x3", "max_3x3"), cells=1)
Reward = Callable[[Actions], float]

# The papers' settings are for 20,000 children. Of those that `tune` tries, on seeds that the comparison
# does not use, "tuned" are those that needed the fewest children until a top-1 % cell.
POLICIES = {
    "random": RandomSearch,
    "evolution": RegularizedEvolution,
    "evolution, tuned": functools.partial(RegularizedEvolution, population=20, sample=10),
    "REINFORCE": Reinforce,
    "REINFORCE, tuned": functools.partial(Reinforce, learning_rate=0.03, entropy_weight=0.0001),
    "PPO": PPO,
    "PPO, tuned": functools.partial(PPO, learning_rate=0.03, entropy_weight=0.001),
}
# The closed form's rewards differ by more, so the entropy counts for more beside them.
CLOSED_FORM_POLICIES = {
    "random": RandomSearch,
    "evolution": functools.partial(RegularizedEvolution, population=20, sample=5),
    "REINFORCE": functools.partial(Reinforce, learning_rate=0.005, entropy_weight=0.03),
    "PPO": functools.partial(PPO, learning_rate=0.01, entropy_weight=0.03),
}
GRID = {
    **{
        f"evolution {population}/{sample}": functools.partial(
            RegularizedEvolution, population=population, sample=sample
        )
        for population, sample in ((100, 25), (50, 12), (20, 5), (20, 10))
    },
    **{
        f"{kind.__name__} {rate} {weight}": functools.partial(
            kind, learning_rate=rate, entropy_weight=weight
        )
        for kind in (Reinforce, PPO)
        for rate in (0.003, 0.01, 0.03)
        for weight in (0.00001, 0.0001, 0.001)
    },
}


def tabulated(table: TabularBenchmark) -> Reward:
    """Rewards from a table; what was looked up once is remembered."""
    return functools.cache(lambda actions: float(table.final[table.row(actions)]))


def hidden_cell(space: NASNetSpace) -> Reward:
    """A reward in closed form: the share of actions that are those of a hidden child, squared."""
    hidden = np.array(space.sample(np.random.default_rng(7)))
    return lambda actions: float(np.mean(hidden == actions) ** 2)


def search(
    make: Callable, space: NASNetSpace, reward: Reward, seeds: Sequence[int], children: int
) -> np.ndarray:
    """The rewards of sampled children: (seeds, children)."""
    found = []
    policy = make(space, seed=seeds[0])
    for seed in seeds:
        other = make(space, seed=seed)
        if isinstance(policy, (PPO, Reinforce)):
            # Its functions are traced already; a seed is nothing but where it starts.
            policy.restore(other.state())
        else:
            policy = other
        rewards: list[float] = []
        while len(rewards) < children:
            proposals = policy.ask(min(MINIBATCH, children - len(rewards)))
            experiences = [
                Experience(number, proposal, reward(proposal.actions))
                for number, proposal in enumerate(proposals, len(rewards))
            ]
            policy.tell(experiences)
            rewards += [experience.reward for experience in experiences]
        found.append(rewards)
    return np.array(found)


def until(rewards: np.ndarray, threshold: float) -> np.ndarray:
    """Children sampled until one has ``threshold``, by seed; infinite if none had."""
    good = rewards >= threshold - 1e-9
    return np.where(good.any(1), good.argmax(1) + 1.0, np.inf)


def print_counts(counts: dict[str, np.ndarray], children: int, title: str) -> None:
    print(f"\n{title} (found none: counted as {children})\n")
    print("| policy | found by | mean | spread | lower quartile | median | upper quartile |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, values in counts.items():
        capped = np.minimum(values, children)
        low, middle, high = np.percentile(capped, (25, 50, 75))
        print(
            f"| {name} | {np.isfinite(values).mean():.0%} | {capped.mean():.0f} | {capped.std():.0f} | "
            f"{low:.0f} | {middle:.0f} | {high:.0f} |"
        )


def print_rewards(found: dict[str, np.ndarray], last: int) -> None:
    print(f"\n| policy | best | top 5 | top 25 | the last {last} |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rewards in found.items():
        ordered = -np.sort(-rewards, 1)
        columns = [ordered[:, :count].mean(1) for count in (1, 5, 25)]
        columns.append(rewards[:, -last:].mean(1))
        print(f"| {name} | " + " | ".join(f"{c.mean():.4f} ± {c.std():.4f}" for c in columns) + " |")


def draw(found: dict[str, np.ndarray], thresholds: dict[str, float], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "nasnet-zoo", "font.size": 9})
    figure, axes = pyplot.subplots(1, 1 + len(thresholds), figsize=(12, 3.6), layout="constrained")
    for number, (name, rewards) in enumerate(found.items()):
        style = {"color": f"C{number}", "label": name, "linewidth": 1.4}
        best = np.maximum.accumulate(rewards, 1)
        counts = np.arange(1, rewards.shape[1] + 1)
        axes[0].plot(counts[::5], best.mean(0)[::5], **style)
        for axis, threshold in zip(axes[1:], thresholds.values(), strict=True):
            axis.plot(counts[::5], (best >= threshold - 1e-9).mean(0)[::5], **style)
    axes[0].set_ylabel("best reward so far, mean over seeds")
    axes[0].set_ylim(np.mean([np.maximum.accumulate(r, 1)[:, 20].mean() for r in found.values()]), None)
    for axis, title in zip(axes[1:], thresholds, strict=True):
        axis.set_ylabel(f"share of seeds that found {title}")
    for axis in axes:
        axis.set_xlabel("children sampled")
        axis.grid(alpha=0.3)
    axes[-1].legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None})


def tabular(table: TabularBenchmark, policies: dict, seeds: Sequence[int], children: int) -> dict:
    """The rewards that each policy sampled, by its name; prints what it found."""
    reward = tabulated(table)
    found = {}
    for name, make in policies.items():
        begun = time.perf_counter()
        found[name] = search(make, table.space, reward, seeds, children)
        print(f"{name}: {time.perf_counter() - begun:.0f} s for {len(seeds)} seeds", flush=True)
    for title, threshold in thresholds(table).items():
        counts = {name: until(rewards, threshold) for name, rewards in found.items()}
        print_counts(counts, children, f"Children until {title}, reward {threshold:.4f}")
    print_rewards(found, 100)
    return found


def thresholds(table: TabularBenchmark) -> dict[str, float]:
    return {"a top-1 % cell": table.best(0.01), "the best cell": table.best(0)}


def closed_form(seeds: int, children: int) -> None:
    reward = hidden_cell(CLOSED_FORM)
    found = {
        name: search(make, CLOSED_FORM, reward, range(seeds), children)
        for name, make in CLOSED_FORM_POLICIES.items()
    }
    counts = {name: until(rewards, 1.0) for name, rewards in found.items()}
    print_counts(counts, children, f"Children until the hidden one of {CLOSED_FORM.size:,}")
    print_rewards(found, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("tabular", "tune", "closed-form"))
    parser.add_argument("--table", help="file of a tabular benchmark. Default: the package's")
    parser.add_argument("--seeds", type=int, help="default: 100, 20 to tune and in closed form")
    parser.add_argument("--children", type=int, help="default: 600, 1000 in closed form")
    parser.add_argument("--picture", default="docs/search-policies.svg")
    arguments = parser.parse_args()
    if arguments.part == "closed-form":
        closed_form(arguments.seeds or 20, arguments.children or 1000)
        return
    table, children = TabularBenchmark.load(arguments.table), arguments.children or 600
    if arguments.part == "tune":
        tabular(table, GRID, range(1000, 1000 + (arguments.seeds or 20)), children)
        return
    found = tabular(table, POLICIES, range(arguments.seeds or 100), children)
    draw(found, thresholds(table), Path(arguments.picture))


if __name__ == "__main__":
    main()
