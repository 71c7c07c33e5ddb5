"""The policies by name. Imports no backend."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from .policies import Policy

#: The samplers of Optuna that learn which categories are good.
Sampler = Literal["TPESampler", "GPSampler", "NSGAIISampler", "NSGAIIISampler"]
_OPTUNA = "optuna:"
_CLASSES = {
    "ppo": "policies.PPO",
    "reinforce": "policies.Reinforce",
    "random": "policies.RandomSearch",
    "evolution": "policies.RegularizedEvolution",
    "predictor": "predictor.Predictor",
    **{_OPTUNA + sampler: "optuna_policy.OptunaPolicy" for sampler in get_args(Sampler)},
}


class _Policies(Mapping[str, "Callable[..., Policy]"]):
    """The constructors of policies by name, each imported when it is looked up."""

    def __getitem__(self, name: str) -> Callable[..., Policy]:
        module, _, kind = _CLASSES[name].rpartition(".")
        found = getattr(importlib.import_module(f".{module}", __package__), kind)
        if name.startswith(_OPTUNA):
            return functools.partial(found, sampler=name.removeprefix(_OPTUNA))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


#: The policies by the name that settings and the command line give them.
POLICIES: Mapping[str, Callable[..., Policy]] = _Policies()
#: Names of those that take several objectives.
OF_SEVERAL = tuple(name for name in POLICIES if name.startswith(_OPTUNA))
