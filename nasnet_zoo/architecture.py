"""A network as data, and its plan ([N] section 3, Figure 2; conventions of [S]).

`plan_cells` lays out the cells of an `Architecture` and the states that each of them reads. The Keras
model (`nasnet_zoo.network.build_model`), the graph of primitives (`network_graph`) and the cost
(`architecture_cost`) follow from that plan.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Interval

from nasnet_zoo.cells import (
    CIFAR,
    IMAGENET,
    CellGenotype,
    Cost,
    Genotype,
    Graph,
    Hyperparameters,
    Node,
    cell_graph,
    graph_cost,
)
from nasnet_zoo.cells.graph import join_graph
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

State = TypeVar("State")


@dataclass(frozen=True)
class Architecture:
    """A network as data: everything but its classifier.

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

    def to_dict(self) -> dict[str, Any]:
        """Return the architecture as plain data, for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        assert self.hyperparameters is not None
        return {
            **fields,
            "genotype": self.genotype.to_dict(),
            "hyperparameters": dataclasses.asdict(self.hyperparameters),
        }

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


@dataclass(frozen=True)
class Plan:
    """The cells of a network and how they are connected.

    Args:
        cells: Cells in order.
        head_sources: States that are joined for the classifier.
        head_scales: How many times larger than the first of them each one is.
    """

    cells: tuple[PlannedCell, ...]
    head_sources: tuple[Source, ...]
    head_scales: tuple[int, ...]

    @property
    def auxiliary_source(self) -> Source:
        """State that the auxiliary head reads: the ``h_i`` of the last reduction cell."""
        return [cell for cell in self.cells if cell.place.kind == "reduction"][-1].sources[0]

    def connect(
        self,
        stem: State,
        cell: Callable[[PlannedCell, list[State]], Sequence[State]],
        join: Callable[[list[State]], State],
    ) -> tuple[State, State]:
        """Connect the stem, the cells and the head of a network.

        Args:
            stem: The stem's output.
            cell: Function that applies a cell to the states that it reads and returns its outputs.
            join: Function that joins several states of ``head_scales`` to one.

        Returns:
            The features for the classifier, and the state for the auxiliary head.
        """
        states: dict[str, Sequence[State]] = {STEM: [stem]}

        def read(sources: Sequence[Source]) -> list[State]:
            return [states[name][output] for name, output in sources]

        for planned in self.cells:
            states[planned.name] = cell(planned, read(planned.sources))
        head = read(self.head_sources)
        (auxiliary,) = read([self.auxiliary_source])
        return join(head) if len(head) > 1 else head[0], auxiliary


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
    head = list(reversed(history[-inputs:])) if labelled else history[-1:]
    return Plan(tuple(planned), *_sources(head, labelled))


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


def auxiliary_kernel(architecture: Architecture) -> int:
    """Kernel size of the auxiliary head's last convolution: the whole map at the nominal image size.

    Raises:
        ValueError: If the nominal image is too small for an auxiliary head.
    """
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


def network_graph(architecture: Architecture, classes: int) -> Graph:
    """The whole network, from image to logits, as one graph of primitives (input ``image``)."""
    plan = plan_cells(architecture)
    stem = stem_primitives(architecture.stem, architecture.stem_filters)
    nodes = [Node(STEM, ("image",), primitives=stem)]
    channels = {STEM: architecture.stem_filters}

    def append(name: str, part: Graph, sources: Sequence[str]) -> tuple[str, ...]:
        renamed = part.renamed(name, dict(zip(part.inputs, sources, strict=True)))
        nodes.extend(renamed.nodes)
        shapes = part.output_shapes([(None, None, channels[source]) for source in sources])
        channels.update(zip(renamed.outputs, (shape[2] for shape in shapes), strict=True))
        return renamed.outputs

    def cell(c: PlannedCell, sources: list[str]) -> tuple[str, ...]:
        read = [channels[source] for source in sources]
        return append(c.name, cell_graph(c.cell, c.filters, c.stride, read, c.scales), sources)

    def join(sources: list[str]) -> str:
        graph = join_graph([channels[source] for source in sources], plan.head_scales)
        return append("Head", graph, sources)[0]

    features, _ = plan.connect(STEM, cell, join)
    top = (Relu(), GlobalAveragePool(), Dense(classes))
    nodes.append(Node("Logits", (features,), primitives=top))
    return Graph(("image",), tuple(nodes), ("Logits",))


@checked
def architecture_cost(
    architecture: Architecture, classes: PositiveInt = 1000, image_size: PositiveInt | None = None
) -> Cost:
    """Count the parameters, multiply-adds and activations of a network with its classifier.

    Args:
        architecture: Network to count.
        classes: Outputs of the classifier. Default: 1000.
        image_size: Height and width in pixels. Default: those of the architecture.
    """
    size = image_size or architecture.image_size
    return graph_cost(network_graph(architecture, classes), [(size, size, architecture.channels)])
