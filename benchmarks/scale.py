"""How the search machine scales: what it costs beside the training of the children.

Children are replaced by sleeps of known length or by a virtual clock (``benchmarks/simulated.py``). All
else is what any search has: the paper's space and controller (PPO, 100 units, 50 draws a child), the
networks of CIFAR children with their costs, and the journal on disk. Each part prints Markdown tables,
and the machine's load average: where other work is done beside it, figures are upper bounds. ``peers``
needs Ray Tune and Optuna.

    python benchmarks/scale.py rates
    python benchmarks/scale.py overhead
    python benchmarks/scale.py busy
    python benchmarks/scale.py journal --path FILE
    python benchmarks/scale.py cost
    python benchmarks/scale.py staleness --out FILE
    python benchmarks/scale.py peers
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

# Spread of the children's lengths, and the share of those that take three times as long.
SPREAD, SLOW = 0.3, 0.05
# Share of the time that 500 workers are busy, at least: part busy.
BUSY = 0.98


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table and the load average."""
    print("\n| " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * (len(columns) - 1))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(f"\nLoad average {', '.join(f'{load:.1f}' for load in os.getloadavg())}.", flush=True)


def setup(seed: int = 0) -> tuple[Any, Any]:
    """The paper's space and policy."""
    from nasnet_zoo.search.nasnet.space import NASNetSpace
    from nasnet_zoo.search.policies import PPO

    space = NASNetSpace()
    policy = PPO(space, seed=seed)
    state = policy.state()
    proposals = policy.ask(20) + policy.ask(1)
    policy.tell(experiences(proposals[:20]))  # its functions are traced now
    policy.restore(state)
    return space, policy


def experiences(proposals: Sequence[Any]) -> list[Any]:
    from nasnet_zoo.search.policies import Experience

    return [Experience(k, proposal, 0.5 + k / 1000) for k, proposal in enumerate(proposals)]


def search(
    executor: Any, scheduler: Any, children: int, path: Path, policy: Any, space: Any
) -> dict[str, Any]:
    """Search with a new journal; seconds, those of the processor, and those of each commit."""
    from nasnet_zoo.search.journal import Journal
    from nasnet_zoo.search.search import Callback, run_search

    class Timed(Journal):
        commits: list[float]

        @contextmanager
        def _transaction(self) -> Iterator[None]:
            begun = time.perf_counter()
            with super()._transaction():
                yield
            self.commits.append(time.perf_counter() - begun)

    class Lags(Callback):
        def __init__(self) -> None:
            self.lags: list[float] = []

        def learned(self, records: Sequence[Any], metrics: Any) -> None:
            self.lags.append(metrics["lag"])

    Timed.commits = []
    lags = Lags()
    with closing(Timed(path, {"policy": "ppo"})) as journal:
        begun, processor = time.perf_counter(), time.process_time()
        run_search(policy, space, executor, journal, children, scheduler, callbacks=[lags])
        seconds, processor = time.perf_counter() - begun, time.process_time() - processor
        return {
            "seconds": seconds,
            "processor": processor,
            "commits": journal.commits,
            "lag": float(np.mean(lags.lags)),
        }


# === Parts ===


def rates(arguments: argparse.Namespace) -> None:
    from simulated import Lengths, Sleeping, VirtualClock

    from nasnet_zoo.search.schedulers import Asynchronous, Synchronous

    space, policy = setup()
    evaluator = Sleeping()
    proposals = policy.ask(arguments.children)
    architectures = [space.decode(proposal.actions) for proposal in proposals]
    rows = []

    def row(title: str, count: int, act: Callable[[int], Any], times: int) -> None:
        begun, processor = time.perf_counter(), time.process_time()
        for k in range(times):
            act(k)
        seconds, processor = time.perf_counter() - begun, time.process_time() - processor
        children = count * times
        milliseconds = (f"{1000 * s / children:.2f}" for s in (seconds, processor))
        rows.append((title, f"{children / seconds:,.0f}", *milliseconds))

    times = arguments.children // 20
    row("the policy asked for one child", 1, lambda k: policy.ask(1), 5 * times)
    row("asked for 20 together", 20, lambda k: policy.ask(20), times)
    row("told 20", 20, lambda k: policy.tell(experiences(proposals[:20])), times)
    row("actions decoded", 1, lambda k: space.decode(proposals[k].actions), len(proposals))
    row("key", 1, lambda k: space.key(architectures[k]), len(proposals))
    row("costs", 1, lambda k: evaluator.cost(architectures[k]), len(proposals))
    row("network for a worker", 1, lambda k: evaluator.prepare(architectures[k]), len(proposals))
    for title, scheduler in (
        ("all of a synchronous search, minibatches of 20", Synchronous()),
        ("all of an asynchronous search, one child at a time", Asynchronous()),
    ):
        with tempfile.TemporaryDirectory() as folder:
            clock = VirtualClock(evaluator, 20, Lengths(60, SPREAD, SLOW), with_controller=False)
            space, policy = setup()
            path = Path(folder) / "journal.sqlite"
            found = search(clock, scheduler, arguments.children, path, policy, space)
        milliseconds = (
            f"{1000 * found[name] / arguments.children:.2f}" for name in ("seconds", "processor")
        )
        rows.append((title, f"{arguments.children / found['seconds']:,.0f}", *milliseconds))
    table(("", "children per second", "ms a child", "ms of processor"), rows)


