"""Peak memory and time of a training step of the detectors of recipes coco_mobile and coco_large.

python benchmarks/detection.py [--images coco_mobile:600 coco_large:800]

Every figure is of a process of its own: a batch of one image, the second of two steps.
"""

import argparse
import os
import signal
import subprocess
import sys
import time

from memory import peak_mb

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def step(recipe_name: str, size: int, checkpointing: bool) -> None:
    """Prints the process's peak memory in GB and the seconds of a step."""
    import numpy as np

    from nasnet_zoo.detection.recipes import find_recipe
    from nasnet_zoo.detection.training import build_detector
    from nasnet_zoo.training import changed
    from nasnet_zoo.training.training import make_optimizer

    recipe = changed(
        find_recipe(recipe_name),
        model={"weights": None},
        run={"gradient_checkpointing": checkpointing},
    )
    detector = build_detector(recipe, [f"class {k}" for k in range(80)])
    detector.compile(make_optimizer(recipe.optimizer, recipe.run, 1), jit_compile=False)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (1, size, size, 3)).astype(np.float32)
    corners = rng.uniform(0, size / 2, (1, 10, 2))
    sides = rng.uniform(size / 8, size / 2, (1, 10, 2))
    objects = {
        "boxes": np.concatenate([corners, corners + sides], -1).astype(np.float32),
        "classes": rng.integers(0, 80, (1, 10)).astype(np.int32),
    }
    for _ in range(2):
        start = time.perf_counter()
        detector.train_on_batch(images, objects)
        seconds = time.perf_counter() - start
    print(f"{peak_mb() * 2**20 / 1e9:.1f} {seconds:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", default=["coco_mobile:600", "coco_large:800"])
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        recipe, size, checkpointing = arguments.step
        step(recipe, int(size), checkpointing == "yes")
        return
    print("| recipe | image | gradient checkpointing | peak memory | step |")
    print("| --- | --- | --- | ---: | ---: |", flush=True)
    for image in arguments.images:
        recipe, size = image.split(":")
        for checkpointing in ("no", "yes"):
            command = [sys.executable, __file__, "--step", recipe, size, checkpointing]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode not in (0, -signal.SIGKILL):
                raise SystemExit(run.stderr)
            figures = "killed for memory |"
            if run.returncode == 0:
                peak, seconds = run.stdout.split()[-2:]
                figures = f"{peak} GB | {seconds} s"
            print(f"| `{recipe}` | {size}x{size} | {checkpointing} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
