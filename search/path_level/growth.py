"""How tree cells grow from a layer, one decision after the other ([P] section 3.2 and its release)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from nasnet_zoo.cells import EDGES, PathNode

#: Merges to choose from, and the numbers of branches that each can have.
BRANCHES: dict[str | None, tuple[int, ...]] = {None: (1,), "add": (2, 3), "concat": (2,)}
MERGES = tuple(BRANCHES)
#: What is decided: the merge of a node, the number of its branches, whether a leaf becomes a node, and
#: the layer of an edge.
Kind = Literal["merge", "branches", "expand", "edge"]


@dataclass(eq=False)
class Sprout:
    """A node or a leaf of a growing cell.

    Args:
        path: Numbers of the branches that lead to it from the root.
        edge: Layer of the edge from its parent; None if that is not decided yet, and of the root.
        merge: See `nasnet_zoo.cells.PathNode`.
        allocation: See `nasnet_zoo.cells.PathNode`.
        children: Its children; none of a leaf.
    """

    path: tuple[int, ...] = ()
    edge: str | None = None
    merge: str | None = None
    allocation: str | None = None
    children: list[Sprout] = field(default_factory=list)

    def grow(self, edge: str | None, count: int = 1) -> None:
        """Get new children, all leaves behind the same edge."""
        self.children = [Sprout((*self.path, k), edge) for k in range(count)]

    @property
    def node(self) -> PathNode | None:
        """What has grown, None for a leaf."""
        if not self.children:
            return None
        edges = tuple((str(child.edge), child.node) for child in self.children)
        return PathNode(edges, self.merge, self.allocation)


class Decision(NamedTuple):
    """A decision that is to be made.

    Args:
        kind: What is decided.
        path: Path of the node or leaf at the lower end of the edge that it is about: the only child
            of the node whose merge and branches are decided, or what gets an edge, or expands.
    """

    kind: Kind
    path: tuple[int, ...]

    @property
    def place(self) -> str:
        """The place in a genotype that it decides, such as ``e[0][1].m``."""
        *above, last = self.path
        names = {"merge": "m", "branches": "e", "edge": f"e[{last}][0]", "expand": f"e[{last}][1]"}
        return "".join(f"e[{k}][1]." for k in above) + names[self.kind]


class Growth:
    """A growing cell, which says what is decided next.

    After a merge, and the number of branches if there is a choice, come the new edges in their order;
    then each child in turn expands or does not, and is grown to its end before the next one. The edges
    of the root keep the layer that the cell grows from.

    Args:
        base: Name of the layer that it grows from.
        edges: Names of the layers that edges can become.
        depth: Depth of the deepest leaves.
    """

    def __init__(self, base: str, edges: tuple[str, ...], depth: int) -> None:
        self.root, self._edges, self._depth = Sprout(), edges, depth
        self.root.grow(base)
        self._decisions = self._grow(self.root)
        #: The next decision; None when the cell has grown.
        self.decision: Decision | None = next(self._decisions)

    def decide(self, action: int) -> None:
        """Make the next decision: the index of a choice."""
        try:
            self.decision = self._decisions.send(action)
        except StopIteration:
            self.decision = None

    @property
    def expanded(self) -> bool:
        """Whether the cell is more than its root."""
        return any(child.children for child in self.root.children)

    def _grow(self, node: Sprout) -> Generator[Decision, int, None]:
        """Make the decisions of a node that has one child, a leaf, and of all below it."""
        child = node.children[0]
        merge = MERGES[(yield Decision("merge", child.path))]
        counts = BRANCHES[merge]
        count = counts[(yield Decision("branches", child.path)) if len(counts) > 1 else 0]
        node.merge = merge
        if merge is not None:
            splits = child.edge is None or child.edge == "gconv3" or EDGES[child.edge].keeps_channels
            node.allocation = "split" if merge == "concat" and splits else "copy"
        node.grow(child.edge, count)
        for child in node.children:
            if child.edge is None:
                child.edge = self._edges[(yield Decision("edge", child.path))]
        for child in node.children:
            if len(child.path) < self._depth and (yield Decision("expand", child.path)):
                child.grow(None)
                yield from self._grow(child)
