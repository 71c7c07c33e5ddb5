"""What int8 files lose, by how their integers are chosen.

    python benchmarks/integers.py --data FOLDER

Files of the trained model in the package, and of the same function with hard weights: the filters of
a convolution that only others read are multiplied by random numbers, of half a decade in the standard
deviation, and the weights that read them are divided by these. The variants are the range of a value
(all of it, the 99.99th percentile, least squared error), cross-layer equalisation, and a correction
of biases by what rounded weights change in the mean. Peers quantise our float32 file of the same
weights on the same images: ONNX Runtime's static quantisation, and LiteRT's quantiser (``pip install
ai-edge-quantizer``), with their defaults.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import nasnet_zoo
from nasnet_zoo.data.idx import load_idx
from nasnet_zoo.export import litert, onnx, quantization
from nasnet_zoo.export.compute import compute
from nasnet_zoo.export.formats import load_runtime
from nasnet_zoo.export.graph import InferenceGraph, Op
from nasnet_zoo.export.quantization import Range, as_model_input, calibrate
from nasnet_zoo.export.rewrites import Rewrite, equalizable, equalize_channels, scaled_channels
from nasnet_zoo.export.settings import ExportSettings
from nasnet_zoo.export.verification import file_graph
from nasnet_zoo.network import inference_model

RUNTIMES = {"LiteRT": (litert, ".tflite"), "ONNX Runtime": (onnx, ".onnx")}
BATCH, BINS = 50, 2048


def harden(graph: InferenceGraph, decades: float, seed: int = 0) -> InferenceGraph:
    """The same function with channels of different size."""
    rng = np.random.default_rng(seed)
    for name in equalizable(graph):
        channels = graph.shapes()[name][-1]
        graph = scaled_channels(graph, name, 10.0 ** rng.normal(0, decades, channels))
    return graph


# === Variants ===


def by_percentile(graph: InferenceGraph, images: np.ndarray) -> dict[str, Range]:
    """Ranges that hold all but the 10,000th part of the numbers on each side."""
    found: dict[str, Range] = {}

    def watch(name: str, value: tf.Tensor) -> None:
        low, high = np.percentile(np.asarray(value), (0.01, 99.99))
        found[name] = min(float(low), 0.0), max(float(high), 0.0)

    compute(graph, tf.constant(images, tf.float32), watch)
    return found


def by_least_error(graph: InferenceGraph, images: np.ndarray) -> dict[str, Range]:
    """Shares of the whole ranges, whose integers are nearest to the numbers by squared error."""
    whole, counts = calibrate(graph, images), {}

    def watch(name: str, value: tf.Tensor) -> None:
        if whole[name][0] < whole[name][1]:
            counts[name] = tf.histogram_fixed_width(value, whole[name], BINS).numpy()

    def nearest(low: float, high: float, counts: np.ndarray) -> Range:
        edges = np.linspace(low, high, BINS + 1)
        numbers = (edges[1:] + edges[:-1]) / 2

        def error(some: Range) -> float:
            scale = quantization.scales(graph, {"": some}, 8, ())[""]
            return float(counts @ np.square(quantization.round_to(numbers, scale, 8) - numbers))

        return min(((low * share, high * share) for share in np.linspace(1.0, 0.2, 41)), key=error)

    compute(graph, tf.constant(images, tf.float32), watch)
    return whole | {name: nearest(*whole[name], found) for name, found in counts.items()}


def corrected(graph: InferenceGraph, images: np.ndarray, module: ModuleType) -> InferenceGraph:
    """A graph whose biases make up for what rounded weights change in the mean of each channel."""
    means: dict[str, np.ndarray] = {}

    def watch(name: str, value: tf.Tensor) -> None:
        means[name] = np.asarray(tf.reduce_mean(value, range(len(value.shape) - 1)))

    compute(graph, tf.constant(images, tf.float32), watch)
    scales = quantization.scales(graph, calibrate(graph, images), 8, ())

    def correct(op: Op) -> Op:
        if op.kind not in ("conv", "depthwise", "dense") or op.groups > 1:
            return op
        change = module.stored(op, graph, "int8", scales).kernel - op.kernel
        change = change if op.kind == "dense" else change.sum((0, 1))
        mean = means[op.inputs[0]]
        added = change * mean if op.kind == "depthwise" else mean @ change
        return op.with_(bias=((0.0 if op.bias is None else op.bias) - added).astype(np.float32))

    return graph.with_ops(map(correct, graph.ops))


#: By title: how ranges are found, whether channels are equalised, whether biases are corrected.
VARIANTS: dict[str, tuple[Callable, bool, bool]] = {
    "whole ranges": (calibrate, False, False),
    "percentile": (by_percentile, False, False),
    "least error": (by_least_error, False, False),
    "whole ranges, equalised (ours)": (calibrate, True, False),
    "percentile, equalised": (by_percentile, True, False),
    "least error, equalised": (by_least_error, True, False),
    "whole ranges, equalised, biases corrected": (calibrate, True, True),
}


def write(
    graph: InferenceGraph, path: Path, module: ModuleType, images: np.ndarray, variant: str
) -> None:
    """Write an int8 file."""
    ranges, equalises, corrects = VARIANTS[variant]
    rewrites: list[Rewrite] = list(module.REWRITES["int8"])
    if not equalises:
        rewrites.remove(equalize_channels)
    if corrects:
        rewrites.append(functools.partial(corrected, images=images, module=module))
    with (
        mock.patch.dict(module.REWRITES, {"int8": tuple(rewrites)}),
        mock.patch.object(module.writer, "calibrate", ranges),
    ):
        module.write(graph, path, ("output",), {}, ExportSettings(quantization="int8"), images)


# === Peers ===


def by_onnx_runtime(source: Path, path: Path, images: np.ndarray) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.rest, None)
            return None if image is None else {"image": image[None]}

    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(source, path, Reader(), QuantFormat.QDQ, per_channel=True, **kinds)


def by_litert(source: Path, path: Path, images: np.ndarray) -> None:
    from ai_edge_quantizer import quantizer, recipe

    found = quantizer.Quantizer(os.fspath(source))
    found.load_quantization_recipe(recipe.static_wi8_ai8())
    for end in ("INPUT", "OUTPUT"):  # floats enter and leave our files
        found.update_quantization_recipe(".*", end, algorithm_key="no_quantize")
    calibrated = found.calibrate({"serving_default": [{"image": image[None]} for image in images]})
    path.unlink(missing_ok=True)
    found.quantize(calibrated).export_model(os.fspath(path))


PEERS = {"LiteRT": by_litert, "ONNX Runtime": by_onnx_runtime}


# === Measuring ===


def outputs(path: Path, images: np.ndarray) -> np.ndarray:
    runtime = load_runtime(path)
    parts = [images[k : k + BATCH] for k in range(0, len(images), BATCH)]
    return np.concatenate([runtime.predict(part) for part in parts])


def compared(expected: np.ndarray, found: np.ndarray, labels: np.ndarray) -> str:
    """Signal to noise, accuracy and agreement of logits."""
    noise = 10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum())
    named = found.argmax(-1)
    right, same = (named == labels).mean(), (named == expected.argmax(-1)).mean()
    return f"{noise:.1f} dB | {right:.2%} | {same:.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--images", type=int, default=2000, help="test images to compare on")
    parser.add_argument("--calibration", type=int, default=100, help="training images to calibrate on")
    parser.add_argument("--seeds", type=int, default=3, help="hard networks")
    arguments = parser.parse_args()

    data = load_idx(arguments.data)
    few = as_model_input(np.asarray(data.train_images[: arguments.calibration]))
    images = as_model_input(np.asarray(data.test_images[: arguments.images]))
    labels = np.asarray(data.test_labels[: arguments.images])
    model = inference_model(nasnet_zoo.NASNetA_1_384_FashionMNIST(weights="fashion_mnist"))
    graph = file_graph(model, images.shape[1:], False)
    (softmax,) = (op for op in graph.ops if op.kind == "softmax")
    logits = dataclasses.replace(graph, outputs=softmax.inputs).with_ops(graph.ops)
    networks = {"as trained": logits}
    networks |= {f"hard, seed {k}": harden(logits, 0.5, k) for k in range(arguments.seeds)}

    print("| network | runtime | integers | signal to noise | accuracy | same class |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name, runtime in itertools.product(networks, RUNTIMES):
            graph, (module, suffix) = networks[name], RUNTIMES[runtime]
            source, path = Path(folder) / f"float{suffix}", Path(folder) / f"int8{suffix}"
            module.write(graph, source, ("output",), {})
            expected = outputs(source, images)
            accuracy = f"{(expected.argmax(-1) == labels).mean():.2%}"
            print(f"| {name} | {runtime} | float32 | | {accuracy} | |", flush=True)
            for title in VARIANTS:
                write(graph, path, module, few, title)
                cells = compared(expected, outputs(path, images), labels)
                print(f"| {name} | {runtime} | {title} | {cells} |", flush=True)
            with contextlib.chdir(folder):  # which ONNX Runtime leaves a file in
                PEERS[runtime](source, path, few)
            cells = compared(expected, outputs(path, images), labels)
            print(f"| {name} | {runtime} | its own quantiser | {cells} |", flush=True)


if __name__ == "__main__":
    main()
