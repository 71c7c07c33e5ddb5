"""Peak memory and time of a training step, with and without gradient checkpointing.

Every run is a process of its own, and the two kinds take turns. The activations are the process's
peak in training less what it held before (weights and program) and less the gradients, which are as
large as the weights. Aim: at least 3 times less for at most 1.4 times the time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

KINDS = ("plain", "checkpointed")


def peak_mb() -> float:
    """Of this process: getrusage would count what the process that began it held."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def step(model_name: str, batch: int, checkpointing: bool) -> None:
    """Prints the memory of the activations in MB, and the seconds of a step."""
    import keras
    import numpy as np

    import nasnet_zoo

    model = nasnet_zoo.create_model(model_name, gradient_checkpointing=checkpointing)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    size = model.input_shape[1]
    images = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype("float32")
    labels = np.arange(batch)
    model(images[:1])
    before = peak_mb()
    model.train_on_batch(images, labels)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.train_on_batch(images, labels)
        seconds.append(time.perf_counter() - start)
    gradients = sum(4 * np.prod(w.shape) for w in model.trainable_weights) / 2**20
    print(f"{peak_mb() - before - gradients:.0f} {sorted(seconds)[1]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nasnet_large")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--step", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step(arguments.model, arguments.batch, arguments.step == "checkpointed")
        return
    runs: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    command = [sys.executable, __file__, "--model", arguments.model, "--batch", str(arguments.batch)]
    for _ in range(arguments.repeats):
        for kind in KINDS:
            run = subprocess.run([*command, "--step", kind], check=True, capture_output=True, text=True)
            runs[kind].append([float(value) for value in run.stdout.split()[-2:]])
    print(f"{arguments.model}, batch {arguments.batch}: activations of a training step, time of a step")
    medians = {
        kind: [statistics.median(column) for column in zip(*runs[kind], strict=True)] for kind in KINDS
    }
    for kind, (memory, seconds) in medians.items():
        print(f"{kind:14}{memory:8.0f} MB{seconds:8.2f} s")
    (memory, seconds), (less, longer) = (medians[kind] for kind in KINDS)
    print(f"{'ratio':14}{memory / less:8.2f} times less{longer / seconds:8.2f} times as long")


if __name__ == "__main__":
    main()
