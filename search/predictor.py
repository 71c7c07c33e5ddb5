"""A policy that predicts the rewards of children that it has not tried."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from nasnet_zoo.checking import NonNegativeFloat, PositiveInt, Seed, check, checked

from .blocks import Blocks
from .policies import Experience, Proposal, SeededPolicy, check_state
from .space import Actions, Space

# Length scales of the ensemble's members, in shares of the traits of a child, and the variance of the
# noise in rewards, in that of the rewards.
_LENGTHS = (0.25, 0.5, 1.0)
_NOISE = 0.1
# Number of children whose mutations are candidates, and the most mutations that one is away from them.
_PARENTS = 5
_MUTATIONS = 2
# Number of children that the ensemble learns from at most, half of them the best, half the latest.
_LEARNED = 1000


class Child(NamedTuple):
    """A child that `Predictor` has proposed, and its reward or None."""

    actions: Actions
    reward: float | None = None


class Predictor(SeededPolicy):
    """Proposes the children that an ensemble of regressors takes for the best.

    The members are Gaussian processes on the traits of children, see `Space.traits`, of several
    length scales, weighted by their evidence. Half of the candidates are drawn uniformly, half are
    mutations of the best children so far. Those whose upper confidence bound is greatest are proposed,
    none a second time as long as others are found. Of rewards only the order counts.

    It is built as BANANAS (White et al., arXiv 1910.11858: an ensemble on encodings of cells, mutations
    as candidates) and NPENAS (Wei et al., arXiv 2003.12857: an evolution led by a predictor) are, with
    Gaussian processes in place of neural networks, for which a few dozen rewards are few.

    Args:
        space: Search space.
        seed: Seed of the random draws.
        startup: Number of children that have rewards before the first prediction. Until then children
            are drawn uniformly.
        candidates: Number of candidates to draw for a minibatch.
        exploration: Standard deviations that the upper confidence bound is above the mean.

    Raises:
        ValueError: If an argument is out of range.
    """

    @checked
    def __init__(
        self,
        space: Space,
        seed: Seed = 0,
        startup: PositiveInt = 10,
        candidates: PositiveInt = 400,
        exploration: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(space, seed)
        self.startup, self.candidates, self.exploration = startup, candidates, exploration
        self._begin([], [])

    def _begin(self, children: list[Child], told: list[int]) -> None:
        self._children, self._told = children, told
        self._keys = {self._key(child.actions) for child in children}
        self._blocks, self._order = Blocks("children"), Blocks("told")

    def _key(self, actions: Actions) -> str:
        return self.space.key(self.space.decode(actions))

    def ask(self, count: int) -> list[Proposal]:
        """Return the next children to try."""
        rng = np.random.default_rng(self._next_seed())
        found = self._candidates(rng, count)
        if len(self._told) >= self.startup and len(found) > count:
            bounds = self._bounds([proposal.actions for proposal in found])
            found = [found[k] for k in np.argsort(-bounds, kind="stable")[:count]]
        while len(found) < count:  # all others are known
            found.append(Proposal(self.space.sample(rng), self.version))
        for proposal in found:
            self._blocks.changed(len(self._children))
            self._children.append(Child(proposal.actions))
            self._keys.add(self._key(proposal.actions))
        return found

    def _candidates(self, rng: np.random.Generator, count: int) -> list[Proposal]:
        """New children to choose from, each once; in the beginning just as many as are asked for."""
        predicts, parents = len(self._told) >= self.startup, self.parents()
        most = max(self.candidates, count) if predicts else count
        found: dict[str, Proposal] = {}
        for draw in range(max(self.candidates, 10 * count)):
            parent = parents[rng.integers(len(parents))] if predicts and draw % 2 else None
            if parent is None:
                actions = self.space.sample(rng)
            else:
                actions = self._children[parent].actions
                for _ in range(rng.integers(1, _MUTATIONS + 1)):
                    actions = self.space.mutate(actions, rng)
            key = self._key(actions)
            if key not in self._keys:
                found.setdefault(key, Proposal(actions, self.version, parent=parent))
            if len(found) == most:
                break
        return list(found.values())

    def parents(self) -> list[int]:
        """The best children, whose mutations are candidates."""
        return sorted(self._told, key=lambda number: -self._reward(number))[:_PARENTS]

    def _reward(self, number: int) -> float:
        reward = self._children[number].reward
        assert reward is not None
        return reward

    def _bounds(self, candidates: Sequence[Actions]) -> np.ndarray:
        """The upper confidence bound of each candidate."""
        numbers = self._told
        if len(numbers) > _LEARNED:
            rated = sorted(numbers, key=lambda number: -self._reward(number))
            half = _LEARNED // 2
            numbers = list(dict.fromkeys([*rated[:half], *numbers[-half:]]))
        rewards = np.array([self._reward(number) for number in numbers])
        known = [self._children[number].actions for number in numbers]
        traits = [list(self.space.traits(actions)) for actions in (*known, *candidates)]
        mean, deviation = predict(_distances(traits), normal_scores(rewards))
        return mean + self.exploration * deviation

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        """Learn the rewards of children, which are numbered in the order of their proposals."""
        for number, proposal, reward, _ in minibatch:
            self._children[number] = Child(proposal.actions, reward)
            self._blocks.changed(number)
            self._order.changed(len(self._told))
            self._told.append(number)
        self.version += 1
        return {"best": max(map(self._reward, self._told))}

    def state(self) -> dict[str, np.ndarray]:
        """The counts, and as JSON the children and the order in which their rewards came."""
        return {
            **super().state(),
            **self._blocks.arrays(self._children, list),
            **self._order.arrays(self._told, int),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state."""
        names = itertools.chain(self._blocks.names(state), self._order.names(state))
        check_state(state, {**super().state(), **{name: state[name] for name in names}})
        children, told = [_child(row) for row in self._blocks.read(state)], self._order.read(state)
        rewarded = [number for number, child in enumerate(children) if child.reward is not None]
        check("told", told, tuple[int, ...])
        if sorted(told) != rewarded:
            raise ValueError(
                f"Expected told: the {len(rewarded)} children with rewards. Received: {told!r:.100}"
            )
        self._restore_counts(state)
        self._begin(children, told)


