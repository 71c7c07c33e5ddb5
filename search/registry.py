"""The policies by name. Imports no backend."""

from __future__ import annotations

import functools
import importlib
from collections import UserDict
from typing import Any, Literal, get_args

#: The samplers of Optuna that learn which categories are good.
Sampler = Literal["TPESampler", "GPSampler", "NSGAIISampler", "NSGAIIISampler"]
_OPTUNA = "optuna:"


class _Policies(UserDict[str, Any]):
    """Constructors of policies by name; those of this package are imported when they are looked up."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if not isinstance(found, str):
            return found
        module, _, kind = found.rpartition(".")
        make = getattr(importlib.import_module(f".{module}", __package__), kind)
        if name.startswith(_OPTUNA):
            return functools.partial(make, sampler=name.removeprefix(_OPTUNA))
        return make


#: The policies by the name that settings and the command line give them: constructors, which take a
#: space, ``seed`` and options by name. One of several objectives takes their number as ``objectives``.
#: Policies of your own are added under a name of their own.
POLICIES = _Policies(
    {
        "ppo": "policies.PPO",
        "reinforce": "policies.Reinforce",
        "nas": "policies.nas_policy",
        "path-level": "path_level.policy.TreeReinforce",
        "eas": "eas.policy.EASReinforce",
        "random": "policies.RandomSearch",
        "evolution": "policies.RegularizedEvolution",
        "predictor": "predictor.Predictor",
        **{_OPTUNA + sampler: "optuna_policy.OptunaPolicy" for sampler in get_args(Sampler)},
    }
)
