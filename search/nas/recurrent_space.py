"""The space of recurrent cells ([Z] section 3.4): trees of combinations and activations."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Interval

from nasnet_zoo.cells import TREE_ACTIVATIONS, TREE_COMBINATIONS, RecurrentGenotype, TreeNode
from nasnet_zoo.cells.draw_recurrent import recurrent_svg
from nasnet_zoo.checking import check_fields
from nasnet_zoo.search.space import Actions, SequenceSpace, Step


@dataclass(frozen=True)
class RecurrentSpace(SequenceSpace[RecurrentGenotype]):
    """All recurrent cells of base b.

    A child is a sequence of actions: the combination and the activation of each node, leaves first,
    then those of the injection, then the two cell indices.

    Args:
        base: Number of leaves, b.
        combinations: Names of the combinations to choose from.
        activations: Names of the activations to choose from.

    Raises:
        ValueError: If a number is out of range, there are no names to choose from, or a name is unknown
            or is repeated.
    """

    legend: ClassVar[str] = (
        "Leaves, at the bottom, combine the products of x and of the last h with their own matrices; "
        "other nodes combine two nodes. Combinations are green, activations yellow; c is taken after a "
        "combination, and the last c enters after an activation. The output, h, is pink."
    )

    base: Annotated[int, Interval(ge=1, le=64)] = 8
    combinations: tuple[str, ...] = ("add", "elem_mult")
    activations: tuple[str, ...] = ("identity", "tanh", "sigmoid", "relu")

    def __post_init__(self) -> None:
        check_fields(self)
        known = {"combinations": list(TREE_COMBINATIONS), "activations": list(TREE_ACTIVATIONS)}
        for field, registry in known.items():
            names = tuple(getattr(self, field))
            object.__setattr__(self, field, names)
            if not names or len(set(names)) < len(names) or not set(names) <= set(registry):
                raise ValueError(
                    f"Expected {field}: at least one of {', '.join(registry)}, each once. "
                    f"Received: {', '.join(names) or 'none'}"
                )

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """Kind and number of choices of each action.

        Each has a softmax of its own, as figure 5 has it: with one for all nodes, the controller has to
        count to tell one node from the next.
        """
        nodes = 2 * self.base - 1
        labels = (
            Step(f"{kind} {place}", len(names))
            for place in (*range(nodes), "of the injection")
            for kind, names in (("combination", self.combinations), ("activation", self.activations))
        )
        return (*labels, Step("node of the new c", nodes), Step("node that c enters", nodes))

    @property
    def size(self) -> int:
        """Number of sequences of actions."""
        return math.prod(self.choices)

    def genotype(self, actions: Sequence[int], name: str = "cell") -> RecurrentGenotype:
        """Return the cell of a sequence of actions, node by node.

        Raises:
            ValueError: If these are not the actions of a cell.
        """
        *choices, taken, entered = self.check(actions)
        pairs = zip(choices[::2], choices[1::2], strict=True)
        *nodes, inject = (TreeNode(self.combinations[c], self.activations[a]) for c, a in pairs)
        return RecurrentGenotype(name, tuple(nodes), inject, (taken, entered))

    def actions(self, genotype: RecurrentGenotype) -> Actions:
        """Return the actions of a cell, the inverse of `genotype`.

        Raises:
            ValueError: If the cell is not of this space.
        """
        *labels, taken, entered = genotype.tokens
        names = (self.combinations, self.activations) * (len(labels) // 2)
        try:
            chosen = [known.index(str(token)) for known, token in zip(names, labels, strict=True)]
            return self.check([*chosen, int(taken), int(entered)])
        except ValueError:
            raise ValueError(f"Expected a cell of {self}. Received: {genotype}") from None

    # === What the search asks of a space ===

    def about(self) -> dict[str, Any]:
        """Return that the children are recurrent cells; the settings of the search hold the rest."""
        return {"kind": "nas-rnn"}

    def decode(self, actions: Sequence[int]) -> RecurrentGenotype:
        """Return the canonical cell, the same for cells that differ in the order of sides."""
        return canonical(self.genotype(actions))

    def to_json(self, architecture: RecurrentGenotype) -> dict[str, Any]:
        """Return the tree of a cell."""
        return {name: part for name, part in architecture.to_dict().items() if name != "name"}

    def from_json(self, data: dict[str, Any]) -> RecurrentGenotype:
        """Return the cell of a tree."""
        return RecurrentGenotype.from_dict(data)

    def traits(self, actions: Actions) -> Iterable[Hashable]:
        """Return the actions of the canonical form, each at its place."""
        return super().traits(self.actions(self.decode(actions)))

    def features(self, architecture: RecurrentGenotype) -> Mapping[str, float]:
        """Return the share of each combination and activation among the nodes."""
        nodes = architecture.nodes
        return {
            f"{kind}: {name}": count / len(nodes)
            for kind in TreeNode._fields
            for name, count in Counter(getattr(node, kind) for node in nodes).items()
        }

    def describe(self, architecture: RecurrentGenotype) -> str:
        """Return what each node computes."""
        inject, (taken, entered) = architecture.inject, architecture.cell_indices
        lines = []
        for k, (combination, activation) in enumerate(architecture.nodes):
            children = architecture.children(k)
            read = "x, h" if children is None else "{}, {}".format(*children)
            line = f"{activation}({combination}({read}))"
            if k == entered:
                line = f"{inject.activation}({inject.combination}({line}, c))"
            lines.append(f"{k} = {line}")
        return f"{'; '.join(lines)}; new c: {taken} before its activation"

    def draw(self, architecture: RecurrentGenotype) -> str:
        """Return a picture of the tree."""
        return recurrent_svg(architecture)


def canonical(genotype: RecurrentGenotype) -> RecurrentGenotype:
    """Return the least of all cells that differ from a cell in the order of sides alone.

    Combinations are commutative and each leaf has matrices of its own, so that the two sides of a node
    may change places where they have the same shape.
    """

    def least(number: int) -> tuple[Any, ...]:
        marks = tuple(index != number for index in genotype.cell_indices)
        children = genotype.children(number)
        sides = () if children is None else tuple(map(least, children))
        if len(sides) == 2 and _size(sides[0]) == _size(sides[1]):
            sides = tuple(sorted(sides))
        return (*genotype.nodes[number], *marks, *sides)

    # Nodes are numbered by levels from the leaves, each from left to right: from the root down, each
    # from right to left, is the opposite order.
    ordered = [least(len(genotype.nodes) - 1)]
    for node in ordered:
        ordered += reversed(node[4:])
    ordered.reverse()
    nodes = tuple(TreeNode(*node[:2]) for node in ordered)
    taken, entered = (next(k for k, n in enumerate(ordered) if not n[2 + m]) for m in (0, 1))
    return RecurrentGenotype(genotype.name, nodes, genotype.inject, (taken, entered))


def _size(node: tuple[Any, ...]) -> int:
    return 1 + sum(map(_size, node[4:]))
