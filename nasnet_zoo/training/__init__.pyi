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
from .sources import open_source
from .training import train

__all__ = [
    "RECIPES",
    "AugmentationSettings",
    "EvaluationSettings",
    "ModelSettings",
    "OptimizerSettings",
    "Recipe",
    "RegularizationSettings",
    "RunSettings",
    "changed",
    "load_recipe",
    "open_source",
    "train",
]
