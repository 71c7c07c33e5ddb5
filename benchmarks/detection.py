"""The detectors of recipes coco_mobile and coco_large: their training steps and their exported files.

    python benchmarks/detection.py [--images coco_mobile:600 coco_large:800]
    python benchmarks/detection.py --export [--images coco_mobile:600] [--proposals 100] [--rounds 5]

The first prints peak memory and time of a training step, each of a process of its own: a batch of one
image, the second of two steps. The second prints the time of a whole detector as we write it beside
that of the official converters, the files in turn on one thread, and of its network's two halves.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from memory import peak_mb

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def step(recipe_name: str, size: int, checkpointing: bool) -> None:
    """Prints the process's peak memory in GB and the seconds of a step."""
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


def measure_export(recipe_name: str, size: int, proposals: int, rounds: int, folder: Path) -> None:
    """Prints a table of the files of a detector with random weights."""
    import tensorflow as tf

    from nasnet_zoo.detection.recipes import find_recipe
    from nasnet_zoo.detection.training import build_detector
    from nasnet_zoo.export import export_detector, litert, load_runtime, onnx
    from nasnet_zoo.export.benchmark import benchmark
    from nasnet_zoo.export.from_keras import inference_graph, pooled_graph
    from nasnet_zoo.export.official import serving_module
    from nasnet_zoo.export.rewrites import simplify
    from nasnet_zoo.training import changed

    recipe = changed(
        find_recipe(recipe_name), model={"weights": None}, detector={"proposals": proposals}
    )
    detector = build_detector(recipe, [f"class {k}" for k in range(80)])
    detector.score = 0.0
    halves = {
        "first half": inference_graph(detector.first_half, (size, size)),
        f"second half, {proposals} crops": pooled_graph(detector.box_head, detector.crop_size),
    }
    print("| file | size | written in | 1 thread | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    for suffix, writer in ((".tflite", litert), (".onnx", onnx)):
        theirs, ours = folder / f"official{suffix}", folder / f"ours{suffix}"
        begun = time.perf_counter()
        module = serving_module(
            lambda image: detector(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False),
            {"image": tf.TensorSpec((1 if writer is litert else None, size, size, 3), tf.uint8)},
            detector.variables,
        )
        writer.convert(module, theirs, {})
        seconds = [time.perf_counter() - begun]
        seconds.append(export_detector(detector, ours, image_size=(size, size)).seconds)
        reports = benchmark([theirs, ours], threads=[1], rounds=rounds)
        for report, written in zip(reports, seconds, strict=True):
            (timing,) = report.timings
            figures = f"{written:.0f} s | {timing.median:.0f} ms | {timing.ratio:.2f}"
            print(f"| {report.path.name} | {report.size / 1e6:.1f} MB | {figures} |", flush=True)
        for count, (name, graph) in zip((1, proposals), halves.items(), strict=True):
            path = folder / f"half{suffix}"
            writer.write(simplify(graph), path, tuple(map(str, range(len(graph.outputs)))), {})
            images = np.random.default_rng(0).normal(size=(count, *graph.image_shape))
            best = load_runtime(path, 1).latency(images.astype(np.float32), rounds, 1)
            print(f"| {name}{suffix} | | | {best * 1e3:.0f} ms | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--export", action="store_true", help="measure exported files")
    parser.add_argument("--proposals", type=int, default=100, help="proposals of exported detectors")
    parser.add_argument("--rounds", type=int, default=5, help="of three runs of exported files")
    parser.add_argument("--images", nargs="+", help="recipe:pixels; default: as above")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        recipe, size, checkpointing = arguments.step
        step(recipe, int(size), checkpointing == "yes")
        return
    if arguments.export:
        for image in arguments.images or ["coco_mobile:600"]:
            recipe, size = image.split(":")
            with tempfile.TemporaryDirectory() as folder:
                figures = arguments.proposals, arguments.rounds
                measure_export(recipe, int(size), *figures, Path(folder))
        return
    print("| recipe | image | gradient checkpointing | peak memory | step |")
    print("| --- | --- | --- | ---: | ---: |", flush=True)
    for image in arguments.images or ["coco_mobile:600", "coco_large:800"]:
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
