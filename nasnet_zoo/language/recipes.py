"""Training recipes of language models as plain data. Imports no backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from nasnet_zoo.cells import NASCELL, NASCELL_MAX, RecurrentGenotype
from nasnet_zoo.checking import PositiveInt, check_fields
from nasnet_zoo.data.text import Level
from nasnet_zoo.training.recipes import OptimizerSettings, RunSettings, check_warmup

from .settings import CellKind, LanguageModelSettings

_CELLS: dict[str, CellKind] = {"nascell": NASCELL, "nascell_max": NASCELL_MAX, "lstm": "lstm"}


@dataclass(frozen=True)
class CellSettings:
    """The cell of a language model.

    Args:
        kind: One of the published cells, or an LSTM.
        genotype: Another cell, such as a search's best.json. Default: that of ``kind``.

    Raises:
        ValueError: If a value is of another type.
    """

    kind: Literal["nascell", "nascell_max", "lstm"] = "nascell"
    genotype: RecurrentGenotype | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def cell(self) -> CellKind:
        """What the layers compute."""
        return self.genotype or _CELLS[self.kind]


@dataclass(frozen=True)
class ReadingSettings:
    """How a text is read.

    Args:
        epochs: Passes over the training text.
        batch_size: Number of rows of text that are read side by side.
        bptt: Number of tokens of each row in a step, through which gradients flow (truncated
            back-propagation through time). The states are carried from step to step.
        level: What the text is divided into.
        vocabulary: Largest number of different tokens. Rarer ones count as unknown.

    Raises:
        ValueError: If a value is out of range or of another type.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    bptt: PositiveInt
    level: Level = "words"
    vocabulary: Annotated[int, Ge(2)] = 10_000

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def run(self) -> RunSettings:
        """The length of the run, for schedules and optimizers."""
        return RunSettings(self.epochs, self.batch_size)


@dataclass(frozen=True)
class LanguageRecipe:
    """How a language model is trained.

    Args:
        model: Size and dropout of the model.
        optimizer: The optimizer and its learning rate.
        reading: How the text is read.
        cell: The cell of the layers. Default: NASCell.

    Raises:
        ValueError: If the parts do not fit each other.
    """

    model: LanguageModelSettings
    optimizer: OptimizerSettings
    reading: ReadingSettings
    cell: CellSettings = CellSettings()

    def __post_init__(self) -> None:
        check_fields(self)
        check_warmup(self.optimizer, self.reading.run)


#: The recipes by name.
LANGUAGE_RECIPES: dict[str, LanguageRecipe] = {
    # [Z] section 4.2: two layers, the units that give the 20 M parameters of the medium LSTM of Zaremba
    # et al. (arXiv 1409.2329), 35 epochs. [Z] leaves the rest open: it is Zaremba's medium setting, and
    # the rates of dropout are of the size of Gal and Ghahramani's (arXiv 1512.05287).
    "ptb_medium": LanguageRecipe(
        LanguageModelSettings(
            units=537, embedding_dropout=0.2, dropout=0.5, recurrent_dropout=0.25, initial=0.05
        ),
        OptimizerSettings(
            learning_rate=1.0,
            momentum=0.0,
            schedule="exponential",
            decay_rate=1 / 1.2,
            decay_epochs=1.0,
            decay_start=5.0,
            clip_norm=5.0,
        ),
        ReadingSettings(epochs=35, batch_size=20, bptt=35),
    ),
}
