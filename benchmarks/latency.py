"""Measuring the latency of children: what it costs, what ranks them as it does, how often it agrees.

For random children, and the same cells at deployment size: seconds to build, to export and to time one;
the rank correlation (Spearman) of costs that need no measurement with measured latency, and that of a
table of single operations, each measured once and summed over the file's graph; and measurements again,
alone and beside busy processes.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nasnet_zoo.architecture import Architecture, architecture_cost
from nasnet_zoo.cells import NASNET_A, Genotype
from nasnet_zoo.export.graph import InferenceGraph, Op, ValueShape
from nasnet_zoo.export.litert import REWRITES, write
from nasnet_zoo.export.verification import file_graph
from nasnet_zoo.models import from_architecture
from nasnet_zoo.search import Budget, LatencyMeter, LatencySettings, NASNetSpace
from nasnet_zoo.search.images import latency

CHILD, CLASSES = Budget().architecture(NASNET_A, 32, 3), 10
COPIES = 5


def children(count: int, seed: int) -> list[Genotype]:
    """Different random children."""
    space, rng = NASNetSpace(), np.random.default_rng(seed)
    found: dict[str, Genotype] = {}
    while len(found) < count:
        genotype = space.decode(space.sample(rng))
        found[space.key(genotype)] = genotype
    return list(found.values())


def measured(meter: LatencyMeter, genotypes: Sequence[Genotype]) -> np.ndarray:
    """Milliseconds and ratios, (2, children)."""
    costs = [meter.measure(genotype) for genotype in genotypes]
    return np.array([[cost[name] for cost in costs] for name in ("latency", "latency_ratio")])


@contextlib.contextmanager
def timed(*names: str) -> Iterator[dict[str, list[float]]]:
    """The seconds of each call of functions that `LatencyMeter` calls."""
    seconds: dict[str, list[float]] = defaultdict(list)
    kept = {name: getattr(latency, name) for name in names}

    def clocked(name: str) -> Callable:
        def call(*args, **kwargs):
            begun = time.perf_counter()
            result = kept[name](*args, **kwargs)
            seconds[name].append(time.perf_counter() - begun)
            return result

        return call

    for name in names:
        setattr(latency, name, clocked(name))
    try:
        yield seconds
    finally:
        for name, function in kept.items():
            setattr(latency, name, function)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Processes that multiply matrices, one thread each."""
    code = "import numpy as np\na = np.ones((1000, 1000))\nwhile True: a @ a"
    single = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    others = [subprocess.Popen([sys.executable, "-c", code], env=single) for _ in range(count)]
    try:
        time.sleep(1)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


# === The table of single operations ===


def file_of(genotype: Genotype, settings: LatencySettings) -> InferenceGraph:
    """The graph that the LiteRT file of a child holds."""
    architecture, classes = settings.network(
        Budget().architecture(genotype, CHILD.image_size, CHILD.channels), CLASSES
    )
    shape = (architecture.image_size, architecture.image_size, architecture.channels)
    graph = file_graph(from_architecture(architecture, shape, classes=classes), shape, False)
    for rewrite in REWRITES["float32"]:
        graph = rewrite(graph)
    return graph


def least_seconds(graph: InferenceGraph, path: Path, runs: int = 30) -> float:
    """Of a graph's file in LiteRT, without the copies of images and outputs."""
    from ai_edge_litert.interpreter import Interpreter

    write(graph, path, graph.outputs, {})
    interpreter, times = Interpreter(os.fspath(path), num_threads=1), []
    interpreter.allocate_tensors()
    for _ in range(runs):
        begun = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - begun)
    return min(times[3:])


