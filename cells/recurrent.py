"""Recurrent cells as plain data: trees of combinations and activations ([Z] section 3.4).

A cell of base b is a full binary tree: nodes 0 to b - 1 are its leaves, node b + j merges nodes 2j and
2j + 1, and node 2b - 2 is the root. A node combines two tensors (a leaf ``W_i x_t`` and
``U_i h_{t-1}``, each with matrices of its own) and applies an activation. Two nodes are joined to
the cell state c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nasnet_zoo.lazy import LazyModule

from .serialization import JsonData, check_keys, expect, expect_name, is_int

ops: Any = LazyModule("keras.ops")
Tensor = Any

#: What a node combines its two inputs by. All are commutative.
TREE_COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "elem_mult": lambda a, b: a * b,
    "max": lambda a, b: ops.maximum(a, b),
}
#: What a node applies to the combination.
TREE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda a: a,
    "tanh": lambda a: ops.tanh(a),
    "sigmoid": lambda a: ops.sigmoid(a),
    "relu": lambda a: ops.relu(a),
    "sin": lambda a: ops.sin(a),
}

# Maximum number of leaves.
_LEAVES = 64


class TreeNode(NamedTuple):
    """A node of a tree: it combines two tensors and applies an activation.

    Args:
        combination: Name from `TREE_COMBINATIONS`.
        activation: Name from `TREE_ACTIVATIONS`.
    """

    combination: str
    activation: str

    def __call__(self, left: Tensor, right: Tensor) -> Tensor:
        """Combine two tensors and apply the activation."""
        return TREE_ACTIVATIONS[self.activation](self.combine(left, right))

    def combine(self, left: Tensor, right: Tensor) -> Tensor:
        """Combine two tensors."""
        return TREE_COMBINATIONS[self.combination](left, right)


@dataclass(frozen=True)
class RecurrentGenotype(JsonData):
    """A recurrent cell as a tree.

    Args:
        name: Name of the cell, without control characters.
        nodes: The 2b - 1 nodes of a tree with b leaves, from 1 to 64, leaves first.
        inject: What joins c_{t-1} to the output of a node.
        cell_indices: Number of the node whose combination, before its activation, is c_t; and of the
            node at which c_{t-1} enters.

    Raises:
        ValueError: If a token is unknown, the number of nodes is that of no tree, or an index is
            outside. The message names the place.

    Example::

        cell = RecurrentGenotype.load("winner.json")
        outputs = keras.layers.RNN(nasnet_zoo.RecurrentCell(cell, units=128))(inputs)
    """

    name: str
    nodes: tuple[TreeNode, ...]
    inject: TreeNode
    cell_indices: tuple[int, int]

    def __post_init__(self) -> None:
        expect_name(self.name)
        self._check()
        object.__setattr__(self, "nodes", tuple(TreeNode(*node) for node in self.nodes))
        object.__setattr__(self, "inject", TreeNode(*self.inject))
        object.__setattr__(self, "cell_indices", tuple(self.cell_indices))

    def _check(self) -> None:
        most, expected = 2 * _LEAVES - 1, "2b - 1 nodes of a tree with b leaves"
        is_tree = isinstance(self.nodes, (tuple, list)) and len(self.nodes) in range(1, most + 1, 2)
        if isinstance(self.nodes, (tuple, list)) and not is_tree:
            expect(False, "nodes", f"{expected}, an odd number of at most {most}", len(self.nodes))
        expect(is_tree, "nodes", expected, self.nodes)
        for k, node in enumerate(self.nodes):
            _check_node(node, f"nodes[{k}]")
        _check_node(self.inject, "inject")
        pair = self.cell_indices
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
        expect(is_pair, "cell_indices", "a pair", pair)
        for k, index in enumerate(pair):
            inside = is_int(index) and 0 <= index < len(self.nodes)
            expect(inside, f"cell_indices[{k}]", f"a node, 0 to {len(self.nodes) - 1}", index)

    @property
    def base(self) -> int:
        """Number of leaves, b."""
        return (len(self.nodes) + 1) // 2

    def children(self, number: int) -> tuple[int, int] | None:
        """Numbers of the two nodes that a node merges, or None of a leaf."""
        first = 2 * (number - self.base)
        return (first, first + 1) if first >= 0 else None

    @property
    def tokens(self) -> tuple[str | int, ...]:
        """The 2(2b - 1) + 4 choices that make the cell, in the order in which they are drawn."""
        return *(token for node in (*self.nodes, self.inject) for token in node), *self.cell_indices

    @classmethod
    def from_tokens(cls, tokens: Sequence[str | int], name: str = "cell") -> RecurrentGenotype:
        """Build a cell from its `tokens`.

        Raises:
            ValueError: If these are not the tokens of a cell. The message names the place.
        """
        is_tree = len(tokens) % 4 == 2 and len(tokens) >= 6
        expect(is_tree, "tokens", "2(2b - 1) + 4 tokens of a tree with b leaves", len(tokens))
        *nodes, inject = (TreeNode(*tokens[k : k + 2]) for k in range(0, len(tokens) - 2, 2))  # type: ignore[arg-type]
        return cls(name, tuple(nodes), inject, tuple(tokens[-2:]))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the cell as JSON-compatible lists and dicts."""
        return {
            "name": self.name,
            "nodes": [node._asdict() for node in self.nodes],
            "inject": self.inject._asdict(),
            "cell_indices": list(self.cell_indices),
        }

    @classmethod
    def from_dict(cls, data: Any) -> RecurrentGenotype:
        """Build a cell from the dict of `to_dict`. The name is optional.

        Raises:
            ValueError: If the data is invalid. The message names the place.
        """
        required = ("nodes", "inject", "cell_indices")
        check_keys(data, "recurrent cell", required=required, optional=("name",))
        expect(isinstance(data["nodes"], list), "nodes", "a list", data["nodes"])
        nodes = tuple(_node(node, f"nodes[{k}]") for k, node in enumerate(data["nodes"]))
        inject = _node(data["inject"], "inject")
        return cls(data.get("name", "cell"), nodes, inject, data["cell_indices"])


def _check_node(node: Any, place: str) -> None:
    is_pair = isinstance(node, (tuple, list)) and len(node) == 2
    expect(is_pair, place, "a combination and an activation", node)
    registries = {"combination": list(TREE_COMBINATIONS), "activation": list(TREE_ACTIVATIONS)}
    for (field, names), name in zip(registries.items(), node, strict=True):
        expect(name in names, f"{place}.{field}", f"one of {', '.join(names)}", name)


def _node(data: Any, place: str) -> TreeNode:
    check_keys(data, place, required=TreeNode._fields, optional=())
    return TreeNode(**data)


def recurrent_step(
    genotype: RecurrentGenotype, x: Sequence[Tensor], m: Sequence[Tensor], c: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute one step of a cell, as a pure function of tensors.

    Args:
        genotype: The cell.
        x: ``W_i x_t`` of each leaf (batch, units).
        m: ``U_i h_{t-1}`` of each leaf (batch, units).
        c: ``c_{t-1}`` (batch, units).

    Returns:
        ``h_t`` and ``c_t``.
    """
    taken, entered = genotype.cell_indices
    outputs: list[Tensor] = []
    for number, node in enumerate(genotype.nodes):
        children = genotype.children(number)
        pair = (x[number], m[number]) if children is None else [outputs[k] for k in children]
        combined = node.combine(*pair)
        if number == taken:
            memory = combined
        output = TREE_ACTIVATIONS[node.activation](combined)
        outputs.append(genotype.inject(output, c) if number == entered else output)
    return outputs[-1], memory
