"""Changes of every field that recipes of classifiers and detectors share, each with an effect.

A field that another one enables comes with it.
"""

from nasnet_zoo.cells import NASNET_C

STEPPED = {"schedule": "exponential", "decay_epochs": 0.5}
SHARED = {
    "model.preset": {"model": {"preset": "nasnet_large"}},
    "model.genotype": {"model": {"genotype": NASNET_C}},
    "model.cells": {"model": {"cells": 2}},
    "model.filters": {"model": {"filters": 8}},
    "model.stem_filters": {"model": {"stem_filters": 8}},
    "model.bn_momentum": {"model": {"bn_momentum": 0.5}},
    "model.l2": {"model": {"l2": 0.1}},
    "optimizer.learning_rate": {"optimizer": {"learning_rate": 0.3}},
    "optimizer.kind": {"optimizer": {"kind": "rmsprop"}},
    "optimizer.momentum": {"optimizer": {"momentum": 0.1}},
    "optimizer.nesterov": {"optimizer": {"nesterov": True}},
    "optimizer.rho": {"optimizer": {"kind": "rmsprop", "rho": 0.1}},
    "optimizer.epsilon": {"optimizer": {"kind": "rmsprop", "epsilon": 0.1}},
    "optimizer.beta_2": {"optimizer": {"kind": "adamw", "beta_2": 0.5}},
    "optimizer.weight_decay": {"optimizer": {"kind": "adamw", "weight_decay": 0.1}},
    "optimizer.schedule": {"optimizer": {"schedule": "exponential"}},
    "optimizer.decay_rate": {"optimizer": {**STEPPED, "decay_rate": 0.1}},
    "optimizer.decay_epochs": {"optimizer": STEPPED},
    "optimizer.decay_start": {"optimizer": {**STEPPED, "decay_start": 0.5}},
    "optimizer.warmup_epochs": {"optimizer": {"warmup_epochs": 1.0}},
    "optimizer.clip_norm": {"optimizer": {"clip_norm": 1.0}},
    "optimizer.ema": {"optimizer": {"ema": 0.5}},
    "run.precision": {"run": {"precision": "mixed_bfloat16"}},
    "run.gradient_checkpointing": {"run": {"gradient_checkpointing": True}},
}


def without(changes, field):
    """The changes of a recipe but for one field, such as ``optimizer.rho``."""
    part, name = field.split(".")
    return {part: {other: value for other, value in changes[part].items() if other != name}}
