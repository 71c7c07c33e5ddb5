from .model import LanguageModel, perplexity
from .settings import LanguageModelSettings

__all__ = ["LanguageModel", "LanguageModelSettings", "perplexity"]
