"""Evaluators turn an architecture into a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple

import numpy as np

from nasnet_zoo.checking import check_fields
from nasnet_zoo.files import plain_json

from .space import A

if TYPE_CHECKING:
    from .policies import Policy


class Trial(NamedTuple):
    """A child to evaluate.

    Args:
        number: Number in the journal.
        child: What `Evaluator.prepare` returned: the architecture, unless a subclass changes that.
        seed: Seed of all random draws of the evaluation.
        thresholds: Least reward at each intermediate evaluation, below which the child stops early.
            It is shorter than the evaluations, or empty, where no child stops.
        pause_at: Number of evaluations, those before a pause included, after which the child pauses.
            Default: it does not.
        checkpoint: `Result.checkpoint` of the child's last pause. Default: there was none, or it is no
            longer there, and the child is trained from the start.
        weights: `Result.weights` of the child's parent, for an evaluator that `Evaluator.inherits`.
            Default: it has no parent.
    """

    number: int
    child: Any
    seed: int
    thresholds: tuple[float, ...] = ()
    pause_at: int | None = None
    checkpoint: Mapping[str, np.ndarray] | None = None
    weights: Mapping[str, np.ndarray] | None = None

    def pauses(self, curve: Sequence[float]) -> bool:
        """Whether the child pauses after the evaluations so far, which had these rewards."""
        return len(curve) == self.pause_at

    def stops(self, curve: Sequence[float]) -> bool:
        """Whether the child stops after the evaluations so far, which had these rewards."""
        return len(curve) <= len(self.thresholds) and curve[-1] < self.thresholds[len(curve) - 1]


@dataclass(frozen=True)
class Result:
    """The result of an evaluation.

    Args:
        reward: Reward that the policy learns from. 0 if the child failed.
        curve: Reward at each evaluation of the training, the last one included.
        status: "finished"; "stopped" after an intermediate evaluation, or paused there; "failed" for a
            reason of the child's own; "lost" with the worker that evaluated it, which is not the
            child's fault.
        message: Reason of the failure.
        metrics: Further results, as JSON. Arrays become lists.
        checkpoint: Of a child that paused, all that it goes on from, as arrays by name. Default:
            nothing needs to be kept.
        weights: What children of this child begin with, as arrays by name, from an evaluator that
            `Evaluator.inherits`. Default: it can be no parent.

    Raises:
        ValueError: If a value has the wrong type, or a number is not finite.
        TypeError: If a reward is not a number, or the metrics are not JSON.
    """

    reward: float
    curve: tuple[float, ...] = ()
    status: Literal["finished", "stopped", "failed", "lost"] = "finished"
    message: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)
    weights: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Numbers of NumPy and of backends are none of JSON and of the journal.
        object.__setattr__(self, "reward", float(self.reward))
        object.__setattr__(self, "curve", tuple(map(float, self.curve)))
        object.__setattr__(self, "metrics", plain_json("metrics", self.metrics))
        if not math.isfinite(self.reward):
            raise ValueError(f"Expected a finite reward. Received: {self.reward}")
        check_fields(self)

    @classmethod
    def failed(cls, message: str, **fields: Any) -> Result:
        """The result of a child that failed for the reason given."""
        return cls(0.0, status="failed", message=message, **fields)


class Evaluator(Generic[A]):
    """Base class of evaluators of architectures of the type ``A``.

    Subclasses define `evaluate`. An executor pickles the evaluator once, sends it to each of its
    workers and calls `setup` there; NumPy arrays that it holds are then memory that the workers
    share, to read only. `prepare`, `cost`, `measure`, `before_ask`, `state` and `restore` are called
    in the process of the search.
    """

    #: Whether it can only run in the process of the search, as its state is there.
    serial_only: ClassVar[bool] = False
    #: Whether a child begins with the weights of its parent, the child that the policy names
    #: (`Proposal.parent`). One whose parent's weights are gone fails.
    inherits: ClassVar[bool] = False
    #: What its reward is, by name, for expressions of rewards and reports.
    objective: ClassVar[str] = "reward"

    #: Number of evaluations of a child if it can pause after each of them, see `Trial.pauses`. A child
    #: that goes on from a checkpoint has the result of one that never paused, the whole curve included.
    evaluations: int | None = None

    def setup(self) -> None:
        """Prepare a worker, before its first child."""

    def prepare(self, architecture: A) -> Any:
        """Return what `evaluate` needs of an architecture, picklable. Default: the architecture.

        An error that it raises ends the search.
        """
        return architecture

    def cost(self, architecture: A) -> Mapping[str, float]:
        """Return costs of a child that are known before it is evaluated, such as its parameters."""
        return {}

    def measure(self, architecture: A) -> Mapping[str, float]:
        """Return costs of a child that take a while to be measured, such as its latency.

        They are measured once for each different child that is within the limits of its other costs.

        Raises:
            ValueError: If the child cannot be measured. It has failed then, for the reason that the
                message gives. Any other error ends the search.
        """
        return {}

    def evaluate(self, trial: Trial) -> Result:
        """Evaluate a child.

        Raises:
            ValueError: If the child cannot be evaluated. It has failed then, for the reason that the
                message gives, and the search goes on. After any other error the search ends.
        """
        raise NotImplementedError

    def before_ask(self, policy: Policy) -> None:
        """Do what comes before the policy is asked for children, such as train shared weights."""

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that later evaluations depend on, as arrays."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state.

        Raises:
            ValueError: If it is not a state of this evaluator.
        """


def share_gpus() -> None:
    """Let TensorFlow take no more of a GPU than it needs: children of other workers use it, too."""
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        with suppress(RuntimeError):  # it is in use already
            tf.config.experimental.set_memory_growth(device, True)


def evaluated(evaluator: Evaluator, trial: Trial) -> Result:
    """Evaluate a child; failures of the child are results.

    Raises:
        Exception: Errors of the program.
    """
    try:
        result = evaluator.evaluate(trial)
    except ValueError as error:
        return Result.failed(" ".join(str(error).split()) or type(error).__name__)
    if not isinstance(result, Result):
        raise TypeError(
            f"Expected {type(evaluator).__name__}.evaluate to return a Result. "
            f"Received: {result!r:.100}"
        )
    return result
