"""The history of a training run: a CSV file with a line for every epoch."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import keras

from nasnet_zoo.files import read_text, write_text, writing


class History(keras.callbacks.Callback):
    """Callback that appends the number and the logs of every epoch of `fit` to a file.

    Args:
        path: Path of the file. The first epoch overwrites it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Append a line."""
        names = sorted(logs or {})
        line = [epoch, *(float((logs or {})[name]) for name in names)]
        with writing(self._path), open(self._path, "a" if epoch else "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            if not epoch:
                rows.writerow(["epoch", *names])
            rows.writerow(line)


def truncate_history(path: str | os.PathLike[str], done: int) -> None:
    """Remove the lines of the epochs that are run again, if the file exists.

    Args:
        path: Path of the file.
        done: Number of epochs to keep.

    Raises:
        ValueError: If one of these epochs is missing.
        OSError: If the file cannot be read or written.
    """
    path = Path(path)
    if not path.exists():
        return
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path, "a history in CSV"))) if row]
    except csv.Error as error:
        raise ValueError(f"{path}: expected a history in CSV. Received: {error}") from None
    kept = rows[: done + 1]
    for number, row in enumerate(kept[1:]):
        if row[0] != str(number) or len(row) != len(kept[0]):
            raise ValueError(f"{path}: expected a line for epoch {number}. Received: {','.join(row)!r}")
    if len(kept) <= done:
        raise ValueError(f"{path}: expected lines for {done} epochs. Received: {max(0, len(kept) - 1)}")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    write_text(path, text.getvalue())


def last_epoch(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the last line of a history: the number of epochs that were trained, and its logs.

    Raises:
        ValueError: If the history is broken.
        OSError: If the file cannot be read.
    """
    rows = list(csv.DictReader(io.StringIO(read_text(path, "a history in CSV"))))
    try:
        logs = {name: float(value) for name, value in rows[-1].items() if name != "epoch"}
        return {"epochs": int(rows[-1]["epoch"]) + 1, "metrics": logs}
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path}: expected a history with a line for every epoch. Received: another"
        ) from None
