"""Policies choose the next children: `Policy.ask` for children, then `Policy.tell` their rewards."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Interval

from nasnet_zoo.checking import (
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Seed,
    Share,
    checked,
)

from .controller import Controller
from .space import SearchSpace, Tokens


class Policy(Protocol):
    """Interface of policies."""

    def ask(self, count: int) -> Tokens:
        """Return the next children to try: int32 (count, tokens)."""

    def log_probabilities(self, tokens: Tokens) -> np.ndarray | None:
        """Return the natural log-probability (count,) of drawing each child now, or None if unknown."""

    def tell(self, tokens: Tokens, rewards: np.ndarray) -> dict[str, float]:
        """Learn from children (count, tokens) and their rewards (count,); return metrics."""

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that the next steps depend on, as arrays."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Return to a state.

        Raises:
            ValueError: If it is not a state of this policy.
        """


def check_state(state: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Check that a state has the same arrays as another: names, types and shapes.

    Args:
        state: State to check.
        expected: State to compare with. Arrays that are finite in it have to be finite in ``state``.

    Raises:
        ValueError: If an array differs. The message names it.
    """
    if state.keys() != expected.keys():
        received = ", ".join(state) or "none"
        raise ValueError(f"Expected the arrays {', '.join(expected)}. Received: {received}")
    for name, like in expected.items():
        array = state[name]
        if (array.dtype, array.shape) != (like.dtype, like.shape):
            raise ValueError(
                f"Expected {name}: {like.dtype} {like.shape}. Received: {array.dtype} {array.shape}"
            )
        if np.isinf(array).any() or (np.isnan(array).any() and not np.isnan(like).any()):
            raise ValueError(f"Expected {name}: finite numbers. Received: others")


def count_of(array: np.ndarray, name: str) -> int:
    """Return the count that a scalar array of a state holds.

    Raises:
        ValueError: If it is not an int of at least 0.
    """
    if array.shape != () or not np.issubdtype(array.dtype, np.integer) or array < 0:
        raise ValueError(f"Expected {name}: an int of at least 0. Received: {array.tolist()}")
    return int(array)


class RandomSearch:
    """Draws every child uniformly and learns nothing.

    Args:
        space: Search space.
        seed: Seed of the random draws.
    """

    @checked
    def __init__(self, space: SearchSpace, seed: Seed = 0) -> None:
        self.space = space
        self._seed, self._asked = seed, 0

    def ask(self, count: int) -> Tokens:
        """The next children to try: int32 (count, tokens)."""
        self._asked += 1
        return self.space.sample(np.random.default_rng([self._seed, self._asked]), count)

    def log_probabilities(self, tokens: Tokens) -> np.ndarray:
        """The same for every child."""
        return np.full(len(tokens), -np.log(np.array(self.space.choices)).sum())

    def tell(self, tokens: Tokens, rewards: np.ndarray) -> dict[str, float]:
        """Learn nothing."""
        return {}

    def state(self) -> dict[str, np.ndarray]:
        """How often it was asked."""
        return {"asked": np.array(self._asked)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Return to a state."""
        check_state(state, self.state())
        self._asked = count_of(state["asked"], "asked")


class RegularizedEvolution:
    """Aging evolution (Real et al., arXiv 1802.01548, algorithm 1).

    The first ``population`` children are drawn uniformly. Each later child is a mutation of the best of
    ``sample`` members drawn from the population, of which the oldest dies. A mutation changes one token
    to another value.

    Args:
        space: Search space.
        population: Number of members.
        sample: Number of members that a parent is the best of.
        seed: Seed of the random draws.

    Raises:
        ValueError: If an argument is out of range.
    """

    @checked
    def __init__(
        self,
        space: SearchSpace,
        population: PositiveInt = 100,
        sample: PositiveInt = 25,
        seed: Seed = 0,
    ) -> None:
        if sample > population:
            raise ValueError(f"Expected sample: at most population={population}. Received: {sample=}")
        self.space, self.population, self.sample = space, population, sample
        self._seed, self._asked, self._told = seed, 0, 0
        self._members: deque[tuple[tuple[int, ...], float]] = deque(maxlen=population)

    def ask(self, count: int) -> Tokens:
        """The next children to try: int32 (count, tokens)."""
        self._asked += 1
        rng = np.random.default_rng([self._seed, self._asked])
        if self._told < self.population:
            return self.space.sample(rng, count)
        return np.stack([self._mutant(rng) for _ in range(count)])

    def _mutant(self, rng: np.random.Generator) -> Tokens:
        drawn = rng.choice(len(self._members), self.sample, replace=False)
        parent, _ = max((self._members[k] for k in drawn), key=lambda member: member[1])
        child = np.array(parent, np.int32)
        choices = np.array(self.space.choices)
        position = rng.choice(np.flatnonzero(choices > 1))
        child[position] = (child[position] + rng.integers(1, choices[position])) % choices[position]
        return child

    def log_probabilities(self, tokens: Tokens) -> None:
        """Return None: a child's probability is a sum over all the parents it may have."""

    def tell(self, tokens: Tokens, rewards: np.ndarray) -> dict[str, float]:
        """Children join the population, and the oldest members die."""
        for child, reward in zip(tokens, rewards, strict=True):
            self._members.append((tuple(int(token) for token in child), float(reward)))
            self._told += 1
        return {"population": float(np.mean([reward for _, reward in self._members]))}

    def state(self) -> dict[str, np.ndarray]:
        """The population in the order of its age, and the counts."""
        return {
            "asked": np.array(self._asked),
            "told": np.array(self._told),
            "tokens": np.array([m for m, _ in self._members], np.int32),
            "rewards": np.array([reward for _, reward in self._members]),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Return to a state."""
        counts = [count_of(state.get(name, np.array(-1)), name) for name in ("asked", "told")]
        members = min(counts[1], self.population)
        shape = (members, len(self.space.choices)) if members else (0,)
        count, tokens = np.array(0), np.zeros(shape, np.int32)
        rewards = np.zeros(members)
        check_state(state, {"asked": count, "told": count, "tokens": tokens, "rewards": rewards})
        for child in state["tokens"]:
            self.space.check(child)
        self._asked, self._told = counts
        self._members.clear()
        for child, reward in zip(state["tokens"], state["rewards"], strict=True):
            self._members.append((tuple(int(token) for token in child), float(reward)))


class _ControllerPolicy:
    """What the policies that train a controller share.

    A subclass defines `_gain`, which `tell` maximises.
    """

    epochs = 1

    @checked
    def __init__(
        self,
        space: SearchSpace,
        seed: Seed = 0,
        units: PositiveInt = 100,
        learning_rate: PositiveFloat = 0.00035,
        entropy_weight: NonNegativeFloat = 0.00001,
        baseline_weight: Share = 0.95,
    ) -> None:
        self.space = space
        self.controller = Controller(space, units, seed=seed)
        self.entropy_weight, self.baseline_weight = entropy_weight, baseline_weight
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.optimizer.build(self.controller.weights)
        self._baseline = np.nan

    def ask(self, count: int) -> Tokens:
        """The next children to try: int32 (count, tokens)."""
        return self.controller.sample(tf.constant(count)).tokens.numpy()

    def log_probabilities(self, tokens: Tokens) -> np.ndarray:
        """Of drawing children (count, tokens) now: natural, (count,)."""
        predictions = self.controller.predict(tf.constant(tokens, tf.int32))
        return predictions.log_probabilities.numpy().sum(-1)

    def tell(self, tokens: Tokens, rewards: np.ndarray) -> dict[str, float]:
        """Train the controller on a minibatch of children (count, tokens), rewards (count,).

        Returns:
            The baseline before, and the mean entropy in nats of what a child's tokens were drawn
            from.
        """
        rewards = np.asarray(rewards, np.float64)
        baseline = float(rewards.mean()) if np.isnan(self._baseline) else self._baseline
        keep = self.baseline_weight
        self._baseline = keep * baseline + (1 - keep) * float(rewards.mean())
        advantages = tf.constant(rewards - baseline, tf.float32)
        before = self.controller.predict(tf.constant(tokens, tf.int32))
        for _ in range(self.epochs):
            self._update(before.tokens, before.log_probabilities, advantages)
        entropy = float(tf.reduce_mean(tf.reduce_sum(before.entropies, -1)))
        return {"baseline": baseline, "entropy": entropy}

    @tf.function(reduce_retracing=True)
    def _update(self, tokens: tf.Tensor, before: tf.Tensor, advantages: tf.Tensor) -> None:
        weights = self.controller.weights
        with tf.GradientTape() as tape:
            now = self.controller.predict(tokens)
            gain = self._gain(now.log_probabilities, before, advantages)
            entropy = tf.reduce_mean(tf.reduce_sum(now.entropies, -1))
            loss = -gain - self.entropy_weight * entropy
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        # Gathered weights have sparse gradients, whose repeated rows Keras's optimizers do not sum.
        self.optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], weights)

    def _gain(self, now: tf.Tensor, before: tf.Tensor, advantages: tf.Tensor) -> tf.Tensor:
        """What is maximised besides the entropy.

        Args:
            now: Log-probabilities (children, tokens) of the controller that is trained.
            before: Log-probabilities of the controller that drew the children.
            advantages: (children,).
        """
        raise NotImplementedError

    def state(self) -> dict[str, np.ndarray]:
        """Weights, optimizer, random state and baseline."""
        variables = [*self.controller.weights, *self.optimizer.variables]
        return {
            **{f"{k:02}": np.asarray(variable) for k, variable in enumerate(variables)},
            "random": self.controller.generator.state.numpy(),
            "baseline": np.array(self._baseline),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Return to a state."""
        check_state(state, {**self.state(), "baseline": np.array(np.nan)})
        variables = [*self.controller.weights, *self.optimizer.variables]
        for k, variable in enumerate(variables):
            variable.assign(state[f"{k:02}"])
        self.controller.generator.state.assign(state["random"])
        self._baseline = float(state["baseline"])


class Reinforce(_ControllerPolicy):
    """REINFORCE with a moving average of rewards as baseline ([Z] section 3.2).

    Args:
        space: Search space.
        seed: Seed of the controller's weights and draws.
        units: Units of the controller's LSTM.
        learning_rate: Learning rate of Adam.
        entropy_weight: Weight of the entropy bonus.
        baseline_weight: Decay of the moving average of rewards, in [0, 1].
    """

    def _gain(self, now: tf.Tensor, before: tf.Tensor, advantages: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(advantages * tf.reduce_sum(now, -1))


class PPO(_ControllerPolicy):
    """Proximal policy optimization ([N] section 4; Schulman et al., arXiv 1707.06347, equation 7).

    Args:
        space: Search space.
        seed: Seed of the controller's weights and draws.
        units: Units of the controller's LSTM.
        learning_rate: Learning rate of Adam.
        entropy_weight: Weight of the entropy bonus.
        baseline_weight: Decay of the moving average of rewards, in [0, 1].
        clip: Ratios of a token's probabilities are clipped to ``1 - clip .. 1 + clip``, in (0, 1).
        epochs: Updates on every minibatch.
    """

    @checked
    def __init__(
        self,
        space: SearchSpace,
        seed: Seed = 0,
        units: PositiveInt = 100,
        learning_rate: PositiveFloat = 0.00035,
        entropy_weight: NonNegativeFloat = 0.00001,
        baseline_weight: Share = 0.95,
        *,
        clip: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        epochs: PositiveInt = 4,
    ) -> None:
        super().__init__(space, seed, units, learning_rate, entropy_weight, baseline_weight)
        self.clip, self.epochs = clip, epochs

    def _gain(self, now: tf.Tensor, before: tf.Tensor, advantages: tf.Tensor) -> tf.Tensor:
        return clipped_gain(now, before, advantages, self.clip)


def clipped_gain(now: tf.Tensor, before: tf.Tensor, advantages: tf.Tensor, clip: float) -> tf.Tensor:
    """PPO's clipped surrogate: the sum over a child's tokens, the mean over children."""
    ratios = tf.exp(now - before)
    clipped = tf.clip_by_value(ratios, 1.0 - clip, 1.0 + clip)
    advantages = advantages[:, None]
    gains = tf.minimum(ratios * advantages, clipped * advantages)
    return tf.reduce_mean(tf.reduce_sum(gains, -1))


#: The policies by the name that the command line gives them.
POLICIES: dict[str, Any] = {
    "ppo": PPO,
    "reinforce": Reinforce,
    "random": RandomSearch,
    "evolution": RegularizedEvolution,
}
