"""Synchronous beside asynchronous search, and the corrections for stale children: simulated.

Part ``staleness`` of ``benchmarks/scale.py``. The children of the tabular benchmark are looked up,
and take the time that a virtual clock says: 60 s in the median, lognormal by cell (spread 0.5), and one
in 20 takes three times as long. The loop, the policy (PPO with the options tuned in
``benchmarks/policies.py``) and the journal (in memory) are those of any search; the time that they take
is not counted. Every child counts as a different one, as nearly all of a large space are: none has the
reward of an earlier one.

A line of JSON for each search is added to ``--out``; what is there is not searched again.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from simulated import VirtualClock

from nasnet_zoo.search.evaluator import Trial
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.nasnet.space import NASNetSpace
from nasnet_zoo.search.nasnet.tabular import TabularBenchmark
from nasnet_zoo.search.policies import PPO, Experience, Proposal
from nasnet_zoo.search.schedulers import Asynchronous, Synchronous
from nasnet_zoo.search.search import Callback, run_search

MEDIAN, SPREAD, SLOW = 60.0, 0.5, 0.05
MINIBATCH = 20
Mode = tuple[str, int, str]
# (mode, workers, correction). A synchronous minibatch has a child for each worker.
MODES: list[Mode] = [
    ("synchronous", 20, "ratio"),
    *(("asynchronous", w, c) for w in (20, 100, 500) for c in ("ratio", "naive", "decoupled")),
    ("synchronous", 100, "ratio"),
    ("synchronous", 500, "ratio"),
]
# Those that are searched to the end, too.
WHOLE = MODES[:10]


@dataclasses.dataclass(frozen=True)
class Distinct(NASNetSpace):
    """A space whose children all count as different ones, each with the seed of the search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_numbers", itertools.count())

    def key(self, architecture: Any) -> str:
        return f"{super().key(architecture)} {next(self._numbers)}"  # type: ignore[attr-defined]

    def seed(self, key: str, seed: int) -> int:
        return seed


class Looked(TabularBenchmark):
    """The table, without the costs of its children, which nobody asks for here."""

    def cost(self, architecture: Any) -> dict[str, float]:
        return {}


def lengths(trial: Trial) -> float:
    cell = np.random.default_rng([trial.child, 1]).normal()
    slow = np.random.default_rng([trial.seed, trial.number]).random() < SLOW
    return float(MEDIAN * np.exp(SPREAD * cell) * (3.0 if slow else 1.0))


class Ahead:
    """A policy that draws as PPO does, but 20 children at a time, and has no state that is written.

    Drawing one at a time and writing the state take two thirds of the time of a search on this table.
    """

    def __init__(self, policy: PPO) -> None:
        self.policy = policy
        self._drawn: list[Proposal] = []

    @property
    def version(self) -> int:
        return self.policy.version

    @version.setter
    def version(self, version: int) -> None:
        self.policy.version = version

    def ask(self, count: int) -> list[Proposal]:
        while len(self._drawn) < count:
            self._drawn += self.policy.ask(MINIBATCH)
        asked, self._drawn = self._drawn[:count], self._drawn[count:]
        return asked

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        self._drawn = []
        return self.policy.tell(minibatch)

    def state(self) -> dict[str, np.ndarray]:
        return {"version": np.array(self.version)}


class FoundIt(Exception):  # noqa: N818
    """A search has found what it looked for."""


class Watch(Callback):
    """Notes the rewards as they come, and when the first one was good enough."""

    def __init__(self, clock: VirtualClock, threshold: float, stop: bool) -> None:
        self.clock, self.threshold, self.stop = clock, threshold, stop
        self.rewards: list[float] = []
        self.lags: list[float] = []
        self.until: int | None = None
        self.seconds: float | None = None

    def rewarded(self, record: Any) -> None:
        self.rewards.append(record.reward)
        if self.until is None and record.reward >= self.threshold - 1e-9:
            self.until, self.seconds = len(self.rewards), self.clock.now()
            if self.stop:
                raise FoundIt

    def learned(self, records: Any, metrics: Any) -> None:
        self.lags.append(metrics["lag"])


