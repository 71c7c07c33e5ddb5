"""Graphs of primitives, and the graph of a cell.

`cell_graph` defines how a cell is composed ([S]; [N] section 3): how initial states are adapted,
which operations have a stride, which states are concatenated. It depends on channel counts and
strides only, never on image sizes, so that a cell has the same weights at any image size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .genotype import Block, CellGenotype
from .operations import COMBINATIONS, OPERATIONS, OperationSpec, Primitives, conv
from .primitives import MERGES, BatchNorm, Conv, Primitive, Relu, Shape, Shift

#: Name of the node of a graph of one, such as a stem; in a larger graph it has the prefix as its name.
SEQUENCE = "sequence"


@dataclass(frozen=True)
class Node:
    """A node: merges its inputs, then applies primitives to the result.

    Args:
        name: Name, unique within the graph.
        inputs: Names of earlier nodes or of graph inputs.
        merge: Key of `nasnet_zoo.cells.primitives.MERGES`; None with a single input.
        primitives: Primitives to apply, in order. May be empty.
        filters: F, passed to the primitives.
        drop_path: Whether ScheduledDropPath may drop the result.
    """

    name: str
    inputs: tuple[str, ...]
    merge: str | None = None
    primitives: Primitives = ()
    filters: int = 0
    drop_path: bool = False

    def merged_shape(self, known: Mapping[str, Shape]) -> Shape:
        """Return the shape of the merged inputs, whose own shapes are known."""
        shapes = [known[name] for name in self.inputs]
        return MERGES[self.merge].output_shape(shapes) if self.merge else shapes[0]


@dataclass(frozen=True)
class Graph:
    """A graph of primitives.

    Args:
        inputs: Names of the inputs.
        nodes: Nodes, each after the nodes that it reads.
        outputs: Names of the nodes or inputs that are the outputs.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def shapes(self, input_shapes: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shape of every state by name, given the shapes of the inputs."""
        known = dict(zip(self.inputs, input_shapes, strict=True))
        for node in self.nodes:
            known[node.name] = _through(node, node.merged_shape(known))
        return known

    def output_shapes(self, input_shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        """Return the shapes of the outputs, given the shapes of the inputs."""
        known = self.shapes(input_shapes)
        return tuple(known[name] for name in self.outputs)

    def check_sizes(self, input_shapes: Sequence[Shape]) -> None:
        """Check that no state is empty.

        Raises:
            ValueError: If the inputs are too small for the graph.
        """
        for state, shape in self.shapes(input_shapes).items():
            if min(size or 0 for size in shape) < 1:
                raise ValueError(f"the images are too small: {state} has the shape {shape}")

    def steps(self, input_shapes: Sequence[Shape]) -> Iterator[tuple[Node, int, Primitive, Shape]]:
        """Yield every primitive in order: its node, its index in it, the primitive, its input shape."""
        known = self.shapes(input_shapes)
        for node in self.nodes:
            shape = node.merged_shape(known)
            for position, primitive in enumerate(node.primitives):
                yield node, position, primitive, shape
                shape = primitive.output_shape(shape, node.filters)

    def renamed(self, prefix: str, inputs: Mapping[str, str]) -> Graph:
        """Return a copy with ``prefix`` before the nodes' names and inputs renamed by ``inputs``."""
        own = {n.name: prefix if n.name == SEQUENCE else f"{prefix}/{n.name}" for n in self.nodes}
        names = {**own, **inputs}

        def new(old: Sequence[str]) -> tuple[str, ...]:
            return tuple(names[name] for name in old)

        nodes = (replace(n, name=names[n.name], inputs=new(n.inputs)) for n in self.nodes)
        return Graph(new(self.inputs), tuple(nodes), new(self.outputs))


def _through(node: Node, shape: Shape) -> Shape:
    for primitive in node.primitives:
        shape = primitive.output_shape(shape, node.filters)
    return shape


@dataclass
class _Builder:
    """Collects the nodes of a graph; knows the channels of every state named so far."""

    filters: int
    channels: dict[str, int]
    nodes: list[Node] = field(default_factory=list)

    def add(
        self,
        name: str,
        inputs: Sequence[str],
        primitives: Primitives = (),
        merge: str | None = None,
        filters: int | None = None,
        drop_path: bool = False,
    ) -> str:
        """Append a node and return the name of its state. A node that does nothing is left out."""
        if len(inputs) == 1 and not primitives:
            return inputs[0]
        node = Node(name, tuple(inputs), merge, primitives, filters or self.filters, drop_path)
        known = {state: (None, None, count) for state, count in self.channels.items()}
        self.channels[name] = _through(node, node.merged_shape(known))[2]
        self.nodes.append(node)
        return name

    def factorized_reduction(self, name: str, state: str, factor: int, filters: int) -> str:
        """Reduce a state to ``filters`` channels at 1/``factor`` of its size, by halving it repeatedly.

        Two paths sample every second pixel, the second one shifted by a pixel. (Slim's 1x1 average
        pool with stride 2 and the 1x1 convolution after it are one strided 1x1 convolution.)
        """
        while factor > 1:
            state = self.add(f"{name}_relu", [state], (Relu(),))
            sampled = Conv(1, stride=2)
            halves = (
                (f"{name}_path_1", (sampled,), filters // 2),
                (f"{name}_path_2", (Shift(), sampled), filters - filters // 2),
            )
            paths = [self.add(path, [state], steps, filters=n) for path, steps, n in halves if n]
            state = self.add(name, paths, (BatchNorm(),), merge="concat")
            name, factor = f"{name}_again", factor // 2
        return state

    def operation(self, name: str, operation: OperationSpec, state: str, stride: int) -> str:
        """Append an operation on a state."""
        if operation.factorized and stride > 1:
            state = self.factorized_reduction(f"{name}_reduction", state, stride, self.filters)
            stride = 1
        steps = operation.primitives(stride, self.channels[state], self.filters)
        return self.add(name, [state], steps, drop_path=operation.drop_path)

    def block(self, name: str, block: Block, states: Sequence[str], strides: Sequence[int]) -> str:
        """Append both operations of a block and their combination."""
        combination = COMBINATIONS[block.combination]
        sides = []
        for side, state, operation_name in zip(
            ("left", "right"), block.inputs, block.operations, strict=True
        ):
            operation = OPERATIONS[operation_name]
            path = self.operation(f"{name}_{side}", operation, states[state], strides[state])
            sides.append(self.add(f"{name}_{side}_norm", [path], combination.primitives))
        return self.add(name, sides, merge=combination.merge)


def _needed(nodes: Sequence[Node], outputs: Sequence[str]) -> tuple[Node, ...]:
    """Return the nodes that an output depends on, so that the others get no weights."""
    wanted = set(outputs)
    needed = []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            needed.append(node)
    return tuple(reversed(needed))


def cell_graph(
    cell: CellGenotype,
    filters: int,
    stride: int,
    channels: Sequence[int],
    scales: Sequence[int],
) -> Graph:
    """Build the graph of a cell.

    Two-input cells: ``h_i`` goes through ReLU, 1x1 convolution, batch norm (``projections`` times).
    ``h_{i-1}`` is reduced to the resolution of ``h_i`` by a factorized reduction if it is larger, else
    projected to F channels by a 1x1 convolution if it has another number of channels, else left as it
    is. Without an ``h_{i-1}`` (the first cell), the raw ``h_i`` takes its place. Labelled cells
    (NASNet-B) adapt an input only if its resolution differs.

    Args:
        cell: Genotype of the cell.
        filters: F, the channels of every operation's output.
        stride: 1 for a normal cell; 2 for a reduction cell, whose operations on initial states then
            have stride 2.
        channels: Channel count of each input, ``h_i`` first.
        scales: Ratio of each input's size to that of ``h_i``: 1, 2, 4, ...

    Returns:
        A graph with inputs ``input_0``.. and one concatenated output, or one output for each label.

    Raises:
        ValueError: If the number of inputs does not fit the cell.
    """
    given = len(channels)
    first = given == 1 and cell.inputs == 2 and not cell.labelled
    if (given != cell.inputs and not first) or len(scales) != given:
        expected = f"{cell.inputs} inputs{' (or 1 in a first cell)' if cell.inputs == 2 else ''}"
        raise ValueError(
            f"Expected channels and scales of {expected}. Received: {channels=}, {scales=}"
        )
    names = tuple(f"input_{k}" for k in range(given))
    build = _Builder(filters, dict(zip(names, channels, strict=True)))
    states = list(names) * cell.inputs if first else list(names)
    for k, scale in enumerate(scales):
        if scale > 1:
            states[k] = build.factorized_reduction(f"state_{k}", states[k], scale, filters)
        elif not cell.labelled and (k == 0 or channels[k] != filters):
            times = cell.projections if k == 0 else 1
            states[k] = build.add(f"state_{k}", [states[k]], conv(1) * times)

    strides = [stride] * cell.inputs
    for k, block in enumerate(cell.blocks):
        states.append(build.block(f"block_{k}", block, states, strides))
        strides.append(1)

    outputs = []
    for state in cell.outputs:
        name, reduce_by = states[state], strides[state]
        outputs.append(build.factorized_reduction(f"output_{state}", name, reduce_by, filters))
    if not cell.labelled:
        outputs = [build.add("output", outputs, merge="concat")]
    return Graph(names, _needed(build.nodes, outputs), tuple(outputs))


def join_graph(channels: Sequence[int], scales: Sequence[int], merge: str = "concat") -> Graph:
    """Build the concatenation of states, which a network's classifier reads.

    Args:
        channels: Channel count of each state.
        scales: Ratio of each state's size to that of the first. Larger states are reduced by a
            factorized reduction that keeps their channels.
        merge: "concat", or "padded_concat" for zeros in place of reductions. Default: "concat".
    """
    names = tuple(f"input_{k}" for k in range(len(channels)))
    build = _Builder(0, dict(zip(names, channels, strict=True)))
    states = [
        build.factorized_reduction(f"state_{k}", name, scale, count)
        for k, (name, count, scale) in enumerate(zip(names, channels, scales, strict=True))
    ]
    output = build.add("output", states, merge=merge)
    return Graph(names, tuple(build.nodes), (output,))


def sequence_graph(primitives: Primitives, filters: int) -> Graph:
    """Build a graph of one node, such as a stem or a head."""
    return Graph(("input_0",), (Node(SEQUENCE, ("input_0",), None, primitives, filters),), (SEQUENCE,))


def operation_graph(operation: str, filters: int, stride: int, channels: int) -> Graph:
    """Build the graph of a single operation."""
    build = _Builder(filters, {"input_0": channels})
    output = build.operation("sequence", OPERATIONS[operation], "input_0", stride)
    return Graph(("input_0",), tuple(build.nodes), (output,))
