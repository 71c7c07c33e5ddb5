"""Search spaces: what can be drawn, and what architecture it is.

A space of your own is a subclass of `Space`, or of `SequenceSpace` if its architectures are sequences
of choices, such as layers or hyper-parameters. ``docs/own-space.md`` makes one step by step.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from nasnet_zoo.files import plain_json

#: The choices that make an architecture, in the order in which they are drawn.
Actions = tuple[int, ...]
A = TypeVar("A")


class Space(Generic[A]):
    """Base class of search spaces, whose architectures are of the type ``A``.

    Subclasses define `sample`, `mutate` and `decode`; and `to_json` and `from_json`, unless their
    architectures are dicts that JSON can hold. Architectures are sent to other processes by pickle.
    """

    #: A sentence on the pictures of `draw`, for the report.
    legend: ClassVar[str] = ""

    def sample(self, rng: np.random.Generator) -> Actions:
        """Draw an architecture uniformly."""
        raise NotImplementedError

    def mutate(self, actions: Actions, rng: np.random.Generator) -> Actions:
        """Return the actions of a neighbour of an architecture."""
        raise NotImplementedError

    def decode(self, actions: Sequence[int]) -> A:
        """Return the architecture of actions; equal architectures if they compute the same.

        Raises:
            ValueError: If these are not the actions of an architecture.
        """
        raise NotImplementedError

    def to_json(self, architecture: A) -> dict[str, Any]:
        """Return an architecture as JSON-compatible data. Default: the architecture, a dict."""
        return dict(architecture)  # type: ignore[call-overload]

    def from_json(self, data: dict[str, Any]) -> A:
        """Return the architecture of `to_json`. Default: the data.

        Raises:
            ValueError: If the data is not an architecture of any space of this kind.
        """
        return data  # type: ignore[return-value]

    def key(self, architecture: A) -> str:
        """Return a text that two architectures share if and only if they compute the same."""
        return json.dumps(plain_json("an architecture", self.to_json(architecture)), sort_keys=True)

    def seed(self, key: str, seed: int) -> int:
        """Return the seed of a child's evaluation, from its key and the seed of the search."""
        return zlib.crc32(f"{seed} {key}".encode())

    def about(self) -> dict[str, Any]:
        """Return what the space is, as JSON. A search goes on only in the same space."""
        return {"class": type(self).__name__}

    def traits(self, actions: Actions) -> Iterable[Hashable]:
        """Return what an architecture has, for predictions of its reward.

        The more traits two architectures share, the more alike their rewards are expected to be.
        Default: each action at its place.
        """
        return enumerate(actions)

    def features(self, architecture: A) -> Mapping[str, float]:
        """Return numbers that describe an architecture; the report compares their means."""
        return {}

    def describe(self, architecture: A) -> str:
        """Return what an architecture consists of as a text, for the report. Default: its JSON."""
        return json.dumps(plain_json("an architecture", self.to_json(architecture)))

    def draw(self, architecture: A) -> str | None:
        """Return a picture of an architecture as SVG, or None."""
        return None


class GivenActions:
    """Given actions of an architecture whose draws depend on those before them.

    Args:
        actions: The actions.

    Raises:
        ValueError: If they are no sequence of ints.
    """

    def __init__(self, actions: Sequence[int]) -> None:
        array = np.asarray(actions if isinstance(actions, (tuple, list, np.ndarray)) else None)
        if array.ndim != 1 or not (array.size == 0 or np.issubdtype(array.dtype, np.integer)):
            raise ValueError(f"Expected actions: a sequence of ints. Received: {actions!r:.200}")
        self._actions, self._number = [int(action) for action in array], 0

    def next(self, place: str, choices: int) -> int:
        """Return the next action.

        Args:
            place: What it is, for messages.
            choices: Number of choices.

        Raises:
            ValueError: If there are no more, or it is none of the choices.
        """
        more = self._number < len(self._actions)
        action = self._actions[self._number] if more else "no more actions"
        if not isinstance(action, int) or not 0 <= action < choices:
            raise ValueError(
                f"action {self._number}, {place}: expected an int from 0 to below {choices}. "
                f"Received: {action}"
            )
        self._number += 1
        return action

    def check_end(self, end: str = "with which the architecture is complete") -> None:
        """Check that there are no more actions.

        Args:
            end: What the expected actions lead to, for the message.

        Raises:
            ValueError: If there are.
        """
        if self._number < len(self._actions):
            raise ValueError(f"Expected {self._number} actions, {end}. Received: {len(self._actions)}")


