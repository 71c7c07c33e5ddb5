"""Distillation: trains a transformed model towards what the model computed before ([P])."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from nasnet_zoo.checking import PositiveFloat, PositiveInt, checked

from .calls import Calls, Copy
from .channels import activation_of


@checked
def distill(
    model: keras.Model,
    base: keras.Model,
    images: Any,
    *,
    epochs: PositiveInt = 30,
    batch_size: PositiveInt = 100,
    learning_rate: PositiveFloat = 0.02,
) -> list[float]:
    """Train a model, in place, on the logits of the model that it was before.

    The loss is the mean squared difference of the logits: what the models compute before their softmax,
    if they end in one. The defaults are those of [P], who takes 1,000 validation images.

    Args:
        model: Model to train, such as one with a pooling in the place of an identity.
        base: The model before.
        images: Images as the models take them, (images, height, width, channels).
        epochs: Number of passes over the images. Default: 30.
        batch_size: Images in a step. Default: 100.
        learning_rate: Learning rate of SGD. Default: 0.02.

    Returns:
        The loss of each epoch.

    Raises:
        ValueError: If a model has not one output, the outputs differ in shape, or the loss diverges.
            The model then has the weights that it had.
    """
    student, linear = _up_to_logits(model)
    teacher, _ = _up_to_logits(base)
    if student.output_shape[1:] != teacher.output_shape[1:]:
        raise ValueError(
            f"Expected models of the same outputs. Received: {student.output_shape} and "
            f"{teacher.output_shape}"
        )
    images = np.asarray(images)
    logits = teacher.predict(images, batch_size, verbose=0)
    student.compile(keras.optimizers.SGD(learning_rate), "mse")
    before = student.get_weights()
    stop = keras.callbacks.TerminateOnNaN()
    history = student.fit(images, logits, batch_size, epochs, verbose=0, callbacks=[stop]).history[
        "loss"
    ]
    if not np.isfinite(history[-1]):
        student.set_weights(before)
        raise ValueError(
            f"Expected a learning rate that lowers the loss. Received: learning_rate={learning_rate}, "
            f"with which it is {history[-1]} in epoch {len(history)}"
        )
    if linear is not None:
        linear.layer.set_weights(linear.made.get_weights())
    return [float(loss) for loss in history]


def _up_to_logits(model: keras.Model) -> tuple[keras.Model, Copy | None]:
    """A model on the same layers that gives the logits.

    Returns:
        The model, and the copy of the last layer in it, if that had to be one without softmax.
    """
    calls = Calls(model)
    if len(calls.model.outputs) != 1:
        raise ValueError(f"Expected models of one output. Received: {len(calls.model.outputs)}")
    inputs, output = calls.model.inputs, calls.model.outputs[0]
    last = calls.maker(output)
    if isinstance(last.layer, layers.Softmax) or (
        type(last.layer) is layers.Activation and activation_of(last.layer) == "softmax"
    ):
        return keras.Model(inputs, last.inputs[0]), None
    if activation_of(last.layer) != "softmax":
        return keras.Model(inputs, output), None
    linear = Copy(last.layer, activation=None, name=calls.new_name(f"{last.layer.name}_logits"))
    return keras.Model(inputs, linear(last.inputs[0])), linear