def overhead(arguments: argparse.Namespace) -> None:
    from simulated import Lengths, Sleeping, Timers, Watched

    from nasnet_zoo.search.executors.processes import Processes
    from nasnet_zoo.search.schedulers import Asynchronous

    rows = []
    for workers, seconds, rounds in ((1, 0.5, 60), (8, 1.0, 20), (64, 4.0, 10), (500, 30.0, 4)):
        lengths = Lengths(seconds, SPREAD)
        space, policy = setup()
        executor: Any
        if workers <= 8:
            executor = Watched(Processes(Sleeping(lengths), workers), lengths)
        else:
            executor = Timers(Sleeping(), workers, lengths)
        with tempfile.TemporaryDirectory() as folder, closing(executor):
            executor.start()
            path = Path(folder) / "journal.sqlite"
            found = search(executor, Asynchronous(), workers * rounds, path, policy, space)
        usage = executor.usage
        rows.append(
            (
                f"{workers} {'processes' if workers <= 8 else 'timers in one process'}",
                f"{seconds:g} s",
                f"{workers * rounds:,}",
                f"{usage.rate():.1f}",
                f"{1000 * usage.added():.0f} ms",
                f"{usage.busy():.1%}",
                f"{1000 * found['processor'] / workers / rounds:.1f} ms",
            )
        )
    columns = ("workers", "a child sleeps", "children", "per second", "added to a child")
    table((*columns, "workers busy", "processor a child"), rows)


def busy(arguments: argparse.Namespace) -> None:
    from simulated import Lengths, Sleeping, Timers, VirtualClock

    from nasnet_zoo.search.schedulers import Asynchronous, Synchronous

    workers, rows = arguments.workers, []
    runs = (
        ("asynchronous, minibatches of 20", Asynchronous(20), 30.0, True, 3),
        (f"synchronous, minibatches of {workers}", Synchronous(workers), 6.0, True, 3),
        ("asynchronous, minibatches of 20", Asynchronous(20), 60.0, False, 4),
        (f"synchronous, minibatches of {workers}", Synchronous(workers), 60.0, False, 4),
        ("synchronous, minibatches of 20", Synchronous(20), 60.0, False, 1),
    )
    for title, scheduler, seconds, real, rounds in runs:
        lengths, evaluator = Lengths(seconds, SPREAD, SLOW), Sleeping()
        executor = (
            Timers(evaluator, workers, lengths)
            if real
            else VirtualClock(evaluator, workers, lengths, with_controller=True)
        )
        space, policy = setup()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "journal.sqlite"
            found = search(executor, scheduler, workers * rounds, path, policy, space)
        rows.append((f"{title}, {'timers' if real else 'virtual clock'}", *usage_row(executor, found)))
    table(("500 workers" if workers == 500 else f"{workers} workers", *USAGE), rows)


USAGE = ("a child", "children", "per second", "busy", "added to a child", "told late, p99", "lag")


def usage_row(executor: Any, found: dict[str, Any]) -> list[str]:
    usage = executor.usage
    late = [usage.noticed[number] - end for number, end in usage.ended.items()]
    return [
        f"{np.median([usage.ended[k] - usage.begun[k] for k in usage.ended]):.0f} s",
        f"{len(usage.ended):,}",
        f"{usage.rate():.1f}",
        f"{usage.busy():.1%}",
        f"{1000 * usage.added():,.0f} ms",
        f"{1000 * np.percentile(late, 99):,.0f} ms",
        f"{found['lag']:.1f}",
    ]


