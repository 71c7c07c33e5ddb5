"""Peak memory and time of a training step, with and without gradient checkpointing.

Every run is a process of its own. The memory of the step is its peak less what the process held
before it: weights and program. Aim: at least 3 times less for at most 1.4 times the time.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step(model_name: str, batch: int, checkpointing: bool) -> None:
    """Prints the memory in MB that training takes, and the seconds of a step."""
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
    print(f"{peak_mb() - before:.0f} {sorted(seconds)[1]:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nasnet_large")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--step", choices=["plain", "checkpointed"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step(arguments.model, arguments.batch, arguments.step == "checkpointed")
        return
    results = {}
    for kind in ("plain", "checkpointed"):
        command = [
            sys.executable,
            __file__,
            "--model",
            arguments.model,
            "--batch",
            str(arguments.batch),
        ]
        output = subprocess.run([*command, "--step", kind], check=True, capture_output=True, text=True)
        results[kind] = [float(value) for value in output.stdout.split()[-2:]]
    print(f"{arguments.model}, batch {arguments.batch}: memory of a training step, time of a step")
    for kind, (memory, seconds) in results.items():
        print(f"{kind:14}{memory:8.0f} MB{seconds:8.2f} s")
    (memory, seconds), (less, longer) = results["plain"], results["checkpointed"]
    print(f"{'ratio':14}{memory / less:8.2f} times less{longer / seconds:8.2f} times as long")


if __name__ == "__main__":
    main()
