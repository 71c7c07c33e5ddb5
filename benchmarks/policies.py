"""Policies side by side: how many children each samples until it finds a good cell.

On the tabular benchmark, where a child's reward is looked up instead of trained, and on a reward in
closed form whose best child is known. Every policy starts from the same seeds. Prints Markdown tables
and draws a picture. With --out what is done stays there, and the same command goes on.
"""

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from nasnet_zoo.files import replacing
from nasnet_zoo.search import (
    PPO,
    Actions,
    Experience,
    NASNetSpace,
    OptunaPolicy,
    Predictor,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
    TabularBenchmark,
)
from nasnet_zoo.search.objectives import hypervolume

MINIBATCH = 20
CLOSED_FORM = NASNetSpace(blocks=2, operations=("identity", "sep_3x3", "max_3x3"), cells=1)
# The reward of a child, and its objectives.
Evaluate = Callable[[Actions], tuple[float, tuple[float, ...]]]

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
    "TPE": functools.partial(OptunaPolicy, sampler="TPESampler"),
    "NSGA-II": functools.partial(OptunaPolicy, sampler="NSGAIISampler"),
    "NSGA-II, tuned": functools.partial(
        OptunaPolicy, sampler="NSGAIISampler", options={"population_size": 10}
    ),
    "predictor": Predictor,
}
# Of two objectives.
OF_TWO = {
    "random": RandomSearch,
    **{
        name: functools.partial(OptunaPolicy, sampler=sampler, objectives=2)
        for name, sampler in (
            ("TPE", "TPESampler"),
            ("NSGA-II", "NSGAIISampler"),
            ("NSGA-III", "NSGAIIISampler"),
        )
    },
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
        f"NSGA-II {size}": functools.partial(
            OptunaPolicy, sampler="NSGAIISampler", options={"population_size": size}
        )
        for size in (10, 20, 50)
    },
    **{
        f"TPE {startup}": functools.partial(
            OptunaPolicy, sampler="TPESampler", options={"n_startup_trials": startup}
        )
        for startup in (5, 10, 20)
    },
    **{
        f"predictor {startup} {exploration}": functools.partial(
            Predictor, startup=startup, exploration=exploration
        )
        for startup in (5, 10)
        for exploration in (0.5, 1.0, 2.0)
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


class Remembering(NASNetSpace):
    """A space that remembers what it found out about its children: a table has few."""

    key = functools.cache(NASNetSpace.key)
    canonical = functools.cache(NASNetSpace.canonical)
    decode = functools.cache(NASNetSpace.decode)


def tabulated(table: TabularBenchmark) -> Evaluate:
    """Accuracies from a table, and these with the multiply-adds as objectives."""

    @functools.cache
    def evaluate(actions: Actions) -> tuple[float, tuple[float, ...]]:
        row = table.row(actions)
        accuracy = float(table.final[row])
        return accuracy, (accuracy, -float(table.mult_adds[row]))

    return evaluate


def hidden_cell(space: NASNetSpace) -> Evaluate:
    """A reward in closed form: the share of actions that are those of a hidden child, squared."""
    hidden = np.array(space.sample(np.random.default_rng(7)))
    return lambda actions: (float(np.mean(hidden == actions) ** 2), ())


def search(
    make: Callable,
    space: NASNetSpace,
    evaluate: Evaluate,
    seeds: Sequence[int],
    children: int,
    minibatch: int = MINIBATCH,
) -> Iterator[list[Experience]]:
    """The children that a policy samples, from one seed after the other."""
    policy = None
    for seed in seeds:
        other = make(space, seed=seed)
        if isinstance(policy, (PPO, Reinforce)):
            # Its functions are traced already; a seed is nothing but where it starts.
            policy.restore(other.state())
        else:
            policy = other
        found: list[Experience] = []
        while len(found) < children:
            proposals = policy.ask(min(minibatch, children - len(found)))
            experiences = [
                Experience(number, proposal, *evaluate(proposal.actions))
                for number, proposal in enumerate(proposals, len(found))
            ]
            policy.tell(experiences)
            found += experiences
        yield found


def objectives(
    name: str,
    make: Callable,
    table: TabularBenchmark,
    seeds: Sequence[int],
    children: int,
    minibatch: int,
    out: Path | None,
) -> np.ndarray:
    """Accuracy and multiply-adds of sampled children: (seeds, children, 2).

    A file in ``out`` keeps those of the seeds that are done.
    """
    file = out and out / f"{name}, {children} by {minibatch}.npy"
    done = list(np.load(file)) if file and file.exists() else []
    space = Remembering(table.space.blocks, table.space.operations, ("add",), table.space.cells)
    left, begun = seeds[len(done) :], time.process_time()
    for found in search(make, space, tabulated(table), left, children, minibatch):
        done.append(np.array([experience.objectives for experience in found]))
        if file:
            with replacing(file) as temporary, open(temporary, "wb") as stream:
                np.save(stream, np.array(done))
    took = (time.process_time() - begun) / max(len(left), 1)
    print(f"{name}, minibatches of {minibatch}: {took:.2f} s of the processor for a seed", flush=True)
    return np.array(done[: len(seeds)])


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


def tabular(found: dict[str, np.ndarray], table: TabularBenchmark) -> None:
    """Print how many of the rewards that each policy sampled it took to find a good cell."""
    for title, threshold in thresholds(table).items():
        counts = {name: until(rewards, threshold) for name, rewards in found.items()}
        children = max(rewards.shape[1] for rewards in found.values())
        print_counts(counts, children, f"Children until {title}, reward {threshold:.4f}")
    print_rewards(found, 100)


def thresholds(table: TabularBenchmark) -> dict[str, float]:
    return {"a top-1 % cell": table.best(0.01), "the best cell": table.best(0)}


def fronts(found: dict[str, np.ndarray], table: TabularBenchmark) -> None:
    """Print which share of the volume that the table's children dominate those of each policy do."""
    every = np.column_stack([table.final, -table.mult_adds]).astype(float)
    least, width = every.min(0), np.ptp(every, axis=0)
    whole = hypervolume((every - least) / width, np.zeros(2))
    counts = (20, 50, 100, 300)
    print("\n| policy | " + " | ".join(f"{count} children" for count in counts) + " |")
    print("| --- |" + " ---: |" * len(counts))
    for name, values in found.items():
        shares = [
            [hypervolume((seed[:count] - least) / width, np.zeros(2)) / whole for seed in values]
            for count in counts
        ]
        cells = (f"{np.mean(share):.2%} ± {np.std(share):.2%}" for share in shares)
        print(f"| {name} | " + " | ".join(cells) + " |")


def closed_form(seeds: int, children: int) -> None:
    evaluate = hidden_cell(CLOSED_FORM)
    found = {
        name: np.array(
            [
                [experience.reward for experience in sampled]
                for sampled in search(make, CLOSED_FORM, evaluate, range(seeds), children)
            ]
        )
        for name, make in CLOSED_FORM_POLICIES.items()
    }
    counts = {name: until(rewards, 1.0) for name, rewards in found.items()}
    print_counts(counts, children, f"Children until the hidden one of {CLOSED_FORM.size:,}")
    print_rewards(found, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("tabular", "tune", "fronts", "closed-form"))
    parser.add_argument("--table", help="file of a tabular benchmark. Default: the package's")
    parser.add_argument(
        "--seeds", type=int, help="default: 100, 20 to tune, of fronts and in closed form"
    )
    parser.add_argument("--children", type=int, help="default: 300, 1000 in closed form")
    parser.add_argument("--minibatch", type=int, default=MINIBATCH)
    parser.add_argument("--policies", nargs="*", help="some of the policies. Default: all")
    parser.add_argument("--picture", help="file to draw a picture of tabular to. Default: none")
    parser.add_argument("--out", type=Path, help="folder that keeps what is done. Default: none")
    arguments = parser.parse_args()
    if arguments.part == "closed-form":
        closed_form(arguments.seeds or 20, arguments.children or 1000)
        return
    table, children = TabularBenchmark.load(arguments.table), arguments.children or 300
    policies = {"tabular": POLICIES, "tune": GRID, "fronts": OF_TWO}[arguments.part]
    first, count = {"tabular": (0, 100), "tune": (1000, 20), "fronts": (0, 20)}[arguments.part]
    seeds = range(first, first + (arguments.seeds or count))
    out = arguments.out and arguments.out / arguments.part
    if out:
        out.mkdir(parents=True, exist_ok=True)
    found = {
        name: objectives(name, policies[name], table, seeds, children, arguments.minibatch, out)
        for name in arguments.policies or policies
    }
    if arguments.part == "fronts":
        fronts(found, table)
        return
    rewards = {name: values[..., 0] for name, values in found.items()}
    tabular(rewards, table)
    if arguments.picture:
        draw(rewards, thresholds(table), Path(arguments.picture))


if __name__ == "__main__":
    main()
