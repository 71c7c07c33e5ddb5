from .model import LanguageModel, perplexity
from .recipes import LANGUAGE_RECIPES, LanguageRecipe
from .settings import LanguageModelSettings
from .training import train_language_model

__all__ = [
    "LANGUAGE_RECIPES",
    "LanguageModel",
    "LanguageModelSettings",
    "LanguageRecipe",
    "perplexity",
    "train_language_model",
]
