"""A search in a folder: journal, settings, best child and report, from which it goes on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from nasnet_zoo.checking import PositiveInt, checked
from nasnet_zoo.files import check_ours, locked, plain_json, read_json, write_text

from .evaluator import Evaluator
from .executors.executor import Executor
from .executors.processes import end_if_unguarded
from .front import front, front_costs
from .journal import Journal, Outline, Record, check_settings
from .progress import Events, LiveProgress
from .report import write_report
from .results import (
    FRONT,
    JOURNAL,
    REFERENCES,
    RETRAINED,
    exported_files,
    ranked_retrained,
    read_children,
    read_retrained,
    rewarded,
)
from .search import Callback, check_objectives, evaluate_all, ranked, run_search
from .settings import ExecutorSettings, SearchSettings
from .space import Space
from .stopping import SuccessiveHalving

_SETTINGS = "settings.json"
# What a search that was killed before its journal was whole may leave.
_UNBEGUN = {".lock", *(JOURNAL + suffix for suffix in ("", "-journal", "-wal", "-shm"))}


@dataclass(frozen=True)
class Retraining:
    """Longer evaluation of the best children after a search ([N] section 4: 250 of them).

    Args:
        children: Number of children.
        evaluator: Evaluator with a longer training.
        about: What the evaluator does, as JSON. A retraining goes on only with the same.
    """

    children: int
    evaluator: Evaluator
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Exporting:
    """Export of the children on the Pareto front (`nasnet_zoo.search.front.front`) after a search.

    Args:
        evaluator: Evaluator that writes a child to a file, whose path in the folder of the search is
            its metric "file". It runs on this machine, whatever evaluates the children.
        about: What the evaluator does, as JSON. What is exported already stays only with the same.
    """

    evaluator: Evaluator
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def check_start(out: str | os.PathLike[str], space: Space, settings: SearchSettings) -> None:
    """Check what is known of a search before its data are read.

    Raises:
        ValueError: If ``out`` contains other files, or the policy does not take the space or an option.
        SystemExit: See `end_if_unguarded`.
    """
    end_if_unguarded()
    check_ours(out, JOURNAL, "a search")
    settings.make_policy(space)


@checked
def search_folder(
    space: Space,
    evaluator: Evaluator,
    out: str | os.PathLike[str],
    settings: SearchSettings = SearchSettings(),
    children: PositiveInt = 300,
    *,
    executor: ExecutorSettings = ExecutorSettings(),
    about: Mapping[str, Any] | None = None,
    retraining: Retraining | None = None,
    references: Mapping[str, Sequence[Any]] | None = None,
    exporting: Exporting | None = None,
    compare: str | os.PathLike[str] | None = None,
    tensorboard: bool = False,
    console: Console | None = None,
) -> list[Record]:
    """Search a space, or continue an earlier search in the same folder.

    Scripts call it below ``if __name__ == "__main__":``, since worker processes import the script.

    The folder contains ``settings.json``, ``journal.sqlite`` (all children and the policy's state),
    ``best.json`` (the best architecture so far) and ``report.html``; ``retrained.sqlite``,
    ``references.sqlite`` and ``front.sqlite``, the journals of what is evaluated after the search;
    ``checkpoints`` if children pause, which may be deleted: a child whose checkpoint is missing is
    trained from the start; and ``weights`` if children inherit them from their parents.

    Args:
        space: Search space.
        evaluator: Evaluator of the children.
        out: Folder of the search. Created if it does not exist.
        settings: Settings of the search.
        children: Number of children to sample in all. A greater number continues a finished search.
        executor: What evaluates the children.
        about: What else the search depends on besides the space and the settings, as JSON in one level,
            such as the name of the data. A search goes on only with the same.
        retraining: Retraining of the best children after the search. Default: none.
        references: Other architectures, by the names of their groups, which are evaluated after the
            search as the children are, for the report. They need not be of the space. Default: none.
        exporting: Export of the children on the Pareto front. Default: none.
        compare: Folder of a random search of the same space, to compare with in the report.
        tensorboard: Whether to write events for TensorBoard to ``out/tensorboard``.
        console: Console to show progress on. Default: standard output.

    Returns:
        The different children, or the retrained ones if there are any, best first.

    Raises:
        ValueError: If an argument is out of range, ``out`` contains another search, other files or a
            damaged journal, another search is running there, the executor cannot run the evaluator, or
            no child can be evaluated.
        OSError: If ``out`` cannot be written.
        RuntimeError: If the calling script has no main guard, or the evaluation of a child fails with a
            programming error.
        KeyboardInterrupt: After Ctrl-C. Finished children are kept, and the message says how to
            continue.
    """
    end_if_unguarded()
    out = Path(out)
    check_ours(out, JOURNAL, "a search")
    noted = {
        **(about or {}),
        **{f"space.{name}": value for name, value in space.about().items()},
        **settings.to_dict(),
    }
    random = None if compare is None else _compared(Path(compare), noted)
    stopping = settings.make_stopping()
    if isinstance(stopping, SuccessiveHalving):
        stopping.rungs(evaluator.evaluations)
    run = _Run(
        space, evaluator, settings, noted, executor, out, console or Console(), random, references or {}
    )
    with locked(out):
        best = run.search(children, tensorboard)
        if retraining and retraining.children:
            best = run.retrain(best[: retraining.children], retraining)
        else:
            best = ranked_retrained(best, read_retrained(out)) or best
        if references:
            run.evaluate_references()
        if exporting:
            run.export(exporting)
        return best


def _compared(folder: Path, noted: Mapping[str, Any]) -> Path:
    """The journal of a search of the same space, with a trained child."""

    def of_space(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name.startswith("space.")}

    with closing(Journal(folder / JOURNAL)) as journal:
        expected = json.loads(json.dumps(of_space(noted)))
        check_settings(journal.path, of_space(journal.settings), expected)
        rewarded(journal)
    return folder / JOURNAL


@dataclass(frozen=True)
class _Run:
    """The steps of `search_folder`."""

    space: Space
    evaluator: Evaluator
    settings: SearchSettings
    noted: Mapping[str, Any]
    executor: ExecutorSettings
    out: Path
    console: Console
    random: Path | None
    references: Mapping[str, Sequence[Any]]

    def search(self, children: int, tensorboard: bool) -> list[Record]:
        settings, evaluator = self.settings, self.evaluator
        policy = settings.make_policy(self.space)
        begun = any(path.name not in _UNBEGUN for path in self.out.iterdir())
        if begun:
            self._check_settings()
        else:
            # Nothing is written yet, so that other objectives can be tried.
            check_objectives(settings.make_objectives(), self.space, evaluator, settings.seed)
        retrained = read_retrained(self.out)
        with (
            self._executor(evaluator, self.executor, begun) as executor,
            closing(Journal(self.out / JOURNAL, self.noted)) as journal,
            _stoppable(journal, children),
            LiveProgress(self.console, journal, children) as progress,
        ):
            write_text(self.out / _SETTINGS, json.dumps(self.noted, indent=2) + "\n")
            callbacks: list[Callback] = [progress, _Best(self.out, journal, retrained)]
            if tensorboard:
                callbacks.append(Events(self.out / "tensorboard", journal))
            records = run_search(
                policy,
                self.space,
                executor,
                journal,
                children,
                settings.make_scheduler(),
                settings.seed,
                settings.make_stopping(),
                settings.make_objectives(),
                callbacks,
                remember=not evaluator.serial_only,
                retries=self.executor.retries,
                keep_weights=settings.keep_weights,
            )
            best, again = ranked(records), ranked_retrained(records, retrained)
            self._save(again or best, records)
        self._report()
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
    def _executor(
        self, evaluator: Evaluator, settings: ExecutorSettings, begun: bool = True
    ) -> Iterator[Executor]:
        """The executor of an evaluator, closed in the end."""
        with closing(settings.make(evaluator)) as executor:
            if not begun:
                # A script without a main guard ends here, before anything is written.
                executor.start()
            yield executor

    def retrain(self, best: Sequence[Record], retraining: Retraining) -> list[Record]:
        again = self._evaluate_all(
            best, retraining.evaluator, RETRAINED, retraining.about, "retrain", self.executor
        )
        self._save(again, best)
        self._report()
        return again

    def evaluate_references(self) -> None:
        records = [
            Record(
                number=number,
                actions=(),
                key=name,
                architecture=plain_json("an architecture", self.space.to_json(architecture)),
                version=0,
                seed=zlib.crc32(f"{self.settings.seed} {name}".encode()),
            )
            for number, (name, architecture) in enumerate(self._named_references())
        ]
        self._evaluate_all(records, self.evaluator, REFERENCES, self.noted, "references", self.executor)
        self._report()

    def export(self, exporting: Exporting) -> None:
        with closing(Journal(self.out / JOURNAL)) as journal:
            records = journal.children()
            costs = front_costs(journal.settings, records)
        best = front(records, self.evaluator.objective, costs)
        local = ExecutorSettings(processes=self.executor.processes, retries=self.executor.retries)
        self._evaluate_all(best, exporting.evaluator, FRONT, exporting.about, "export", local)
        self._report()

    def _evaluate_all(
        self,
        records: Sequence[Record],
        evaluator: Evaluator,
        name: str,
        about: Mapping[str, Any],
        title: str,
        executor: ExecutorSettings,
    ) -> list[Record]:
        """Evaluate children after the search, with a journal of their own; all in it, best first."""
        with (
            closing(Journal(self.out / name, about)) as journal,
            _stoppable(journal, len(records)),
            self._executor(evaluator, executor) as running,
            LiveProgress(self.console, journal, len(records), title) as progress,
        ):
            objectives = self.settings.make_objectives()
            return evaluate_all(
                records, self.space, running, journal, [progress], objectives, executor.retries
            )

    def _named_references(self) -> Iterator[tuple[str, Any]]:
        for group, architectures in self.references.items():
            for number, architecture in enumerate(architectures, 1):
                yield (group if len(architectures) == 1 else f"{group} {number}"), architecture

    def _report(self) -> None:
        """Write the report on all that is there."""
        retrained, in_order = read_retrained(self.out), iter(read_children(self.out / REFERENCES))
        references = {
            group: [r for r in itertools.islice(in_order, len(some)) if r.state == "finished"]
            for group, some in self.references.items()
        }
        with (
            closing(Journal(self.out / JOURNAL)) as journal,
            nullcontext() if self.random is None else closing(Journal(self.random)) as random,
        ):
            write_report(
                journal,
                self.space,
                self.out / "report.html",
                random,
                ranked_retrained(journal.children(), retrained) if retrained else [],
                objective=self.evaluator.objective,
                references=references,
                files=exported_files(self.out),
            )

    def _save(self, best: Sequence[Record], children: Sequence[Record]) -> None:
        """Write the first of the best children to a file."""
        if not best:
            messages = dict.fromkeys(record.message or record.state for record in children)
            raise ValueError(
                f"Expected a child that can be evaluated. Received: {', '.join(list(messages)[:5])}"
            )
        _save(best[0], self.out)


class _Best(Callback):
    """Writes the best child so far after every minibatch."""

    def __init__(self, out: Path, journal: Journal, retrained: Sequence[Record]) -> None:
        self._out, self._journal, self._retrained = out, journal, retrained
        self._whole = {outline.key: outline for outline in ranked(journal.outlines())}

    def rewarded(self, record: Record) -> None:
        # As `ranked` does: of equal children the last counts.
        if record.state == "finished" and record.same_as is None:
            self._whole[record.key] = Outline.of(record)

    def promoted(self, record: Record) -> None:
        self.rewarded(record)

    def learned(self, records: Sequence[Record], metrics: Mapping[str, float]) -> None:
        best = ranked(self._whole.values())[:1]
        retrained = ranked_retrained(best, self._retrained)[:1]
        for record in retrained or map(self._journal.child, [outline.number for outline in best]):
            _save(record, self._out)


def _save(record: Record, out: Path) -> None:
    write_text(out / "best.json", json.dumps(record.named_architecture, indent=2) + "\n")


@contextmanager
def _stoppable(journal: Journal, children: int) -> Iterator[None]:
    """Say after Ctrl-C how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        done = sum(outline.reward is not None for outline in journal.outlines())
        raise KeyboardInterrupt(
            f"stopped with {done} of {children} children done; the same command goes on from there"
        ) from None
