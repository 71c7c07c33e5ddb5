"""The controller of EAS: an encoder of networks, and actors that widen and deepen them ([E])."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.cells import ChainLayer
from nasnet_zoo.checking import PositiveInt, Seed, checked
from nasnet_zoo.search.controller import Categorical, Drawn, Predictions, random_generator
from nasnet_zoo.search.space import Actions

from .episode import DEEPER, Draw, Episode
from .space import EASSpace


class Rows(NamedTuple):
    """Draws of episodes, as arrays of int32.

    What draws have in common is there once: networks, and walks through the deeper actor. Draws are
    ordered by what predicts them: that a layer becomes wider, the block, the layer, the kernel.

    Args:
        networks: (networks, layers): tokens; 0 after the last one.
        lengths: (networks,): numbers of layers.
        walks: (walks, 1 + steps - 1): network, and what was drawn in all steps of the actor but the
            last; 0 where it is not drawn yet.
        reads: (draws, 2): network and number of the layer; or walk and number of the step.
        choices: (draws,): numbers of choices.
        actions: (draws,).
        places: (draws, 2): which child, and which of its draws.
        head_ends: (heads + 1,): first draws of each head, and their number.
        shape: (2,): number of children, and of draws of the longest.
    """

    networks: tf.Tensor
    lengths: tf.Tensor
    walks: tf.Tensor
    reads: tf.Tensor
    choices: tf.Tensor
    actions: tf.Tensor
    places: tf.Tensor
    head_ends: tf.Tensor
    shape: tf.Tensor


class _Draws:
    """Collects draws of episodes."""

    def __init__(self, space: EASSpace) -> None:
        self._heads = list(space.heads)
        self._tokens = _tokens(space)
        self._networks: dict[tuple[ChainLayer, ...], int] = {}
        self._walks: dict[tuple[int, ...], int] = {}
        self._rows: list[tuple[int, ...]] = []

    def add(self, episode: Episode, child: int, first: int, actions: Sequence[int]) -> None:
        """Add the next draws of an episode, of which ``first`` is the number among the child's."""
        network = self._networks.setdefault(episode.layers, len(self._networks))
        for k, (draw, action) in enumerate(zip(episode.draws, actions, strict=True)):
            read = network, draw.layer
            if draw.kind != "wider":
                read = self._walk(network, episode, draw)
            head = self._heads.index(draw.kind)
            self._rows.append((head, *read, draw.choices, action, child, first + k))

    def _walk(self, network: int, episode: Episode, draw: Draw) -> tuple[int, int]:
        steps = len(self._heads) - 1
        row = network, *episode.drawn, *(0,) * (steps - 1 - len(episode.drawn))
        return self._walks.setdefault(row, len(self._walks)), DEEPER.index(draw.kind)

    def rows(self) -> Rows:
        """All draws that were added."""
        heads, read, number, choices, actions, *places = np.array(sorted(self._rows)).T
        longest = max(map(len, self._networks))
        networks = [[self._tokens[layer] for layer in layers] for layers in self._networks]
        found = (
            [[*tokens, *[0] * (longest - len(tokens))] for tokens in networks],
            [len(tokens) for tokens in networks],
            np.array(list(self._walks)).reshape(-1, len(self._heads) - 1),
            np.stack([read, number], 1),
            choices,
            actions,
            np.stack(places, 1),
            np.searchsorted(heads, np.arange(len(self._heads) + 1)),
            np.max(places, 1) + 1,
        )
        return Rows(*(tf.constant(array, tf.int32) for array in found))


def _tokens(space: EASSpace) -> dict[ChainLayer, int]:
    """The layers that networks of a space can have, numbered from 1."""
    kernels = {"conv": space.kernels}
    layers = [
        ChainLayer(kind, units, kernel)
        for kind, levels in space.levels.items()
        for units in levels
        for kernel in kernels.get(kind, (0,))
    ]
    parting = ChainLayer("t" if space.dense else "pool")
    return {layer: k for k, layer in enumerate([parting, *layers], 1)}


