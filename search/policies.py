"""Policies choose the next children: `Policy.ask` for children, then `Policy.tell` their rewards."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

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
    check,
    checked,
)

from .blocks import packed, unpacked
from .controller import Controller, SequenceController
from .space import Actions, SequenceSpace, Space


class Proposal(NamedTuple):
    """A child that a policy proposes.

    Args:
        actions: Its actions.
        version: Number of minibatches that the policy had learned from when it drew the child.
        log_probabilities: Natural log-probability of each draw, or None if the policy has none.
        parent: Number of the child that it is a mutation of and, where children inherit weights, begins
            with; or None.
    """

    actions: Actions
    version: int
    log_probabilities: tuple[float, ...] | None = None
    parent: int | None = None


class Experience(NamedTuple):
    """What a policy learns from.

    Args:
        number: Number of the child.
        proposal: What the policy proposed.
        reward: Reward of the child.
        objectives: Its objectives, each the better the greater it is, where a policy takes several.
            Empty if the child failed.
    """

    number: int
    proposal: Proposal
    reward: float
    objectives: tuple[float, ...] = ()


class Policy(Protocol):
    """Interface of policies, which choose the next children.

    ``version`` is the number of minibatches that the policy has learned from.
    """

    version: int

    def ask(self, count: int) -> list[Proposal]:
        """Return the next children to try."""

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        """Learn from children and their rewards; return metrics."""

    def parents(self) -> Collection[int]:
        """Return the numbers of the children that may be parents of later ones.

        A search whose children inherit weights asks after every change; it keeps theirs, and those of
        children that the policy has not been told of.
        """

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that the next steps depend on, as arrays."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
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


class SeededPolicy:
    """What policies share whose draws depend on a seed and on how often they were asked.

    So a restored policy draws what it would have drawn.

    Args:
        space: Search space.
        seed: Seed of the random draws.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.version = space, 0
        self._seed, self._asked = seed, 0

    def _next_seed(self) -> list[int]:
        """Return the seed of the draws when it is asked once more."""
        self._asked += 1
        return [self._seed, self._asked]

    def parents(self) -> Collection[int]:
        """No child, unless a subclass changes that."""
        return ()

    def state(self) -> dict[str, np.ndarray]:
        """How often it was asked and told."""
        return {"asked": np.array(self._asked), "version": np.array(self.version)}

    def _restore_counts(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to the counts of a state."""
        self._asked, self.version = (count_of(state[name], name) for name in ("asked", "version"))


class RandomSearch(SeededPolicy):
    """Draws every child uniformly and learns nothing.

    Args:
        space: Search space.
        seed: Seed of the random draws.
    """

    @checked
    def __init__(self, space: Space, seed: Seed = 0) -> None:
        super().__init__(space, seed)

    def ask(self, count: int) -> list[Proposal]:
        """Return the next children to try."""
        rng = np.random.default_rng(self._next_seed())
        return [Proposal(self.space.sample(rng), self.version) for _ in range(count)]

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        """Learn nothing."""
        self.version += 1
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state."""
        check_state(state, self.state())
        self._restore_counts(state)


class Member(NamedTuple):
    """A member of the population of `RegularizedEvolution`: a child and its reward."""

    number: int
    actions: Actions
    reward: float


class RegularizedEvolution(SeededPolicy):
    """Aging evolution (Real et al., arXiv 1802.01548, algorithm 1).

    The first ``population`` children are drawn uniformly. Each later child is a mutation of the best of
    ``sample`` members drawn from the population, of which the oldest dies.

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
        space: Space,
        population: PositiveInt = 100,
        sample: PositiveInt = 25,
        seed: Seed = 0,
    ) -> None:
        if sample > population:
            raise ValueError(f"Expected sample: at most population={population}. Received: {sample=}")
        super().__init__(space, seed)
        self.population, self.sample, self._told = population, sample, 0
        self._members: deque[Member] = deque(maxlen=population)

    def ask(self, count: int) -> list[Proposal]:
        """Return the next children to try."""
        rng = np.random.default_rng(self._next_seed())
        if self._told < self.population:
            return [Proposal(self.space.sample(rng), self.version) for _ in range(count)]
        return [self._mutant(rng) for _ in range(count)]

    def _mutant(self, rng: np.random.Generator) -> Proposal:
        drawn = rng.choice(len(self._members), self.sample, replace=False)
        parent = max((self._members[k] for k in drawn), key=lambda member: member.reward)
        actions = self.space.mutate(parent.actions, rng)
        return Proposal(actions, self.version, parent=parent.number)

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        """Children join the population, and the oldest members die."""
        for number, proposal, reward, _ in minibatch:
            self._members.append(Member(number, proposal.actions, reward))
            self._told += 1
        self.version += 1
        return {"population": float(np.mean([member.reward for member in self._members]))}

    def parents(self) -> Collection[int]:
        """The population."""
        return [member.number for member in self._members]

    def state(self) -> dict[str, np.ndarray]:
        """The population in the order of its age, as JSON, and the counts."""
        own = {"told": np.array(self._told), "members": packed(list(self._members))}
        return {**super().state(), **own}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state."""
        members = state.get("members", np.zeros(0, np.uint8))
        check_state(state, {**self.state(), "members": members})
        told = count_of(state["told"], "told")
        expected = min(told, self.population)
        found = unpacked(members, "members")
        if not isinstance(found, list) or len(found) != expected:
            raise ValueError(f"Expected {expected} members. Received: {found!r:.100}")
        read = []
        for member in found:
            check("member", member, tuple[Any, Any, Any])
            number, actions, reward = member
            check("member's number", number, int)
            check("member's reward", reward, float)
            check("member's actions", actions, tuple[int, ...])
            self.space.decode(actions)
            read.append(Member(number, tuple(actions), float(reward)))
        self._restore_counts(state)
        self._told, self._members = told, deque(read, maxlen=self.population)


#: How an update treats a child that an earlier version of the policy drew (`ControllerPolicy`).
Correction = Literal["naive", "ratio", "decoupled"]
_LARGEST_WEIGHT = 2.0


class ControllerPolicy:
    """Base class of policies that train a controller.

    A subclass defines `_gain`, which `tell` maximises.

    In an asynchronous search a child may come back when the policy has learned from other children
    since it drew it. ``correction`` says how an update treats it: "naive" as if the policy drew it
    now; "ratio" compares with the probabilities that it was drawn with, as importance sampling
    does; "decoupled" is naive, but weights each draw by its probability now over that when it was
    drawn, at most 2 (Hilton et al., arXiv 2110.00641, section 3). The three are the same for
    children of the present version.

    Args:
        controller: Controller that draws the children.
        optimizer: Optimizer of its weights.
        entropy_weight: Weight of the entropy bonus.
        baseline_weight: Decay of the moving average of rewards, in [0, 1].
        correction: Treatment of children that an earlier version drew: "naive", "ratio" or "decoupled".
    """

    epochs = 1
    #: Whether the baseline of a minibatch is the moving average with its own rewards, not before them.
    baseline_has_minibatch: ClassVar[bool] = False
    #: Whether nothing is learned from a minibatch whose rewards are equal, not even from its entropy.
    skips_equal: ClassVar[bool] = False

    def __init__(
        self,
        controller: Controller,
        optimizer: keras.optimizers.Optimizer,
        entropy_weight: float,
        baseline_weight: float,
        correction: Correction,
    ) -> None:
        self.space, self.version, self.correction = controller.space, 0, correction
        self.controller, self.optimizer = controller, optimizer
        self.entropy_weight, self.baseline_weight = entropy_weight, baseline_weight
        self.optimizer.build(controller.weights)
        self._baseline = np.nan
        self._drawn = 0
        self._learned: dict[str, np.ndarray] = {}

    def ask(self, count: int) -> list[Proposal]:
        """Return the next children to try."""
        drawn = self.controller.draw(self._drawn, count)
        self._drawn += count
        return [Proposal(actions, self.version, logs) for actions, logs in drawn]

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        """Train the controller on a minibatch of children.

        Returns:
            The baseline before, the mean entropy in nats of what a child's actions are drawn from, and
            the mean number of minibatches that the policy has learned from since it drew the children.
        """
        proposals = [experience.proposal for experience in minibatch]
        rewards = np.array([experience.reward for experience in minibatch], np.float64)
        baseline = self._follow(float(rewards.mean()))
        advantages = tf.constant(rewards - baseline, tf.float32)
        lags = np.array([self.version - proposal.version for proposal in proposals])
        inputs = self.controller.inputs([proposal.actions for proposal in proposals])
        predictions = self.controller.predict(**inputs)
        now = predictions.log_probabilities
        drawn = np.zeros(now.shape, np.float32)
        for row, proposal in zip(drawn, proposals, strict=True):
            row[: len(proposal.actions)] = proposal.log_probabilities or 0.0
        # Sampled and predicted probabilities of one version differ by rounding alone.
        before, weights = self._corrected(now, tf.where((lags > 0)[:, None], drawn, now))
        if not (self.skips_equal and np.ptp(rewards) == 0):
            for _ in range(self.epochs):
                self._update(before, weights, advantages, inputs)
        self.version += 1
        self._learned = {}
        entropy = float(tf.reduce_mean(tf.reduce_sum(predictions.entropies, -1)))
        return {"baseline": baseline, "entropy": entropy, "lag": float(lags.mean())}

    def _follow(self, mean: float) -> float:
        """Take the mean reward of a minibatch into the baseline, and return that of the minibatch."""
        before, keep = mean if np.isnan(self._baseline) else self._baseline, self.baseline_weight
        self._baseline = keep * before + (1 - keep) * mean
        return self._baseline if self.baseline_has_minibatch else before

    def _corrected(self, now: tf.Tensor, drawn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The log-probabilities that `_gain` compares with, and its weights, of each draw.

        Args:
            now: Log-probabilities (children, steps) before the update.
            drawn: Log-probabilities (children, steps) that the children were drawn with.
        """
        if self.correction == "ratio":
            return drawn, tf.ones_like(now)
        if self.correction == "decoupled":
            return now, tf.minimum(tf.exp(now - drawn), _LARGEST_WEIGHT)
        return now, tf.ones_like(now)

    @tf.function(reduce_retracing=True)
    def _update(
        self, before: tf.Tensor, weights: tf.Tensor, advantages: tf.Tensor, inputs: Mapping[str, Any]
    ) -> None:
        variables = self.controller.weights
        with tf.GradientTape() as tape:
            found = self.controller.predict(**inputs)
            gain = self._gain(found.log_probabilities, before, weights, advantages)
            entropy = tf.reduce_mean(tf.reduce_sum(found.entropies, -1))
            loss = -gain - self.entropy_weight * entropy
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        # Gathered weights have sparse gradients, whose repeated rows Keras's optimizers do not sum.
        self.optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], variables)

    def _gain(
        self, now: tf.Tensor, before: tf.Tensor, weights: tf.Tensor, advantages: tf.Tensor
    ) -> tf.Tensor:
        """What is maximised besides the entropy.

        Args:
            now: Log-probabilities (children, steps) of the controller that is trained.
            before: Log-probabilities (children, steps) to compare with.
            weights: Weights (children, steps) of the draws.
            advantages: (children,).
        """
        raise NotImplementedError

    def parents(self) -> Collection[int]:
        """No child: each is drawn by itself."""
        return ()

    def state(self) -> dict[str, np.ndarray]:
        """Weights, optimizer, random state, baseline and version."""
        if not self._learned:  # what is drawn changes none of it
            variables = [*self.controller.weights, *self.optimizer.variables]
            self._learned = {f"{k:02}": np.array(variable) for k, variable in enumerate(variables)}
            for array in self._learned.values():
                array.setflags(write=False)  # so that the journal need not compare them
        # How many children it drew says how many draws the next ones have.
        drawn = {"drawn": np.array(self._drawn)} if self.controller.grows else {}
        return {
            **self._learned,
            "random": self.controller.generator.state.numpy(),
            "baseline": np.array(self._baseline),
            "version": np.array(self.version),
            **drawn,
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state."""
        check_state(state, {**self.state(), "baseline": np.array(np.nan)})
        variables = [*self.controller.weights, *self.optimizer.variables]
        for k, variable in enumerate(variables):
            variable.assign(state[f"{k:02}"])
        self._learned = {}
        self.controller.generator.state.assign(state["random"])
        self._baseline = float(state["baseline"])
        self.version = count_of(state["version"], "version")
        self._drawn = count_of(state["drawn"], "drawn") if "drawn" in state else 0


class PolicyGradient(ControllerPolicy):
    """REINFORCE with a moving average of rewards as baseline, over any controller."""

    def _corrected(self, now: tf.Tensor, drawn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        before, weights = super()._corrected(now, drawn)
        # The gradient of a ratio of probabilities is that of the log-probability times the ratio.
        return before, weights * tf.exp(now - before)

    def _gain(
        self, now: tf.Tensor, before: tf.Tensor, weights: tf.Tensor, advantages: tf.Tensor
    ) -> tf.Tensor:
        return tf.reduce_mean(advantages * tf.reduce_sum(weights * now, -1))


class Reinforce(PolicyGradient):
    """REINFORCE over sequences of choices ([Z] section 3.2).

    Args:
        space: Search space.
        seed: Seed of the controller's weights and draws.
        units: Units of the controller's LSTM.
        learning_rate: Learning rate of Adam.
        entropy_weight: Weight of the entropy bonus.
        baseline_weight: Decay of the moving average of rewards, in [0, 1].
        correction: Treatment of children that an earlier version drew: "naive", "ratio" or "decoupled".
        layers: Number of layers of the controller's LSTM.
        initial: The controller's weights are drawn uniformly from [-initial, initial].
    """

    #: Class of the controller.
    controller_class: ClassVar[type[SequenceController]] = SequenceController

    @checked
    def __init__(
        self,
        space: SequenceSpace,
        seed: Seed = 0,
        units: PositiveInt = 100,
        learning_rate: PositiveFloat = 0.00035,
        entropy_weight: NonNegativeFloat = 0.00001,
        baseline_weight: Share = 0.95,
        correction: Correction = "ratio",
        *,
        layers: PositiveInt = 1,
        initial: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__(
            self.controller_class(space, units, initial, seed, layers),
            keras.optimizers.Adam(learning_rate),
            entropy_weight,
            baseline_weight,
            correction,
        )


#: The policy of [Z] section 4.1: `Reinforce` with other defaults. The decay of the baseline is not
#: published; section 4.2 has a learning rate of 0.0005.
nas_policy = functools.partial(
    Reinforce, units=35, learning_rate=0.0006, entropy_weight=0.0, layers=2, initial=0.08
)


class PPO(ControllerPolicy):
    """Proximal policy optimization ([N] section 4; Schulman et al., arXiv 1707.06347, equation 7).

    Args:
        space: Search space.
        seed: Seed of the controller's weights and draws.
        units: Units of the controller's LSTM.
        learning_rate: Learning rate of Adam.
        entropy_weight: Weight of the entropy bonus.
        baseline_weight: Decay of the moving average of rewards, in [0, 1].
        correction: Treatment of children that an earlier version drew: "naive", "ratio" or "decoupled".
        clip: Ratios of a draw's probabilities are clipped to ``1 - clip .. 1 + clip``, in (0, 1).
        epochs: Updates on every minibatch.
        layers: Number of layers of the controller's LSTM.
        initial: The controller's weights are drawn uniformly from [-initial, initial].
    """

    #: Class of the controller.
    controller_class: ClassVar[type[SequenceController]] = SequenceController

    @checked
    def __init__(
        self,
        space: SequenceSpace,
        seed: Seed = 0,
        units: PositiveInt = 100,
        learning_rate: PositiveFloat = 0.00035,
        entropy_weight: NonNegativeFloat = 0.00001,
        baseline_weight: Share = 0.95,
        correction: Correction = "ratio",
        *,
        clip: Annotated[float, Interval(gt=0, lt=1)] = 0.2,
        epochs: PositiveInt = 4,
        layers: PositiveInt = 1,
        initial: NonNegativeFloat = 0.1,
    ) -> None:
        super().__init__(
            self.controller_class(space, units, initial, seed, layers),
            keras.optimizers.Adam(learning_rate),
            entropy_weight,
            baseline_weight,
            correction,
        )
        self.clip, self.epochs = clip, epochs

    def _gain(
        self, now: tf.Tensor, before: tf.Tensor, weights: tf.Tensor, advantages: tf.Tensor
    ) -> tf.Tensor:
        return clipped_gain(now, before, weights, advantages, self.clip)


def clipped_gain(
    now: tf.Tensor, before: tf.Tensor, weights: tf.Tensor, advantages: tf.Tensor, clip: float
) -> tf.Tensor:
    """PPO's clipped surrogate: the weighted sum over a child's draws, the mean over children."""
    ratios = tf.exp(now - before)
    clipped = tf.clip_by_value(ratios, 1.0 - clip, 1.0 + clip)
    advantages = advantages[:, None]
    gains = weights * tf.minimum(ratios * advantages, clipped * advantages)
    return tf.reduce_mean(tf.reduce_sum(gains, -1))
