"""A network split at its second reduction cell: proposal features and box head ([N] table 4, [D])."""

from __future__ import annotations

import keras

from nasnet_zoo.architecture import STACKS
from nasnet_zoo.network import places_of


def split_network(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Split a network before its second reduction cell. The halves share its weights.

    In NASNet-A Large the first half ends with cell 11 at a sixteenth of the image's size, and the box
    head is cells 12 to 17 with their reduction cell.

    Args:
        model: Model of this package, with or without its classifier.

    Returns:
        Model from images to the states that the later cells read, (batch, height, width, channels)
        each, and model from these states to the features before pooling.

    Raises:
        ValueError: If the model is not of this package, or its box head reads states of different
            sizes.
    """
    later = [cell for cell, place in places_of(model).items() if place.stack == STACKS - 1]
    made = {id(state) for cell in later for state in _states(cell.output)}
    cut = {id(s): s for cell in later for s in _states(cell.input) if id(s) not in made}
    states = list(cut.values())
    if len({(state.shape[1], state.shape[2]) for state in states}) > 1:
        shapes = [tuple(state.shape) for state in states]
        raise ValueError(f"Expected states of one size before {later[0].name}. Received: {shapes}")
    first = keras.Model(model.input, states, name="proposal_features")
    box_head = keras.Model(states, model.get_layer("Head_ReLU").output, name="box_head")
    return first, box_head


def _states(tensors: list[keras.KerasTensor] | keras.KerasTensor) -> list[keras.KerasTensor]:
    return tensors if isinstance(tensors, list) else [tensors]
