"""A training step of NASNetMobile against `keras.applications`, from the same weights.

Every run is a process of its own: it compiles the model, calls `fit`, and notes when each step was
done. The two take turns. Aim: 1.3 times the throughput, a third of the time to the first step, the
same loss.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

KINDS = ("keras.applications", "nasnet_zoo")
STEPS = 8


def build(kind: str, weights: Path, size: int):
    import keras

    from nasnet_zoo.models import find_preset, from_architecture

    if kind == "keras.applications":
        return keras.applications.NASNetMobile((size, size, 3), weights=str(weights), classes=1000)
    # Keras's has no dropout, and another padding of three pools.
    architecture = dataclasses.replace(find_preset("nasnet_mobile").architecture, dropout=0.0)
    return from_architecture(architecture, (size, size, 3), weights=str(weights), pool_padding="keras")


def run(kind: str, weights: Path, batch: int, size: int) -> None:
    """Prints the seconds to the first step, those of a later step, and the first loss."""
    import keras
    import numpy as np

    model = build(kind, weights, size)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (batch, size, size, 3)).astype("float32")
    labels = rng.integers(0, 1000, batch)
    losses, times = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            losses.append(float(logs["loss"]))
            times.append(time.perf_counter())

    begun = time.perf_counter()
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    if kind == "nasnet_zoo":  # as nasnet_zoo.training does
        optimizer.build(model.trainable_variables)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(
        np.tile(images, (STEPS, 1, 1, 1)),
        np.tile(labels, STEPS),
        batch_size=batch,
        shuffle=False,
        verbose=0,
        callbacks=[Watch()],
    )
    steps = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    print(times[0] - begun, statistics.median(steps), losses[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run[0], Path(arguments.run[1]), arguments.batch, arguments.size)
        return
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "nasnet_mobile.h5"
        make = f"import keras; keras.applications.NASNetMobile(weights=None).save({str(weights)!r})"
        subprocess.run([sys.executable, "-c", make], check=True, stderr=subprocess.DEVNULL)
        for _ in range(arguments.repeats):
            for kind in KINDS:
                command = [sys.executable, __file__, "--run", kind, str(weights)]
                command += ["--batch", str(arguments.batch), "--size", str(arguments.size)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[kind].append([float(word) for word in done.stdout.split()[-3:]])
    print(f"NASNetMobile, batch {arguments.batch} at {arguments.size} pixels, in `fit`")
    medians = {}
    for kind, runs in found.items():
        first, step, loss = medians[kind] = [
            statistics.median(column) for column in zip(*runs, strict=True)
        ]
        print(f"{kind:20}first step {first:6.2f} s    step {step:6.3f} s    first loss {loss:.6f}")
    keras_first, keras_step, _ = medians["keras.applications"]
    first, step, _ = medians["nasnet_zoo"]
    print(f"time to the first step: {first / keras_first:.2f} of Keras's")
    print(f"throughput: {keras_step / step:.2f} times Keras's")


if __name__ == "__main__":
    main()
