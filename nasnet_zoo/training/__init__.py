"""Training: recipes as data, and the function that runs any of them."""

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
from .train import train

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