class Table:
    """Milliseconds of single operations on one thread of LiteRT; each is measured once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[tuple, float] = {}

    def latency(self, graph: InferenceGraph) -> float:
        """The sum over a graph."""
        shapes = graph.shapes()
        return sum(self.operation(op, [shapes[name] for name in op.inputs]) for op in graph.ops)

    def operation(self, op: Op, shapes: Sequence[ValueShape]) -> float:
        kernel = None if op.kernel is None else op.kernel.shape
        window = op.window, op.stride, op.dilation, op.pads, op.relu
        key = op.kind, tuple(shapes), kernel, window
        if key not in self.known:
            # The inputs of a concatenation may have other numbers of channels, here they have one.
            shape = (*shapes[0][:-1], round(np.mean([shape[-1] for shape in shapes])))
            one, several = (
                least_seconds(
                    InferenceGraph(
                        "image",
                        shape,
                        tuple(
                            op.with_(output=f"y{k}", inputs=("image",) * len(shapes))
                            for k in range(copies)
                        ),
                        tuple(f"y{k}" for k in range(copies)),
                    ),
                    self.folder / "operation.tflite",
                )
                for copies in (1, COPIES)
            )
            self.known[key] = max(several - one, 0.0) / (COPIES - 1) * 1e3
        return self.known[key]


# === Reports ===


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    print(f"\n{title} (load average {load})\n\n| {' | '.join(header)} |")
    print(f"| --- |{' ---: |' * (len(header) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def report(target: str, kind: str, genotypes: Sequence[Genotype], again: int) -> None:
    settings = LatencySettings(latency=kind, latency_target=target)
    meter = LatencyMeter(settings, CHILD, CLASSES)
    begun = time.perf_counter()
    _ = meter.yardstick
    first = time.perf_counter() - begun

    names = {"from_architecture": "build", "export": "export, verified", "time_runs": "time"}
    begun = time.perf_counter()
    with timed(*names) as seconds:
        found = measured(meter, genotypes)
    whole = (time.perf_counter() - begun) / len(genotypes)
    parts = [f"{np.median(seconds[name]):.2f}" for name in names]
    spread = f"{found[0].min():.2f} to {found[0].max():.2f}"
    ratios = f"{found[1].min():.2f} to {found[1].max():.2f}"
    show(
        f"{target}, {kind}: seconds of {len(genotypes)} children",
        ("yardstick", *(f"{name}, median" for name in names.values()), "a child, mean", "ms", "ratio"),
        [[f"{first:.1f}", *parts, f"{whole:.2f}", spread, ratios]],
    )

    def network(genotype: Genotype) -> tuple[Architecture, int]:
        child = Budget().architecture(genotype, CHILD.image_size, CHILD.channels)
        return settings.network(child, CLASSES)

    costs = [architecture_cost(*network(genotype)) for genotype in genotypes]
    predictors = {
        name.replace("_", " "): [getattr(cost, name) for cost in costs]
        for name in ("parameters", "mult_adds", "activation_memory")
    }
    if kind == "litert":
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            table = Table(Path(folder))
            sums = [table.latency(file_of(genotype, settings)) for genotype in genotypes]
        took = time.perf_counter() - begun
        predictors[f"table of {len(table.known)} operations, {took:.0f} s"] = sums
        parts_of = np.array(sums) / found[0]
        print(f"\nSum of the table: {parts_of.min():.2f} to {parts_of.max():.2f} of the latency")
    show(
        f"{target}, {kind}: rank correlation with latency, {len(genotypes)} children",
        ("predictor", "Spearman"),
        [[name, f"{spearmanr(values, found[0])[0]:.3f}"] for name, values in predictors.items()],
    )

    some, rows = genotypes[:again], []
    cores = os.cpu_count() or 1
    for title, count in (("alone", 0), ("beside 1 busy process", 1), (f"beside {cores}", cores)):
        with busy(count):
            other = measured(meter, some)
        one, two = found[1, :again], other[1]
        apart = np.abs(two / one - 1)
        row = f"{spearmanr(one, two)[0]:.3f}", f"{np.median(apart):.1%}", f"{apart.max():.1%}"
        rows.append((title, *row))
    show(
        f"{target}, {kind}: {len(some)} children measured again",
        ("again", "Spearman", "median difference", "greatest"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", nargs="+", default=["child", "4@1056"])
    parser.add_argument("--latency", nargs="+", default=["litert", "litert-int8", "onnx"])
    parser.add_argument("--children", type=int, default=40)
    parser.add_argument("--again", type=int, default=20, help="children to measure again")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    genotypes = children(arguments.children, arguments.seed)
    for target in arguments.target:
        for kind in arguments.latency:
            report(target, kind, genotypes, arguments.again)


if __name__ == "__main__":
    main()
