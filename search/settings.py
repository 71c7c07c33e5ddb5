"""The settings of a search in any space, and of what evaluates its children. Imports no backend."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Interval

from nasnet_zoo.checking import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Seed,
    check,
    check_fields,
)

from .registry import POLICIES

if TYPE_CHECKING:
    from .evaluator import Evaluator
    from .executors.executor import Executor
    from .objectives import Objectives
    from .policies import Policy
    from .schedulers import Scheduler
    from .space import Space
    from .stopping import QuantileStopping, SuccessiveHalving


@dataclass(frozen=True)
class SearchSettings:
    """The settings of a search. They hold for as long as it goes on.

    Args:
        policy: Policy that samples the children: "ppo", "reinforce", "nas" (REINFORCE with the
            controller of Zoph and Le, 2017), "path-level" and "eas" (those of Cai et al., 2018, for
            tree cells and for networks that grow), "random", "evolution", "predictor"; or a sampler of
            Optuna: "optuna:TPESampler", "optuna:GPSampler", "optuna:NSGAIISampler" or
            "optuna:NSGAIIISampler".
        options: Arguments of the policy or sampler, such as ``learning_rate``. Default: its own.
        reward: Expression of the reward over objectives: accuracy and costs, such as
            "accuracy * (latency / 12ms) ** -0.07". A child fails where it is below 0. Default: the
            accuracy, or what else the evaluator's reward is.
        limit: Greatest value of each cost, such as parameters=500k. A child above one fails without
            being evaluated.
        objectives: Objectives of a policy that takes several, as those of Optuna do, such as accuracy
            and latency. Default: the reward alone.
        minibatch: Number of children that the policy learns from together.
        asynchronous: Whether the policy draws a child whenever a worker is free, instead of whole
            minibatches. Workers then never wait for others, but no run repeats another exactly.
        early_stop_quantile: Quantile of `QuantileStopping`, in (0, 1): a child stops early if its
            reward at an evaluation is below this quantile of earlier children's. Default: no child
            stops early.
        halving_factor: Factor of `SuccessiveHalving`, at least 2: every child pauses after its first
            evaluation, and the best one of so many goes on to so many times as many evaluations.
            Default: no child pauses.
        halving_first: Number of evaluations after which children first pause. Default: 1.
        keep_weights: Where children inherit weights, the number of possible parents, the best ones,
            whose weights are kept. Default: all that the policy can name.
        seed: Seed of all random draws.

    Raises:
        ValueError: If a value is out of range.
    """

    policy: str = "ppo"
    options: Mapping[str, float | str] = field(default_factory=dict)
    reward: str | None = None
    limit: Mapping[str, float | str] = field(default_factory=dict)
    objectives: tuple[str, ...] | None = None
    minibatch: PositiveInt = 20
    asynchronous: bool = False
    early_stop_quantile: Annotated[float, Interval(gt=0, lt=1)] | None = None
    halving_factor: Annotated[int, Ge(2)] | None = None
    halving_first: PositiveInt | None = None
    keep_weights: PositiveInt | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.halving_factor is not None and self.early_stop_quantile is not None:
            raise ValueError(
                "Expected one of early_stop_quantile and halving_factor. Received: "
                f"early_stop_quantile={self.early_stop_quantile}, halving_factor={self.halving_factor}"
            )
        if self.halving_factor is None and self.halving_first is not None:
            raise ValueError(
                "Expected halving_factor with halving_first. "
                f"Received: halving_first={self.halving_first} alone"
            )
        for name, value in self.options.items():
            check(name, value, int | float | str)
        if self.policy not in POLICIES:
            names = ", ".join(POLICIES)
            raise ValueError(f"Expected policy: one of {names}. Received: policy={self.policy}")
        self.make_objectives()

    def make_policy(self, space: Space) -> Policy:
        """A new policy for a space.

        Raises:
            ValueError: If the policy has no such option, an option is out of range, it does not take
                several objectives, or the space has no steps, which the policy needs.
            ImportError: If what the policy needs is not installed.
        """
        make, parameters = POLICIES[self.policy], _parameters(self.policy)
        several = {"objectives": len(self.objectives)} if self.objectives else {}
        if not several.keys() <= parameters:
            names = ", ".join(name for name in POLICIES if several.keys() <= _parameters(name))
            raise ValueError(
                f"Expected a policy of several objectives: {names}. "
                f"Received: policy={self.policy}, objectives={', '.join(self.objectives or ())}"
            )
        if "options" in parameters:  # and checks what is in them
            return make(space, seed=self.seed, options=self.options, **several)
        known = parameters - {"space", "seed", "objectives"}
        if unknown := sorted(set(self.options) - known):
            raise ValueError(
                f"Expected options of the policy {self.policy}: {', '.join(sorted(known)) or 'none'}. "
                f"Received: {', '.join(unknown)}"
            )
        return make(space, seed=self.seed, **several, **self.options)

    def make_objectives(self) -> Objectives:
        """What the search looks for."""
        from .objectives import Objectives

        return Objectives(self.reward, self.limit, self.objectives or ())

    def make_stopping(self) -> QuantileStopping | SuccessiveHalving | None:
        """The rule of early stopping, if there is one."""
        from .stopping import QuantileStopping, SuccessiveHalving

        if self.early_stop_quantile is not None:
            return QuantileStopping(self.early_stop_quantile)
        if self.halving_factor is not None:
            return SuccessiveHalving(self.halving_factor, self.halving_first or 1)
        return None

    def make_scheduler(self) -> Scheduler:
        """The scheduler of the search."""
        from .schedulers import Asynchronous, Synchronous

        return (Asynchronous if self.asynchronous else Synchronous)(self.minibatch)

    def to_dict(self) -> dict[str, Any]:
        """The settings in one level, such as ``{"seed": 0, "options.clip": 0.1}``."""
        return _flat("", self)


def _flat(name: str, value: Any) -> dict[str, Any]:
    """The values in dataclasses and mappings, each named by its path."""
    if is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if not isinstance(value, Mapping):
        return {name: value}
    found: dict[str, Any] = {}
    for key, part in value.items():
        found |= _flat(f"{name}.{key}" if name else key, part)
    return found


def _parameters(policy: str) -> set[str]:
    return set(inspect.signature(POLICIES[policy]).parameters)


# The options of each executor.
_TAKES = {
    "processes": ("processes", "child_timeout", "retries"),
    "ray": ("ray_address", "cpus_per_child", "gpus_per_child", "child_timeout", "retries"),
    "serial": (),
}


@dataclass(frozen=True)
class ExecutorSettings:
    """What evaluates the children of a search. A search may go on with other ones.

    Args:
        executor: "processes" on this machine; "ray", tasks of Ray on this machine or a cluster; or
            "serial", one child after the other in the process of the search. Default: processes, or
            serial for an evaluator whose state is in that process.
        processes: Number of worker processes. Default: one for each core.
        ray_address: Address of a cluster of Ray: "auto" on one of its machines, else "ray://host:port".
            Default: Ray is started on this machine for the search.
        cpus_per_child: Number of CPUs that Ray reserves for a child.
        gpus_per_child: Number of GPUs that Ray reserves for a child, or the share of one.
        child_timeout: Seconds after which a child fails. Default: no limit.
        retries: How often a child is tried again whose worker was lost.

    Raises:
        ValueError: If a value is out of range, or an option does not fit the executor.
    """

    executor: Literal["processes", "ray", "serial"] | None = None
    processes: PositiveInt | None = None
    ray_address: str | None = None
    cpus_per_child: PositiveFloat = 1.0
    gpus_per_child: NonNegativeFloat = 0.0
    child_timeout: PositiveFloat | None = None
    retries: NonNegativeInt = 2

    def __post_init__(self) -> None:
        check_fields(self)
        name = self.executor or "processes"
        takes = _TAKES[name]
        for f in fields(self)[1:]:
            if getattr(self, f.name) != f.default and f.name not in takes:
                raise ValueError(
                    f"Expected options of the executor {name}: {', '.join(takes) or 'none'}. "
                    f"Received: {f.name}={getattr(self, f.name)}"
                )

    def make(self, evaluator: Evaluator) -> Executor:
        """The executor, with an evaluator.

        Raises:
            ValueError: If the executor cannot run the evaluator.
            ImportError: If Ray is not installed.
        """
        from .executors.executor import Serial
        from .executors.processes import Processes
        from .executors.ray import Ray

        if self.executor == "serial" or (self.executor is None and evaluator.serial_only):
            return Serial(evaluator)
        if evaluator.serial_only:
            raise ValueError(
                f"Expected executor=serial for {type(evaluator).__name__}, whose state is in the "
                f"process of the search. Received: executor={self.executor}"
            )
        if self.executor == "ray":
            return Ray(
                evaluator,
                self.ray_address,
                self.cpus_per_child,
                self.gpus_per_child,
                self.child_timeout,
            )
        return Processes(evaluator, self.processes, self.child_timeout)
