"""Running an exported file in its own runtime: TensorFlow, LiteRT or ONNX Runtime."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasnet_zoo.extras import import_extra

ImageShape = tuple[int | None, ...]


@dataclass(frozen=True)
class Runtime:
    """A file, loaded and ready to run.

    Args:
        name: of the runtime.
        size: of the file, or of all files of the folder, in bytes.
        image_shape: (height, width, channels) of the images it takes; None where any will do.
        run: from float32 images (batch, height, width, channels) to the output of each.
    """

    name: str
    size: int
    image_shape: ImageShape
    run: Callable[[np.ndarray], np.ndarray]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The outputs, (batch, ...) in float32, for images (batch, height, width, channels).

        Raises:
            ValueError: if the images are not float32 or their shape does not fit.
        """
        pairs = zip(self.image_shape, images.shape[1:], strict=True) if images.ndim == 4 else ()
        fits = pairs and all(expected in (None, size) for expected, size in pairs)
        if not fits or images.dtype != np.float32 or not len(images):
            raise ValueError(
                f"Expected float32 images of shape (batch, {', '.join(map(str, self.image_shape))}). "
                f"Received: {images.dtype} {images.shape}"
            )
        return self.run(images)

    def latency(self, image: np.ndarray, runs: int = 50, warm_up: int = 5) -> float:
        """The median time that one image takes, in seconds.

        Args:
            image: float32, (1, height, width, channels).
            runs: how many to time.
            warm_up: how many to do before.
        """
        for _ in range(warm_up):
            self.predict(image)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            self.predict(image)
            times.append(time.perf_counter() - start)
        return statistics.median(times)


def load_runtime(path: str | os.PathLike[str]) -> Runtime:
    """Loads a file into the runtime that it is for, on the CPU with a thread for each core.

    A SavedModel is a program: load only those that you trust.

    Args:
        path: a SavedModel folder, or a ``.tflite`` or ``.onnx`` file, with one input and one output.

    Raises:
        ValueError: if there is no such file, or it is broken or of another kind.
        ImportError: if the runtime is not installed.
    """
    path = Path(path)
    load: Callable[[Path], Runtime]
    if (path / "saved_model.pb").is_file():
        load = _saved_model
    elif path.suffix in _LOADERS and path.is_file():
        load = _LOADERS[path.suffix]
    else:
        raise ValueError(
            "Expected a SavedModel folder, or a file that ends in .tflite or .onnx. "
            f"Received: {os.fspath(path)!r}"
        )
    try:
        return load(path)
    except ImportError:
        raise
    # The runtimes raise errors of their own kinds on files that they cannot read.
    except Exception as error:
        raise ValueError(f"{path}: expected a model that can be loaded. Received: {error}") from None


def _saved_model(path: Path) -> Runtime:
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))
    ((name, image),) = loaded.signatures["serving_default"].structured_input_signature[1].items()
    (output,) = loaded.signatures["serving_default"].structured_outputs

    def run(images: np.ndarray) -> np.ndarray:
        # Not the signature alone is kept: its variables live only as long as what was loaded.
        return np.asarray(loaded.signatures["serving_default"](**{name: tf.constant(images)})[output])

    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Runtime("TensorFlow", size, tuple(image.shape[1:]), run)


def _litert(path: Path) -> Runtime:
    interpreter = import_extra("ai_edge_litert.interpreter", "export").Interpreter(
        os.fspath(path), num_threads=os.cpu_count()
    )
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.allocate_tensors()
    shape = list(image["shape"])

    def run(images: np.ndarray) -> np.ndarray:
        if shape != list(images.shape):
            shape[:] = images.shape
            interpreter.resize_tensor_input(image["index"], shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    sizes = tuple(None if size < 0 else int(size) for size in image["shape_signature"][1:])
    return Runtime("LiteRT", path.stat().st_size, sizes, run)


def _onnx(path: Path) -> Runtime:
    onnxruntime = import_extra("onnxruntime", "export")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    (image,), (output,) = session.get_inputs(), session.get_outputs()

    def run(images: np.ndarray) -> np.ndarray:
        return session.run([output.name], {image.name: images})[0]

    sizes = tuple(size if isinstance(size, int) else None for size in image.shape[1:])
    return Runtime("ONNX Runtime", path.stat().st_size, sizes, run)


_LOADERS: dict[str, Callable[[Path], Runtime]] = {".tflite": _litert, ".onnx": _onnx}