def _child(row: Any) -> Child:
    check("child", row, tuple[Any, Any])
    actions, reward = row
    check("child's actions", actions, tuple[int, ...])
    check("child's reward", reward, float | None)
    return Child(tuple(actions), reward)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return what normally distributed values of the same order would be; equal ones stay equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    shares = (np.cumsum(counts) - counts / 2) / len(values)
    return np.array([NormalDist().inv_cdf(share) for share in shares])[inverse]


def _distances(traits: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """Of each two children the number of traits that only one has, at most about 1."""
    columns = {trait: k for k, trait in enumerate(dict.fromkeys(itertools.chain(*traits)))}
    has = np.zeros((len(traits), len(columns)), np.float32)
    for row, own in zip(has, traits, strict=True):
        row[[columns[trait] for trait in own]] = 1
    sizes = has.sum(1)
    apart = sizes[:, None] + sizes[None] - 2 * has @ has.T
    return apart.astype(np.float64) / (2 * max(sizes.max(), 1))


def predict(distances: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predict scores from those of the first children.

    Args:
        distances: float (children, children), squared distances; the first children have scores.
        scores: float (known,), of mean 0 and variance 1.

    Returns:
        Mean and standard deviation of the scores of the others.
    """
    known = len(scores)
    evidence, means, variances = [], [], []
    for length in _LENGTHS:
        # Its square root is a Euclidean distance, so that this is a Gaussian kernel.
        kernel = np.exp(-distances / length)
        noisy, cross = kernel[:known, :known] + _NOISE * np.eye(known), kernel[:known, known:]
        solved = np.linalg.solve(noisy, np.column_stack([scores, cross]))
        _, volume = np.linalg.slogdet(noisy)
        evidence.append(-(scores @ solved[:, 0] + volume) / 2)
        means.append(cross.T @ solved[:, 0])
        variances.append(1 - (cross * solved[:, 1:]).sum(0))
    weights = np.exp(np.array(evidence) - max(evidence))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    square = weights @ (np.array(variances) + np.array(means) ** 2)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))
