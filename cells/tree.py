"""Tree cells: layers that path-level transformations have made trees, as plain data ([P] section 3.2).

A node allocates its input to branches and merges their results: ``z_i = allocation(x, i)``, ``y_i =
N_i(E_i(z_i))``, ``merge(y)``, with an edge E_i, which is a layer, and a child N_i, which is a node or a
leaf. A leaf is the identity. The edges of the root change the channels of the cell's input to those of
its output; all below have these, or a part of them where results are concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .graph import Node
from .operations import Primitives
from .primitives import BatchNorm, Conv, Depthwise, Pool, Relu, TakeChannels
from .serialization import JsonData, check_keys, expect

#: Depth of the deepest leaves; that of the root is 0.
MAX_DEPTH = 3


@dataclass(frozen=True)
class TreeEdge:
    """A layer that an edge of a tree cell can be.

    Args:
        label: Text in a picture.
        primitives: Function ``primitives(stride, groups)`` that returns its steps. Default: none.
        keeps_channels: Whether its output has the channels of its input. Default: False.
    """

    label: str
    primitives: Callable[[int, int], Primitives]
    keeps_channels: bool = False


def _conv(kernel: int) -> Callable[[int, int], Primitives]:
    return lambda stride, groups: (BatchNorm(), Relu(), Conv(kernel, stride))


def _separable(kernel: int) -> Callable[[int, int], Primitives]:
    return lambda stride, groups: (BatchNorm(), Relu(), Depthwise(kernel, stride), Conv(1))


def _pool(kind: str) -> Callable[[int, int], Primitives]:
    return lambda stride, groups: (Pool(kind, 3, stride),)


#: The layers that edges can be, by their names in genotypes: convolutions are batch norm, ReLU,
#: convolution without bias; separable ones are applied once; poolings stand alone.
EDGES: dict[str, TreeEdge] = {
    "identity": TreeEdge("identity", lambda stride, groups: (), keeps_channels=True),
    "conv1": TreeEdge("1x1 conv", _conv(1)),
    "conv3": TreeEdge("3x3 conv", _conv(3)),
    "gconv3": TreeEdge(
        "3x3 group conv", lambda stride, groups: (BatchNorm(), Relu(), Conv(3, stride, groups=groups))
    ),
    "sep3": TreeEdge("3x3 sep", _separable(3)),
    "sep5": TreeEdge("5x5 sep", _separable(5)),
    "sep7": TreeEdge("7x7 sep", _separable(7)),
    "avg3": TreeEdge("3x3 avg", _pool("avg"), keeps_channels=True),
    "max3": TreeEdge("3x3 max", _pool("max"), keeps_channels=True),
}

# Numbers of branches by merge and allocation.
_BRANCHES: dict[tuple[str | None, str | None], tuple[int, ...]] = {
    ("add", "copy"): (2, 3),
    ("concat", "copy"): (2,),
    ("concat", "split"): (2,),
    (None, None): (1,),
}
#: A branch: the name of its edge in `EDGES`, and its child, None for a leaf.
Branch = tuple[str, "PathNode | None"]


@dataclass(frozen=True)
class PathNode:
    """A node of a tree cell that is no leaf.

    Args:
        edges: Branches: pairs of an edge and a child. One without a merge, two or three with "add", two
            with "concat".
        merge: "add", "concat", or None with one branch.
        allocation: "copy", each branch reads the whole input; "split", each a part of its channels; or
            None with one branch. An addition is of copies. A concatenation is of parts where an edge
            keeps its channels, or convolves them by groups.

    Raises:
        ValueError: If these do not fit each other. The message names the place, such as ``e[0][1].m``.
    """

    edges: tuple[Branch, ...]
    merge: str | None = None
    allocation: str | None = None

    def __post_init__(self) -> None:
        kind = self.merge, self.allocation
        known = all(isinstance(part, str | None) for part in kind) and kind in _BRANCHES
        expected = "m and a of add and copy, concat and copy, concat and split, null and null"
        expect(known, "m", expected, list(kind))
        pairs = isinstance(self.edges, tuple | list) and all(
            isinstance(branch, tuple | list) and len(branch) == 2 for branch in self.edges
        )
        expect(pairs, "e", "a list of pairs of an edge and a child", self.edges)
        numbers = _BRANCHES[kind]
        expected = f"{' or '.join(map(str, numbers))} branches with m={self.merge}"
        expect(len(self.edges) in numbers, "e", expected, len(self.edges))
        for k, (edge, child) in enumerate(self.edges):
            named = isinstance(edge, str) and edge in EDGES
            expect(named, f"e[{k}][0]", f"one of {', '.join(EDGES)}", edge)
            is_node = isinstance(child, PathNode | None)
            expect(is_node, f"e[{k}][1]", "a node, or null for a leaf", child)
            if kind == ("concat", "copy"):
                changes = edge != "gconv3" and not EDGES[edge].keeps_channels
                expected = "an edge that makes other channels (or a=split)"
                expect(changes, f"e[{k}][0]", expected, edge)
        object.__setattr__(self, "edges", tuple(map(tuple, self.edges)))

    @property
    def depth(self) -> int:
        """Number of edges from the node to the deepest leaf."""
        return 1 + max(child.depth if child else 0 for _, child in self.edges)

    def to_dict(self) -> dict[str, Any]:
        """Return the node as JSON-compatible lists and dicts."""
        edges = [[edge, child and child.to_dict()] for edge, child in self.edges]
        return {"m": self.merge, "a": self.allocation, "e": edges}

    @classmethod
    def from_dict(cls, data: Any, place: str = "", depth: int = 0) -> PathNode:
        """Build a node from the dict of `to_dict`.

        Raises:
            ValueError: If the data is invalid. The message names the place, starting with ``place``.
        """
        check_keys(data, place or "tree", required=("m", "a", "e"), optional=())
        _check_depth(place, depth, data)
        inside = f"{place}." if place else ""
        edges = data["e"]
        if isinstance(edges, list) and all(isinstance(b, list) and len(b) == 2 for b in edges):
            edges = [
                (edge, child and cls.from_dict(child, f"{inside}e[{k}][1]", depth + 1))
                for k, (edge, child) in enumerate(edges)
            ]
        try:
            return cls(edges, data["m"], data["a"])
        except ValueError as error:
            raise ValueError(f"{inside}{error}") from None


def _check_depth(place: str, depth: int, node: Any) -> None:
    expected = f"null, a leaf, at depth {MAX_DEPTH} below the root"
    expect(depth < MAX_DEPTH, place, expected, node)


@dataclass(frozen=True)
class TreeGenotype(JsonData):
    """A tree cell, which takes the place of a 3x3 convolution in a base network.

    Args:
        name: Name of the genotype.
        root: The root. Its edges are convolutions: they change the channels.

    Raises:
        ValueError: If a leaf is deeper than `MAX_DEPTH`, or an edge of the root is no convolution. The
            message names the place.

    Example::

        tree = TreeGenotype.from_json('{"m": null, "a": null, "e": [["gconv3", null]]}')
    """

    name: str
    root: PathNode

    def __post_init__(self) -> None:
        expect(isinstance(self.name, str), "name", "a string", self.name)
        expect(isinstance(self.root, PathNode), "tree", "a PathNode", self.root)
        for k, (edge, _) in enumerate(self.root.edges):
            makes = not EDGES[edge].keeps_channels
            choices = ", ".join(name for name, known in EDGES.items() if not known.keeps_channels)
            expect(makes, f"e[{k}][0]", f"one of {choices} at the root", edge)

        def check(node: PathNode, place: str, depth: int) -> None:
            _check_depth(place, depth, node)
            for k, (_, child) in enumerate(node.edges):
                if child is not None:
                    check(child, f"{place}.e[{k}][1]".lstrip("."), depth + 1)

        check(self.root, "", 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as JSON-compatible lists and dicts."""
        return {"name": self.name, **self.root.to_dict()}

    @classmethod
    def from_dict(cls, data: Any) -> TreeGenotype:
        """Build a genotype from the dict of `to_dict`; the name is optional.

        Raises:
            ValueError: If the data is invalid. The message names the place.
        """
        check_keys(data, "tree", required=("m", "a", "e"), optional=("name",))
        root = PathNode.from_dict({key: data[key] for key in ("m", "a", "e")})
        return cls(data.get("name", "tree"), root)


