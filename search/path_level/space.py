"""The space of path-level search: tree cells that grow from a layer ([P] section 3.2)."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Interval

from nasnet_zoo.cells import EDGES, PathNode, TreeGenotype
from nasnet_zoo.cells.draw_tree import tree_svg
from nasnet_zoo.cells.tree import MAX_DEPTH
from nasnet_zoo.checking import check_fields
from nasnet_zoo.search.space import Actions, GivenActions, Space

from .growth import BRANCHES, MERGES, Decision, Growth, Kind


@dataclass(frozen=True)
class TreeCellSpace(Space[TreeGenotype]):
    """All tree cells that grow from one layer.

    A child is the actions of the decisions by which it grows, see `Growth`; an action is the index of
    a choice. Cells differ in the number of their decisions. A cell of which no child of the root has
    expanded is the layer itself, several times, and is none of the space.

    Args:
        base: Layer that a cell grows from: "gconv3", a grouped 3x3 convolution, or "conv3". It stays on
            all edges of the root.
        edges: Names of the layers that other edges can become.
        depth: Depth of the deepest leaves.

    Raises:
        ValueError: If a value is out of range, there are no names to choose from, or a name is unknown
            or is repeated.
    """

    legend: ClassVar[str] = (
        "A node replicates or splits its input, one layer and subtree is applied to each part, and the "
        "results are added or concatenated. Nodes are green, layers yellow, leaves pink."
    )

    base: Literal["gconv3", "conv3"] = "gconv3"
    edges: tuple[str, ...] = ("sep3", "sep5", "sep7", "conv1", "identity", "max3", "avg3")
    depth: Annotated[int, Interval(ge=2, le=MAX_DEPTH)] = MAX_DEPTH

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", tuple(self.edges))
        check_fields(self)
        known = [name for name in EDGES if name != "gconv3"]
        if (
            not self.edges
            or len(set(self.edges)) < len(self.edges)
            or not set(self.edges) <= set(known)
        ):
            raise ValueError(
                f"Expected edges: at least one of {', '.join(known)}, each once. "
                f"Received: {', '.join(self.edges) or 'none'}"
            )

    @functools.cached_property
    def choices(self) -> dict[Kind, int]:
        """Number of choices of each kind of decision."""
        several = max(len(counts) for counts in BRANCHES.values())
        return {"merge": len(MERGES), "branches": several, "expand": 2, "edge": len(self.edges)}

    @property
    def size(self) -> int:
        """Number of sequences of actions, those by which no child expands included."""

        def grown(depth: int, edges: int) -> int:
            """The ways in which a node at a depth can grow."""
            deeper = grown(depth + 1, len(self.edges)) if depth + 1 < self.depth else 0
            branch = edges * (1 + deeper)
            return sum(branch**count for counts in BRANCHES.values() for count in counts)

        return grown(0, 1)

    # === From actions to a cell and back ===

    def growth(self) -> Growth:
        """A cell that begins to grow."""
        return Growth(self.base, self.edges, self.depth)

    def _grown(self, choose: Callable[[Decision], int]) -> tuple[dict[Decision, int], Growth]:
        """A cell that has grown, and the actions that a function chose."""
        growth, actions = self.growth(), {}
        while growth.decision is not None:
            decision = growth.decision
            actions[decision] = choose(decision)
            growth.decide(actions[decision])
        return actions, growth

    def _expanded(self, choose: Callable[[Decision], int]) -> Actions:
        """The actions that a function chose; as long as no child has expanded, it chooses again."""
        while True:
            actions, growth = self._grown(choose)
            if growth.expanded:
                return tuple(actions.values())

    def sample(self, rng: np.random.Generator) -> Actions:
        """Draw every decision uniformly."""
        return self._expanded(lambda decision: int(rng.integers(self.choices[decision.kind])))

    def mutate(self, actions: Actions, rng: np.random.Generator) -> Actions:
        """Return the actions of a cell of which one decision, drawn uniformly, is another.

        Decisions that there were before are kept, those that there were not are drawn uniformly.
        """
        made, _ = self._grown(self._chosen(GivenActions(actions)))
        changeable = [decision for decision in made if self.choices[decision.kind] > 1]
        while True:
            changed = changeable[rng.integers(len(changeable))]
            choices = self.choices[changed.kind]
            kept = {**made, changed: (made[changed] + int(rng.integers(1, choices))) % choices}
            grown, growth = self._grown(functools.partial(self._keep, kept, rng))
            if growth.expanded:
                return tuple(grown.values())

    def _chosen(self, given: GivenActions) -> Callable[[Decision], int]:
        return lambda decision: given.next(decision.place, self.choices[decision.kind])

    def _keep(self, kept: Mapping[Decision, int], rng: np.random.Generator, decision: Decision) -> int:
        return kept[decision] if decision in kept else int(rng.integers(self.choices[decision.kind]))

    def genotype(self, actions: Sequence[int], name: str = "tree") -> TreeGenotype:
        """Return the cell that grows by actions, branch by branch.

        Raises:
            ValueError: If these are not the actions of a cell. The message names the place.
        """
        given = GivenActions(actions)
        _, growth = self._grown(self._chosen(given))
        given.check_end("after which the cell has grown")
        if not growth.expanded:
            raise ValueError(
                f"Expected the actions of a cell with a child that expands. Received: {actions}"
            )
        root = growth.root.node
        assert root is not None
        return TreeGenotype(name, root)

    def actions(self, genotype: TreeGenotype) -> Actions:
        """Return the actions by which a cell grows, the inverse of `genotype`.

        Raises:
            ValueError: If the cell is not of this space.
        """

        def chosen(decision: Decision) -> int:
            node, (*above, last) = genotype.root, decision.path
            for k in above:
                node = node.edges[k][1]  # type: ignore[assignment]
            if decision.kind == "merge":
                return MERGES.index(node.merge)
            if decision.kind == "branches":
                return BRANCHES[node.merge].index(len(node.edges))
            edge, child = node.edges[last]
            return int(child is not None) if decision.kind == "expand" else self.edges.index(edge)

        try:
            actions = tuple(self._grown(chosen)[0].values())
            if self.genotype(actions).root == genotype.root:
                return actions
        except ValueError:  # an edge that there is not to choose from, or no child that expands
            pass
        raise ValueError(f"Expected a cell of {self}. Received: {genotype}")

    # === What the search asks of a space ===

    def about(self) -> dict[str, Any]:
        """Return what cells grow from, and what they can become."""
        return {"kind": "path-level", **dataclasses.asdict(self), "edges": list(self.edges)}

    def decode(self, actions: Sequence[int]) -> TreeGenotype:
        """Return the canonical cell, the same for cells that compute the same."""
        return canonical(self.genotype(actions))

    def to_json(self, architecture: TreeGenotype) -> dict[str, Any]:
        """Return the tree of a cell."""
        return {name: part for name, part in architecture.to_dict().items() if name != "name"}

    def from_json(self, data: dict[str, Any]) -> TreeGenotype:
        """Return the cell of a tree."""
        return TreeGenotype.from_dict(data)

    def traits(self, actions: Actions) -> Iterable[Hashable]:
        """Return the chains of merges and layers that lead from the root, of equal ones the numbers."""
        counts = Counter(_chains(self.decode(actions).root, ()))
        return [(chain, k) for chain, count in counts.items() for k in range(count)]

    def features(self, architecture: TreeGenotype) -> Mapping[str, float]:
        """Return the number of layers, the depth, and the share of each layer and merge."""
        nodes = list(_nodes(architecture.root))
        layers = [edge for node in nodes for edge, _ in node.edges]
        below = Counter(layers[len(architecture.root.edges) :])
        merges = Counter(node.merge or "none" for node in nodes)
        return {
            "layers": float(len(layers)),
            "depth": float(architecture.root.depth),
            **{f"layer: {name}": count / below.total() for name, count in below.items()},
            **{f"merge: {name}": count / len(nodes) for name, count in merges.items()},
        }

    def describe(self, architecture: TreeGenotype) -> str:
        """Return the layers, and in parentheses what reads each one's output."""
        return _text(architecture.root)

    def draw(self, architecture: TreeGenotype) -> str:
        """Return a picture of the tree."""
        return tree_svg(architecture)


