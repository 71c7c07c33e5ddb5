"""A training step of NASNetMobile against `keras.applications`, from the same weights.

In every process both are compiled and make a first step with `fit`, and then some steps in turns.
With --prebuilt the optimizer's variables of both are made before that, as `nasnet_zoo.training` does.
Ratios are medians over the pairs. Aim: 1.3 times the throughput, a third of the time to the first
step, the same loss.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

KINDS = ("keras.applications", "nasnet_zoo")
STEPS = 2


def build(kind: str, weights: Path, size: int):
    import keras

    from nasnet_zoo.models import from_architecture
    from nasnet_zoo.presets import find_preset

    if kind == "keras.applications":
        return keras.applications.NASNetMobile((size, size, 3), weights=str(weights), classes=1000)
    # Keras's has no dropout, and another padding of three pools.
    architecture = dataclasses.replace(find_preset("nasnet_mobile").architecture, dropout=0.0)
    return from_architecture(architecture, (size, size, 3), weights=str(weights), pool_padding="keras")


def run(
    weights: Path, batch: int, size: int, rounds: int, kinds: tuple[str, ...], prebuilt: bool
) -> None:
    """Prints for each kind the seconds to the first step and of later ones, and the first loss."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (batch, size, size, 3)).astype("float32")
    labels = rng.integers(0, 1000, batch)

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.losses, self.times = [], []

        def on_train_batch_end(self, batch, logs):
            self.losses.append(float(logs["loss"]))
            self.times.append(time.perf_counter())

    def fit(model: keras.Model, steps: int) -> Watch:
        watch = Watch()
        repeated = np.tile(images, (steps, 1, 1, 1)), np.tile(labels, steps)
        model.fit(*repeated, batch_size=batch, shuffle=False, verbose=0, callbacks=[watch])
        return watch

    models, found = {}, {}
    for kind in kinds:
        models[kind] = model = build(kind, weights, size)
        begun = time.perf_counter()
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        if prebuilt:
            optimizer.build(model.trainable_variables)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        watch = fit(model, 1)
        found[kind] = {"first": watch.times[0] - begun, "loss": watch.losses[0], "steps": []}
    for _ in range(rounds):
        for kind, model in models.items():
            times = fit(model, STEPS + 1).times
            found[kind]["steps"].append((times[-1] - times[0]) / STEPS)
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3, help="processes")
    parser.add_argument("--rounds", type=int, default=6, help="in each process")
    parser.add_argument("--prebuilt", action="store_true", help="build both optimizers before `fit`")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(arguments.run or Path(folder) / "nasnet_mobile.h5")
        if arguments.run:
            # Whoever is built second finds TensorFlow warm: they take turns in that too.
            kinds = KINDS[:: 1 if arguments.repeats % 2 else -1]
            sizes = arguments.batch, arguments.size, arguments.rounds
            run(weights, *sizes, kinds, arguments.prebuilt)
            return
        make = f"import keras; keras.applications.NASNetMobile(weights=None).save({str(weights)!r})"
        subprocess.run([sys.executable, "-c", make], check=True, stderr=subprocess.DEVNULL)
        runs = []
        for repeat in range(arguments.repeats):
            command = [sys.executable, __file__, "--run", str(weights), "--repeats", str(repeat)]
            for name in ("batch", "size", "rounds"):
                command += [f"--{name}", str(getattr(arguments, name))]
            command += ["--prebuilt"] * arguments.prebuilt
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    built = ", its optimizer built before" if arguments.prebuilt else ""
    print(f"NASNetMobile, batch {arguments.batch} at {arguments.size} pixels, in `fit`{built}")
    for kind in KINDS:
        first = statistics.median(found[kind]["first"] for found in runs)
        step = statistics.median(time for found in runs for time in found[kind]["steps"])
        loss = runs[0][kind]["loss"]
        print(f"{kind:20}first step {first:6.2f} s    step {step:6.3f} s    first loss {loss:.6f}")
    peer, own = KINDS
    first = statistics.median(found[own]["first"] / found[peer]["first"] for found in runs)
    pairs = [
        theirs / ours
        for found in runs
        for theirs, ours in zip(found[peer]["steps"], found[own]["steps"], strict=True)
    ]
    print(f"time to the first step: {first:.2f} of Keras's")
    print(f"throughput: {statistics.median(pairs):.2f} times Keras's")


if __name__ == "__main__":
    main()
