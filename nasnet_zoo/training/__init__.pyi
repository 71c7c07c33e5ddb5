from .condensing import Condensing
from .recipes import (
    RECIPES,
    AugmentationSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    Recipe,
    RegularizationSettings,
    RunSettings,
    changed,
    load_recipe,
)
from .training import train

__all__ = [
    "RECIPES",
    "AugmentationSettings",
    "Condensing",
    "EvaluationSettings",
    "ModelSettings",
    "OptimizerSettings",
    "Recipe",
    "RegularizationSettings",
    "RunSettings",
    "changed",
    "load_recipe",
    "train",
]