class Searches:
    """Runs searches with one policy, whose functions are traced once.

    Args:
        children: Children of a search.
    """

    def __init__(self, children: int) -> None:
        self.children = children
        table = TabularBenchmark.load()
        space = Distinct(**{f.name: getattr(table.space, f.name) for f in dataclasses.fields(Distinct)})
        columns = {f.name: getattr(table, f.name) for f in dataclasses.fields(table)}
        self.table = Looked(**{**columns, "space": space})
        self.make = functools.partial(PPO, space, learning_rate=0.03, entropy_weight=0.001)
        self.policy = self.make()

    def run(self, mode: Mode, seed: int, whole: bool) -> dict[str, Any]:
        """Search to the end, or until a top-1 % cell."""
        begun, (kind, workers, correction) = time.perf_counter(), mode
        self.policy.restore(self.make(seed=seed).state())
        self.policy.correction = correction
        clock = VirtualClock(self.table, workers, lengths, with_controller=False)
        watch = Watch(clock, self.table.best(0.01), stop=not whole)
        asynchronous = kind == "asynchronous"
        scheduler = Asynchronous(MINIBATCH) if asynchronous else Synchronous(workers)
        space, children, callbacks = self.table.space, self.children, [watch]
        with closing(Journal(":memory:", {})) as journal, suppress(FoundIt):
            run_search(
                Ahead(self.policy),
                space,
                clock,
                journal,
                children,
                scheduler,
                seed,
                callbacks=callbacks,
                remember=False,
            )
        return {
            "mode": kind,
            "workers": workers,
            "correction": correction,
            "seed": seed,
            "whole": whole,
            "until": watch.until,
            "seconds": watch.seconds,
            "last": float(np.mean(watch.rewards[-children // 5 :])) if whole else None,
            "total": clock.now() if whole else None,
            "lag": float(np.mean(watch.lags)) if watch.lags else 0.0,
            "real": time.perf_counter() - begun,
        }


def key(found: dict[str, Any]) -> tuple[Mode, int, bool]:
    mode = found["mode"], found["workers"], found["correction"]
    return mode, found["seed"], found["whole"]


def read(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def run(arguments: argparse.Namespace) -> None:
    end, parts = time.monotonic() + 60 * arguments.minutes, arguments.whole
    done = set(map(key, read(arguments.out)))
    # Some of each at a time, so that the figures are even wherever the time ends.
    wanted = [
        wanted
        for part in range(parts)
        for wanted in (
            *((mode, seed, False) for seed in range(part, arguments.seeds, parts) for mode in MODES),
            *((mode, part, True) for mode in WHOLE),
        )
        if wanted not in done
    ]
    searches = Searches(arguments.children) if wanted else None
    with arguments.out.open("a") as file:
        for mode in wanted:
            if searches and time.monotonic() < end:
                print(json.dumps(searches.run(*mode)), file=file, flush=True)
    print_tables(read(arguments.out), arguments.children)


def print_tables(found: list[dict[str, Any]], children: int) -> None:
    from scale import table

    until, whole = [], []
    for mode in MODES:
        kind, workers, correction = mode
        title = f"{kind}, {workers} workers" + (f", {correction}" if kind == "asynchronous" else "")
        searches = [f for f in found if key(f)[0] == mode and not f["whole"]]
        counts = [f["until"] or children for f in searches]
        hours = [f["seconds"] / 60 for f in searches if f["seconds"]]
        low, middle, high = np.percentile(counts, (25, 50, 75))
        until.append(
            (
                title,
                len(searches),
                f"{np.mean([f['until'] is not None for f in searches]):.0%}",
                f"{np.mean(counts):.0f}",
                f"{low:.0f} / {middle:.0f} / {high:.0f}",
                f"{np.mean(hours):.1f}",
                f"{np.median(hours):.1f}",
            )
        )
        searches = [f for f in found if key(f)[0] == mode and f["whole"]]
        if searches:
            last = np.array([f["last"] for f in searches])
            error = last.std(ddof=1) / np.sqrt(len(last)) if len(last) > 1 else np.nan
            lag, total = (np.mean([f[name] for f in searches]) for name in ("lag", "total"))
            whole.append(
                (
                    title,
                    len(searches),
                    f"{lag:.1f}",
                    f"{last.mean():.4f} ± {error:.4f}",
                    f"{last.min():.4f}",
                    f"{total / 3600:.1f} h",
                )
            )
    print("\nUntil a top-1 % cell of the tabular benchmark:")
    columns = ("seeds", "found by", "children, mean", "quartiles", "minutes, mean", "median")
    table(("search", *columns), until)
    print(f"\nSearches of {children:,} children, PPO; the mean reward of the last fifth, ± its error:")
    table(("search", "seeds", "lag in updates", "mean reward", "worst seed", "time"), whole)
