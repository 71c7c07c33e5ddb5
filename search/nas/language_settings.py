"""The settings of a search for recurrent cells. Imports no backend."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge

from nasnet_zoo.checking import PositiveFloat, PositiveInt, check_fields
from nasnet_zoo.data.text import Level
from nasnet_zoo.language.settings import LanguageModelSettings
from nasnet_zoo.search.settings import SearchSettings
from nasnet_zoo.search.stopping import SuccessiveHalving

from .recurrent_space import RecurrentSpace

_MODEL = LanguageModelSettings(units=64, tied=True, embedding_dropout=0.1, dropout=0.3)


@dataclass(frozen=True)
class LanguageBudget:
    """How a child, a language model, is trained.

    Args:
        model: Size and dropout of the model.
        steps: Number of training steps.
        batch_size: Number of rows of text that are read side by side.
        bptt: Number of tokens of each row in a step, through which gradients flow (truncated
            back-propagation through time). The states are carried from step to step.
        learning_rate: Initial learning rate of Adam, which falls to 0 by half a cosine.
        clip_norm: Largest global norm of the gradients.
        evaluations: Number of evaluations, at equal intervals.
        scale: c of the reward c / perplexity^2 of the held-out text.

    Raises:
        ValueError: If a value is out of range, or there are more evaluations than steps.
    """

    model: LanguageModelSettings = _MODEL
    steps: PositiveInt = 300
    batch_size: PositiveInt = 20
    bptt: PositiveInt = 35
    learning_rate: PositiveFloat = 0.01
    clip_norm: PositiveFloat = 5.0
    evaluations: PositiveInt = 3
    scale: PositiveFloat = 80.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.evaluations > self.steps:
            raise ValueError(
                f"Expected evaluations: at most steps={self.steps}. "
                f"Received: evaluations={self.evaluations}"
            )

    def for_retraining(self) -> LanguageBudget:
        """The budget with four times the steps."""
        return dataclasses.replace(self, steps=4 * self.steps)


@dataclass(frozen=True)
class RecurrentSettings(SearchSettings):
    """The settings of a search for recurrent cells, its policy by default that of [Z] section 4.2.

    Args:
        space: Space of the cells.
        budget: Training of a child.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        stopping = self.make_stopping()
        if isinstance(stopping, SuccessiveHalving):
            stopping.rungs(self.budget.evaluations)

    def to_dict(self) -> dict[str, Any]:
        """The settings in one level, such as ``{"seed": 0, "budget.model.units": 64}``."""
        flat = super().to_dict()
        budget = dataclasses.asdict(flat.pop("budget"))
        groups = {
            "space": dataclasses.asdict(flat.pop("space")),
            "budget.model": budget.pop("model"),
            "budget": budget,
        }
        for group, nested in groups.items():
            flat |= {f"{group}.{name}": value for name, value in nested.items()}
        return flat
