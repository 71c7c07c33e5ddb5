"""The settings of a search for recurrent cells. Imports no backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge

from nasnet_zoo.checking import PositiveFloat, PositiveInt
from nasnet_zoo.data.text import Level
from nasnet_zoo.language.settings import LanguageModelSettings
from nasnet_zoo.search.budget import TrainingBudget, TrainingSettings

from .recurrent_space import RecurrentSpace

_MODEL = LanguageModelSettings(units=64, tied=True, embedding_dropout=0.1, dropout=0.3)


@dataclass(frozen=True, kw_only=True)
class LanguageBudget(TrainingBudget):
    """How a child, a language model, is trained.

    Args:
        model: Size and dropout of the model.
        batch_size: Number of rows of text that are read side by side.
        bptt: Number of tokens of each row in a step, through which gradients flow (truncated
            back-propagation through time). The states are carried from step to step.
        learning_rate: Initial learning rate of Adam, which falls to 0 by half a cosine.
        clip_norm: Largest global norm of the gradients.
        scale: c of the reward c / perplexity^2 of the held-out text.

    Raises:
        ValueError: If a value is out of range.
    """

    model: LanguageModelSettings = _MODEL
    batch_size: PositiveInt = 20
    bptt: PositiveInt = 35
    learning_rate: PositiveFloat = 0.01
    clip_norm: PositiveFloat = 5.0
    scale: PositiveFloat = 80.0


@dataclass(frozen=True)
class RecurrentSettings(TrainingSettings):
    """The settings of a search for recurrent cells, its policy by default that of [Z] section 4.2.

    Args:
        space: Space of the cells.
        level: What the text is divided into.
        vocabulary: Largest number of different tokens. Rarer ones count as unknown.

    Raises:
        ValueError: If a value is out of range, or two settings exclude each other.
    """

    policy: str = "nas"
    minibatch: PositiveInt = 10

    space: RecurrentSpace = field(default_factory=RecurrentSpace)
    budget: LanguageBudget = field(default_factory=LanguageBudget)
    level: Level = "words"
    vocabulary: Annotated[int, Ge(2)] = 10_000
