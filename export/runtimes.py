"""Running an exported file in its own runtime: TensorFlow, LiteRT or ONNX Runtime."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import parse_json
from nasnet_zoo.quiet import quiet_stderr

ImageShape = tuple[int | None, ...]

#: The name under which a file holds what is told about the model, as JSON: a buffer of a LiteRT file, a
#: file in a SavedModel's folder of additional assets, which no loader reads.
METADATA_NAME = "nasnet_zoo.json"
SAVED_MODEL_METADATA = f"assets.extra/{METADATA_NAME}"


@dataclass(frozen=True)
class Runtime:
    """A file, loaded and ready to run.

    Args:
        name: of the runtime.
        size: of the file, or of all files of the folder, in bytes.
        image_shape: (height, width, channels) of the images it takes; None where any will do.
        outputs: names of the outputs.
        run: from images (batch, height, width, channels) to each of the outputs: in float32, which
            bytes become too, or as ints.
        image_dtype: of the images: "float32", or "uint8" for bytes as files hold them.
        metadata: what the file tells of its model, such as ``class_names`` (JSON), by name; empty
            where another writer put nothing in.
    """

    name: str
    size: int
    image_shape: ImageShape
    outputs: tuple[str, ...]
    run: Callable[[np.ndarray], list[np.ndarray]]
    image_dtype: str = "float32"
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, if the file tells them.

        Raises:
            ValueError: if what it tells is no list of names.
        """
        if "class_names" not in self.metadata:
            return None
        expected = "Expected class names in the file's metadata"
        names = parse_json(self.metadata["class_names"], expected)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{expected}. Received: {self.metadata['class_names'][:80]}")
        return tuple(names)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The first output, (batch, ...), for images (batch, height, width, channels).

        Raises:
            ValueError: if the images' type or shape does not fit.
        """
        return self.predict_all(images)[0]

    def predict_all(self, images: np.ndarray) -> list[np.ndarray]:
        """All outputs, as `predict`."""
        images = np.asarray(images)
        pairs = zip(self.image_shape, images.shape[1:], strict=True) if images.ndim == 4 else ()
        fits = pairs and all(expected in (None, size) for expected, size in pairs)
        if not fits or images.dtype != self.image_dtype or not len(images):
            shape = ", ".join(map(str, self.image_shape))
            raise ValueError(
                f"Expected {self.image_dtype} images of shape (batch, {shape}). "
                f"Received: {images.dtype} {images.shape}"
            )
        return self.run(images)

    def latency(self, image: np.ndarray, runs: int = 50, warm_up: int = 5) -> float:
        """The median time that one image takes, in seconds.

        Args:
            image: (1, height, width, channels).
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


def load_runtime(path: str | os.PathLike[str], threads: int | None = None) -> Runtime:
    """Loads a file into the runtime that it is for, on the CPU.

    A SavedModel is a program: load only those that you trust.

    Args:
        path: a SavedModel folder, or a ``.tflite`` or ``.onnx`` file, with one input.
        threads: that LiteRT or ONNX Runtime compute with. Default: one for each core.

    Raises:
        ValueError: if there is no such file, or it is broken or of another kind.
        ImportError: if the runtime is not installed.
    """
    path = Path(path)
    load: Callable[[Path, int], Runtime]
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
        return load(path, threads or os.cpu_count() or 1)
    except ImportError:
        raise
    # The runtimes raise errors of their own kinds on files that they cannot read.
    except Exception as error:
        raise ValueError(f"{path}: expected a model that can be loaded. Received: {error}") from None


def _saved_model(path: Path, threads: int) -> Runtime:
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))
    ((name, image),) = loaded.signatures["serving_default"].structured_input_signature[1].items()
    outputs = sorted(loaded.signatures["serving_default"].structured_outputs, key=_by_number)

    def run(images: np.ndarray) -> list[np.ndarray]:
        # Not the signature alone is kept: its variables live only as long as what was loaded.
        made = loaded.signatures["serving_default"](**{name: tf.constant(images)})
        return [np.asarray(made[output]) for output in outputs]

    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    about, dtype = path / SAVED_MODEL_METADATA, image.dtype.name
    metadata = _metadata(about.read_text(encoding="utf-8")) if about.is_file() else {}
    return Runtime("TensorFlow", size, tuple(image.shape[1:]), tuple(outputs), run, dtype, metadata)


def _metadata(text: str) -> dict[str, str]:
    told = parse_json(text, "Expected metadata in JSON")
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise ValueError(f"Expected metadata, an object of texts. Received: {text[:80]}")
    return told


def _by_number(name: str) -> tuple[int, str]:
    """Puts output_10 behind output_9; neither runtime keeps the order of the outputs."""
    return len(name), name


def _litert(path: Path, threads: int) -> Runtime:
    module = import_extra("ai_edge_litert.interpreter", "export")
    with quiet_stderr():  # it logs that it has a delegate
        interpreter = module.Interpreter(os.fspath(path), num_threads=threads)
    (image,) = interpreter.get_input_details()
    outputs = {output["name"]: output for output in interpreter.get_output_details()}
    if interpreter.get_signature_list():
        named = interpreter.get_signature_runner().get_output_details()
        outputs = {name: named[name] for name in sorted(named, key=_by_number)}
    interpreter.allocate_tensors()
    shape = list(image["shape"])

    def run(images: np.ndarray) -> list[np.ndarray]:
        if shape != list(images.shape):
            shape[:] = images.shape
            interpreter.resize_tensor_input(image["index"], shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return [_real(interpreter.get_tensor(output["index"]), output) for output in outputs.values()]

    sizes = tuple(None if size < 0 else int(size) for size in image["shape_signature"][1:])
    dtype = np.dtype(image["dtype"]).name
    metadata = _litert_metadata(path)
    return Runtime("LiteRT", path.stat().st_size, sizes, tuple(outputs), run, dtype, metadata)


def _litert_metadata(path: Path) -> dict[str, str]:
    schema = import_extra("ai_edge_litert.schema_py_generated", "export")
    model = schema.Model.GetRootAs(path.read_bytes())
    for k in range(model.MetadataLength()):
        if model.Metadata(k).Name() == METADATA_NAME.encode():
            data = model.Buffers(model.Metadata(k).Buffer()).DataAsNumpy()
            return _metadata(bytes(data).decode())
    return {}


def _real(output: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """An output of LiteRT: bytes in float32, what is on no scale as it is."""
    step, zero_point = details["quantization"]
    return (output.astype(np.float32) - zero_point) * np.float32(step) if step else output


def _onnx(path: Path, threads: int) -> Runtime:
    onnxruntime = import_extra("onnxruntime", "export")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    (image,), outputs = session.get_inputs(), [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> list[np.ndarray]:
        return session.run(outputs, {image.name: images})

    sizes = tuple(size if isinstance(size, int) else None for size in image.shape[1:])
    dtype = "uint8" if image.type == "tensor(uint8)" else "float32"
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return Runtime("ONNX Runtime", path.stat().st_size, sizes, tuple(outputs), run, dtype, metadata)


_LOADERS: dict[str, Callable[[Path, int], Runtime]] = {".tflite": _litert, ".onnx": _onnx}
