"""The controller of path-level search: an LSTM over growing trees ([P] section 3.3 and its release)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.cells import EDGES
from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, checked
from nasnet_zoo.search.controller import Categorical, Drawn, Predictions, random_generator
from nasnet_zoo.search.space import Actions

from .growth import BRANCHES, Growth, Sprout
from .space import TreeCellSpace

# Tokens of edges and of nodes; 0 is that of an edge which is not decided yet, and of no merge.
_EDGES: dict[str | None, int] = {None: 0, **{name: k for k, name in enumerate(EDGES, 1)}}
_NODES = {(None, None): 0, ("add", "copy"): 1, ("concat", "split"): 2, ("concat", "copy"): 3}
_FIRST_ORDERED = 2
_MOST_BRANCHES = max(max(counts) for counts in BRANCHES.values())


class Rows(NamedTuple):
    """Decisions about growing cells, as arrays of int32.

    What two decisions have in common is there once: a branch is an edge with all that is below it, a
    way is what leads to a node from above. Row 0 of both is none: what is below a leaf, and above the
    root. Rows are in levels, which refer to earlier levels alone.

    Args:
        branches: (branches, 5): token of the edge, token of the node, rows of its branches.
        branch_ends: (levels + 1,): rows from which each level begins, and their number.
        ways: (ways, 6): row of the way to the parent, token of the parent, rows of its other branches
            with 0 in the place of this one, token of the edge to it.
        way_ends: (levels + 1,).
        states: (decisions, 2): rows of the branch and of the way that a decision is made by. Decisions
            are ordered by what predicts them.
        head_ends: (heads + 1,).
        actions: (decisions,).
        places: (decisions, 2): which child, and which of its draws.
        shape: (2,): number of children, and of draws of the longest.
    """

    branches: tf.Tensor
    branch_ends: tf.Tensor
    ways: tf.Tensor
    way_ends: tf.Tensor
    states: tf.Tensor
    head_ends: tf.Tensor
    actions: tf.Tensor
    places: tf.Tensor
    shape: tf.Tensor


def _ints(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.int32)


_SIGNATURE = Rows(
    _ints(None, 2 + _MOST_BRANCHES),
    _ints(None),
    _ints(None, 3 + _MOST_BRANCHES),
    _ints(None),
    _ints(None, 2),
    _ints(None),
    _ints(None),
    _ints(None, 2),
    _ints(2),
)


class _Table:
    """Different rows of ints, in the order in which they came."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}
        self._levels = [-1]

    def number(self, row: tuple[int, ...], after: Sequence[int]) -> int:
        """The number of a row, whose level comes after those of other rows."""
        if row not in self._numbers:
            self._numbers[row] = len(self._levels)
            self._levels.append(1 + max(self._levels[k] for k in after))
        return self._numbers[row]

    def sorted(self, levels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows level by level, the ends of the levels, and where each number is now."""
        order = np.argsort(self._levels, kind="stable")
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        rows = np.array(list(self._numbers))[order[1:] - 1]
        ends = np.searchsorted(np.sort(self._levels)[1:], np.arange(levels + 1))
        return rows, ends, position


class _Decisions:
    """Collects decisions about growing cells.

    Args:
        heads: Kinds of decisions, in the order of what predicts them.
        levels: Depth of the deepest leaves.
    """

    def __init__(self, heads: Sequence[str], levels: int) -> None:
        self._heads, self._levels = {kind: k for k, kind in enumerate(heads)}, levels
        self._branches, self._ways = _Table(), _Table()
        self._rows: list[tuple[int, ...]] = []

    def add(self, growth: Growth, child: int, draw: int, action: int = 0) -> None:
        """Add the next decision of a growing cell."""
        assert growth.decision is not None
        way, node = 0, growth.root
        for number in growth.decision.path:
            others = [self._branch(other) for other in node.children]
            others[number] = 0
            token, node = _token(node), node.children[number]
            way = self._ways.number((way, token, *_padded(others), _EDGES[node.edge]), [way])
        head = self._heads[growth.decision.kind]
        self._rows.append((head, self._branch(node), way, action, child, draw))

    def _branch(self, node: Sprout) -> int:
        below = _padded([self._branch(child) for child in node.children])
        return self._branches.number((_EDGES[node.edge], _token(node), *below), below)

    def rows(self) -> Rows:
        """All decisions that were added."""
        branches, branch_ends, branch = self._branches.sorted(self._levels)
        ways, way_ends, way = self._ways.sorted(self._levels)
        branches[:, 2:] = branch[branches[:, 2:]]
        ways[:, 0], ways[:, 2:-1] = way[ways[:, 0]], branch[ways[:, 2:-1]]
        heads, up, down, actions, *places = np.array(sorted(self._rows)).T
        found = (
            branches,
            branch_ends,
            ways,
            way_ends,
            np.stack([branch[up], way[down]], 1),
            np.searchsorted(heads, np.arange(len(self._heads) + 1)),
            actions,
            np.stack(places, 1),
            np.max(places, 1) + 1,
        )
        return Rows(*(tf.constant(array, tf.int32) for array in found))


def _token(node: Sprout) -> int:
    return _NODES[node.merge, node.allocation]


def _padded(branches: Sequence[int]) -> tuple[int, ...]:
    return (*branches, *(0,) * (_MOST_BRANCHES - len(branches)))


class _Weights:
    """Makes the weights of a controller, and lists them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.all: list[keras.Variable] = []

    def add(self, name: str, value: np.ndarray) -> keras.Variable:
        self.all.append(keras.Variable(value, dtype="float32", name=name))
        return self.all[-1]

    def zeros(self, name: str, size: int) -> keras.Variable:
        return self.add(name, np.zeros(size))

    def uniform(self, name: str, limit: float, *shape: int) -> keras.Variable:
        return self.add(name, self.rng.uniform(-limit, limit, shape))

    def orthogonal(self, name: str, *columns: tuple[Sequence[int], int]) -> keras.Variable:
        """A kernel of orthogonal matrices, side by side the numbers of inputs and of outputs."""
        kernel = [[self._orthogonal(k, outputs) for k in inputs] for inputs, outputs in columns]
        return self.add(name, np.hstack([np.vstack(column) for column in kernel]))

    def _orthogonal(self, inputs: int, outputs: int) -> np.ndarray:
        size = max(inputs, outputs), min(inputs, outputs)
        q, r = np.linalg.qr(self.rng.normal(size=size))
        q *= np.sign(np.diag(r))
        return q if inputs >= outputs else q.T


class _EdgeLSTM:
    """A step of an LSTM along an edge, with one bias.

    States are pairs, h and c, in one tensor (..., 2 units).
    """

    def __init__(self, weights: _Weights, name: str, size: int, units: int) -> None:
        self.kernel = weights.orthogonal(f"{name}_kernel", ([size, units], 4 * units))
        self.bias = weights.zeros(f"{name}_bias", 4 * units)

    def __call__(self, read: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        hidden, cell = tf.split(state, 2, -1)
        gates = tf.concat([read, hidden], -1) @ self.kernel.value + self.bias.value
        enter, forget, new, out = tf.split(gates, 4, -1)
        cell = tf.sigmoid(forget) * cell + tf.sigmoid(enter) * tf.tanh(new)
        return tf.concat([tf.sigmoid(out) * tf.tanh(cell), cell], -1)


class _NodeLSTM:
    """A step of an LSTM over a node, from its branches and, from the top down, its parent.

    Branches that are added are summed, those that are concatenated are ordered, and without a merge the
    state of the only one goes through. A state that is not there is zero.
    """

    def __init__(self, weights: _Weights, name: str, size: int, units: int, parent: bool) -> None:
        self.units, self.parents = units, int(parent)
        above = [units] * self.parents
        forget = [([sum(above) + units], units)] * self.parents
        gates = ([*above, units], 3 * units)
        self.read = weights.orthogonal(f"{name}_read", ([size], 3 * units), ([size], units))
        self.bias = weights.zeros(f"{name}_bias", 4 * units)
        self.added = weights.orthogonal(f"{name}_added", gates, *forget)
        self.kept = weights.orthogonal(f"{name}_kept", ([sum(above) + units], units))
        size = sum(above) + 2 * units
        gates = ([*above, 2 * units], 3 * units)
        forget = [([size], units)] * (2 + self.parents)
        self.ordered = weights.orthogonal(f"{name}_ordered", gates, *forget)

    def __call__(
        self, read: tf.Tensor, token: tf.Tensor, branches: tf.Tensor, parent: tf.Tensor
    ) -> tf.Tensor:
        """The state.

        Args:
            read: Embeddings of the nodes (nodes, size).
            token: Tokens of the nodes (nodes,).
            branches: States (nodes, branches, 2 units).
            parent: States (nodes, 1, 2 units) of parents, or (nodes, 0, 2 units).
        """
        states = tf.concat([branches, parent], 1)
        hidden, cells = tf.split(states, 2, -1)
        below = tf.unstack(hidden[:, :_MOST_BRANCHES], axis=1)
        above = tf.unstack(hidden[:, _MOST_BRANCHES:], axis=1)
        kept = [tf.concat([*above, one], -1) @ self.kept.value for one in below]
        sums = self._gates(self.added, [*above, tf.add_n(below)])
        ordered = self._gates(self.ordered, [*above, *below[:2]])
        # Gates: into the cell, out of it, what is new, and what is kept of each state.
        gates = tf.where(
            (token >= _FIRST_ORDERED)[:, None, None],
            tf.stack([*ordered[:5], tf.zeros_like(below[0]), *ordered[5:]], 1),
            tf.stack([*sums[:3], *kept, *sums[3:]], 1),
        )
        bias = tf.reshape(read @ self.read.value + self.bias.value, (-1, 4, self.units))
        gates += tf.gather(bias, [0, 1, 2, *[3] * states.shape[1]], axis=1)
        keep = tf.sigmoid(gates[:, 3:])
        cell = tf.sigmoid(gates[:, 0]) * tf.tanh(gates[:, 2]) + tf.reduce_sum(keep * cells, 1)
        made = tf.concat([tf.sigmoid(gates[:, 1]) * tf.tanh(cell), cell], -1)
        return tf.where((token == 0)[:, None], tf.reduce_sum(states, 1), made)

    def _gates(self, kernel: keras.Variable, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return tf.split(tf.concat(inputs, -1) @ kernel.value, kernel.shape[1] // self.units, -1)


class _Head:
    """Two layers that predict the choices of one kind of decision.

    Of a choice between yes and no it predicts the logit of yes.
    """

    def __init__(self, weights: _Weights, name: str, inputs: int, units: int, choices: int) -> None:
        self.says_yes = name == "expand"

        def layer(title: str, inputs: int, outputs: int) -> tuple[keras.Variable, keras.Variable]:
            kernel = weights.uniform(f"{title}_kernel", inputs**-0.5, inputs, outputs)
            return kernel, weights.zeros(f"{title}_bias", outputs)

        self.layers = (
            layer(f"{name}_hidden", inputs, units),
            layer(name, units, 1 if self.says_yes else choices),
        )

    def __call__(self, states: tf.Tensor, most: int) -> tf.Tensor:
        """Logits of choices (decisions, most), -inf for what does not exist."""
        (kernel, bias), (last, last_bias) = self.layers
        hidden = tf.nn.relu(states @ kernel.value + bias.value)
        logits = hidden @ last.value + last_bias.value
        if self.says_yes:
            logits = tf.concat([tf.zeros_like(logits), logits], -1)
        return tf.pad(logits, [[0, 0], [0, most - logits.shape[-1]]], constant_values=-np.inf)


class TreeController:
    """An LSTM over trees that predicts how cells grow.

    Every decision is made by the state of a node or leaf: that of the branch that ends in it, from
    the bottom up, and that of the way to it, from the top down. The decisions of a minibatch are
    predicted at once; a branch or way that several of them have in common is computed once.

    Weights are drawn as in the release: matrices of the LSTMs orthogonal, kernels of the heads
    uniformly within one over the square root of their inputs, biases zero. An edge's LSTM has one bias,
    not two that are added.

    Args:
        space: Search space.
        units: Units of the LSTMs. A head has five times as many.
        embedding: Size of the embeddings.
        initial: Embeddings are drawn uniformly from [-initial, initial]. That of an edge which is not
            decided yet is zero and stays so.
        seed: Seed of the weights and of the samples.

    Raises:
        ValueError: If an argument is out of range.
    """

    #: What it draws does not depend on how many children it drew before.
    grows: ClassVar[bool] = False

    @checked
    def __init__(
        self,
        space: TreeCellSpace,
        units: PositiveInt = 100,
        embedding: PositiveInt = 10,
        initial: NonNegativeFloat = 0.1,
        seed: Seed = 0,
    ) -> None:
        self.space, self.units = space, units
        weights = _Weights(seed)
        self.edges = weights.uniform("edges", initial, len(_EDGES), embedding)
        self.nodes = weights.uniform("nodes", initial, len(_NODES), embedding)
        for tokens in (self.edges, self.nodes):
            tokens.assign(tokens.value * (np.arange(tokens.shape[0]) > 0)[:, None])
        self.up_node = _NodeLSTM(weights, "up_node", embedding, units, parent=False)
        self.up_edge = _EdgeLSTM(weights, "up_edge", embedding, units)
        self.down_node = _NodeLSTM(weights, "down_node", embedding, units, parent=True)
        self.down_edge = _EdgeLSTM(weights, "down_edge", embedding, units)
        self.heads = {
            kind: _Head(weights, kind, 2 * units, 5 * units, choices)
            for kind, choices in space.choices.items()
        }
        self.weights = weights.all
        self.generator = random_generator(seed)

    # === The interface of controllers ===

    def draw(self, first: int, count: int) -> list[Drawn]:
        """Draw children: the next decision of each one at once, as long as some of them grow."""
        drawn: list[Drawn] = [Drawn((), ())] * count
        growths = [self.space.growth() for _ in range(count)]
        while open_ := [k for k, growth in enumerate(growths) if growth.decision is not None]:
            decisions = self._decisions()
            for place, k in enumerate(open_):
                decisions.add(growths[k], place, 0)
            actions, logs = (found.numpy()[:, 0].tolist() for found in self._sample(decisions.rows()))
            for k, action, log in zip(open_, actions, logs, strict=True):
                drawn[k] = Drawn((*drawn[k].actions, action), (*drawn[k].log_probabilities, log))
                growths[k].decide(action)
                if growths[k].decision is None and not growths[k].expanded:
                    growths[k], drawn[k] = self.space.growth(), Drawn((), ())
        return drawn

    def inputs(self, actions: Sequence[Actions]) -> dict[str, Any]:
        """The arguments of `predict` for given children."""
        decisions = self._decisions()
        for child, some in enumerate(actions):
            growth = self.space.growth()
            for draw, action in enumerate(some):
                decisions.add(growth, child, draw, action)
                growth.decide(action)
        return {"rows": decisions.rows()}

    @tf.function(input_signature=(_SIGNATURE,))
    def predict(self, rows: Rows) -> Predictions:
        """What the controller now says of given children (children, draws), 0 after the last draw."""
        found = Categorical.predictions(rows.actions[None], self._logits(rows)[None])
        return Predictions(*(_placed(rows, values[:, 0]) for values in found))

    # === Inside ===

    def _decisions(self) -> _Decisions:
        return _Decisions(tuple(self.heads), self.space.depth)

    @tf.function(input_signature=(_SIGNATURE,))
    def _sample(self, rows: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        """Drawn actions and their log-probabilities (children, 1)."""
        logits = self._logits(rows)
        # Gumbel's trick: the greatest of logits with such noise is a draw from their softmax.
        uniform = self.generator.uniform(tf.shape(logits), np.finfo(np.float32).tiny, 1.0)
        actions = tf.argmax(logits - tf.math.log(-tf.math.log(uniform)), -1, tf.int32)
        found = Categorical.predictions(actions[None], logits[None])
        return tuple(_placed(rows, values[:, 0]) for values in found[:2])

    def _logits(self, rows: Rows) -> tf.Tensor:
        """Of the choices of each decision (decisions, choices)."""
        branches = self._branches(rows)
        ways = self._ways(rows, branches)
        states = tf.concat(
            [
                tf.gather(found[:, : self.units], rows.states[:, k])
                for k, found in enumerate((branches, ways))
            ],
            -1,
        )
        ends, most = rows.head_ends, max(self.space.choices.values())
        heads = self.heads.values()
        return tf.concat([head(states[ends[k] : ends[k + 1]], most) for k, head in enumerate(heads)], 0)

    def _branches(self, rows: Rows) -> tf.Tensor:
        """States (branches + 1, 2 units) of branches, from the bottom up."""
        states = tf.zeros((1, 2 * self.units))
        for level in range(self.space.depth):
            some = rows.branches[rows.branch_ends[level] : rows.branch_ends[level + 1]]
            below = tf.gather(states, some[:, 2:])
            node = self._node(self.up_node, some[:, 1], below, below[:, :0])
            states = tf.concat([states, self._edge(self.up_edge, some[:, 0], node)], 0)
        return states

    def _ways(self, rows: Rows, branches: tf.Tensor) -> tf.Tensor:
        """States (ways + 1, 2 units) of ways, from the top down."""
        states = tf.zeros((1, 2 * self.units))
        for level in range(self.space.depth):
            some = rows.ways[rows.way_ends[level] : rows.way_ends[level + 1]]
            others, parent = tf.gather(branches, some[:, 2:-1]), tf.gather(states, some[:, :1])
            node = self._node(self.down_node, some[:, 1], others, parent)
            states = tf.concat([states, self._edge(self.down_edge, some[:, -1], node)], 0)
        return states

    def _node(
        self, lstm: _NodeLSTM, tokens: tf.Tensor, branches: tf.Tensor, parent: tf.Tensor
    ) -> tf.Tensor:
        return lstm(_embedded(self.nodes, tokens), tokens, branches, parent)

    def _edge(self, lstm: _EdgeLSTM, tokens: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        return lstm(_embedded(self.edges, tokens), state)


def _embedded(embeddings: keras.Variable, tokens: tf.Tensor) -> tf.Tensor:
    """Embeddings of tokens, zero of the token 0."""
    return tf.gather(embeddings.value, tokens) * tf.cast(tokens > 0, tf.float32)[:, None]


def _placed(rows: Rows, values: tf.Tensor) -> tf.Tensor:
    """Values of decisions, each in its child's row and its draw's column."""
    return tf.scatter_nd(rows.places, values, rows.shape)
