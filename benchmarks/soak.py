"""A soak: a random worker of a search is killed with SIGKILL every few seconds, or else the driver.

The children are real ones, fast children of small networks on small random images. A driver that was
killed is started again, as a user would. At the end the account is taken from the journal and from what
the workers wrote down; the exit status is 1 if it does not add up.

    python benchmarks/soak.py --out FOLDER
    python benchmarks/soak.py --out FOLDER --executor ray --kill-driver
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from nasnet_zoo.search.evaluator import Result, Trial
from nasnet_zoo.search.folder import search_folder
from nasnet_zoo.search.images.child import FastChild, Images
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.nasnet.settings import Budget
from nasnet_zoo.search.nasnet.space import NASNetSpace
from nasnet_zoo.search.search import RETRIES
from nasnet_zoo.search.settings import ExecutorSettings, SearchSettings

SPACE = NASNetSpace(blocks=2, cells=1)
BUDGET = Budget(cells=1, filters=4, stem_filters=4, steps=4, batch_size=8, evaluations=1)


class Noted(FastChild):
    """Writes down which process begins and ends which child.

    Args:
        images: Images of the children.
        path: File to write to.
    """

    def __init__(self, images: Images, path: Path) -> None:
        super().__init__(images, BUDGET)
        self.path = path

    def note(self, word: str, number: int) -> None:
        with self.path.open("a") as file:
            file.write(f"{os.getpid()} {word} {number}\n")

    def evaluate(self, trial: Trial) -> Result:
        self.note("begins", trial.number)
        result = super().evaluate(trial)
        self.note("ends", trial.number)
        return result


def drive(arguments: argparse.Namespace) -> None:
    """Search, or continue the search of the folder."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (128, 16, 16, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, 128, dtype=np.int32)
    images = Images(pixels[:96], labels[:96], pixels[96:], labels[96:], 4)
    search_folder(
        SPACE,
        Noted(images, arguments.out / "notes"),
        arguments.out / "search",
        SearchSettings(minibatch=10, asynchronous=True),
        arguments.children,
        executor=ExecutorSettings(arguments.executor, retries=RETRIES, **workers(arguments)),
        console=Console(file=sys.stderr),
    )


def workers(arguments: argparse.Namespace) -> dict[str, int]:
    return {"processes": arguments.processes} if arguments.executor == "processes" else {}


@dataclass
class Hits:
    """What was killed.

    Args:
        children: How often each child was hit with its worker.
        interrupted: Children that were under way when the driver was killed.
        workers: Number of workers that were killed.
        drivers: Number of drivers that were killed.
    """

    children: Counter[int] = field(default_factory=Counter)
    interrupted: set[int] = field(default_factory=set)
    workers: int = 0
    drivers: int = 0


def notes(path: Path) -> list[tuple[int, str, int]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(pid), word, int(number)) for pid, word, number in map(str.split, lines)]


def latest(path: Path) -> dict[int, tuple[str, int]]:
    """What each process noted last."""
    return {pid: (word, number) for pid, word, number in notes(path)}


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def fire(arguments: argparse.Namespace) -> Hits:
    """Run the search and kill until it ends."""
    rng, hits, path = random.Random(arguments.seed), Hits(), arguments.out / "notes"
    driver = start()
    try:
        while driver.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                driver.wait(arguments.every)
            alive = [pid for pid in latest(path) if is_alive(pid)]
            if not alive or hits.workers + hits.drivers == arguments.kills:
                continue
            if arguments.kill_driver and rng.random() < 0.25:
                driver.kill()
                while any(map(is_alive, alive)):  # they end with it
                    time.sleep(0.1)
                hits.drivers += 1
                hits.interrupted |= {number for _, number in latest(path).values()}
                driver = start()
            else:
                kill(rng.choice(alive), path, hits)
    finally:
        driver.kill()
    if driver.returncode:
        sys.exit(f"Expected the search to end well. Received: exit status {driver.returncode}")
    return hits


def kill(pid: int, path: Path, hits: Hits) -> None:
    """Kill a worker."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)
    # It may have ended its child, and died before the search heard of it.
    hits.children[latest(path)[pid][1]] += 1
    hits.workers += 1


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--drive"])


def account(arguments: argparse.Namespace, hits: Hits) -> list[str]:
    """Print the account; return what does not add up."""
    with closing(Journal(arguments.out / "search" / "journal.sqlite")) as journal:
        journal.check()
        records = journal.children()
    states = Counter(record.state for record in records)
    shared = {record.number for record in records if record.same_as is not None}
    noted = notes(arguments.out / "notes")
    begun = Counter(number for _, word, number in noted if word == "begins")
    ended = Counter(number for _, word, number in noted if word == "ends")
    alone = [record for record in records if record.same_as is None]
    lost = [record.number for record in alone if record.state == "lost"]
    print(f"{hits.workers} workers and {hits.drivers} drivers were killed.")
    print(f"{len(records)} asked = " + " + ".join(f"{n} {state}" for state, n in states.items()))
    print(f"{len(shared)} of them have the result of an equal child.")
    print(f"{sum(begun.values())} evaluations began, {sum(ended.values())} ended.")
    print(f"Hits of a child: {dict(Counter(hits.children.values()))} (times: children)")
    excused = {*hits.children, *hits.interrupted}
    wrong = {
        "children that were not asked for, or more": len(records) - arguments.children,
        "numbers with a gap": [r.number for r in records] != list(range(len(records))),
        "children without a result": states["asked"],
        "children the policy has not learned from": sum(r.learned is None for r in records),
        "failed children": states["failed"],
        "children lost though not hit each time": sum(hits.children[n] <= RETRIES for n in lost),
        "children never begun, nor equal to another": sum(
            not begun[r.number] for r in records if r.number not in shared
        ),
        "children begun though equal to another": sum(begun[n] > 0 for n in shared - excused),
        "children evaluated more often than hit": sum(
            begun[n] > 1 + hits.children[n] for n in begun if n not in hits.interrupted
        ),
        "children ended twice without being hit": sum(ended[n] > 1 for n in ended.keys() - excused),
    }
    return [f"{what}: {count:d}" for what, count in wrong.items() if count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--executor", choices=("processes", "ray"), default="processes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--children", type=int, default=200)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two kills")
    parser.add_argument("--kills", type=int, help="default: until the search ends")
    parser.add_argument("--kill-driver", action="store_true", help="one kill in four")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments)
        return
    arguments.out.mkdir(parents=True, exist_ok=False)
    begun = time.monotonic()
    hits = fire(arguments)
    wrong = account(arguments, hits)
    print(f"{time.monotonic() - begun:.0f} s, load average {os.getloadavg()[0]:.1f}")
    if wrong:
        sys.exit(f"Expected an account that adds up. Received: {'; '.join(wrong)}")
    print("The account adds up.")


if __name__ == "__main__":
    main()