class _LSTM:
    """An LSTM over sequences, in the order of gates of `tf.raw_ops.BlockLSTM`."""

    def __init__(self, controller: EASController, name: str, inputs: int, units: int) -> None:
        self.units = units
        self.kernel = controller.glorot(f"{name}_kernel", inputs + units, 4 * units)
        # The forget gate begins open.
        bias = np.repeat([0.0, 0.0, 1.0, 0.0], units)
        self.bias = controller.weight(f"{name}_bias", bias)

    def __call__(self, reads: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Hidden and cell states (steps, batch, units) along ``reads`` from a pair of them."""
        unused = tf.zeros(self.units)
        hidden, cell = tf.unstack(state)
        found = tf.raw_ops.BlockLSTM(
            seq_len_max=tf.shape(reads, tf.int64)[0],
            x=reads,
            cs_prev=cell,
            h_prev=hidden,
            w=self.kernel.value,
            wci=unused,
            wcf=unused,
            wco=unused,
            b=self.bias.value,
            forget_bias=0.0,
            cell_clip=-1.0,
        )
        return found.h, found.cs


class EASController:
    """An encoder that reads a network layer by layer, and two actors.

    The encoder is a bidirectional LSTM over the embeddings of layers. The wider actor says of each
    layer whether it becomes wider, by one linear layer and a sigmoid. The deeper actor is an LSTM that
    begins with the encoder's last states and draws the block, the layer in it and the kernel, each of
    which it reads before the next one. What a network does not have gets probability 0. All networks
    of a minibatch are encoded at once, those that several draws have in common once.

    Weights are drawn as in the release: embeddings uniformly in ±sqrt(3), kernels as Glorot's; biases
    are zero, of forget gates one.

    Args:
        space: Search space.
        units: Units of the encoder in each direction; the deeper actor has twice as many.
        embedding: Size of the embeddings.
        seed: Seed of the weights and of the samples.

    Raises:
        ValueError: If an argument is out of range.
    """

    #: What it draws does not depend on how many children it drew before.
    grows: ClassVar[bool] = False

    @checked
    def __init__(
        self,
        space: EASSpace,
        units: PositiveInt = 50,
        embedding: PositiveInt = 16,
        seed: Seed = 0,
    ) -> None:
        self.space, self.units = space, units
        self.weights: list[keras.Variable] = []
        self._rng = np.random.default_rng(seed)
        self._heads = list(space.heads)
        self._most = max(space.heads.values())
        self.tokens = self.embedding("tokens", len(_tokens(space)) + 1, embedding)
        self.forward = _LSTM(self, "forward", embedding, units)
        self.backward = _LSTM(self, "backward", embedding, units)
        self.actor = _LSTM(self, "deeper", embedding, 2 * units)
        # Of what each step of the deeper actor but the last draws.
        self.drawn = [
            self.embedding(f"{kind}s", space.heads[kind], embedding) for kind in self._heads[1:-1]
        ]
        outputs = {kind: 1 if kind == "wider" else n for kind, n in space.heads.items()}
        self.outputs = [
            (self.glorot(f"{kind}_kernel", 2 * units, n), self.weight(f"{kind}_bias", np.zeros(n)))
            for kind, n in outputs.items()
        ]
        self.generator = random_generator(seed)
        n = None
        shapes = (n, n), (n,), (n, len(self._heads) - 1), (n, 2), (n,), (n,), (n, 2), (n,), (2,)
        signature = (Rows(*(tf.TensorSpec(shape, tf.int32) for shape in shapes)),)
        self.predict = tf.function(self._predict, input_signature=signature)
        self._sample = tf.function(self._draw, input_signature=signature)

    def weight(self, name: str, value: np.ndarray) -> keras.Variable:
        """Make a weight."""
        self.weights.append(keras.Variable(value, dtype="float32", name=name))
        return self.weights[-1]

    def embedding(self, name: str, count: int, size: int) -> keras.Variable:
        """Make embeddings, of variance one."""
        return self.weight(name, self._rng.uniform(-(3**0.5), 3**0.5, (count, size)))

    def glorot(self, name: str, inputs: int, outputs: int) -> keras.Variable:
        """Make a kernel."""
        limit = (6 / (inputs + outputs)) ** 0.5
        return self.weight(name, self._rng.uniform(-limit, limit, (inputs, outputs)))

    # === The interface of controllers ===

    def draw(self, first: int, count: int) -> list[Drawn]:
        """Draw children: the next draws of each one at once, as long as an episode goes on."""
        drawn: list[Drawn] = [Drawn((), ())] * count
        episodes = [self.space.episode() for _ in range(count)]
        while open_ := [k for k, episode in enumerate(episodes) if episode.draws]:
            draws = _Draws(self.space)
            for place, k in enumerate(open_):
                draws.add(episodes[k], place, 0, [0] * len(episodes[k].draws))
            found = (values.numpy() for values in self._sample(draws.rows()))
            for k, actions, logs in zip(open_, *found, strict=True):
                some = slice(len(episodes[k].draws))
                chosen, logged = actions[some].tolist(), logs[some].tolist()
                drawn[k] = Drawn((*drawn[k].actions, *chosen), (*drawn[k].log_probabilities, *logged))
                episodes[k].decide(chosen)
        return drawn

    def inputs(self, actions: Sequence[Actions]) -> dict[str, Any]:
        """The arguments of `predict` for given children."""
        draws = _Draws(self.space)
        for child, some in enumerate(actions):
            episode, first = self.space.episode(), 0
            while count := len(episode.draws):
                chosen = some[first : first + count]
                draws.add(episode, child, first, chosen)
                episode.decide(chosen)
                first += count
        return {"rows": draws.rows()}

    # === Inside ===

    def _predict(self, rows: Rows) -> Predictions:
        """What the controller now says of given children (children, draws), 0 after the last draw."""
        found = Categorical.predictions(rows.actions[None], self._logits(rows)[None])
        return Predictions(*(_placed(rows, values[:, 0]) for values in found))

    def _draw(self, rows: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        """Drawn actions and their log-probabilities (children, draws)."""
        logits = self._logits(rows)
        # Gumbel's trick: the greatest of logits with such noise is a draw from their softmax.
        uniform = self.generator.uniform(tf.shape(logits), np.finfo(np.float32).tiny, 1.0)
        actions = tf.argmax(logits - tf.math.log(-tf.math.log(uniform)), -1, tf.int32)
        found = Categorical.predictions(actions[None], logits[None])
        return tuple(_placed(rows, values[:, 0]) for values in found[:2])

    def _logits(self, rows: Rows) -> tf.Tensor:
        """Of the choices of each draw (draws, choices), -inf for what does not exist."""
        layers, last = self._encoded(rows)
        walks = self._walked(rows, last)
        ends, logits = rows.head_ends, []
        for head, (kernel, bias) in enumerate(self.outputs):
            states = tf.gather_nd(walks if head else layers, rows.reads[ends[head] : ends[head + 1]])
            found = states @ kernel.value + bias.value
            if not head:  # of yes or no it predicts the logit of yes
                found = tf.concat([tf.zeros_like(found), found], -1)
            missing = self._most - found.shape[-1]
            logits.append(tf.pad(found, [[0, 0], [0, missing]], constant_values=-np.inf))
        exists = tf.range(self._most) < rows.choices[:, None]
        return tf.where(exists, tf.concat(logits, 0), -np.inf)

    def _encoded(self, rows: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        """States (networks, layers, 2 units), and the last ones, hidden and cell (2, networks, ...)."""
        read = tf.gather(self.tokens.value, rows.networks)
        count = tf.shape(read)[0]
        zeros = tf.zeros((2, count, self.units))
        states, ends = [], []
        for lstm, backward in ((self.forward, False), (self.backward, True)):
            # What comes after the last layer is read after it in both directions, to no effect.
            turned = tf.reverse_sequence(read, rows.lengths, 1) if backward else read
            found = [tf.transpose(s, (1, 0, 2)) for s in lstm(tf.transpose(turned, (1, 0, 2)), zeros)]
            at = tf.stack([tf.range(count), rows.lengths - 1], 1)
            ends.append(tf.stack([tf.gather_nd(s, at) for s in found]))
            states.append(tf.reverse_sequence(found[0], rows.lengths, 1) if backward else found[0])
        return tf.concat(states, -1), tf.concat(ends, -1)

    def _walked(self, rows: Rows, last: tf.Tensor) -> tf.Tensor:
        """States (walks, steps, 2 units) of the deeper actor, which first reads zeros."""
        reads = [
            tf.gather(embeddings.value, rows.walks[:, k]) for k, embeddings in enumerate(self.drawn, 1)
        ]
        reads = tf.stack([tf.zeros((tf.shape(rows.walks)[0], self.tokens.shape[1])), *reads])
        hidden, _ = self.actor(reads, tf.gather(last, rows.walks[:, 0], axis=1))
        return tf.transpose(hidden, (1, 0, 2))


def _placed(rows: Rows, values: tf.Tensor) -> tf.Tensor:
    """Values of draws, each in its child's row and its draw's column."""
    return tf.scatter_nd(rows.places, values, rows.shape)
