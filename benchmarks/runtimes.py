"""Our ONNX files beside Keras's, of the same weights and function, in OpenVINO; interleaved.

python benchmarks/runtimes.py [--model large] [--rounds 30]    (needs the extra "runtimes")
"""

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import openvino

from export import PEERS, export_ours, export_with_keras, processor, settled
from nasnet_zoo.export.benchmark import summaries, time_runs
from nasnet_zoo.export.runtime import Runtime

OURS = (("ours.onnx", "float32"), ("int8.onnx", "int8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=PEERS, default="mobile")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    name = arguments.model
    builder, _, size = PEERS[name]
    images = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        settled(builder(weights=None, classifier_activation=None), images).save(folder / "keras.h5")
        # Keras's export takes much memory, and leaves threads behind.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as processes:
            processes.apply(export_ours, (name, folder, OURS, images))
            processes.apply(export_with_keras, (name, folder, "keras.onnx", "onnx"))
        print(
            f"NASNet-A {name.capitalize()}, {size}x{size}, OpenVINO {openvino.__version__}, "
            f"{processor()}, {arguments.rounds} rounds of three runs of every file in turn.\n"
        )
        print("| file | threads | median | ratio |\n| --- | ---: | ---: | ---: |")
        files = [folder / file for file in ("keras.onnx", *(file for file, _ in OURS))]
        for threads in (1, os.cpu_count() or 1):
            runtimes = [load(file, threads, size) for file in files]
            timings = summaries(time_runs(runtimes, arguments.rounds), threads)
            for file, timing in zip(files, timings, strict=True):
                print(f"| {file.name} | {threads} | {timing.median:.1f} ms | {timing.ratio:.2f} |")


def load(path: Path, threads: int, size: int) -> Runtime:
    """A file in OpenVINO, for one image at a time, in float32."""
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, size, size, 3])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})

    def run(images: np.ndarray) -> list[np.ndarray]:
        return list(compiled(images).values())

    return Runtime("OpenVINO", path.stat().st_size, (size, size, 3), ("output",), run)


if __name__ == "__main__":
    main()
