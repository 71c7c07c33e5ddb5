"""NAS's space of layer-wise networks ([Z] sections 3.1, 3.3 and 4.1)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from nasnet_zoo.cells import LayerGenotype, LayerwiseGenotype
from nasnet_zoo.cells.draw_layers import layer_text, layers_svg
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, check_fields
from nasnet_zoo.search.space import AnchorStep, SequenceSpace, Step

Sizes = tuple[PositiveInt, ...]
Layers = Annotated[int, Interval(ge=1, le=100)]


@dataclass(frozen=True)
class LayerwiseSpace(SequenceSpace[LayerwiseGenotype]):
    """Networks of convolutions, each of which reads any earlier ones.

    A layer is drawn token by token, in this order: its kind, where there are several; filter height and
    width; stride height and width, where there are several; its anchor point, a draw for every earlier
    layer; and the number of filters, which a pooling does not have and ignores.

    Args:
        layers: Number of layers.
        grow_to: Number of layers of the last samples, if the controller's samples grow. Default: they
            do not.
        grow_by: Number of layers that samples grow by at once.
        grow_every: Number of samples after which they do.
        heights: Heights of filters to choose from.
        widths: Widths of filters to choose from.
        filters: Numbers of filters to choose from.
        strides: Strides to choose from, for height and width each.
        kinds: Kinds of layers to choose from: "conv", "max_pool", "avg_pool".
        block: Number of layers of a fully connected block that stands for each layer that is drawn.
        pool_after: Numbers of the drawn layers after which a max pooling halves the size, in increasing
            order.
        more_filters: Filters that are added to those of every layer.

    Raises:
        ValueError: If a value is out of range, or two values exclude each other.
    """

    legend: ClassVar[str] = (
        "A layer reads the outputs of the layers that arrows come from, concatenated. Convolutions are "
        "yellow, poolings green; the classifier reads what no layer reads."
    )

    layers: Layers = 6
    grow_to: Layers | None = None
    grow_by: PositiveInt = 2
    grow_every: PositiveInt = 1600
    heights: Sizes = (1, 3, 5, 7)
    widths: Sizes = (1, 3, 5, 7)
    filters: Sizes = (24, 36, 48, 64)
    strides: Sizes = (1,)
    kinds: tuple[Literal["conv", "max_pool", "avg_pool"], ...] = ("conv",)
    block: PositiveInt = 1
    pool_after: Sizes = ()
    more_filters: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("heights", "widths", "filters", "strides", "kinds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"Expected {name}: at least one value, each once. Received: {name}={values}"
                )
        if self.grow_to is not None and (self.grow_to - self.layers) % self.grow_by:
            raise ValueError(
                f"Expected grow_to: layers={self.layers} and a multiple of grow_by={self.grow_by} "
                f"more. Received: grow_to={self.grow_to}"
            )
        if self.grow_to is not None and self.grow_to < self.layers:
            raise ValueError(
                f"Expected grow_to: at least layers={self.layers}. Received: grow_to={self.grow_to}"
            )
        if "avg_pool" in self.kinds and any(size % 2 == 0 for size in (*self.heights, *self.widths)):
            raise ValueError(
                "Expected odd heights and widths with avg_pool. "
                f"Received: heights={self.heights}, widths={self.widths}"
            )
        if (self.block > 1 or self.pool_after) and (self.strides != (1,) or self.kinds != ("conv",)):
            raise ValueError(
                "Expected strides=(1,) and kinds=('conv',) with block and pool_after. "
                f"Received: strides={self.strides}, kinds={self.kinds}"
            )
        ordered = list(self.pool_after) == sorted(set(self.pool_after))
        if not ordered or any(number >= self.deepest for number in self.pool_after):
            raise ValueError(
                f"Expected pool_after: numbers below {self.deepest}, in increasing order. "
                f"Received: pool_after={self.pool_after}"
            )

    @property
    def deepest(self) -> int:
        """Greatest number of layers that are drawn."""
        return self.layers if self.grow_to is None else self.grow_to

    @functools.cached_property
    def steps(self) -> tuple[Step | AnchorStep, ...]:
        """The tokens of the deepest networks, layer by layer."""
        return tuple(step for k in range(self.deepest) for step in self._steps(k))

    def _steps(self, earlier: int) -> Iterator[Step | AnchorStep]:
        """The tokens of the layer after so many, each with a softmax of its own."""
        layer = earlier + 1
        if len(self.kinds) > 1:
            yield Step(f"kind {layer}", len(self.kinds))
        yield Step(f"height {layer}", len(self.heights))
        yield Step(f"width {layer}", len(self.widths))
        if len(self.strides) > 1:
            yield Step(f"stride height {layer}", len(self.strides))
            yield Step(f"stride width {layer}", len(self.strides))
        yield AnchorStep("anchor", earlier)
        yield Step(f"filters {layer}", len(self.filters))

    @functools.cached_property
    def choices(self) -> tuple[int, ...]:
        """Number of choices of each draw."""
        return super().choices

    @functools.cached_property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of draws of networks of each depth."""
        return tuple(map(self._draws, range(self.layers, self.deepest + 1, self.grow_by)))

    def _draws(self, depth: int) -> int:
        return sum(len(step.draws) for k in range(depth) for step in self._steps(k))

    def depth(self, number: int) -> int:
        """Return the number of layers of a controller's sample of this number, counted from 0."""
        return min(self.layers + self.grow_by * (number // self.grow_every), self.deepest)

    def length(self, number: int) -> int:
        """Return the number of draws of a controller's sample of this number, counted from 0."""
        return self._draws(self.depth(number))

    def about(self) -> dict[str, Any]:
        """Return that the children are layer-wise networks; the search's settings hold the rest."""
        return {"kind": "nas-conv"}

    # === From actions to a network ===

    def genotype(self, actions: Sequence[int], name: str = "child") -> LayerwiseGenotype:
        """Return the genotype of a sequence of actions.

        Raises:
            ValueError: If these are not the actions of a child.
        """
        drawn = list(self._layers(iter(self.check(actions))))
        if self.block == 1 and not self.pool_after:
            return LayerwiseGenotype(name, tuple(drawn))
        return LayerwiseGenotype(name, tuple(_Blocks(self, drawn).layers))

    def _layers(self, actions: Iterator[int]) -> Iterator[LayerGenotype]:
        """The layers as they are drawn."""
        for earlier, first in enumerate(actions):
            rest = itertools.chain([first], actions)
            kind = self.kinds[next(rest) if len(self.kinds) > 1 else 0]
            kernel = self.heights[next(rest)], self.widths[next(rest)]
            stride = self.strides[0], self.strides[0]
            if len(self.strides) > 1:
                stride = self.strides[next(rest)], self.strides[next(rest)]
            inputs = tuple(number for number in range(1, earlier + 1) if next(rest))
            filters = self.filters[next(rest)] + self.more_filters
            yield LayerGenotype(kernel, filters if kind == "conv" else 0, inputs, stride, kind)

    def decode(self, actions: Sequence[int]) -> LayerwiseGenotype:
        """Return the genotype of actions. It has no token of what a layer ignores."""
        return self.genotype(actions)

    def to_json(self, architecture: LayerwiseGenotype) -> dict[str, Any]:
        """Return the layers of a genotype."""
        return {"layers": architecture.to_dict()["layers"]}

    def from_json(self, data: dict[str, Any]) -> LayerwiseGenotype:
        """Return the genotype of layers."""
        return LayerwiseGenotype.from_dict(data)

    # === What the report shows ===

    def features(self, architecture: LayerwiseGenotype) -> Mapping[str, float]:
        """Return the means over the layers of what was drawn."""
        convolutions = [layer for layer in architecture.layers if layer.kind == "conv"]
        found = {
            "layers": float(len(architecture.layers)),
            "inputs of a layer": fmean(len(layer.inputs) for layer in architecture.layers),
            "loose ends": float(len(architecture.loose_ends)),
        }
        if convolutions:
            found |= {
                "filter height": fmean(layer.kernel[0] for layer in convolutions),
                "filter width": fmean(layer.kernel[1] for layer in convolutions),
                "filters": fmean(layer.filters for layer in convolutions),
            }
        return found

    def describe(self, architecture: LayerwiseGenotype) -> str:
        """Return the layers: what each of them is, and what it reads."""
        return "\n".join(
            f"{k}: {layer_text(layer)} <- {' '.join(map(str, layer.inputs)) or 'image'}"
            for k, layer in enumerate(architecture.layers, 1)
        )

    def draw(self, architecture: LayerwiseGenotype) -> str:
        """Return a picture of the network."""
        return layers_svg(architecture)


#: The space of the paper's v3, as far as it is told: 13 blocks of three layers, two poolings.
NAS_V3_SPACE = LayerwiseSpace(13, filters=(6, 12, 24, 36), block=3, pool_after=(4, 8))


class _Blocks:
    """Blocks of layers, and the poolings between them, in place of the layers that were drawn.

    In a block each layer reads what the block reads and all layers of the block before it, and the
    block hands on all its layers. After a pooling nothing reads what was before it but pooled.
    """

    def __init__(self, space: LayerwiseSpace, drawn: Sequence[LayerGenotype]) -> None:
        self.space = space
        self.layers: list[LayerGenotype] = []
        # What each block hands on, at each of the sizes from its own down.
        self._handed: list[dict[int, tuple[int, ...]]] = []
        for number, layer in enumerate(drawn, 1):
            stage = sum(after < number for after in space.pool_after)
            read = [k for block in layer.inputs for k in self._at(block - 1, stage)]
            inside: list[int] = []
            for _ in range(space.block):
                inside.append(self._add(dataclasses.replace(layer, inputs=(*sorted(read), *inside))))
            self._handed.append({stage: tuple(inside)})
        last = sum(after < len(drawn) for after in space.pool_after)
        known = {block - 1 for layer in drawn for block in layer.inputs}
        for block in range(len(drawn)):
            if block not in known:
                self._hand_to_classifier(block, last)

    def _add(self, layer: LayerGenotype) -> int:
        self.layers.append(layer)
        return len(self.layers)

    def _at(self, block: int, stage: int) -> tuple[int, ...]:
        """The layers that a block hands on at a stage, which poolings lead to."""
        handed = self._handed[block]
        if stage not in handed:
            before = self._at(block, stage - 1)
            pool = LayerGenotype((2, 2), 0, before, (2, 2), "max_pool")
            handed[stage] = (self._add(pool),)
        return handed[stage]

    def _hand_to_classifier(self, block: int, stage: int) -> None:
        """Let the classifier read all that a block hands on, which no layer may read then but one.

        A pooling of one pixel changes nothing.
        """
        handed = self._at(block, stage)
        if len(handed) > 1:
            self._add(LayerGenotype((1, 1), 0, handed, (1, 1), "max_pool"))
