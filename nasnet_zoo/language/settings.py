"""The size and dropout of a language model, as data. Imports no backend."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from nasnet_zoo.cells import RecurrentGenotype
from nasnet_zoo.checking import DropRate, PositiveFloat, PositiveInt, check_fields

#: What the layers of a language model compute: a tree, or an LSTM, which is none.
CellKind = RecurrentGenotype | Literal["lstm"]


@dataclass(frozen=True)
class LanguageModelSettings:
    """The size and dropout of a language model.

    Args:
        units: Units of each layer, H.
        layers: Number of layers.
        embedding: Size of the embeddings. Default: H.
        tied: Whether the softmax has the weights of the embeddings, which are then of size H.
        embedding_dropout: Share of the vocabulary whose embeddings training drops for a sequence.
        dropout: Share of each layer's inputs and of the last one's outputs that training drops, the
            same at all steps of a sequence.
        recurrent_dropout: Share of each layer's h that training drops, the same at all steps of a
            sequence.
        initial: All weights are drawn uniformly from [-initial, initial]. Default: matrices by LeCun's
            rule, by the units that they read, and embeddings from [-1, 1]; with smaller ones, deep
            trees of products start to learn late.

    Raises:
        ValueError: If a value is out of range, or the embeddings do not fit the softmax.
    """

    units: PositiveInt = 128
    layers: PositiveInt = 2
    embedding: PositiveInt | None = None
    tied: bool = False
    embedding_dropout: DropRate = 0.0
    dropout: DropRate = 0.0
    recurrent_dropout: DropRate = 0.0
    initial: PositiveFloat | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.tied and self.embedding not in (None, self.units):
            raise ValueError(
                f"Expected embedding: units={self.units} or none with tied. "
                f"Received: embedding={self.embedding}"
            )

    def parameters(self, cell: CellKind, vocabulary: int) -> int:
        """Return the number of parameters with layers of a cell and so many different tokens."""
        units, width = self.units, self.embedding or self.units
        gates, biases = (4, 4) if cell == "lstm" else (cell.base, 0)
        total = vocabulary * (width + 1) + (0 if self.tied else vocabulary * units)
        for layer in range(self.layers):
            total += gates * units * ((units if layer else width) + units) + biases * units
        return total

    def with_parameters(
        self, parameters: int, cell: CellKind, vocabulary: int
    ) -> LanguageModelSettings:
        """Copy the settings with the units of the number of parameters that is nearest."""

        def sized(units: int) -> LanguageModelSettings:
            embedding = None if self.tied else self.embedding
            return dataclasses.replace(self, units=units, embedding=embedding)

        def excess(units: int) -> int:
            return sized(units).parameters(cell, vocabulary) - parameters

        low, high = 1, 2
        while excess(high) < 0:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
        return sized(min(low, high, key=lambda units: abs(excess(units))))
