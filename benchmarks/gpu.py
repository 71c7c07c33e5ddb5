"""Children on one GPU, by number of workers: how many an hour, and how much of its memory they take.

Random cells are trained as ordinary Keras models (`KerasChild`), on the backend that KERAS_BACKEND
names, once with each number of workers. Prints a Markdown table. It needs no TensorFlow.
"""

import argparse
import subprocess
import threading
import time

import keras
import numpy as np
from outcomes import outcomes

from nasnet_zoo.architecture import Architecture
from nasnet_zoo.data.idx import load_idx
from nasnet_zoo.models import from_architecture
from nasnet_zoo.search.evaluator import Trial
from nasnet_zoo.search.executors.processes import Processes
from nasnet_zoo.search.keras_child import KerasChild
from nasnet_zoo.search.nasnet.settings import Budget
from nasnet_zoo.search.nasnet.space import NASNetSpace


class Network(KerasChild[Architecture]):
    """A network of cells."""

    def build(self, architecture: Architecture) -> keras.Model:
        model = from_architecture(architecture, classes=10)
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


class Memory(threading.Thread):
    """The most memory of the GPU in use, in MiB, until `stop`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most, self._stopped = 0, threading.Event()

    def run(self) -> None:
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self._stopped.wait(0.2):
            used = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            self.most = max(self.most, int(used.split()[0]))

    def stop(self) -> int:
        self._stopped.set()
        self.join()
        return self.most


def scaled(images: np.ndarray) -> np.ndarray:
    """Pixels as networks read them."""
    return images.astype(np.float32) / 127.5 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of Fashion-MNIST's IDX files")
    parser.add_argument("--children", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--images", type=int, default=12800)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    data = load_idx(arguments.data)
    kept, held_out = slice(arguments.images), slice(2000)
    child = Network(
        (scaled(data.train_images[kept]), data.train_labels[kept]),
        (scaled(data.test_images[held_out]), data.test_labels[held_out]),
        batch_size=128,
        precision=arguments.precision,
    )
    space, rng = NASNetSpace(), np.random.default_rng(0)
    networks = [
        Budget(filters=16).architecture(space.decode(space.sample(rng)), 28, 1)
        for _ in range(arguments.children)
    ]
    trials = [Trial(number, network, number) for number, network in enumerate(networks)]
    print(f"{keras.backend.backend()}, {arguments.precision}, {arguments.children} children\n")
    print("| workers | children per hour | GPU memory, most | mean reward | differs by at most |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    first = None
    for workers in arguments.workers:
        memory = Memory()
        memory.start()
        begun = time.perf_counter()
        with Processes(child, workers) as executor:
            found = sorted(outcomes(executor, trials), key=lambda outcome: outcome.number)
        seconds = time.perf_counter() - begun
        rewards = np.array([outcome.result.reward for outcome in found])
        first = rewards if first is None else first
        print(
            f"| {workers} | {len(trials) / seconds * 3600:,.0f} | {memory.stop():,} MiB | "
            f"{rewards.mean():.4f} | {np.abs(rewards - first).max():.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
