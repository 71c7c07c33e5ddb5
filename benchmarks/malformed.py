"""Malformed inputs of every command and of the public API, and what comes of each: a table.

An outcome is clear if it is one line that says what was expected and what was received, with a status
other than 0, and no file is new, gone or changed. The command fails if any outcome is not.

    python benchmarks/malformed.py [--only TEXT] [--every N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# First: tests/ has a folder of the same name.
import nasnet_zoo  # noqa: F401

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from malformed_cases import cases
from malformed_run import Runner


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="cases whose table row begins so"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every n-th case")
    parser.add_argument("--limit", type=int, default=60, help="seconds for a case (default: 60)")
    arguments = parser.parse_args()
    tried, unclear, seconds = Counter(), Counter(), Counter()
    chosen = [case for case in cases() if case.group.startswith(tuple(arguments.only))][
        :: arguments.every
    ]
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(Path(folder), arguments.limit)
        for case in chosen:
            begun = time.perf_counter()
            faults = runner.faults(case)
            seconds[case.group] += time.perf_counter() - begun
            tried[case.group] += 1
            if faults:
                unclear[case.group] += 1
                print(
                    f"not clear: {case.group}: {case}",
                    *faults,
                    sep="\n    ",
                    file=sys.stderr,
                    flush=True,
                )
    print("| input of | tried | clear | not | seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for group in tried:
        clear = tried[group] - unclear[group]
        print(f"| {group} | {tried[group]} | {clear} | {unclear[group]} | {seconds[group]:.0f} |")
    total = sum(tried.values()), sum(tried.values()) - sum(unclear.values()), sum(unclear.values())
    print(f"| all | {' | '.join(map(str, total))} | {sum(seconds.values()):.0f} |")
    return int(total[2] > 0)


if __name__ == "__main__":
    sys.exit(main())
