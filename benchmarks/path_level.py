"""Path-level search on Fashion-MNIST: whether inherited weights pay, and whether its controller does.

    python benchmarks/path_level.py inheritance --data FOLDER --out runs/paths
    python benchmarks/path_level.py search --data FOLDER --out runs/paths --processes 2

``inheritance`` trains a base and random cells, each from scratch, with the weights of the base, and
distilled besides if that was not exact, for as many steps, and compares their accuracies before and
during the training. ``search`` searches with
the policy path-level and at random, at equal budget, from several seeds. Both print a Markdown table
and write a picture, can be stopped at any moment, and go on where they were.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import numpy as np

from nasnet_zoo.data import open_dataset
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.files import write_text
from nasnet_zoo.reports.charts import Series, chart
from nasnet_zoo.search import ExecutorSettings, Journal, Trial
from nasnet_zoo.search.images.child import FastChild, Images
from nasnet_zoo.search.images.grown import search_grown
from nasnet_zoo.search.path_level.child import GrownTree, exact
from nasnet_zoo.search.path_level.settings import PathLevelBudget, PathLevelSettings

SIZE = 14
SETTINGS = PathLevelSettings(
    budget=PathLevelBudget(steps=200, batch_size=32, width=8, evaluations=4),
    images=6000,
    held_out=1 / 3,
    image_size=SIZE,
)
#: Shares of the steps after which children are evaluated.
SHARES = (0.0, 0.25, 0.5, 1.0)
FIRST = 20
#: By the name of an arm, which of its children are distilled.
ARMS = {"scratch": "none", "inherited": "none", "distilled": "inexact"}


def images(folder: str, count: int) -> Images:
    """``count`` training images, judged on 2,000 test images."""
    part = open_dataset(folder, SIZE, count).in_memory()
    train, test = (normalize(some).numpy() for some in (part.train_images, part.test_images[:2000]))
    labels = part.train_labels.astype(np.int32), part.test_labels[:2000].astype(np.int32)
    return Images(train, labels[0], test, labels[1], len(part.class_names))


def accuracies(child: FastChild, trial: Trial, arm: str) -> list[float]:
    """The accuracies of a child after each share of its steps."""
    if arm == "scratch":
        training = FastChild.start(child, trial._replace(child=trial.child[0]))
    else:
        training = child.start(trial)
    steps, found, done = child.budget.steps, [], 0
    for share in SHARES:
        stop = round(share * steps)
        if stop > done:
            training.train(done, stop)
        done = stop
        found.append(training.reward())
    return found


def inheritance(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "inheritance.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    data = images(arguments.data, arguments.images)
    settings = {
        arm: dataclasses.replace(
            SETTINGS, budget=dataclasses.replace(SETTINGS.budget, distillation=distillation)
        )
        for arm, distillation in ARMS.items()
    }
    evaluators = {arm: GrownTree(data, some, file=out / "base.npz") for arm, some in settings.items()}
    rng, inexact = np.random.default_rng(0), 0
    for number in range(arguments.children):
        genotype = SETTINGS.space.decode(SETTINGS.space.sample(rng))
        alike = exact(genotype)
        inexact += not alike
        for arm, child in evaluators.items():
            key = f"{arm}, cell {number}"
            if key not in found and arm == "distilled" and alike:
                found[key] = found[f"inherited, cell {number}"]
            if key not in found:
                trial = Trial(number, child.prepare(genotype), number)
                found[key] = accuracies(child, trial, arm)
                write_text(path, json.dumps(found, indent=2) + "\n")
                print(f"{key}: {' '.join(f'{a:.1%}' for a in found[key])}", flush=True)
    arms = {
        arm: np.array([found[f"{arm}, cell {k}"] for k in range(arguments.children)]) for arm in ARMS
    }
    print(f"{arguments.children} cells, {inexact} of which do not compute what the base does")
    print(f"| weights | {' | '.join(f'{share:.0%} of the steps' for share in SHARES)} |")
    print(f"| --- |{' ---: |' * len(SHARES)}")
    for arm, values in arms.items():
        cells = (f"{column.mean():.2%} ± {column.std(ddof=1):.2%}" for column in values.T)
        print(f"| {arm} | {' | '.join(cells)} |")
    for arm in ("inherited", "distilled"):
        ahead = (arms[arm] > arms["scratch"]).mean(0)
        print(f"| cells that are better {arm} | {' | '.join(f'{share:.0%}' for share in ahead)} |")
    steps = [share * SETTINGS.budget.steps for share in SHARES]
    series = [
        Series(arm, steps, values.mean(0).tolist(), f"C{k}")
        for k, (arm, values) in enumerate(arms.items())
    ]
    write_text(out / "inheritance.svg", chart(series, "steps", "mean accuracy"))


def search(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    print(f"| search | seed | children | first {FIRST} | last {FIRST} | best |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    curves: dict[str, list[list[float]]] = {}
    for seed in range(arguments.seeds):
        for policy in ("path-level", "random"):
            folder = out / f"{policy}-{seed}"
            settings = dataclasses.replace(SETTINGS, policy=policy, seed=seed)
            executor = ExecutorSettings(processes=arguments.processes)
            search_grown(arguments.data, folder, settings, arguments.children, executor=executor)
            with Journal(folder / "journal.sqlite") as journal:
                records = journal.children()
            values = [r.objectives("accuracy").get("accuracy", 0.0) for r in records]
            curves.setdefault(policy, []).append(np.maximum.accumulate(values).tolist())
            means = (statistics.mean(values[part]) for part in (slice(FIRST), slice(-FIRST, None)))
            shown = (f"{value:.2%}" for value in (*means, max(values)))
            print(f"| {policy} | {seed} | {len(values)} | {' | '.join(shown)} |", flush=True)
    numbers = list(range(1, arguments.children + 1))
    series = [
        Series(name, numbers, np.mean(runs, 0).tolist(), f"C{k}")
        for k, (name, runs) in enumerate(curves.items())
    ]
    write_text(out / "search.svg", chart(series, "children", "best accuracy so far"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(required=True)
    for act, children in ((inheritance, 24), (search, 150)):
        part = parts.add_parser(act.__name__)
        part.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
        part.add_argument("--out", required=True)
        part.add_argument("--children", type=int, default=children)
        part.set_defaults(act=act)
        if act is search:
            part.add_argument("--seeds", type=int, default=2)
            part.add_argument("--processes", type=int, default=1)
        else:
            part.add_argument("--images", type=int, default=6000)
    arguments = parser.parse_args()
    arguments.act(arguments)


if __name__ == "__main__":
    main()