# === From tree to graph ===


def tree_nodes(
    tree: PathNode,
    source: str,
    channels: int,
    filters: int,
    stride: int = 1,
    groups: int = 1,
    root_norm: bool = True,
    average: bool = False,
) -> tuple[Node, ...]:
    """Build the nodes of a graph that compute a tree cell; the last one makes its result.

    Args:
        tree: Root of the cell.
        source: Name of the state that the cell reads.
        channels: Channels of that state.
        filters: Channels of the result.
        stride: Stride of the root's edges. Default: 1.
        groups: Groups of grouped convolutions. Default: 1.
        root_norm: Whether a branch of an addition at the root is ``e + BN(N(e))`` of its edge's result
            e, instead of N(e). Default: True.
        average: Whether additions are means. Default: False.

    Raises:
        ValueError: If channels cannot be split, or groups do not divide them. The message names the
            place.
    """
    build = _Builder(groups, root_norm, "average" if average else "add")
    build.node(tree, source, channels, filters, (), stride)
    return tuple(build.nodes)


def segments(channels: int, parts: int) -> list[int]:
    """Divide channels into parts, the first ones of one more where they do not divide evenly."""
    least, more = divmod(channels, parts)
    return [least + (k < more) for k in range(parts)]


class _Builder:
    """Collects the nodes of a tree; arguments as in `tree_nodes`."""

    def __init__(self, groups: int, root_norm: bool, merge: str) -> None:
        self.groups, self.root_norm, self.merge = groups, root_norm, merge
        self.nodes: list[Node] = []

    def add(
        self,
        name: str,
        inputs: Sequence[str],
        primitives: Primitives = (),
        merge: str | None = None,
        filters: int = 0,
    ) -> str:
        """Append a node and return the name of its state."""
        self.nodes.append(Node(name, tuple(inputs), merge, primitives, filters))
        return name

    def node(
        self,
        node: PathNode,
        state: str,
        channels: int,
        filters: int,
        path: tuple[int, ...],
        stride: int,
    ) -> str:
        """Append a node of the tree, at the end of a path from the root, and return its result."""
        parts, place = len(node.edges), ".".join(f"e[{k}][1]" for k in path)
        splits, joins = node.allocation == "split", node.merge == "concat"
        for count in (channels,) * splits + (filters,) * joins:
            expect(count >= parts, place or "tree", f"at least {parts} channels to split", count)
        reads = segments(channels, parts) if splits else [channels] * parts
        makes = segments(filters, parts) if joins else [filters] * parts
        results = []
        for k, (edge, child) in enumerate(node.edges):
            own, before = (*path, k), len(self.nodes)
            suffix = "".join(f"_{number}" for number in own)
            start = sum(reads[:k])
            take = (TakeChannels(start, start + reads[k]),) if splits else ()
            groups = self.groups_of(edge, node, (channels, filters), f"{place}.e[{k}][0]".lstrip("."))
            steps = (*take, *EDGES[edge].primitives(stride, groups))
            made = state
            if steps:
                made = self.add(f"edge{suffix}", [state], steps, filters=makes[k])
            result = made
            if child is not None:
                result = self.node(child, made, makes[k], makes[k], own, 1)
            if not path and self.root_norm and node.merge == "add":
                norm = self.add(f"norm{suffix}", [result], (BatchNorm(),))
                result = self.add(f"branch{suffix}", [made, norm], merge=self.merge)
            results.append(self.droppable(f"path{suffix}", result, before))
        if node.merge is None:
            return results[0]
        name = "node" + "".join(f"_{number}" for number in path)
        return self.add(name, results, merge="concat" if joins else self.merge)

    def groups_of(self, edge: str, node: PathNode, channels: tuple[int, int], place: str) -> int:
        """The groups of an edge: those of the whole layer are shared out to the parts of a split."""
        if edge != "gconv3":
            return 1
        fits = all(count % self.groups == 0 for count in channels)
        expect(fits, place, f"channels that {self.groups} groups divide", channels)
        if node.merge != "concat":
            return self.groups
        parts = len(node.edges)
        expect(self.groups % parts == 0, place, f"groups that {parts} branches divide", self.groups)
        return self.groups // parts

    def droppable(self, name: str, state: str, before: int) -> str:
        """Mark the result of a path, whose nodes began at ``before``, for drop path."""
        last = self.nodes[-1] if len(self.nodes) > before else None
        if last is None or last.drop_path:
            last = Node(name, (state,))
            self.nodes.append(last)
        self.nodes[-1] = replace(last, drop_path=True)
        return last.name