def journal(arguments: argparse.Namespace) -> None:
    from simulated import Lengths, Sleeping, VirtualClock

    from nasnet_zoo.search.schedulers import Asynchronous

    children, workers = arguments.children, arguments.workers
    if not arguments.path.exists():
        space, policy = setup()
        lengths = Lengths(60, SPREAD, SLOW)
        clock = VirtualClock(Sleeping(), workers, lengths, with_controller=True)
        found = search(clock, Asynchronous(), children, arguments.path, policy, space)
        table(
            (f"{workers} workers, asynchronous", *USAGE), [("virtual clock", *usage_row(clock, found))]
        )
        commits = 1000 * np.array(found["commits"])
        last = commits[-len(commits) // 10 :]
        table(
            ("commits of the journal", "median", "p99", "median of the last tenth"),
            [
                (
                    f"{len(commits):,}",
                    *(f"{v:.2f} ms" for v in np.percentile(commits, (50, 99))),
                    f"{np.median(last):.2f} ms",
                )
            ],
        )
    rows = []
    for part in ("resume", "report"):
        command = [sys.executable, __file__, "reopen", "--path", str(arguments.path), "--what", part]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(out.splitlines()[-1])
        megabytes = (f"{found[name]:.0f} MB" for name in ("before", "added", "peak"))
        rows.append((part, f"{found['seconds']:.1f} s", f"{found['processor']:.1f} s", *megabytes))
    size = arguments.path.stat().st_size / 1e6
    print(f"\n{children:,} children; the file has {size:.0f} MB.")
    table(
        ("", "time", "of the processor", "memory before (TensorFlow)", "added", "added at most"), rows
    )


def cost(arguments: argparse.Namespace) -> None:
    """What so many children take, by the children per hour of two CPUs in docs/search.md."""
    measured = {100: 279, 300: 113, 1000: 37}
    rows = []
    for steps, per_hour in measured.items():
        seconds = 2 * 3600 / per_hour
        work = arguments.children * seconds / 3600
        hours = (f"{work / workers / BUSY:,.1f}" for workers in (16, 64, 500))
        rows.append((f"{steps:,}", f"{seconds:.0f} s", f"{work:,.0f}", *hours))
    title = f"steps of each of {arguments.children:,} children"
    columns = ("a child, of one CPU", "CPU hours", "hours of 16 CPUs", "of 64", "of 500")
    table((title, *columns), rows)


def memory(name: str) -> float:
    """MB of this process: "VmRSS" now or "VmHWM" at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


class _Ready(Exception):  # noqa: N818
    """A search is about to ask its policy."""


def reopen(arguments: argparse.Namespace) -> None:
    """In a process of its own: continue the search of a journal until it asks, or write its report."""
    from simulated import Lengths, Sleeping, VirtualClock

    from nasnet_zoo.search.journal import Journal
    from nasnet_zoo.search.report import write_report
    from nasnet_zoo.search.schedulers import Asynchronous
    from nasnet_zoo.search.search import run_search

    space, policy = setup()

    def ready(count: int) -> None:
        raise _Ready

    policy.ask = ready
    before = memory("VmRSS")
    begun, processor = time.perf_counter(), time.process_time()
    if arguments.what == "report":
        with closing(Journal(arguments.path)) as found, tempfile.TemporaryDirectory() as folder:
            write_report(found, space, Path(folder) / "report.html")
    else:
        found = Journal(arguments.path, {"policy": "ppo"})
        clock = VirtualClock(Sleeping(), 20, Lengths(60), with_controller=False)
        with suppress(_Ready):
            run_search(policy, space, clock, found, 10**6, Asynchronous())
    figures = {
        "seconds": time.perf_counter() - begun,
        "processor": time.process_time() - processor,
        "before": before,
        "added": memory("VmRSS") - before,
        "peak": memory("VmHWM") - before,
    }
    print(json.dumps(figures))


def staleness(arguments: argparse.Namespace) -> None:
    import staleness

    staleness.run(arguments)


def peers(arguments: argparse.Namespace) -> None:
    import peers

    peers.run(arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)

    def part(act: Callable[[argparse.Namespace], None], **options: Any) -> None:
        added = parts.add_parser(act.__name__)
        for name, default in options.items():
            kind = default if isinstance(default, type) else type(default)
            required = isinstance(default, type)
            added.add_argument(
                f"--{name}", type=kind, default=None if required else default, required=required
            )
        added.set_defaults(act=act)

    part(rates, children=400)
    part(overhead)
    part(busy, workers=500)
    part(cost, children=20_000)
    part(journal, path=Path, children=20_000, workers=500)
    part(reopen, path=Path, what="resume")
    part(staleness, out=Path, seeds=100, whole=15, children=2000, minutes=40.0)
    part(peers, workers=4, children=60, seconds=1.0, repeats=3)
    arguments = parser.parse_args()
    arguments.act(arguments)


if __name__ == "__main__":
    main()
