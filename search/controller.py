"""Controllers: an LSTM predicts a child choice by choice ([N] section 3.1, [Z] section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, checked

from .space import Actions, AnchorStep, SequenceSpace, Space, Step

#: Of an LSTM, in `BlockLSTM`'s order: input, new cell state, forget, output.
_GATES = 4

#: Cell and hidden state (batch, units) of each layer of the LSTM.
States = tuple[tuple[tf.Tensor, tf.Tensor], ...]


class Predictions(NamedTuple):
    """What a controller says of a batch of children.

    Where a child has fewer draws than others, log-probabilities and entropies are 0.

    Args:
        actions: int32 (batch, draws).
        log_probabilities: float32 (batch, draws), of each action given those before it.
        entropies: float32 (batch, draws), of the distribution that each action is drawn from.
    """

    actions: tf.Tensor
    log_probabilities: tf.Tensor
    entropies: tf.Tensor


class Drawn(NamedTuple):
    """A child that a controller drew.

    Args:
        actions: Its actions.
        log_probabilities: Natural log-probability of each.
    """

    actions: Actions
    log_probabilities: tuple[float, ...]


class Controller(Protocol):
    """Interface of controllers, which predict the children of a space draw by draw.

    ``weights`` are what a policy trains, and ``generator`` is where random numbers come from: they
    are all of its state.
    """

    weights: list[keras.Variable]
    generator: tf.random.Generator

    @property
    def space(self) -> Space:
        """Search space."""

    @property
    def grows(self) -> bool:
        """Whether how many draws a child has depends on its number."""

    def draw(self, first: int, count: int) -> list[Drawn]:
        """Draw children, of which the first is the controller's sample of this number, from 0."""

    def inputs(self, actions: Sequence[Actions]) -> dict[str, Any]:
        """Return the arguments of `predict` for given children, tensors and constants."""

    @property
    def predict(self) -> Callable[..., Predictions]:
        """Function of `inputs`: what the controller now says of children, differentiable."""


def random_generator(seed: int) -> tf.random.Generator:
    """Return a generator of random numbers."""
    # Not from_seed, whose streams of neighbouring seeds are one stream, four numbers apart.
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return tf.random.Generator.from_key_counter(key, [0, 0], "philox")


class Categorical:
    """The head of a controller that predicts a choice by a softmax.

    Steps of one kind share embeddings and softmax weights; choices that a step does not have get
    probability 0.

    Args:
        steps: Steps of the space that are one choice each.
        embeddings: Variable (kinds, most choices, units), what the controller reads after a choice.
        kernel: Variable (kinds, units, most choices) of the softmax.
        bias: Variable (kinds, most choices) of the softmax.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        embeddings: keras.Variable,
        kernel: keras.Variable,
        bias: keras.Variable,
    ) -> None:
        self.embeddings, self.kernel, self.bias = embeddings, kernel, bias
        kinds = _kinds(steps)
        self._kinds = tf.constant([kinds.index(step.kind) for step in steps], tf.int32)
        choices = np.array([step.choices for step in steps])
        exists = np.arange(choices.max()) < choices[:, None]
        self._mask = tf.constant(np.where(exists, 0.0, -np.inf).astype(np.float32))

    # ``step`` is a scalar, or (steps,) of the leading dimension of the other tensors.

    def embedded(self, actions: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """What is read after actions (..., batch) of a step."""
        kinds = tf.broadcast_to(tf.gather(self._kinds, step)[..., None], tf.shape(actions))
        return tf.gather_nd(self.embeddings.value, tf.stack([kinds, actions], -1))

    def logits(self, hidden: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Of the choices at a step (..., batch, choices), -inf for what does not exist."""
        kind = tf.gather(self._kinds, step)
        bias = tf.gather(self.bias.value, kind) + tf.gather(self._mask, step)
        return hidden @ tf.gather(self.kernel.value, kind) + bias[..., None, :]

    @staticmethod
    def predictions(actions: tf.Tensor, logits: tf.Tensor) -> Predictions:
        """From actions (steps, batch) and their logits (steps, batch, choices)."""
        logs = tf.nn.log_softmax(logits)
        # 0 * log 0 is 0, and has no gradient.
        finite = tf.where(tf.math.is_finite(logits), logs, 0.0)
        entropies = -tf.reduce_sum(tf.exp(logs) * finite, -1)
        log_probabilities = tf.gather(finite, actions, batch_dims=2)
        return Predictions(*map(tf.transpose, (actions, log_probabilities, entropies)))


