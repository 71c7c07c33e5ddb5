"""The plain route from a Keras model to files: each format's own converter, nothing rewritten.

Every function takes a Keras model with one image input and one output on the TensorFlow backend (an
auxiliary head is left out), keeps the batch size open, and writes in one step: on failure what was
there before is untouched.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from nasnet_zoo.cells.files import replacing, replacing_folder
from nasnet_zoo.extras import import_extra
from nasnet_zoo.network import inference_model

INPUT_NAME, OUTPUT_NAME = "image", "output"

_ONNX_OPSET = 17


def export_saved_model(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a model as a TensorFlow SavedModel.

    Args:
        model: from float images (batch, height, width, channels) to one output.
        path: of the folder. One that holds an earlier SavedModel is replaced.

    Raises:
        ValueError: if the model does not fit, or the folder holds something else.
    """
    path = saved_model_folder(path)
    module = _serving_module(model)
    with replacing_folder(path) as temporary:
        tf.saved_model.save(module, os.fspath(temporary), signatures=module.serve)


def export_litert(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a model as a LiteRT (TFLite) file, in float32.

    Args:
        model: from float images (batch, height, width, channels) to one output.
        path: of the file, which ends in ``.tflite``.

    Raises:
        ValueError: if the model or the path does not fit, or the format lacks an operation of it.
    """
    path = _file(path, ".tflite")
    module = _serving_module(model)
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    with replacing(path) as temporary, _expressible_in("LiteRT"):
        temporary.write_bytes(converter.convert())


def export_onnx(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes a model as an ONNX file, in float32, with images channels-last as in Keras.

    Args:
        model: from float images (batch, height, width, channels) to one output.
        path: of the file, which ends in ``.onnx``.

    Raises:
        ValueError: if the model or the path does not fit, or the format lacks an operation of it.
        ImportError: if tf2onnx is not installed.
    """
    path = _file(path, ".onnx")
    convert = import_extra("tf2onnx.convert", "export")
    function = _serving_module(model).serve
    checker = import_extra("onnx.checker", "export")
    with replacing(path) as temporary, _expressible_in("ONNX"), _silenced("tf2onnx"):
        convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=_ONNX_OPSET,
            output_path=os.fspath(temporary),
        )
        # The converter only logs what it could not convert, and writes it all the same.
        checker.check_model(os.fspath(temporary))


def saved_model_folder(path: str | os.PathLike[str]) -> Path:
    """The path of a SavedModel to write.

    Raises:
        ValueError: if something else is there.
        OSError: if the folder to write it in is not there.
    """
    path = Path(path)
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise ValueError(
            f"Expected a new folder or an earlier SavedModel. Received: {os.fspath(path)!r}"
        )
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path.parent))
    return path


def check_backend() -> None:
    """Raises a `ValueError` where Keras runs on a backend that exports nothing."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(f"Expected Keras on the TensorFlow backend to export. Received: {backend}")


def _file(path: str | os.PathLike[str], suffix: str) -> Path:
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"Expected a path that ends in {suffix}. Received: {os.fspath(path)!r}")
    return path


def _serving_module(model: keras.Model) -> tf.Module:
    """A module whose ``serve`` is the model at inference, from ``image`` to ``{"output": ...}``."""
    check_backend()
    if isinstance(model, keras.Model):
        model = inference_model(model)
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs or len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4:
        raise ValueError(
            "Expected a model with one image input and one output. "
            f"Received: {model}, {inputs=}, {outputs=}"
        )
    image = tf.TensorSpec((None, *inputs[0].shape[1:]), tf.float32, name=INPUT_NAME)

    @tf.function(input_signature=[image])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {OUTPUT_NAME: model(image, training=False)}

    module = tf.Module()
    module.serve = serve
    # Converters find the values of the variables that ``serve`` reads through the module. The Keras
    # model will not do: once it was trained, a LiteRT file made through it holds no weights.
    module.read = [variable.value for variable in model.variables]
    return module


@contextmanager
def _expressible_in(file_format: str) -> Iterator[None]:
    """Turns the converters' own kinds of errors into a `ValueError`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"Expected a model that {file_format} can express. Received: {error}"
        ) from error


@contextmanager
def _silenced(logger_name: str) -> Iterator[None]:
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
