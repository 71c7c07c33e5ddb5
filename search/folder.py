"""A search in a folder: what ``nasnet-zoo search`` does."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from nasnet_zoo.architecture import architecture_cost
from nasnet_zoo.cells import Cost, Genotype
from nasnet_zoo.checking import NonNegativeInt, PositiveInt, checked
from nasnet_zoo.data import ImageData, open_dataset
from nasnet_zoo.data.arrays import split
from nasnet_zoo.data.resizing import normalize
from nasnet_zoo.files import check_ours, locked, read_json, write_text

from .child import Images
from .journal import Journal, Record, check_settings
from .policies import Policy
from .progress import Events, LiveProgress
from .report import write_report
from .results import JOURNAL, RETRAINED, ranked_retrained, read_retrained, rewarded
from .search import Callback, Here, Workers, ranked, retrain, run_search
from .settings import Budget, Settings
from .sharing import SharedWeights, Sharing
from .space import SearchSpace
from .stopping import QuantileStopping
from .workers import LocalWorkers, end_if_unguarded

_SETTINGS = "settings.json"
# What a search that was killed before its journal was whole may leave.
_UNBEGUN = {".lock", *(JOURNAL + suffix for suffix in ("", "-journal", "-wal", "-shm"))}


@checked
def search_folder(
    data: ImageData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: Settings = Settings(),
    children: PositiveInt = 300,
    *,
    retrain_best: NonNegativeInt = 0,
    retrain_budget: Budget | None = None,
    compare: str | os.PathLike[str] | None = None,
    processes: PositiveInt | None = None,
    tensorboard: bool = False,
    console: Console | None = None,
) -> list[Record]:
    """Search cells, or continue an earlier search in the same folder.

    Scripts call it below ``if __name__ == "__main__":``, since worker processes import the script.

    The folder contains ``settings.json``, ``journal.sqlite`` (all children and the policy's state),
    ``best.json`` (the best genotype so far), ``report.html``, and ``retrained.sqlite`` if the best
    children are retrained.

    Args:
        data: Data set that fits into memory, see `nasnet_zoo.data.open_dataset`.
        out: Folder of the search. Created if it does not exist.
        settings: Settings of the search.
        children: Number of children to sample in all. A greater number continues a finished search.
        retrain_best: Number of the best children to retrain after the search ([N]: 250).
        retrain_budget: Budget of retraining. Default: the budget of the search with four times the
            steps.
        compare: Folder of a random search, to compare with in the report.
        processes: Number of worker processes. Default: one for each core.
        tensorboard: Whether to write events for TensorBoard to ``out/tensorboard``.
        console: Console to show progress on. Default: standard output.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError: If an argument is out of range, ``out`` contains another search, other files or a
            damaged journal, another search is running there, or no child can be trained.
        OSError: If ``out`` cannot be written.
        RuntimeError: If the calling script has no main guard, or the training of a child fails with a
            programming error.
        KeyboardInterrupt: After Ctrl-C. Finished children are kept, and the message says how to
            continue.
    """
    end_if_unguarded()
    out = Path(out)
    check_ours(out, JOURNAL, "a search")
    policy = settings.make_policy()
    random = None if compare is None else _compared(Path(compare), settings.space)
    data = open_dataset(data, settings.image_size, settings.images).in_memory()
    images = search_images(data, settings.held_out)
    seen = {
        "data": data.name,
        "train_images": len(images.train_labels),
        "held_out_images": len(images.held_out_labels),
    }
    if settings.shared_steps is not None:
        shape = images.train_images.shape[1:]
        shared = SharedWeights(shape, images.classes, settings.budget, settings.seed)
        policy = Sharing(
            policy, settings.space, shared, images, settings.shared_steps, seed=settings.seed
        )
    run = _Run(images, seen, settings, out, processes, console or Console())
    with locked(out):
        best = run.search(policy, children, random, tensorboard)
        if retrain_best:
            longer = retrain_budget or settings.budget.for_retraining()
            return run.retrain(best[:retrain_best], longer, random)
        return ranked_retrained(best, read_retrained(out)) or best


def _compared(folder: Path, space: SearchSpace) -> Path:
    """The journal of a search of the same space, with a trained child."""
    with closing(Journal(folder / JOURNAL)) as journal:
        fields = json.loads(json.dumps(dataclasses.asdict(space)))
        begun = {name: journal.settings.get(f"space.{name}") for name in fields}
        check_settings(journal.path, begun, fields)
        rewarded(journal)
    return folder / JOURNAL


def search_images(data: ImageData, held_out: float) -> Images:
    """Split the training images of a data set for a search; its test images stay unseen.

    Args:
        data: Data set in memory.
        held_out: Share of every class that children are evaluated on.

    Raises:
        ValueError: No class has enough images.
    """
    kept, held = split(data.train_labels, held_out)
    if not len(held) or not len(kept):
        raise ValueError(
            f"{data.name}: expected enough images of a class to hold out {held_out:.0%} of them. "
            f"Received: {np.bincount(data.train_labels).tolist()}"
        )
    images = normalize(data.train_images).numpy()
    labels = data.train_labels.astype(np.int32)
    return Images(images[kept], labels[kept], images[held], labels[held], len(data.class_names))


@dataclass(frozen=True)
class _Run:
    """The steps of `search_folder`."""

    images: Images
    seen: Mapping[str, Any]
    settings: Settings
    out: Path
    processes: int | None
    console: Console

    def search(
        self, policy: Policy, children: int, random: Path | None, tensorboard: bool
    ) -> list[Record]:
        settings, noted = self.settings, {**self.seen, **self.settings.to_dict()}
        quantile = settings.early_stop_quantile
        stopping = None if quantile is None else QuantileStopping(quantile)
        begun = any(path.name not in _UNBEGUN for path in self.out.iterdir())
        if begun:
            self._check_settings()
        retrained = read_retrained(self.out)
        with (
            self._workers(policy, begun) as workers,
            closing(Journal(self.out / JOURNAL, noted)) as journal,
            _stoppable(journal, children),
            LiveProgress(self.console, journal, children) as progress,
        ):
            write_text(self.out / _SETTINGS, json.dumps(noted, indent=2) + "\n")
            callbacks: list[Callback] = [progress, _Best(self.out, journal, retrained)]
            if tensorboard:
                callbacks.append(Events(self.out / "tensorboard", journal))
            records = run_search(
                policy,
                settings.space,
                workers,
                journal,
                children,
                settings.minibatch,
                settings.seed,
                self._cost(settings.budget),
                stopping,
                callbacks,
                remember=settings.shared_steps is None,
            )
            best, again = ranked(records), ranked_retrained(records, retrained)
            self._save(again or best, records)
            self._report(journal, random, again)
        return best

    def _check_settings(self) -> None:
        """Check that the journal is whole, and that nobody has changed the file of the settings."""
        path = self.out / _SETTINGS
        with closing(Journal(self.out / JOURNAL)) as journal:
            if path.exists() and (found := read_json(path, "settings of a search")) != journal.settings:
                found = found if isinstance(found, dict) else {}
                names = {**journal.settings, **found}
                name = next(n for n in names if found.get(n) != journal.settings.get(n))
                raise ValueError(
                    f"{path}: expected {name}={journal.settings.get(name)!r}, as in {JOURNAL}. "
                    f"Received: {name}={found.get(name)!r}"
                )

    @contextmanager
    def _workers(self, policy: Policy, begun: bool) -> Iterator[Workers]:
        """Workers that evaluate the children of the search."""
        if isinstance(policy, Sharing):
            yield Here(policy.judge)
            return
        with LocalWorkers(self.images, self.settings.budget, self.processes) as workers:
            if not begun:
                # A script without a main guard ends here, before anything is written.
                workers.start()
            yield workers

    def retrain(self, best: Sequence[Record], budget: Budget, random: Path | None) -> list[Record]:
        noted = {**self.seen, "image_size": self.settings.image_size, **dataclasses.asdict(budget)}
        with (
            closing(Journal(self.out / RETRAINED, noted)) as journal,
            _stoppable(journal, len(best)),
            LocalWorkers(self.images, budget, self.processes) as workers,
            LiveProgress(self.console, journal, len(best), "retrain") as progress,
            closing(Journal(self.out / JOURNAL)) as search,
        ):
            cost, space = self._cost(budget), self.settings.space
            again = retrain(best, space, workers, journal, cost, [progress])
            self._save(again, best)
            self._report(search, random, again)
        return again

    def _report(self, journal: Journal, random: Path | None, again: Sequence[Record] = ()) -> None:
        with nullcontext() if random is None else closing(Journal(random)) as other:
            write_report(journal, self.out / "report.html", other, again)

    def _cost(self, budget: Budget) -> Callable[[Genotype], Cost]:
        _, size, _, channels = self.images.train_images.shape

        def cost(genotype: Genotype) -> Cost:
            return architecture_cost(budget.architecture(genotype, size, channels), self.images.classes)

        return cost

    def _save(self, best: Sequence[Record], children: Sequence[Record]) -> None:
        """Write the first of the best children to a file."""
        if not best:
            errors = {(record.result or {}).get("error", "diverged") for record in children}
            raise ValueError(f"Expected a child that can be trained. Received: {', '.join(errors)}")
        _save(best[0], self.out)


class _Best(Callback):
    """Writes the best child so far after every minibatch."""

    def __init__(self, out: Path, journal: Journal, retrained: Sequence[Record]) -> None:
        self._out, self._journal, self._retrained = out, journal, retrained

    def learned(self, round: int, metrics: Mapping[str, float]) -> None:  # noqa: A002
        children = self._journal.children()
        best = ranked_retrained(children, self._retrained) or ranked(children)
        for record in best[:1]:
            _save(record, self._out)


def _save(record: Record, out: Path) -> None:
    Genotype.from_dict(record.genotype).save(out / "best.json")


@contextmanager
def _stoppable(journal: Journal, children: int) -> Iterator[None]:
    """Say after Ctrl-C how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        done = sum(record.reward is not None for record in journal.children())
        raise KeyboardInterrupt(
            f"stopped with {done} of {children} children done; the same command goes on from there"
        ) from None