class AnchorPoints:
    """The head of the controller that draws the inputs of a layer ([Z] section 3.3).

    ``P(layer j is an input of layer i) = sigmoid(v . tanh(W_previous h_j + W_current h_i))``, where h
    are the controller's hidden states at the anchor points of the layers.

    Args:
        previous: Variable (units, units), W_previous.
        current: Variable (units, units), W_current.
        vector: Variable (units,), v.
        none: Variable (units,), what the controller reads after an anchor point without inputs; else it
            reads the mean of the inputs' hidden states.
    """

    def __init__(
        self,
        previous: keras.Variable,
        current: keras.Variable,
        vector: keras.Variable,
        none: keras.Variable,
    ) -> None:
        self.previous, self.current, self.vector, self.none = previous, current, vector, none

    def logits(self, earlier: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        """Of earlier layers (earlier, batch), from the hidden states of theirs and of this layer."""
        mixed = tf.tanh(earlier @ self.previous.value + hidden @ self.current.value)
        return tf.reduce_sum(mixed * self.vector.value, -1)

    def read(self, chosen: tf.Tensor, earlier: tf.Tensor, hidden: tf.Tensor) -> tf.Tensor:
        """What is read (batch, units) after the draws (earlier, batch) of an anchor point."""
        chosen = tf.cast(chosen, tf.float32)[..., None]
        count = tf.reduce_sum(chosen, 0)
        mean = tf.reduce_sum(chosen * earlier, 0) / tf.maximum(count, 1.0)
        return tf.where(count > 0, mean, self.none.value + tf.zeros_like(hidden))

    @staticmethod
    def predictions(actions: tf.Tensor, logits: tf.Tensor) -> Predictions:
        """From actions (earlier, batch) and their logits."""
        yes, no = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
        entropies = -(tf.sigmoid(logits) * yes + tf.sigmoid(-logits) * no)
        log_probabilities = tf.where(actions > 0, yes, no)
        return Predictions(*map(tf.transpose, (actions, log_probabilities, entropies)))


def _kinds(steps: Sequence[Step]) -> list[str]:
    """The kinds of steps, in the order of their first."""
    return list(dict.fromkeys(step.kind for step in steps))


class _Segment(NamedTuple):
    """Steps that the controller goes through at once, as what they read depends on actions alone.

    Args:
        first: Number of the first draw.
        start: Number of the first of its choices among all choices.
        stop: Number after the last one.
        anchor: Anchor point after the choices, if there is one.
    """

    first: int
    start: int
    stop: int
    anchor: AnchorStep | None

    @property
    def choices(self) -> slice:
        """Which draws are choices."""
        return slice(self.first, self.first + self.stop - self.start)

    @property
    def anchors(self) -> slice:
        """Which draws are those of the anchor point."""
        start = self.choices.stop
        return slice(start, start + (self.anchor.earlier if self.anchor else 0))


def _segments(steps: Iterable[Step | AnchorStep], length: int) -> list[_Segment]:
    """The first steps, of so many draws: up to each anchor point, and after the last one."""
    found: list[_Segment] = []
    first = start = stop = 0
    for step in steps:
        if first + stop - start == length:
            break
        if isinstance(step, AnchorStep):
            found.append(_Segment(first, start, stop, step))
            first, start = found[-1].anchors.stop, stop
        else:
            stop += 1
    return [*found, _Segment(first, start, stop, None)] if stop > start else found


class SequenceController:
    """An LSTM, and heads that predict the next action from those before it.

    A step reads the embedding of the last action, the first step a learned vector.

    Args:
        space: Search space.
        units: Units of a layer of the LSTM and size of the embeddings.
        initial: Weights are drawn uniformly from [-initial, initial].
        seed: Seed of the weights and of the samples.
        layers: Number of layers of the LSTM.

    Raises:
        ValueError: If an argument is out of range.
    """

    #: Head that predicts the choices, and that which predicts the inputs of layers.
    head_class: ClassVar[type[Categorical]] = Categorical
    anchor_class: ClassVar[type[AnchorPoints]] = AnchorPoints

    @checked
    def __init__(
        self,
        space: SequenceSpace,
        units: PositiveInt = 100,
        initial: NonNegativeFloat = 0.1,
        seed: Seed = 0,
        layers: PositiveInt = 1,
    ) -> None:
        self.space, self.units, self.layers = space, units, layers
        self.grows = len(space.lengths) > 1
        steps = [step for step in space.steps if isinstance(step, Step)]
        kinds, most = len(_kinds(steps)), max(step.choices for step in steps)
        self._most = most
        rng = np.random.default_rng(seed)

        def weight(name: str, *shape: int) -> keras.Variable:
            return keras.Variable(rng.uniform(-initial, initial, shape), dtype="float32", name=name)

        self.first = weight("first", units)
        embeddings = weight("embeddings", kinds, most, units)
        self.lstm = [
            (weight("kernel", 2 * units, _GATES * units), weight("bias", _GATES * units))
            for _ in range(layers)
        ]
        softmax = weight("softmax_kernel", kinds, units, most), weight("softmax_bias", kinds, most)
        recurrent = [variable for pair in self.lstm for variable in pair]
        self.weights = [self.first, embeddings, *recurrent, *softmax]
        self.head = self.head_class(steps, embeddings, *softmax)
        if len(steps) < len(space.steps):
            anchors = (
                *(weight(f"anchor_{name}", units, units) for name in ("previous", "current")),
                *(weight(f"anchor_{name}", units) for name in ("vector", "none")),
            )
            self.weights += anchors
            self.anchors = self.anchor_class(*anchors)
        self.generator = random_generator(seed)

    def draw(self, first: int, count: int) -> list[Drawn]:
        """Draw children, of as many draws as the space says of each number."""
        drawn = []
        for length, some in itertools.groupby(range(first, first + count), self.space.length):
            found = self.sample(tf.constant(len(list(some))), length)
            actions, logs = (array.numpy().tolist() for array in found[:2])
            drawn += [Drawn(tuple(a), tuple(log)) for a, log in zip(actions, logs, strict=True)]
        return drawn

    def inputs(self, actions: Sequence[Actions]) -> dict[str, Any]:
        """The arguments of `predict` for given children."""
        length = max(map(len, actions))
        table = [[*some, *[-1] * (length - len(some))] for some in actions]
        return {"actions": tf.constant(table, tf.int32), "length": length}

    @tf.function(reduce_retracing=True)
    def sample(self, batch: tf.Tensor, length: int | None = None) -> Predictions:
        """Draw ``batch`` children, an int32 scalar, of so many draws. Default: of all."""
        segments = _segments(self.space.steps, length or self.space.lengths[-1])
        # Gumbel's trick: the greatest of logits with such noise is a draw from their softmax.
        tiny = np.finfo(np.float32).tiny
        uniform = self.generator.uniform([segments[-1].stop, batch, self._most], tiny, 1.0)
        noise = -tf.math.log(-tf.math.log(uniform))

        def choose(segment: _Segment, read: tf.Tensor, states: States) -> tuple[Any, ...]:
            count = segment.stop - segment.start
            actions = tf.TensorArray(tf.int32, count, element_shape=[None])
            logits = tf.TensorArray(tf.float32, count, element_shape=[None, self._most])
            for step in tf.range(segment.start, segment.stop):
                hidden, states = self._lstm(read[None], states)
                found = self.head.logits(hidden[0], step)
                drawn = tf.argmax(found + noise[step], -1, tf.int32)
                read = self.head.embedded(drawn, step)
                actions = actions.write(step - segment.start, drawn)
                logits = logits.write(step - segment.start, found)
            return actions.stack(), logits.stack(), read, states

        def draw(segment: _Segment, logits: tf.Tensor) -> tf.Tensor:
            return tf.cast(self.generator.uniform(tf.shape(logits)) < tf.sigmoid(logits), tf.int32)

        return self._run(segments, batch, choose, draw)

    @tf.function(reduce_retracing=True)
    def predict(self, actions: tf.Tensor, length: int | None = None) -> Predictions:
        """What the controller now says of given children.

        Args:
            actions: int32 (batch, draws). Where a child has fewer, -1 stands for what it does not have.
            length: Number of draws. Default: all.
        """
        segments = _segments(self.space.steps, length or self.space.lengths[-1])
        exist = actions >= 0
        actions = tf.transpose(tf.maximum(actions, 0))

        def choose(segment: _Segment, read: tf.Tensor, states: States) -> tuple[Any, ...]:
            given, steps = actions[segment.choices], tf.range(segment.start, segment.stop)
            # After the last step nothing is read, unless there is an anchor point.
            count = segment.stop - segment.start - (segment.anchor is None)
            reads = tf.concat([read[None], self.head.embedded(given[:count], steps[:count])], 0)
            hidden, states = self._lstm(reads[: segment.stop - segment.start], states)
            return given, self.head.logits(hidden, steps), reads[-1], states

        def draw(segment: _Segment, logits: tf.Tensor) -> tf.Tensor:
            return actions[segment.anchors]

        found = self._run(segments, tf.shape(actions)[1], choose, draw)
        if not self.grows:
            return found
        logs, entropies = (tf.where(exist, values, 0.0) for values in found[1:])
        return Predictions(found.actions, logs, entropies)

    def _run(
        self,
        segments: Sequence[_Segment],
        batch: tf.Tensor,
        choose: Callable[[_Segment, tf.Tensor, States], tuple[Any, ...]],
        draw: Callable[[_Segment, tf.Tensor], tf.Tensor],
    ) -> Predictions:
        """Go through the steps.

        Args:
            segments: Segments of the steps.
            batch: Number of children.
            choose: Function that makes the choices of a segment, from what is read and the states: the
                actions and their logits, what is read next, and the states.
            draw: Function that makes the draws of a segment's anchor point from their logits.
        """
        read = tf.tile(self.first.value[None], [batch, 1])
        zeros = tf.zeros((batch, self.units))
        states: States = ((zeros, zeros),) * self.layers
        earlier: list[tf.Tensor] = []  # hidden states at the anchor points
        found: list[Predictions] = []
        for segment in segments:
            actions, logits, read, states = choose(segment, read, states)
            found.append(self.head.predictions(actions, logits))
            if segment.anchor is None:
                continue
            hidden, states = self._lstm(read[None], states)
            before = tf.stack(earlier) if earlier else hidden[:0]
            logits = self.anchors.logits(before, hidden)
            actions = draw(segment, logits)
            found.append(self.anchors.predictions(actions, logits))
            read = self.anchors.read(actions, before, hidden[0])
            earlier.append(hidden[0])
        if len(found) == 1:
            return found[0]
        return Predictions(*(tf.concat(parts, 1) for parts in zip(*found, strict=True)))

    def _lstm(self, reads: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
        """Hidden states (steps, batch, units) along ``reads``, and the states after the last step."""
        # All steps in one operation: an update takes 0.4 of the time that it takes with a loop. (The
        # gradient of BlockLSTMV2 is wrong: it takes the gates in the order of BlockLSTM.)
        unused = tf.zeros(self.units)
        after = []
        for (kernel, bias), (cell, hidden) in zip(self.lstm, states, strict=True):
            found = tf.raw_ops.BlockLSTM(
                seq_len_max=tf.shape(reads, tf.int64)[0],
                x=reads,
                cs_prev=cell,
                h_prev=hidden,
                w=kernel.value,
                wci=unused,
                wcf=unused,
                wco=unused,
                b=bias.value,
                forget_bias=0.0,
                cell_clip=-1.0,
            )
            reads = found.h
            after.append((found.cs[-1], found.h[-1]))
        return reads, tuple(after)
