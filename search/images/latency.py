"""The measured latency of children: each is exported, verified and timed in turn with a yardstick."""

from __future__ import annotations

import functools
import math
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from nasnet_zoo.architecture import Network, network_graph
from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.export import Runtime, export, load_runtime
from nasnet_zoo.export.benchmark import time_runs
from nasnet_zoo.export.settings import Quantization
from nasnet_zoo.models import from_architecture
from nasnet_zoo.search.evaluator import share_gpus
from nasnet_zoo.search.policies import check_state

from .settings import LatencySettings

#: Rounds of three runs of the yardstick and the child, whose least times are compared.
_ROUNDS = 15
#: Seconds after which a command has failed.
_TIMEOUT = 60.0
#: Images whose ranges int8 is read off. The time does not depend on them.
_CALIBRATING = 4
#: The file of each kind, and its numbers.
FILES: dict[str, tuple[str, Quantization]] = {
    "litert": ("model.tflite", "float32"),
    "litert-int8": ("model.tflite", "int8"),
    "onnx": ("model.onnx", "float32"),
}


@dataclass
class Yardstick:
    """The network that children are compared with.

    Args:
        milliseconds: Time of one image when nothing else of the search ran.
        runtime: Its file in the runtime; None if a command times files.
    """

    milliseconds: float
    runtime: Runtime | None = None


class LatencyMeter:
    """Measures the latency of children on one device.

    It is sent to workers without its yardstick, which is in the process of the search.

    Args:
        settings: How latency is measured.
        child: Network of a child. That of its genotype is the yardstick.
        classes: Number of classes of a child.
    """

    @checked
    def __init__(self, settings: LatencySettings, child: Network, classes: PositiveInt) -> None:
        assert settings.latency is not None
        self.settings = settings
        self._network, self._classes = settings.network(child, classes)
        self._file, self._quantization = FILES[settings.latency]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "yardstick"}

    @functools.cached_property
    def yardstick(self) -> Yardstick:
        """The network that children are compared with, which is timed when it is first asked for.

        Raises:
            ValueError: If it cannot be exported.
            ImportError: If the runtime is not installed.
            OSError: If the command does not work.
        """
        share_gpus()
        with tempfile.TemporaryDirectory(prefix="nasnet-zoo-") as folder:
            path = self._export(self._architecture(self._network.genotype), Path(folder))
            if self.settings.command:
                return Yardstick(_run(self.settings.command, path))
            runtime = load_runtime(path, self.settings.latency_threads)
        return Yardstick(float(time_runs([runtime], _ROUNDS).min()) * 1e3, runtime)

    def measure(self, genotype: Any) -> dict[str, float]:
        """Measure a child.

        On this machine its time is a multiple of that of the yardstick, which runs in turn with it:
        other processes slow both.

        Returns:
            latency, in milliseconds, and latency_ratio, to the yardstick.

        Raises:
            ValueError: If the images are too small for the network.
            RuntimeError: If it cannot be exported: a defect of this package or of an operation.
            ImportError, OSError: See `yardstick`.
        """
        yardstick, architecture = self.yardstick, self._architecture(genotype)
        with tempfile.TemporaryDirectory(prefix="nasnet-zoo-") as folder:
            try:
                path = self._export(architecture, Path(folder))
            except ValueError as error:
                raise RuntimeError(f"cannot export a child to measure its latency: {error}") from error
            if self.settings.command:
                ratio = _run(self.settings.command, path) / yardstick.milliseconds
            else:
                assert yardstick.runtime is not None
                runtime = load_runtime(path, self.settings.latency_threads)
                least = time_runs([yardstick.runtime, runtime], _ROUNDS).min(2)
                ratio = float(np.median(least[1] / least[0]))
        return {"latency": ratio * yardstick.milliseconds, "latency_ratio": ratio}

    def state(self) -> dict[str, np.ndarray]:
        """The time of the yardstick, which all children of a search are compared with."""
        return {"yardstick": np.array(self.yardstick.milliseconds)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state.

        Raises:
            ValueError: If it is not a state of a meter.
        """
        check_state(state, self.state())
        milliseconds = float(state["yardstick"])
        if milliseconds <= 0:
            raise ValueError(f"Expected yardstick: above 0. Received: {milliseconds}")
        self.yardstick.milliseconds = milliseconds

    def _architecture(self, genotype: Any) -> Network:
        """The network that is timed for a genotype.

        Raises:
            ValueError: If the images are too small for it.
        """
        architecture = self._network.replace(genotype=genotype)
        network_graph(architecture, self._classes).check_sizes([_image_shape(architecture)])
        return architecture

    def _export(self, architecture: Network, folder: Path) -> Path:
        """Write a network with random weights to a verified file.

        Raises:
            ValueError: If it cannot be exported.
            ImportError: If the runtime is not installed.
        """
        shape = _image_shape(architecture)
        model = from_architecture(architecture, shape, classes=self._classes)
        noise = np.random.default_rng(0).integers(0, 256, (_CALIBRATING, *shape), np.uint8)
        return export(
            model,
            folder / self._file,
            quantization=self._quantization,
            representative=noise if self._quantization == "int8" else None,
            min_agreement=0.0,  # classes of random weights are none
        ).path


def _image_shape(architecture: Network) -> tuple[int, int, int]:
    return architecture.image_size, architecture.image_size, architecture.channels


def _run(command: Sequence[str], file: Path) -> float:
    """Time a file with a command: the milliseconds that it prints.

    Raises:
        OSError: If the command cannot be run, fails, takes too long or prints something else.
    """
    words = [word.replace("{file}", os.fspath(file)) for word in command]
    # Files, as a process that the command leaves behind would keep a pipe open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            # In a group of its own, to end with it what it has started.
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise OSError(
                f"Expected latency_command: a program that can be run. Received: {words[0]!r}: "
                f"{error.strerror}"
            ) from None
        try:
            status = process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"Expected latency_command to end within {_TIMEOUT:g} s. "
                f"Received: {shlex.join(words):.200}"
            ) from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed, said = map(_text, (output, errors))
    if status:
        received = ": ".join(filter(None, (f"exit status {status}", said[-200:] or printed[-200:])))
        raise ChildProcessError(f"Expected latency_command to succeed. Received: {received}")
    try:
        milliseconds = float(printed)
    except ValueError:
        milliseconds = math.nan
    if not 0 < milliseconds < math.inf:
        raise ChildProcessError(
            "Expected latency_command to print the milliseconds of an image, one number above 0. "
            f"Received: {printed[:200]!r}"
        )
    return milliseconds


def _text(file: IO[bytes]) -> str:
    """What a command has written, in one line."""
    file.seek(0)
    return " ".join(file.read().decode(errors="replace").split())
