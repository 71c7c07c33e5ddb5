"""Schedulers decide when the policy is asked for children and when it learns from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from nasnet_zoo.checking import PositiveInt, check_fields


class Load(NamedTuple):
    """What a scheduler decides by.

    Args:
        capacity: Number of children that the executor evaluates at a time.
        under_way: Number of children without a reward. Equal ones are evaluated once, but count each.
        untold: Number of children with a reward that the policy has not learned from.
        left: Number of children that are still to be sampled.
        promotable: Number of paused children that can go on, see `SuccessiveHalving`.
    """

    capacity: int
    under_way: int
    untold: int
    left: int
    promotable: int = 0


class Scheduler(Protocol):
    """Interface of schedulers."""

    def tells(self, load: Load) -> int:
        """Return the number of children that the policy learns from now, those that finished first."""

    def promotes(self, load: Load) -> int:
        """Return the number of paused children that go on now, before anything else."""

    def asks(self, load: Load) -> int:
        """Return the number of children that the policy is asked for now."""


@dataclass(frozen=True)
class Synchronous:
    """The policy learns from a whole minibatch before it draws the next.

    A search that was killed and resumed is then the one that was not, child by child, to the bit.

    Args:
        minibatch: Number of children that the policy draws and learns from together ([N]: 20).
    """

    minibatch: PositiveInt = 20

    def __post_init__(self) -> None:
        check_fields(self)

    def tells(self, load: Load) -> int:
        """All children when none is under way."""
        return 0 if load.under_way else load.untold

    def promotes(self, load: Load) -> int:
        """All of a rung, when no child is under way: before the policy learns from the minibatch."""
        return 0 if load.under_way else load.promotable

    def asks(self, load: Load) -> int:
        """A minibatch when the policy has learned from the last one."""
        return 0 if load.under_way or load.untold else min(self.minibatch, load.left)


#: Most children that an asynchronous search draws before there is room for them.
_AHEAD = 4


@dataclass(frozen=True)
class Asynchronous:
    """The policy draws a child whenever there is room, and learns from each minibatch of results.

    Workers never wait for others, as with the 500 of [N] section 4, nor for the policy: a few children
    are drawn ahead, fewer than there are workers. A child may have been drawn by an earlier version of
    the policy than the one that learns from it. A search that was killed and resumed
    loses no finished child and evaluates none twice, but the order in which children finish is no
    promise.

    Args:
        minibatch: Number of children that the policy learns from together ([N]: 20).
    """

    minibatch: PositiveInt = 20

    def __post_init__(self) -> None:
        check_fields(self)

    def tells(self, load: Load) -> int:
        """A minibatch; at the end of the search the rest."""
        if load.untold >= self.minibatch:
            return self.minibatch
        return 0 if load.under_way or load.left else load.untold

    def promotes(self, load: Load) -> int:
        """As many as there is room for and a few more, at least one if none is under way."""
        return _fitting(load, load.promotable)

    def asks(self, load: Load) -> int:
        """As many as there is room for and a few more, at least one if none is under way."""
        return _fitting(load, load.left)


def _fitting(load: Load, children: int) -> int:
    """How many of so many children there is room for, a few more, at least one if none is under way."""
    capacity = max(load.capacity, 1)
    wanted = capacity + min(capacity - 1, _AHEAD)
    return max(min(wanted - load.under_way, children), 0)
