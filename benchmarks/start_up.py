"""Time and peak memory of commands that only show or refuse something, beside importing Keras.

Every run is a process of its own; the commands take turns. Aim: less than 0.5 s for every help text and
every wrong option.
"""

import argparse
import os
import statistics
import sys
import time

COMMANDS = (
    "nasnet-zoo --help",
    "nasnet-zoo search --help",
    "nasnet-zoo train --help",
    "nasnet-zoo export --help",
    "nasnet-zoo train --wrong-option",
    "import nasnet_zoo",
    "import keras",
)


def run(command: str) -> tuple[float, float]:
    """Run a command or a Python statement; return its seconds and its peak memory in MB."""
    argv = [sys.executable, "-c", command]
    if command.startswith("nasnet-zoo"):
        name, *options = command.split()
        argv = [os.path.join(os.path.dirname(sys.executable), name), *options]
    begun = time.perf_counter()
    pid = os.posix_spawn(
        argv[0],
        argv,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)],
    )
    _, _, usage = os.wait4(pid, 0)
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    runs: dict[str, list[tuple[float, float]]] = {command: [] for command in COMMANDS}
    for _ in range(arguments.repeats):
        for command, found in runs.items():
            found.append(run(command))
    print(f"{'command':34} {'median s':>8} {'peak MB':>8}")
    for command, found in runs.items():
        seconds, memory = zip(*found, strict=True)
        print(f"{command:34} {statistics.median(seconds):8.2f} {max(memory):8.0f}")


if __name__ == "__main__":
    main()