def canonical(genotype: TreeGenotype) -> TreeGenotype:
    """Return the cell that stands for all that compute the same as another.

    The branches of an addition are in one order, and a node that only applies one layer after another,
    of which one is the identity, is none.
    """

    def settled(node: PathNode) -> PathNode:
        branches = [branch(edge, child) for edge, child in node.edges]
        if node.merge == "add":
            branches.sort(key=repr)
        return PathNode(tuple(branches), node.merge, node.allocation)

    def branch(edge: str, child: PathNode | None) -> tuple[str, PathNode | None]:
        if child is None:
            return edge, None
        child = settled(child)
        ((inner, below), *more) = child.edges
        if not more and "identity" in (edge, inner):
            return (inner if edge == "identity" else edge), below
        return edge, child

    return TreeGenotype(genotype.name, settled(genotype.root))


def _nodes(node: PathNode) -> Iterator[PathNode]:
    """A node and all below it."""
    yield node
    for _, child in node.edges:
        if child is not None:
            yield from _nodes(child)


def _chains(node: PathNode, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for edge, child in node.edges:
        chain = (*above, node.merge, edge)
        yield chain
        if child is not None:
            yield from _chains(child, chain)


def _text(node: PathNode) -> str:
    branches = [edge if child is None else f"{edge} {_text(child)}" for edge, child in node.edges]
    return f"{node.merge or ''}({', '.join(branches)})"
