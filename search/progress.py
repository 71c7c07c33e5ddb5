"""What is seen of a search while it runs: on the terminal and in TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from nasnet_zoo.extras import import_extra
from nasnet_zoo.progress import showing_progress

from .journal import Journal, Record
from .search import Callback


class LiveProgress(Callback):
    """A line that is kept up to date, and one that stays for every minibatch.

    Args:
        console: Console to print to.
        journal: Journal of the search.
        children: Number of children to reach.
        title: Title of the line.
    """

    def __init__(
        self, console: Console, journal: Journal, children: int, title: str = "search"
    ) -> None:
        self._console, self._children = console, children
        rewards = [r.reward for r in journal.outlines() if r.reward is not None]
        self._done, self._best = len(rewards), max(rewards, default=0.0)
        self._before, self._begun = self._done, time.monotonic()
        self._learned = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._open = ExitStack()
        self._task = self._progress.add_task(title, total=children, completed=self._done, note="")

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        self._open.enter_context(showing_progress(False))  # of one child, beside this line
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._progress.stop()

    def rewarded(self, record: Record) -> None:
        """Advance by one child."""
        self._done += 1
        self.promoted(record)

    def promoted(self, record: Record) -> None:
        """Show the best reward; the child is done already."""
        assert record.reward is not None
        self._best = max(self._best, record.reward)
        note = f"best {self._best:.4f}{self._learned}{self._speed()}"
        self._progress.update(self._task, completed=self._done, note=note)

    def learned(self, records: Sequence[Record], metrics: Mapping[str, float]) -> None:
        """Print a line for a minibatch."""
        number = records[0].learned
        assert number is not None
        mean = mean_reward(records)
        entropy = f", entropy {metrics['entropy']:.2f}" if "entropy" in metrics else ""
        self._learned = f", mean {mean:.4f}{entropy}"
        self._console.print(
            f"minibatch {number + 1}: best so far {self._best:.4f}{self._learned}{self._speed()}",
            highlight=False,
            soft_wrap=True,
        )

    def _speed(self) -> str:
        """Children per hour since this was begun, and the time left at that rate."""
        done = self._done - self._before
        if not done:
            return ""
        seconds = (time.monotonic() - self._begun) / done
        hours, minutes = divmod(round(seconds * (self._children - self._done) / 60), 60)
        return f", {3600 / seconds:.0f} children/h, {hours}:{minutes:02} h left"


class Events(Callback):
    """Scalars for TensorBoard: rewards by child; best, mean and what the policy tells by minibatch.

    Args:
        folder: Folder for the events.
        journal: Journal of the search.

    Raises:
        ImportError: If TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], journal: Journal) -> None:
        import_extra("tensorboard", "train")
        import tensorflow as tf

        rewards = [r.reward for r in journal.outlines() if r.reward is not None]
        self._best, self._done = max(rewards, default=0.0), len(rewards)
        self._writer = tf.summary.create_file_writer(os.fspath(folder))

    def rewarded(self, record: Record) -> None:
        """Write a child's reward and the seconds that it took."""
        self._done += 1
        self.promoted(record)

    def promoted(self, record: Record) -> None:
        """Write a child's reward so far and the seconds that it took in all."""
        assert record.reward is not None
        self._best = max(self._best, record.reward)
        self._write({"child/reward": record.reward, "child/seconds": record.seconds}, record.number)

    def learned(self, records: Sequence[Record], metrics: Mapping[str, float]) -> None:
        """Write the figures of a minibatch, at the number of children so far."""
        figures = {"best": self._best, "mean": mean_reward(records), **metrics}
        self._write({f"search/{name}": value for name, value in figures.items()}, self._done)
        self._writer.flush()

    def _write(self, figures: Mapping[str, float | None], step: int) -> None:
        import tensorflow as tf

        with self._writer.as_default(step=step):
            for name, value in figures.items():
                tf.summary.scalar(name, value)


def mean_reward(records: Sequence[Record]) -> float:
    """Of children that have one."""
    rewards = [record.reward for record in records if record.reward is not None]
    return sum(rewards) / len(rewards)
