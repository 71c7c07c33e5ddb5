"""Layer-wise genotypes: whole networks as plain data ([Z] sections 3.1 and 3.3).

Layers are numbered from 1, as in the paper. A layer reads any earlier ones, joined along channels, or
the image if it has no inputs; what no layer reads is joined for the classifier. Where sizes differ,
zeros at the bottom and right bring all to the largest.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .graph import SEQUENCE, Graph, Node
from .operations import Primitives
from .primitives import BatchNorm, Conv, Pair, Pool, Relu
from .serialization import JsonData, check_keys, expect, expect_name, is_int

# Maximum number of layers, of pixels along a side of a kernel, of a stride, and of filters.
_LAYERS, _KERNEL, _STRIDE, _FILTERS = 1000, 99, 99, 100_000
_KINDS = ("conv", "max_pool", "avg_pool")


@dataclass(frozen=True)
class LayerGenotype:
    """A layer: a convolution with batch norm and ReLU, or a pooling.

    Args:
        kernel: Height and width of the kernel, or of the pooling's window; an average's are odd.
        filters: Number of filters of a convolution; 0 for a pooling.
        inputs: Numbers of the layers that it reads, in increasing order. Default: the image.
        stride: Stride along height and width. Default: (1, 1).
        kind: "conv", "max_pool" or "avg_pool". Default: "conv".

    Raises:
        ValueError: If a value is out of range or of another type. The message names the place.
    """

    kernel: Pair
    filters: int = 0
    inputs: tuple[int, ...] = ()
    stride: Pair = (1, 1)
    kind: str = "conv"

    def __post_init__(self) -> None:
        self.check("layer")
        for name in ("kernel", "inputs", "stride"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def check(self, place: str) -> None:
        """Raise a `ValueError` whose message starts with ``place`` if a field is invalid."""
        expect(self.kind in _KINDS, f"{place}.kind", f"one of {', '.join(_KINDS)}", self.kind)
        for name, most in (("kernel", _KERNEL), ("stride", _STRIDE)):
            pair = getattr(self, name)
            is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
            expect(is_pair, f"{place}.{name}", "a height and a width", pair)
            for k, size in enumerate(pair):
                inside = is_int(size) and 1 <= size <= most
                expect(inside, f"{place}.{name}[{k}]", f"an int from 1 to {most}", size)
        if self.kind == "avg_pool":
            odd = all(size % 2 for size in self.kernel)
            expect(odd, f"{place}.kernel", "odd sizes of an avg_pool", self.kernel)
        least, most = (1, _FILTERS) if self.kind == "conv" else (0, 0)
        inside = is_int(self.filters) and least <= self.filters <= most
        expected = f"an int from 1 to {most}" if most else f"0 of a {self.kind}"
        expect(inside, f"{place}.filters", expected, self.filters)
        expect(isinstance(self.inputs, (tuple, list)), f"{place}.inputs", "a list", self.inputs)
        for k, number in enumerate(self.inputs):
            least = self.inputs[k - 1] + 1 if k else 1
            inside = is_int(number) and number >= least
            expect(inside, f"{place}.inputs[{k}]", f"a layer of at least {least}", number)

    @property
    def primitives(self) -> Primitives:
        """What the layer computes of its joined inputs."""
        if self.kind == "conv":
            return Conv(self.kernel, self.stride, filters=self.filters), BatchNorm(), Relu()
        return (Pool(self.kind.removesuffix("_pool"), self.kernel, self.stride),)

    def to_dict(self) -> dict[str, Any]:
        """Return the layer as JSON-compatible lists and dicts."""
        found = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}

    @classmethod
    def from_dict(cls, data: Any, place: str = "layer") -> LayerGenotype:
        """Build a layer from the dict of `to_dict`. All keys but ``kernel`` are optional.

        Raises:
            ValueError: If the data is invalid. The message names the place, starting with ``place``.
        """
        optional = ("filters", "inputs", "stride", "kind")
        check_keys(data, place, required=("kernel",), optional=optional)
        try:
            return cls(**data)
        except ValueError as error:
            raise ValueError(place + str(error).removeprefix("layer")) from None


@dataclass(frozen=True)
class LayerwiseGenotype(JsonData):
    """A network as its layers: the result of a layer-wise search.

    Args:
        name: Name of the genotype, without control characters.
        layers: From 1 to 1,000 layers, numbered from 1, each after those that it reads.

    Raises:
        ValueError: If a layer reads one that does not exist before it, or a value has the wrong type.
            The message names the place.

    Example::

        genotype = LayerwiseGenotype.load("winner.json")
        model = nasnet_zoo.NAS(genotype, classes=10)
    """

    name: str
    layers: tuple[LayerGenotype, ...]

    def __post_init__(self) -> None:
        expect_name(self.name)
        some = isinstance(self.layers, (tuple, list)) and 1 <= len(self.layers) <= _LAYERS
        expect(some, "layers", f"from 1 to {_LAYERS:,} layers", self.layers)
        object.__setattr__(self, "layers", tuple(self.layers))
        for k, layer in enumerate(self.layers):
            expect(isinstance(layer, LayerGenotype), f"layers[{k}]", "a LayerGenotype", layer)
            for j, number in enumerate(layer.inputs):
                expected = f"a layer before it, 1 to {k}" if k else "no layer before the first"
                expect(number <= k, f"layers[{k}].inputs[{j}]", expected, number)

    @property
    def loose_ends(self) -> tuple[int, ...]:
        """Numbers of the layers that no layer reads, whose outputs are joined for the classifier."""
        read = {number for layer in self.layers for number in layer.inputs}
        return tuple(k for k in range(1, len(self.layers) + 1) if k not in read)

    @functools.cached_property
    def strides(self) -> tuple[Pair, ...]:
        """Of each layer how many times smaller than the image its output is, in height and width."""
        total: list[Pair] = []
        for layer in self.layers:
            # Smaller inputs are padded to the largest.
            read = [total[k - 1] for k in layer.inputs] or [(1, 1)]
            height, width = map(min, zip(*read, strict=True))
            total.append((height * layer.stride[0], width * layer.stride[1]))
        return tuple(total)

    def merge(self, numbers: Sequence[int]) -> str | None:
        """Return how layers' outputs are joined: a key of `nasnet_zoo.cells.primitives.MERGES`.

        One output is not (None). Outputs of equal strides have one size, whatever the image's.
        """
        if len(numbers) < 2:
            return None
        return "concat" if len({self.strides[k - 1] for k in numbers}) == 1 else "padded_concat"

    def connected(self, connections: Literal["all", "chain"]) -> LayerwiseGenotype:
        """Return the same layers with other connections, the paper's controls (section 4.1).

        Args:
            connections: "all", each layer reads all before it; or "chain", the one before it.
        """
        layers = []
        for k, layer in enumerate(self.layers):
            first = max(k, 1) if connections == "chain" else 1
            layers.append(dataclasses.replace(layer, inputs=tuple(range(first, k + 1))))
        return dataclasses.replace(self, name=f"{self.name} ({connections})", layers=tuple(layers))

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as JSON-compatible lists and dicts."""
        return {"name": self.name, "layers": [layer.to_dict() for layer in self.layers]}

    @classmethod
    def from_dict(cls, data: Any) -> LayerwiseGenotype:
        """Build a genotype from the dict of `to_dict`.

        Raises:
            ValueError: If the data is invalid. The message names the place.
        """
        check_keys(data, "genotype", required=("layers",), optional=("name",))
        layers = data["layers"]
        expect(isinstance(layers, list), "layers", "a list of layers", layers)
        parsed = (LayerGenotype.from_dict(layer, f"layers[{k}]") for k, layer in enumerate(layers))
        return cls(data.get("name", "genotype"), tuple(parsed))


def layer_graph(layer: LayerGenotype, merge: str | None, inputs: int) -> Graph:
    """Build the graph of a layer.

    Args:
        layer: The layer.
        merge: How its inputs are joined, see `LayerwiseGenotype.merge`.
        inputs: Number of its inputs; 1 if it reads the image.
    """
    names = tuple(f"input_{k}" for k in range(inputs))
    return Graph(names, (Node(SEQUENCE, names, merge, layer.primitives),), (SEQUENCE,))