class Step(NamedTuple):
    """One choice of a `SequenceSpace`.

    Args:
        kind: What is chosen. Steps of one kind share the controller's embeddings and softmax weights.
        choices: Number of choices. Actions are from 0 to below it.
    """

    kind: str
    choices: int

    @property
    def draws(self) -> tuple[int, ...]:
        """Number of choices of each draw."""
        return (self.choices,)


class AnchorStep(NamedTuple):
    """A step that draws 0 or 1 for each earlier anchor point: whether its layer is an input.

    The controller predicts these draws from its states at the anchor points.

    Args:
        kind: What is drawn.
        earlier: Number of earlier anchor points.
    """

    kind: str
    earlier: int

    @property
    def draws(self) -> tuple[int, ...]:
        """Number of choices of each draw."""
        return (2,) * self.earlier


class SequenceSpace(Space[A]):
    """Base class of spaces whose architectures are sequences of draws, as `steps` says.

    Subclasses define `steps` and `decode`; and `to_json` and `from_json`, as for every `Space`. Those
    whose architectures differ in length, each being the beginning of all `steps`, define `lengths` and
    `length`, too.
    """

    @property
    def steps(self) -> tuple[Step | AnchorStep, ...]:
        """The choices, in the order in which they are drawn."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """Return the class of the space and its steps."""
        return {**super().about(), "steps": [list(step) for step in self.steps]}

    @property
    def choices(self) -> tuple[int, ...]:
        """Number of choices of each draw."""
        return tuple(choices for step in self.steps for choices in step.draws)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of draws that architectures have, in increasing order. Default: all draws."""
        return (len(self.choices),)

    def length(self, number: int) -> int:
        """Return the number of draws of a controller's sample of this number, counted from 0."""
        return self.lengths[-1]

    def sample(self, rng: np.random.Generator) -> Actions:
        """Draw an architecture uniformly, of several lengths one uniformly before."""
        choices = self.choices
        if len(self.lengths) > 1:
            choices = choices[: rng.choice(self.lengths)]
        return tuple(rng.integers(choices, dtype=np.int32).tolist())

    def mutate(self, actions: Actions, rng: np.random.Generator) -> Actions:
        """Return actions of which one, drawn uniformly, has another value.

        Of several lengths the length counts as an action, which becomes the next smaller or greater.
        """
        choices = np.array(self.choices[: len(actions)])
        changeable = np.flatnonzero(choices > 1)
        if len(self.lengths) > 1 and rng.integers(len(changeable) + 1) == 0:
            return self._resized(actions, rng)
        position = rng.choice(changeable)
        offset = rng.integers(1, choices[position])
        changed = list(actions)
        changed[position] = int((actions[position] + offset) % choices[position])
        return tuple(changed)

    def _resized(self, actions: Actions, rng: np.random.Generator) -> Actions:
        """Actions of a neighbouring length; what is new is drawn uniformly."""
        place = self.lengths.index(len(actions))
        neighbours = [self.lengths[k] for k in (place - 1, place + 1) if 0 <= k < len(self.lengths)]
        length = int(rng.choice(neighbours))
        new = rng.integers(self.choices[len(actions) : length], dtype=np.int32).tolist()
        return (*actions[:length], *new)

    def traits(self, actions: Actions) -> Iterable[Hashable]:
        """Return each action at its place, where there is a choice."""
        return [(k, actions[k]) for k, n in enumerate(self.choices[: len(actions)]) if n > 1]

    def check(self, actions: Sequence[int]) -> Actions:
        """Return actions as a tuple of ints.

        Raises:
            ValueError: If these are not actions of this space.
        """
        array, choices = np.asarray(actions), np.array(self.choices)
        fits = array.ndim == 1 and len(array) in self.lengths and np.issubdtype(array.dtype, np.integer)
        if not fits or (array < 0).any() or (array >= choices[: len(array)]).any():
            lengths = " or ".join(map(str, self.lengths))
            raise ValueError(
                f"Expected {lengths} ints from 0 to below {self.choices}. Received: {actions}"
            )
        return tuple(array.tolist())
