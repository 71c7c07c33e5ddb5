"""The space of EAS: what an episode makes of a network that is given ([E])."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, ClassVar

import numpy as np
from tyro.conf import arg

from nasnet_zoo.cells import EAS_SMALL, ChainGenotype, DenseNetGenotype
from nasnet_zoo.cells.draw_chain import chain_svg
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, check_fields
from nasnet_zoo.search.space import Actions, GivenActions, Space

from .episode import Draw, Episode, Kind

Levels = tuple[PositiveInt, ...]
_BASES = {"plain": EAS_SMALL.text, "densenet": "g4_g4_t_g4_g4_t_g4_g4"}

#: The widths of the release for larger networks.
LARGE_FILTERS = (16, 32, 64, 96, 128, *range(192, 641, 64))
LARGE_UNITS = (64, *range(128, 1281, 128))


@dataclass(frozen=True)
class EASSpace(Space[ChainGenotype]):
    """All networks that an episode can make of one.

    A child is the actions of an episode: some steps widen layers, others insert layers, see `Episode`.
    Episodes that make the same network are the same child.

    Args:
        base: Network to begin with: tokens, such as ``conv-4-3_pool_fc-8`` or ``g4_g4_t_g4``, whose
            widths and kernels are among those below; or "plain" or "densenet", a small one ([E]).
        wider: Number of steps that widen. Default: 4 of a plain network, 10 of a DenseNet.
        deeper: Number of steps that insert a layer. Default: 5.
        filters: Numbers of filters of convolutions, in increasing order.
        units: Numbers of units of fully connected layers.
        growths: Channels that miniblocks of a DenseNet add.
        kernels: Kernels of new convolutions.

    Raises:
        ValueError: If a value is out of range or does not fit the base, or there are no steps.
    """

    legend: ClassVar[str] = "Layers of blocks are yellow, what parts the blocks is green."

    base: Annotated[str, arg(aliases=("--base",))] = "plain"
    wider: NonNegativeInt | None = None
    deeper: NonNegativeInt = 5
    filters: Levels = tuple(range(4, 41, 4))
    units: Levels = tuple(range(8, 81, 8))
    growths: Levels = tuple(range(4, 49, 2))
    kernels: Levels = (1, 3, 5)

    def __post_init__(self) -> None:
        for name in ("filters", "units", "growths", "kernels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_fields(self)
        for name in ("filters", "units", "growths", "kernels"):
            values = getattr(self, name)
            if not values or list(values) != sorted(set(values)):
                raise ValueError(
                    f"Expected {name}: at least one number, in increasing order. Received: {values}"
                )
        try:
            dense = isinstance(self.start, DenseNetGenotype)
        except ValueError as error:
            raise ValueError(f"base, {error}") from None
        if self.wider is None:
            object.__setattr__(self, "wider", 10 if dense else 4)
        if not self.wider and not self.deeper:
            raise ValueError("Expected wider and deeper: at least one step. Received: 0 and 0")
        for k, layer in enumerate(self.start.layers):
            levels = self.levels.get(layer.kind, (layer.units,))
            kernels = (*self.kernels, 0)
            if layer.units not in levels or layer.kernel not in kernels:
                raise ValueError(
                    f"Expected base: widths among {levels} and kernels among {self.kernels}. "
                    f"Received: layer {k}, {layer}"
                )

    @functools.cached_property
    def start(self) -> ChainGenotype:
        """The network to begin with."""
        text = _BASES.get(self.base, self.base)
        return ChainGenotype.from_dict({"name": "start", "chain": text})

    @property
    def dense(self) -> bool:
        """Whether the networks are DenseNets."""
        return isinstance(self.start, DenseNetGenotype)

    @property
    def levels(self) -> dict[str, Levels]:
        """Of each kind of layer the widths that it can have, in increasing order."""
        if self.dense:
            return {"g": self.growths}
        return {"conv": self.filters, "fc": self.units}

    @property
    def heads(self) -> dict[Kind, int]:
        """Kinds of draws, and the greatest number of choices of each."""
        blocks = self.start.parted
        longest = max(map(len, blocks)) + max(self.deeper - 1, 0)
        found: dict[Kind, int] = {"wider": 2, "block": len(blocks), "layer": longest}
        return found if self.dense else {**found, "kernel": len(self.kernels)}

    # === From actions to a network and back ===

    def episode(self) -> Episode:
        """An episode that begins."""
        return Episode(self.start, self.wider or 0, self.deeper, self.levels, self.kernels)

    def _played(self, choose: Callable[[Draw], int]) -> tuple[dict[Draw, int], ChainGenotype]:
        """The actions that a function chose, and the network."""
        episode = self.episode()
        actions: dict[Draw, int] = {}
        while draws := episode.draws:
            chosen = [choose(draw) for draw in draws]
            actions |= dict(zip(draws, chosen, strict=True))
            episode.decide(chosen)
        return actions, episode.genotype

    def sample(self, rng: np.random.Generator) -> Actions:
        """Draw every action uniformly."""
        return tuple(self._played(lambda draw: int(rng.integers(draw.choices)))[0].values())

    def mutate(self, actions: Actions, rng: np.random.Generator) -> Actions:
        """Return actions of which one, drawn uniformly, is another.

        Draws that there were before are kept; those that there were not are made uniformly.
        """
        made = self._played(_chosen(GivenActions(actions)))[0]
        changeable = [draw for draw in made if draw.choices > 1]
        changed = changeable[rng.integers(len(changeable))]
        other = int(rng.integers(1, changed.choices))
        kept = {**made, changed: (made[changed] + other) % changed.choices}

        def choose(draw: Draw) -> int:
            return kept[draw] if draw in kept else int(rng.integers(draw.choices))

        return tuple(self._played(choose)[0].values())

    def decode(self, actions: Sequence[int]) -> ChainGenotype:
        """Return the network that an episode makes."""
        given = GivenActions(actions)
        genotype = self._played(_chosen(given))[1]
        given.check_end()
        return dataclasses.replace(genotype, name="child")

    # === What the search asks of a space ===

    def about(self) -> dict[str, Any]:
        """Return the base, and what can become of it."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}
        return {"kind": "eas", **lists, "base": self.start.text}

    def to_json(self, architecture: ChainGenotype) -> dict[str, Any]:
        """Return the tokens of a network."""
        return {name: part for name, part in architecture.to_dict().items() if name != "name"}

    def from_json(self, data: dict[str, Any]) -> ChainGenotype:
        """Return the network of tokens."""
        return ChainGenotype.from_dict({**data, "name": "child"})

    def traits(self, actions: Actions) -> Iterable[Hashable]:
        """Return the layers of each block, of equal ones the numbers."""
        genotype = self.decode(actions)
        counts = Counter(
            (block, genotype.layers[k])
            for block, numbers in enumerate(genotype.parted)
            for k in numbers
        )
        return [(layer, k) for layer, count in counts.items() for k in range(count)]

    def features(self, architecture: ChainGenotype) -> Mapping[str, float]:
        """Return the number of layers, and the mean width of each kind of layer."""
        layers = [layer for layer in architecture.layers if not layer.parts]
        widths = {
            kind: [layer.units for layer in layers if layer.kind == kind]
            for kind in dict.fromkeys(layer.kind for layer in layers)
        }
        names = {"conv": "filters", "fc": "units", "g": "growth"}
        return {
            "layers": float(len(layers)),
            **{names[kind]: fmean(some) for kind, some in widths.items()},
        }

    def describe(self, architecture: ChainGenotype) -> str:
        """Return the tokens of a network."""
        return architecture.text

    def draw(self, architecture: ChainGenotype) -> str:
        """Return a picture of the network."""
        return chain_svg(architecture)


def _chosen(given: GivenActions) -> Callable[[Draw], int]:
    return lambda draw: given.next(draw.place, draw.choices)
