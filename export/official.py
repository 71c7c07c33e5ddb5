"""Files by each format's official converter, nothing rewritten.

What is converted is a `tf.Module` with a function ``serve``, from images to outputs by name:
`model_module` makes one of a Keras model, `serving_module` of any function. A writer leaves a file
under the path that it is given; what makes it appear in one step is for the caller.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from nasnet_zoo.extras import import_extra
from nasnet_zoo.files import check_parent, replacing, replacing_folder

from .compute import save_module
from .litert_file import with_metadata
from .onnx_file import DEFAULT_OPSET

INPUT_NAME, OUTPUT_NAME = "image", "output"


def serving_module(
    run: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
    image: tf.TensorSpec,
    variables: Iterable[keras.Variable],
) -> tf.Module:
    """A module for the writers.

    Args:
        run: from images to outputs by name.
        image: shape (batch, height, width, channels) and type of the images.
        variables: that ``run`` reads.
    """
    image = tf.TensorSpec(image.shape, image.dtype, name=INPUT_NAME)

    @tf.function(input_signature=[image])
    def serve(image: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return run(image)

    module = tf.Module()
    module.serve = serve
    # Converters find the values of the variables that ``serve`` reads through the module. The Keras
    # model will not do: once it was trained, a LiteRT file made through it holds no weights.
    module.read = [variable.value for variable in variables]
    return module


def model_module(model: keras.Model) -> tf.Module:
    """The module of a model at inference, from float32 images, as many as there are, to ``output``.

    Raises:
        ValueError: if it has not one image input and one output.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            "Expected a model with one image input and one output. "
            f"Received: {model.name!r}, {model.inputs=}, {model.outputs=}"
        )
    image = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    return serving_module(
        lambda images: {OUTPUT_NAME: model(images, training=False)}, image, model.variables
    )


def _write_saved_model(module: tf.Module, path: Path, metadata: Mapping[str, str]) -> None:
    save_module(module, path, module.serve, metadata)


def _write_litert(module: tf.Module, path: Path, metadata: Mapping[str, str]) -> None:
    function = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    with _expressible_in("LiteRT"):
        path.write_bytes(with_metadata(converter.convert(), metadata))


def _write_onnx(
    module: tf.Module, path: Path, metadata: Mapping[str, str], opset: int = DEFAULT_OPSET
) -> None:
    convert = import_extra("tf2onnx.convert", "export")
    onnx = import_extra("onnx", "export")
    with _expressible_in("ONNX"), _silenced("tf2onnx"):
        model, _ = convert.from_function(
            module.serve, input_signature=module.serve.input_signature, opset=opset
        )
        onnx.helper.set_model_props(model, dict(metadata))
        path.write_bytes(model.SerializeToString())
        # The converter only logs what it could not convert, and writes it all the same.
        onnx.checker.check_model(os.fspath(path))


#: By format: from a module, a path and what is told in the file (and the opset of an ONNX file), to
#: float32 with images channels-last.
#: A `ValueError` says that the format lacks an operation; an `ImportError` that a converter is missing.
WRITERS: dict[str, Callable[..., None]] = {
    "saved_model": _write_saved_model,
    "litert": _write_litert,
    "onnx": _write_onnx,
}


def replacing_export(path: Path, format: str) -> AbstractContextManager[Path]:  # noqa: A002
    """As `replacing`, for a file or folder of a format; looks before the work begins.

    Raises:
        ValueError: if something else than a SavedModel is in the place of one.
        OSError: if the folder to write it in is not there.
    """
    check_card(path)
    if format != "saved_model":
        return replacing(path)
    check_parent(path)
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise ValueError(
            f"Expected a new folder or an earlier SavedModel. Received: {os.fspath(path)!r}"
        )
    return replacing_folder(path)


#: The line of a model card that says whose it is.
WRITTEN_BY = "Written by nasnet-zoo."


def card_path(path: Path) -> Path:
    """The path of a file's model card."""
    return path.with_name(path.name + ".md")


def check_card(path: Path) -> None:
    """Raises a `ValueError` where a file's model card would replace a file that is none of ours."""
    card = card_path(path)
    if card.exists() and WRITTEN_BY not in card.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            f"{path}: expected a name whose model card, {card.name}, is new or an earlier one. "
            "Received: the name of a file of another kind"
        )


def check_backend() -> None:
    """Raises a `ValueError` where Keras runs on a backend that exports nothing."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(f"Expected Keras on the TensorFlow backend to export. Received: {backend}")


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
