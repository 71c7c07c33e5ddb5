"""Condensing of CondenseNets in training ([CN] section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from nasnet_zoo.cells import GraphLayer
from nasnet_zoo.cells.primitives import LearnedGroupConv, MaskChannels


class Condensing(keras.callbacks.Callback):
    """Callback of `fit` that drops channels from learned group convolutions.

    The first half of training is divided into equal parts, one fewer than the condensation factor C.
    After each of them every group drops the 1/C of its channels whose weights are least in sum, so that
    it reads 1/C of all in the second half. At the half the classifier drops half its inputs likewise.

    Example::

        model.fit(images, labels, epochs=10, callbacks=[Condensing()])
        model = nasnet_zoo.transform.condense(model)
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0
        self._dropped: dict[int, int] = {}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps before an epoch."""
        if not self.params.get("steps"):
            raise ValueError("Expected steps_per_epoch of data whose length is not known.")
        self._begun = epoch * self.params["steps"]

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Drop the channels that are to be dropped before a step."""
        progress = (self._begun + batch) / (self.params["epochs"] * self.params["steps"])
        for number, (mask, primitive, kernel) in enumerate(_masks(self.model)):
            dropped = dropped_channels(primitive, mask.shape[0], progress)
            if self._dropped.get(number, 0) != dropped:
                self._dropped[number] = dropped
                read, whole = (keras.ops.convert_to_numpy(weight) for weight in (mask, kernel))
                mask.assign(_masked(primitive, whole, read, dropped))


def dropped_channels(primitive: LearnedGroupConv | MaskChannels, channels: int, progress: float) -> int:
    """Return how many of its channels a group does not read.

    Args:
        primitive: A convolution, or the choice before the classifier.
        channels: Number of channels that it has.
        progress: Share of the steps of training that are done.
    """
    if isinstance(primitive, MaskChannels):
        return channels - channels // 2 if progress >= 0.5 else 0
    parts = primitive.condense - 1
    return min(int(2 * progress * parts), parts) * channels // primitive.condense


def _masked(
    primitive: LearnedGroupConv | MaskChannels, kernel: np.ndarray, mask: np.ndarray, dropped: int
) -> np.ndarray:
    if isinstance(primitive, LearnedGroupConv):
        return primitive.masked(kernel, mask, dropped)
    # The classifier is a convolution of one group.
    one = LearnedGroupConv(kernel.shape[-1], 1, 2)
    return one.masked(kernel[None, None], mask[:, None], dropped)[:, 0]


def _masks(
    model: keras.Model,
) -> Iterator[tuple[keras.Variable, LearnedGroupConv | MaskChannels, keras.Variable]]:
    """Yield the masks of a model, each with its primitive and the kernel whose inputs it masks."""
    layers = list(model._flatten_layers())
    heads = [layer for layer in layers if layer.name == "predictions"]
    for layer in layers:
        if not isinstance(layer, GraphLayer):
            continue
        for primitive, weights in layer.primitives_with_weights():
            if isinstance(primitive, LearnedGroupConv):
                yield weights[1], primitive, weights[0]
            elif isinstance(primitive, MaskChannels) and heads:
                yield weights[0], primitive, heads[0].kernel
