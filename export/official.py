"""What the official converters of the formats take, with nothing rewritten.

It is a `tf.Module` with a function ``serve``, from images to outputs by name: `model_module` makes one
of a Keras model, `serving_module` of any function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import keras
import tensorflow as tf

INPUT_NAME, OUTPUT_NAME = "image", "output"


def serving_module(
    run: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
    image: tf.TensorSpec,
    variables: Iterable[keras.Variable],
) -> tf.Module:
    """A module for the official converters.

    Args:
        run: Function from images to outputs by name.
        image: Shape (batch, height, width, channels) and type of the images.
        variables: Variables that ``run`` reads.
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
    """The module of a model at inference, from any number of float32 images to ``output``.

    Raises:
        ValueError: If the model has not one image input and one output.
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


def check_backend() -> None:
    """Raise a `ValueError` where Keras runs on a backend that exports nothing."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(f"Expected Keras on the TensorFlow backend to export. Received: {backend}")


@contextmanager
def expressible_in(file_format: str) -> Iterator[None]:
    """Turn errors of the converters into a `ValueError`."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"Expected a model that {file_format} can express. Received: {error}"
        ) from error
