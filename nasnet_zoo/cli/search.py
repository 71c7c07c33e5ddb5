"""``nasnet-zoo search``.

To add a space, enter it in `SPACES`, by its name in `SpaceName`: the settings of its searches, its
other options, and the function that searches it. The settings are a subclass of `TrainingSettings`; the
function takes the arguments that `search` gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple

from tyro.conf import arg

from nasnet_zoo.checking import NonNegativeInt, PositiveInt
from nasnet_zoo.search.eas.settings import EASSettings
from nasnet_zoo.search.images.settings import LatencySettings
from nasnet_zoo.search.nas.language_settings import RecurrentSettings
from nasnet_zoo.search.nas.layerwise_settings import LayerwiseSettings
from nasnet_zoo.search.nasnet.settings import Settings
from nasnet_zoo.search.path_level.settings import PathLevelSettings
from nasnet_zoo.search.settings import ExecutorSettings, SearchSettings

from .options import defaults_from, read_some
from .shared import Data, Json


@dataclass(frozen=True)
class ImageOptions:
    """Options of searches for networks that classify images.

    Args:
        latency: How the latency of children is measured.
        references: Whether to train published networks and five random ones, too, for the report.
        export_front: Whether to write a verified file of each child on the Pareto front, and their
            times, to OUT/front.
    """

    latency: Annotated[LatencySettings, arg(name="")] = LatencySettings()
    references: bool = False
    export_front: bool = False


@dataclass(frozen=True)
class TextOptions:
    """Options of searches for recurrent cells.

    Args:
        references: Whether to train the two published cells and five random ones, too, for the report.
    """

    references: bool = False


@dataclass(frozen=True)
class GrowthOptions:
    """Options of searches for networks that grow from one.

    Args:
        latency: How the latency of children is measured.
    """

    latency: Annotated[LatencySettings, arg(name="")] = LatencySettings()


class SearchedSpace(NamedTuple):
    """A space that the command searches.

    Args:
        settings: Class of the settings of its searches.
        options: Class of its other options, which are arguments of the function.
        function: Module and name of the function that searches it.
    """

    settings: type[Any]
    options: type[Any]
    function: str


SpaceName = Literal["nasnet", "nas-conv", "nas-rnn", "eas", "path-level"]
#: The spaces by name.
SPACES: dict[SpaceName, SearchedSpace] = {
    "nasnet": SearchedSpace(Settings, ImageOptions, "nasnet_zoo.search.nasnet.search.search_cells"),
    "nas-conv": SearchedSpace(
        LayerwiseSettings, ImageOptions, "nasnet_zoo.search.nas.layerwise_search.search_layers"
    ),
    "nas-rnn": SearchedSpace(
        RecurrentSettings,
        TextOptions,
        "nasnet_zoo.search.nas.language_search.search_recurrent_cells",
    ),
    "eas": SearchedSpace(EASSettings, GrowthOptions, "nasnet_zoo.search.images.grown.search_grown"),
    "path-level": SearchedSpace(
        PathLevelSettings, GrowthOptions, "nasnet_zoo.search.images.grown.search_grown"
    ),
}


@dataclass(frozen=True)
class _Chosen:
    """The space that a command line names."""

    space: SpaceName = "nasnet"


def _defaults(words: Sequence[str]) -> dict[str, Any]:
    """The settings and options of the space that the command line names."""
    prog = "nasnet-zoo search"
    space = SPACES[read_some(_Chosen, words, prog).space]
    budget = read_some(space.settings, words, prog).budget.for_retraining()
    return {"settings": space.settings(), "retrain_budget": budget, "space_options": space.options()}


@defaults_from(_defaults)
def search(
    *,
    data: Data,
    out: str,
    children: PositiveInt = 300,
    space: SpaceName = "nasnet",
    settings: Annotated[SearchSettings, arg(name="")],
    space_options: Annotated[Any, arg(name="")],
    executor: Annotated[ExecutorSettings, arg(name="")] = ExecutorSettings(),
    retrain: NonNegativeInt = 0,
    retrain_budget: Any,
    compare: str | None = None,
    tensorboard: bool = False,
    export: Literal["csv", "jsonl"] | None = None,
    json: Json = None,
) -> dict[str, Any]:
    """Search a space for a data set.

    Children are sampled, and each is trained from scratch and evaluated on held-out data. A search
    can be stopped at any moment; the same command continues it. OUT/best.json is the best genotype so
    far, OUT/report.html the report. `nasnet-zoo search best`, `list` and `show` print what a search has
    found.

    Args:
        out: Folder for the journal, the settings, best.json and the report.
        children: Number of children to sample in all.
        space: "nasnet", cells; "nas-conv", layer-wise networks (Zoph and Le, 2017); "nas-rnn",
            recurrent cells, on a text; "eas", networks that grow from one, or "path-level", tree cells
            that grow from its convolutions (Cai et al., 2018). The other options are those of the
            space that is chosen.
        settings: Settings of the search.
        space_options: Other options of the space.
        executor: What trains the children.
        retrain: Number of the best children to train again after the search. The best of them becomes
            best.json.
        retrain_budget: Training of these children. Default: --budget with four times the steps.
        compare: Folder of a random search, to compare with in the report.
        tensorboard: Whether to write events to OUT/tensorboard.
        export: Format of a file with all that is known of every child, OUT/children.csv or .jsonl.
            Default: no file.

    Example:
        nasnet-zoo search --data digits --out runs/search --children 40 --budget.steps 60
    """
    from nasnet_zoo.quiet import start_backend
    from nasnet_zoo.search.journal import Journal
    from nasnet_zoo.search.results import JOURNAL, export_children, read_results

    start_backend()
    module, _, function = SPACES[space].function.rpartition(".")
    best, *_ = getattr(import_module(module), function)(
        data,
        out,
        settings,
        children,
        executor=executor,
        retrain_best=retrain,
        retrain_budget=retrain_budget,
        compare=compare,
        tensorboard=tensorboard,
        **vars(space_options),
    )
    print(f"Wrote {out}/best.json: {best.name}, reward {best.reward:.4f}")
    if export:
        with Journal(f"{out}/{JOURNAL}") as journal:
            export_children(journal, f"{out}/children.{export}", export)
        print(f"Wrote {out}/children.{export}")
    found = read_results(out)
    child = found.child(best.number)
    return {"out": out, "children": len(found.children), "best": found.row(child)}
