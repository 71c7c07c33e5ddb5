"""Where the time of an exported file goes: its operators, beside what the machine can do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from .formats import MODULES, format_at
from .onnx.profiling import sgemm
from .runtime import OperatorTime


@dataclass(frozen=True)
class Profile:
    """The times of a file's operators.

    Args:
        threads: Number of threads of the runtime.
        operators: Operators that the runtime runs, in order; it fuses some of the file's.
        sgemm: What the machine can do with as many threads: floating-point operations in a second of a
            product of two float32 matrices of 1024 x 1024.
    """

    threads: int
    operators: tuple[OperatorTime, ...]
    sgemm: float

    def by_kind(self) -> list[OperatorTime]:
        """Return the sums over the operators of each kind, the slowest first."""
        kinds: dict[str, list[OperatorTime]] = {}
        for operator in self.operators:
            kinds.setdefault(operator.kind, []).append(operator)
        sums = []
        for kind, own in kinds.items():
            adds, seconds = sum(o.multiply_adds for o in own), sum(o.seconds for o in own)
            sums.append(OperatorTime(kind, adds, kind, seconds, len(own)))
        return sorted(sums, key=lambda operator: -operator.seconds)


def check_operators(path: Path) -> None:
    """Check that a file is of a format whose operators can be timed.

    Raises:
        ValueError: If it is not.
    """
    if not hasattr(MODULES[format_at(path)], "operator_times"):
        raise ValueError(f"Expected a .tflite or .onnx file to profile. Received: {os.fspath(path)!r}")


def profiled(path: Path, image: np.ndarray, threads: int, rounds: int) -> Profile:
    """Time the operators of a file.

    ONNX Runtime has a profiler, which adds some microseconds to each operator. LiteRT's delegate hides
    its operators: each is cut out into a file of its own.

    Args:
        path: ``.tflite`` or ``.onnx`` file.
        image: Image that it takes, (1, height, width, channels).
        threads: Number of threads of the runtime.
        rounds: Number of timed runs of each operator.
    """
    operators = MODULES[format_at(path)].operator_times(path, image, threads, rounds)
    return Profile(threads, tuple(operators), sgemm(threads))


# === Showing ===

COLUMNS = ("operator", "count", "time", "share", "multiply-adds", "GFLOP/s", "of sgemm")


def rows(profile: Profile) -> list[list[str]]:
    """The rows of a table of the kinds of operators."""
    whole, made = sum(operator.seconds for operator in profile.operators), []
    for kind in profile.by_kind():
        speed = 2 * kind.multiply_adds / max(kind.seconds, 1e-9)
        work = ["", "", ""]
        if kind.multiply_adds:
            work = [f"{kind.multiply_adds / 1e6:.1f} M", f"{speed / 1e9:.1f}"]
            work.append(f"{speed / profile.sgemm:.0%}")
        times = f"{kind.seconds * 1e3:.2f} ms", f"{kind.seconds / whole:.1%}"
        made.append([kind.name, str(kind.count), *times, *work])
    return made


def summary(profile: Profile) -> str:
    """The time of all operators and the speed of the machine in a line."""
    own = sum(operator.seconds for operator in profile.operators)
    return f"operators one by one {own * 1e3:.1f} ms, sgemm {profile.sgemm / 1e9:.0f} GFLOP/s"


def table(profile: Profile) -> Table:
    """The kinds of operators as a table for a terminal."""
    shown = Table(*COLUMNS, box=None)
    for row in rows(profile):
        shown.add_row(*row)
    return shown
