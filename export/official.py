"""What the official converters of the formats take, with nothing rewritten.

It is a `tf.Module` with a function ``serve``, from images to outputs by name: `model_module` makes one
of a Keras model, `serving_module` of any function.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import keras
import tensorflow as tf

from .graph import InferenceGraph

INPUT_NAME, OUTPUT_NAME = "image", "output"
Node = TypeVar("Node")


@dataclass(frozen=True)
class Part:
    """A graph that computes inputs of a module, in a file that joins them.

    Args:
        graph: The graph, which the format's own writer writes.
        reads: Name of the module's output that the graph takes; without one, of the file's input.
        gives: Names of the module's inputs that the graph's outputs are.
    """

    graph: InferenceGraph
    reads: str
    gives: tuple[str, ...]


def serving_module(
    run: Callable[..., Mapping[str, tf.Tensor]],
    inputs: Mapping[str, tf.TensorSpec],
    variables: Iterable[keras.Variable],
) -> tf.Module:
    """A module for the official converters.

    Args:
        run: Function from the inputs, in order, to outputs by name.
        inputs: Shapes and types of the inputs by name.
        variables: Variables that ``run`` reads.
    """
    signature = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()]

    @tf.function(input_signature=signature)
    def serve(*tensors: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return run(*tensors)

    module = tf.Module()
    module.serve = serve
    # Converters find the values of the variables that ``serve`` reads through the module. The Keras
    # model will not do: once it was trained, a LiteRT file made through it holds no weights.
    module.read = [variable.value for variable in variables]
    return module


def in_order(
    nodes: Iterable[Node],
    reads: Callable[[Node], Iterable[Hashable]],
    makes: Callable[[Node], Iterable[Hashable]],
) -> list[Node]:
    """Nodes of a file, each after those whose outputs it reads, else in their order."""
    waiting, ordered = list(nodes), []
    unmade = {value for node in waiting for value in makes(node)}
    while waiting:
        blocked = []
        for node in waiting:
            if unmade.isdisjoint(reads(node)):
                ordered.append(node)
                unmade.difference_update(makes(node))
            else:
                blocked.append(node)
        waiting = blocked
    return ordered


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
        lambda images: {OUTPUT_NAME: model(images, training=False)},
        {INPUT_NAME: image},
        model.variables,
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
