"""What an episode does to a network, one step after the other ([E])."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import Literal, NamedTuple

from nasnet_zoo.cells import ChainGenotype, ChainLayer

#: What is drawn: whether a layer becomes wider; the block, the layer in it and the kernel of a new one.
Kind = Literal["wider", "block", "layer", "kernel"]
#: The draws of a step that inserts a layer, in their order.
DEEPER: tuple[Kind, ...] = ("block", "layer", "kernel")


class Draw(NamedTuple):
    """A draw that is to be made.

    Args:
        kind: What is drawn.
        step: Number of the step.
        layer: Of "wider" the number of the layer, else 0.
        choices: Number of choices.
    """

    kind: Kind
    step: int
    layer: int
    choices: int

    @property
    def place(self) -> str:
        """Its name in messages."""
        return f"step {self.step}, {self.kind}" + (f" {self.layer}" if self.kind == "wider" else "")


class Episode:
    """A network that an episode changes, which says what is drawn next.

    In a step that widens, every layer that is not at its greatest width becomes as wide as the next
    level or stays. In a step that deepens, a new layer of equal width is put behind one: its block is
    drawn, its number in the block, and the kernel of a convolution. A miniblock is copied.

    Args:
        base: Network to begin with.
        wider: Number of steps that widen.
        deeper: Number of steps that deepen, after those.
        levels: Of each kind of layer its widths, in increasing order.
        kernels: Kernels of new convolutions.

    Attributes:
        layers: The layers, as they are before the step.
        draws: The next draws, which do not depend on each other; none when the episode has ended.
        drawn: What was drawn in the step so far, of one that deepens.
    """

    def __init__(
        self,
        base: ChainGenotype,
        wider: int,
        deeper: int,
        levels: Mapping[str, Sequence[int]],
        kernels: Sequence[int],
    ) -> None:
        self._base, self._levels, self._kernels = base, levels, kernels
        self.layers = base.layers
        self.drawn: tuple[int, ...] = ()
        self._steps = self._all(wider, deeper)
        self.draws: tuple[Draw, ...] = next(self._steps, ())

    def decide(self, actions: Sequence[int]) -> None:
        """Make the next draws."""
        try:
            self.draws = self._steps.send(actions)
        except StopIteration:
            self.draws = ()

    @property
    def genotype(self) -> ChainGenotype:
        """The network as it is before the step."""
        return self._base.grown(self.layers)

    def _all(self, wider: int, deeper: int) -> Generator[tuple[Draw, ...], Sequence[int], None]:
        for step in range(wider):
            yield from self._wider(step)
        for step in range(wider, wider + deeper):
            yield from self._deeper(step)

    def _wider(self, step: int) -> Generator[tuple[Draw, ...], Sequence[int], None]:
        next_level = {k: self._next_level(layer) for k, layer in enumerate(self.layers)}
        draws = tuple(Draw("wider", step, k, 2) for k, units in next_level.items() if units)
        if not draws:
            return
        layers = list(self.layers)
        for draw, action in zip(draws, (yield draws), strict=True):
            if action:
                units = next_level[draw.layer]
                layers[draw.layer] = dataclasses.replace(layers[draw.layer], units=units)
        self.layers = tuple(layers)

    def _next_level(self, layer: ChainLayer) -> int:
        """The next greater width of a layer, 0 if there is none."""
        return next((units for units in self._levels.get(layer.kind, ()) if units > layer.units), 0)

    def _deeper(self, step: int) -> Generator[tuple[Draw, ...], Sequence[int], None]:
        blocks = self._base.grown(self.layers).parted
        (block,) = yield (Draw("block", step, 0, len(blocks)),)
        self.drawn = (block,)
        (number,) = yield (Draw("layer", step, 0, len(blocks[block])),)
        self.drawn = block, number
        place = blocks[block][number]
        layer = self.layers[place]
        if layer.kind == "conv":
            (kernel,) = yield (Draw("kernel", step, 0, len(self._kernels)),)
            layer = dataclasses.replace(layer, kernel=self._kernels[kernel])
        self.layers, self.drawn = (*self.layers[: place + 1], layer, *self.layers[place + 1 :]), ()
