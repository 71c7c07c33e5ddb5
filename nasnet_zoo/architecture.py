"""A network as data, and its plan.

A plan is a network's parts in order, and the states that each of them reads: the stem and the cells of
an `Architecture` ([N] section 3, Figure 2; conventions of [S]), the layers of a `LayerwiseArchitecture`
([Z] section 3.3), or the blocks of a `nasnet_zoo.bases.TreeArchitecture` or a
`nasnet_zoo.chains.ChainArchitecture`. The Keras model
(`nasnet_zoo.network.build_model`), the graph of primitives (`network_graph`) and the cost
(`architecture_cost`) follow from it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

from annotated_types import Interval

from nasnet_zoo.cells import (
    CIFAR,
    IMAGENET,
    CellGenotype,
    Cost,
    Genotype,
    Graph,
    Hyperparameters,
    LayerGenotype,
    LayerwiseGenotype,
    Node,
    cell_graph,
    graph_cost,
)
from nasnet_zoo.cells.graph import join_graph, sequence_graph
from nasnet_zoo.cells.layerwise import layer_graph
from nasnet_zoo.cells.operations import Primitives
from nasnet_zoo.cells.primitives import BatchNorm, Conv, Dense, GlobalAveragePool, Relu
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, check_fields, checked

STACKS = 3
#: Cells of the ImageNet stem.
STEM_CELLS = 2
#: End point of the stem's convolution.
STEM = "Stem_Conv"

StemKind = Literal["imagenet", "cifar"]
CellKind = Literal["stem", "normal", "reduction"]
Dropout = Annotated[float, Interval(ge=0, lt=1)]
#: A state of a network: the end point that makes it, and which of its outputs it is.
Source = tuple[str, int]
IMAGE: Source = ("image", 0)

State = TypeVar("State")


class Network:
    """Base class of networks as data: everything but the classifier.

    Subclasses are frozen dataclasses with these fields and others, and define `plan`.
    """

    image_size: int
    channels: int
    dropout: float
    hyperparameters: Hyperparameters | None
    genotype: Any
    #: Least height and width of images.
    least_size: ClassVar[int] = 1

    def plan(self) -> Plan:
        """Lay out the parts of the network."""
        raise NotImplementedError

    def replace(self, **changes: Any) -> Self:
        """Return the network with other values of fields."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def with_zero_padded_pools(self) -> Self:
        """Return the network as `keras.applications` pools in it.

        Raises:
            ValueError: If it has no reduction cells.
        """
        raise ValueError(
            "Expected pool_padding='same' of a network without reduction cells. "
            f"Received: pool_padding='keras' of {self.genotype.name}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the network as plain data, for JSON."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        assert self.hyperparameters is not None
        return {
            **fields,
            "genotype": self.genotype.to_dict(),
            "hyperparameters": dataclasses.asdict(self.hyperparameters),
        }


@dataclass(frozen=True)
class Architecture(Network):
    """A network of cells as data: everything but its classifier.

    Args:
        genotype: Genotype of the cells.
        cells: N, number of normal cells in each of the three stacks (but see
            ``count_reduction_cells``).
        filters: F, filters of the first stack, at least 4 with the ImageNet stem. Each reduction
            cell doubles them.
        stem: "imagenet" (3x3 convolution with stride 2, then two reduction cells with F/4 and F/2
            filters) or "cifar" (3x3 convolution).
        stem_filters: Filters of the stem's convolution.
        skip_reduction_layer_input: Whether the first normal cell after a reduction cell takes as
            ``h_{i-1}`` the ``h_{i-1}`` of the reduction cell (NASNet-A Large) instead of its
            ``h_i``. Default: False.
        image_size: Height and width in pixels of the images that the architecture is meant for,
            which fix the auxiliary head's kernel; other sizes can be used. Default: 0, which stands
            for 224, or for 32 with the CIFAR stem.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        hyperparameters: Constants of batch norm, regularizer and initializer. Default: those of the
            stem's data set.
        repeat_stem: Whether the first cell also takes the stem's output as ``h_{i-1}`` and adapts it
            like any other (ENAS, DARTS), instead of using the raw ``h_i``. Default: False.
        count_reduction_cells: Whether N counts the reduction cells, so that the second and the third
            stack have N - 1 normal cells (PNASNet). Default: False.
        channels: Channels of the images that the architecture is meant for; other numbers can be
            used. Default: 3.

    Raises:
        ValueError: If a value is out of range.
    """

    genotype: Genotype
    cells: PositiveInt
    filters: PositiveInt
    stem: StemKind
    stem_filters: PositiveInt
    skip_reduction_layer_input: bool = False
    image_size: NonNegativeInt = 0
    dropout: Dropout = 0.0
    hyperparameters: Hyperparameters | None = None
    repeat_stem: bool = False
    count_reduction_cells: bool = False
    channels: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.stem == "imagenet" and self.filters < 4:
            raise ValueError(
                "Expected filters: an int of at least 4 with the ImageNet stem, whose first cell has a "
                f"quarter of them. Received: filters={self.filters}"
            )
        imagenet = self.stem == "imagenet"
        if self.hyperparameters is None:
            object.__setattr__(self, "hyperparameters", IMAGENET if imagenet else CIFAR)
        if not self.image_size:
            object.__setattr__(self, "image_size", 224 if imagenet else 32)

    @property
    def least_size(self) -> int:  # type: ignore[override]
        """Least height and width of images."""
        return 3 if self.stem == "imagenet" else 1

    def plan(self) -> Plan:
        """Lay out the stem, the cells and the head."""
        return plan_cells(self)

    def with_zero_padded_pools(self) -> Architecture:
        """Return the network as `keras.applications` pools in it."""
        return dataclasses.replace(self, genotype=self.genotype.with_zero_padded_pools())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """Create an architecture from the result of `to_dict`."""
        return cls(
            **{
                **data,
                "genotype": Genotype.from_dict(data["genotype"]),
                "hyperparameters": Hyperparameters(**data["hyperparameters"]),
            }
        )


@dataclass(frozen=True)
class LayerwiseArchitecture(Network):
    """A network of a layer-wise genotype as data: everything but its classifier.

    Args:
        genotype: Genotype of the network.
        image_size: Height and width in pixels of the images that the architecture is meant for; other
            sizes can be used. Default: 32.
        dropout: Dropout rate before the classifier, in [0, 1). Default: 0.
        hyperparameters: Constants of batch norm, regularizer and initializer. Default: those for
            CIFAR-10.
        channels: Channels of the images that the architecture is meant for; other numbers can be
            used. Default: 3.

    Raises:
        ValueError: If a value is out of range.
    """

    genotype: LayerwiseGenotype
    image_size: PositiveInt = 32
    dropout: Dropout = 0.0
    hyperparameters: Hyperparameters = CIFAR
    channels: PositiveInt = 3

    def __post_init__(self) -> None:
        check_fields(self)

    def plan(self) -> Plan:
        """Lay out the layers, and the head if several are read by none."""
        return plan_layers(self.genotype)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerwiseArchitecture:
        """Create an architecture from the result of `to_dict`."""
        return cls(
            **{
                **data,
                "genotype": LayerwiseGenotype.from_dict(data["genotype"]),
                "hyperparameters": Hyperparameters(**data["hyperparameters"]),
            }
        )


# === Plans ===


class Part(Protocol):
    """A part of a network: a layer of the Keras model, and a graph of primitives."""

    @property
    def name(self) -> str:
        """Its end point."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The states that it reads."""

    @property
    def depth(self) -> int | None:
        """Its number among the parts whose paths drop path drops, None if it is not one of them."""

    def graph(self, channels: Sequence[int]) -> Graph:
        """Return its graph for states of these channel counts."""


@dataclass(frozen=True)
class PlannedStem:
    """The first convolution of a network of cells; arguments as in `Architecture`."""

    stem: StemKind
    stem_filters: int
    name: ClassVar[str] = STEM
    sources: ClassVar[tuple[Source, ...]] = (IMAGE,)
    depth: ClassVar[None] = None

    def graph(self, channels: Sequence[int]) -> Graph:
        """Return its graph."""
        return sequence_graph(stem_primitives(self.stem, self.stem_filters), 0)


@dataclass(frozen=True)
class PlannedLayer:
    """One layer of a layer-wise network.

    Args:
        number: Its number, from 1.
        layer: The layer.
        sources: States that it reads.
        merge: How they are joined, see `LayerwiseGenotype.merge`.
    """

    number: int
    layer: LayerGenotype
    sources: tuple[Source, ...]
    merge: str | None
    depth: ClassVar[None] = None

    @property
    def name(self) -> str:
        """The layer's end point: ``Layer_1``, ``Layer_2``, ..."""
        return layer_name(self.number)

    def graph(self, channels: Sequence[int]) -> Graph:
        """Return its graph for states of these channel counts."""
        return layer_graph(self.layer, self.merge, len(channels))


@dataclass(frozen=True)
class PlannedHead:
    """The concatenation of what the classifier reads.

    Args:
        sources: States that are concatenated.
        scales: How many times larger than the first of them each one is.
        merge: See `join_graph`.
    """

    sources: tuple[Source, ...]
    scales: tuple[int, ...]
    merge: str = "concat"
    name: ClassVar[str] = "Head"
    depth: ClassVar[None] = None

    def graph(self, channels: Sequence[int]) -> Graph:
        """Return its graph for states of these channel counts."""
        return join_graph(channels, self.scales, self.merge)


def layer_name(number: int) -> str:
    """The end point of a layer by its number."""
    return f"Layer_{number}"


def layer_number(name: str) -> int:
    """The number of a layer by its end point."""
    return int(name.rpartition("_")[2])


def plan_layers(genotype: LayerwiseGenotype) -> Plan:
    """Lay out a layer-wise network: its layers, and a head if several are read by none."""

    def outputs(numbers: Sequence[int]) -> tuple[Source, ...]:
        return tuple((layer_name(number), 0) for number in numbers)

    parts: list[Part] = [
        PlannedLayer(k, layer, outputs(layer.inputs) or (IMAGE,), genotype.merge(layer.inputs))
        for k, layer in enumerate(genotype.layers, 1)
    ]
    ends = genotype.loose_ends
    if merge := genotype.merge(ends):
        parts.append(PlannedHead(outputs(ends), (1,) * len(ends), merge))
    return Plan(tuple(parts), (parts[-1].name, 0) if merge else outputs(ends)[0])


@dataclass(frozen=True)
class Place:
    """Position of a cell in a network.

    Args:
        kind: "stem", "normal" or "reduction".
        stack: Number of the stack, 0 to 2, that the cell belongs to. A reduction cell belongs to the
            stack after it.
        index: Number of the cell among all cells of its kind.
    """

    kind: CellKind
    stack: int
    index: int

    @property
    def end_point(self) -> str:
        """TF-Slim's name of the cell: ``Stem_Cell_0``, ``Cell_0``, ``Reduction_Cell_0``, ..."""
        prefix = {"stem": "Stem_Cell", "normal": "Cell", "reduction": "Reduction_Cell"}[self.kind]
        return f"{prefix}_{self.index}"


def number_cells(kinds: Iterable[CellKind]) -> Iterator[Place]:
    """Yield the places of a network's cells, whose kinds are given in order."""
    stack, count = 0, Counter[CellKind]()
    for kind in kinds:
        stack += kind == "reduction"
        yield Place(kind, stack, count[kind])
        count[kind] += 1


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a network.

    Args:
        place: Position in the network.
        cell: Genotype of the cell.
        filters: F, channels of every operation's output.
        sources: States that the cell reads, ``h_i`` first.
        scales: How many times larger than ``h_i`` each source is.
        depth: Number of the cell among all cells of the network, for ScheduledDropPath.
    """

    place: Place
    cell: CellGenotype
    filters: int
    sources: tuple[Source, ...]
    scales: tuple[int, ...]
    depth: int

    @property
    def name(self) -> str:
        """The cell's end point."""
        return self.place.end_point

    @property
    def stride(self) -> int:
        """1 for a normal cell, otherwise 2."""
        return 1 if self.place.kind == "normal" else 2

    def graph(self, channels: Sequence[int]) -> Graph:
        """Return its graph for states of these channel counts."""
        return cell_graph(self.cell, self.filters, self.stride, channels, self.scales)


@dataclass(frozen=True)
class Plan:
    """The parts of a network and how they are connected.

    Args:
        parts: Parts in order, each after those that it reads.
        features: State that the classifier reads.
        activated: Whether these features have been through a ReLU. Default: True.
    """

    parts: tuple[Part, ...]
    features: Source
    activated: bool = True

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        """The parts that are cells."""
        return tuple(part for part in self.parts if isinstance(part, PlannedCell))

    @property
    def auxiliary(self) -> Source | None:
        """State for an auxiliary head: the ``h_i`` of the last reduction cell, if there is one."""
        reductions = [cell for cell in self.cells if cell.place.kind == "reduction"]
        return reductions[-1].sources[0] if reductions else None

    def connect(
        self, image: State, apply: Callable[[Part, list[State]], Sequence[State]]
    ) -> Callable[[Source], State]:
        """Connect the parts of a network.

        Args:
            image: What the first parts read.
            apply: Function that applies a part to the states that it reads and returns its outputs.

        Returns:
            A function that finds a state.
        """
        states: dict[str, Sequence[State]] = {IMAGE[0]: [image]}

        def find(source: Source) -> State:
            name, output = source
            return states[name][output]

        for part in self.parts:
            states[part.name] = apply(part, [find(source) for source in part.sources])
        return find


def plan_cells(architecture: Architecture) -> Plan:
    """Lay out the cells of a network: three stacks with a reduction cell between them."""
    a, genotype = architecture, architecture.genotype
    kinds: list[CellKind] = ["stem"] * STEM_CELLS if a.stem == "imagenet" else []
    kinds += ["normal"] * a.cells
    later = a.cells - 1 if a.count_reduction_cells else a.cells
    for _ in range(1, STACKS):
        kinds += ["reduction"]
        kinds += ["normal"] * later

    # Every state so far as (end point, downsampling); labelled cells start from copies of the stem.
    history = [(STEM, 1)]
    labelled, inputs = genotype.normal.labelled, genotype.normal.inputs
    if labelled or a.repeat_stem:
        history *= inputs
    planned: list[PlannedCell] = []
    for depth, place in enumerate(number_cells(kinds)):
        normal = place.kind == "normal"
        recent = list(reversed(history[-inputs:]))
        after_reduction = bool(planned) and planned[-1].place.kind == "reduction"
        if a.skip_reduction_layer_input and after_reduction and normal and not labelled:
            recent[1] = history[-3]
        sources, scales = _sources(recent, labelled)
        cell = genotype.normal if normal else genotype.reduction
        filters = a.filters * 2**place.stack
        if place.kind == "stem":
            filters = a.filters // (4, 2)[place.index]
        planned.append(PlannedCell(place, cell, filters, sources, scales, depth))
        history.append((place.end_point, history[-1][1] * planned[-1].stride))
    parts: list[Part] = [PlannedStem(a.stem, a.stem_filters), *planned]
    if labelled and inputs > 1:
        parts.append(PlannedHead(*_sources(list(reversed(history[-inputs:])), labelled)))
    return Plan(tuple(parts), (parts[-1].name, 0), activated=False)


def _sources(
    states: Sequence[tuple[str, int]], labelled: bool
) -> tuple[tuple[Source, ...], tuple[int, ...]]:
    """Sources and scales of states (end point, downsampling), latest first.

    The k-th latest cell passes on its output k, the stem the only one that it has.
    """
    named = tuple((name, k if labelled and name != STEM else 0) for k, (name, _) in enumerate(states))
    return named, tuple(states[0][1] // scale for _, scale in states)


def stem_stride(stem: StemKind) -> int:
    """Stride of the stem's convolution."""
    return 2 if stem == "imagenet" else 1


def stem_primitives(stem: StemKind, filters: int) -> Primitives:
    """The stem's convolution and its batch norm."""
    stride = stem_stride(stem)
    padding = "valid" if stride == 2 else "same"
    return Conv(3, stride, filters=filters, padding=padding), BatchNorm()


def auxiliary_kernel(architecture: Network) -> int:
    """Kernel size of the auxiliary head's last convolution: the whole map at the nominal image size.

    Raises:
        ValueError: If the network has no reduction cells, or the nominal image is too small for it.
    """
    if not isinstance(architecture, Architecture):
        raise ValueError(
            "Expected no auxiliary head of a network without reduction cells. "
            f"Received: {architecture.genotype.name}"
        )
    size = architecture.image_size
    if architecture.stem == "imagenet":
        size = (((size - 3) // 2 + 1) + 3) // 4
    size = (size + 1) // 2
    if size < 5:
        raise ValueError(
            "Expected an image_size whose map at the auxiliary head is at least 5x5. "
            f"Received: image_size={architecture.image_size} (a map of {size}x{size})"
        )
    return (size - 5) // 3 + 1


def network_graph(architecture: Network, classes: int) -> Graph:
    """The whole network, from image to logits, as one graph of primitives (input ``image``)."""
    plan = architecture.plan()
    nodes: list[Node] = []
    channels = {IMAGE[0]: architecture.channels}

    def append(part: Part, sources: list[str]) -> tuple[str, ...]:
        read = [channels[source] for source in sources]
        graph = part.graph(read)
        renamed = graph.renamed(part.name, dict(zip(graph.inputs, sources, strict=True)))
        nodes.extend(renamed.nodes)
        shapes = graph.output_shapes([(None, None, count) for count in read])
        channels.update(zip(renamed.outputs, (shape[2] for shape in shapes), strict=True))
        return renamed.outputs

    features = plan.connect(IMAGE[0], append)(plan.features)
    top = (*(() if plan.activated else (Relu(),)), GlobalAveragePool(), Dense(classes))
    nodes.append(Node("Logits", (features,), primitives=top))
    return Graph((IMAGE[0],), tuple(nodes), ("Logits",))


@checked
def architecture_cost(
    architecture: Network, classes: PositiveInt = 1000, image_size: PositiveInt | None = None
) -> Cost:
    """Count the parameters, multiply-adds and activations of a network with its classifier.

    Args:
        architecture: Network to count.
        classes: Outputs of the classifier. Default: 1000.
        image_size: Height and width in pixels. Default: those of the architecture.
    """
    size = image_size or architecture.image_size
    return graph_cost(network_graph(architecture, classes), [(size, size, architecture.channels)])
