"""A search for recurrent cells on a text, in a folder: ``nasnet-zoo search --space nas-rnn``."""

from __future__ import annotations

import dataclasses
import os

from rich.console import Console

from nasnet_zoo.cells import NASCELL, NASCELL_MAX
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, checked
from nasnet_zoo.data.text import TextData, open_text
from nasnet_zoo.search.folder import Retraining, check_start, search_folder
from nasnet_zoo.search.journal import Record
from nasnet_zoo.search.settings import ExecutorSettings

from .language_child import LanguageChild
from .language_settings import LanguageBudget, RecurrentSettings


@checked
def search_recurrent_cells(
    data: TextData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: RecurrentSettings = RecurrentSettings(),
    children: PositiveInt = 300,
    *,
    executor: ExecutorSettings = ExecutorSettings(),
    retrain_best: NonNegativeInt = 0,
    retrain_budget: LanguageBudget | None = None,
    references: bool = False,
    compare: str | os.PathLike[str] | None = None,
    tensorboard: bool = False,
    console: Console | None = None,
) -> list[Record]:
    """Search recurrent cells on a text, or continue an earlier search in the same folder.

    It is `nasnet_zoo.search.folder.search_folder` with `RecurrentSpace` and `LanguageChild`.

    Args:
        data: Text, see `nasnet_zoo.data.text.open_text`.
        out: Folder of the search. Created if it does not exist.
        settings: Settings of the search.
        children: Number of children to sample in all. A greater number continues a finished search.
        executor: What trains the children.
        retrain_best: Number of the best children to retrain after the search.
        retrain_budget: Budget of retraining. Default: the budget of the search with four times the
            steps.
        references: Whether to train the two published cells and five random ones as the children are,
            for the report.
        compare: Folder of a random search, to compare with in the report.
        tensorboard: Whether to write events for TensorBoard to ``out/tensorboard``.
        console: Console to show progress on. Default: standard output.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError: See `search_folder` and `open_text`; or if the text is shorter than a batch.
        OSError: If ``out`` cannot be written, or the text cannot be read.
        RuntimeError: See `search_folder`.
        KeyboardInterrupt: See `search_folder`.
    """
    check_start(out, settings.space, settings)
    text = open_text(data, settings.level, settings.vocabulary)
    seen = {"data": text.name, "train_tokens": len(text.train), "held_out_tokens": len(text.valid)}
    longer = retrain_budget or settings.budget.for_retraining()
    groups = None
    if references:
        groups = {
            "NASCell": [NASCELL],
            "NASCell with max": [NASCELL_MAX],
            "random cells": settings.random_references(),
        }
    return search_folder(
        settings.space,
        LanguageChild(text, settings.budget),
        out,
        settings,
        children,
        executor=executor,
        about=seen,
        retraining=Retraining(
            retrain_best, LanguageChild(text, longer), {**seen, **dataclasses.asdict(longer)}
        ),
        references=groups,
        compare=compare,
        tensorboard=tensorboard,
        console=console,
    )
