"""``nasnet-zoo search``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from tyro.conf import arg

from nasnet_zoo.checking import NonNegativeInt, PositiveInt
from nasnet_zoo.search.nasnet.settings import Budget, LatencySettings, Settings
from nasnet_zoo.search.settings import ExecutorSettings

from .options import defaults_from, read_some
from .shared import Data


def _defaults(words: Sequence[str]) -> dict[str, Any]:
    return {"retrain_budget": read_some(Settings, words, "nasnet-zoo search").budget.for_retraining()}


@defaults_from(_defaults)
def search(
    *,
    data: Data,
    out: str,
    children: PositiveInt = 300,
    settings: Annotated[Settings, arg(name="")] = Settings(),
    latency: Annotated[LatencySettings, arg(name="")] = LatencySettings(),
    executor: Annotated[ExecutorSettings, arg(name="")] = ExecutorSettings(),
    retrain: NonNegativeInt = 0,
    retrain_budget: Budget,
    references: bool = False,
    export_front: bool = False,
    compare: str | None = None,
    tensorboard: bool = False,
    export: Literal["csv", "jsonl"] | None = None,
) -> None:
    """Search cells for a data set.

    Children are sampled, and each is trained from scratch and evaluated on held-out images. A search
    can be stopped at any moment; the same command continues it. OUT/best.json is the best genotype so
    far, OUT/report.html the report. `nasnet-zoo search best`, `list` and `show` print what a search has
    found.

    Args:
        out: Folder for the journal, the settings, best.json and the report.
        children: Number of children to sample in all.
        settings: Settings of the search.
        latency: How the latency of children is measured.
        executor: What trains the children.
        retrain: Number of the best children to train again after the search. The best of them becomes
            best.json.
        retrain_budget: Training of these children. Default: --budget with four times the steps.
        references: Whether to train NASNet-A's and AmoebaNet-A's cells and five random ones, too, for
            the report.
        export_front: Whether to write a verified file of each child on the Pareto front, and their
            times, to OUT/front.
        compare: Folder of a random search, to compare with in the report.
        tensorboard: Whether to write events to OUT/tensorboard.
        export: Format of a file with all that is known of every child, OUT/children.csv or .jsonl.
            Default: no file.
    """
    from nasnet_zoo.quiet import start_backend
    from nasnet_zoo.search.journal import Journal
    from nasnet_zoo.search.nasnet.search import search_cells
    from nasnet_zoo.search.results import JOURNAL, export_children

    start_backend()
    best, *_ = search_cells(
        data,
        out,
        settings,
        children,
        latency=latency,
        executor=executor,
        retrain_best=retrain,
        retrain_budget=retrain_budget,
        references=references,
        export_front=export_front,
        compare=compare,
        tensorboard=tensorboard,
    )
    print(f"Wrote {out}/best.json: {best.name}, {best.reward:.2%} of held-out images")
    if export:
        with Journal(f"{out}/{JOURNAL}") as journal:
            export_children(journal, f"{out}/children.{export}", export)
        print(f"Wrote {out}/children.{export}")
