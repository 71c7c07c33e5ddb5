"""A tabular benchmark: all children of a small space, trained once and for all.

Policies are then compared in seconds.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasnet_zoo.files import replacing

from .child import Trained
from .journal import Record
from .search import Job
from .space import SearchSpace, Tokens

_SHIPPED = Path(__file__).with_name("tabular.npz")
_COLUMNS = ("tokens", "rewards", "losses", "parameters", "mult_adds", "seconds")


@dataclass(frozen=True, eq=False)
class TabularBenchmark:
    """Results of all children of a space, by canonical form.

    It replaces the training of children: called with a job, it returns the result of `train_child` with
    the seed of the table::

        table = TabularBenchmark.load()
        records = run_search(PPO(table.space), table.space, Here(table), journal, children=300)

    Args:
        space: Search space of the table.
        tokens: int32 (children, tokens), canonical.
        rewards: float32 (children, evaluations), accuracy at each evaluation; 0 where it failed.
        losses: float32 (children, evaluations), mean training loss up to each evaluation since the one
            before; not finite where it failed.
        parameters: int64 (children,), trainable parameters.
        mult_adds: int64 (children,), multiply-adds on one image.
        seconds: float32 (children,), seconds of the training.
        about: Description of how the table was made, as JSON.

    Raises:
        ValueError: If the columns do not fit each other or the space.
    """

    space: SearchSpace
    tokens: Tokens
    rewards: np.ndarray
    losses: np.ndarray
    parameters: np.ndarray
    mult_adds: np.ndarray
    seconds: np.ndarray
    about: dict[str, Any]

    def __post_init__(self) -> None:
        children = len(self.tokens)
        curves = (children, *self.rewards.shape[1:2])
        shapes = {
            "tokens": (children, len(self.space.choices)),
            "rewards": curves,
            "losses": curves,
        }
        for name in _COLUMNS:
            found, expected = getattr(self, name).shape, shapes.get(name, (children,))
            if found != expected:
                raise ValueError(f"Expected {name} of the shape {expected}. Received: {found}")
        if not ((self.rewards >= 0) & (self.rewards <= 1)).all():
            raise ValueError(f"Expected rewards in [0, 1]. Received: up to {self.rewards.max()}")
        for child in self.tokens:
            self.space.check(child)
        rows = {tuple(child): row for row, child in enumerate(self.tokens.tolist())}
        object.__setattr__(self, "_rows", rows)

    @classmethod
    def of(
        cls, space: SearchSpace, records: Iterable[Record], about: dict[str, Any]
    ) -> TabularBenchmark:
        """The table of a journal's children.

        Those that have the reward of another are left out, and those whose worker died.
        """
        trained = [
            record
            for record in records
            if record.reward is not None and record.same_as is None and not record.worker_died
        ]
        results = [record.result or {} for record in trained]
        evaluations = max(len(result.get("rewards", ())) for result in results)

        def curves(name: str, missing: float) -> np.ndarray:
            rows = [
                [*result.get(name, ()), *[missing] * evaluations][:evaluations] for result in results
            ]
            return np.array(rows, np.float32)

        return cls(
            space,
            np.array([record.canonical for record in trained], np.int32),
            curves("rewards", 0.0),
            curves("losses", np.inf),
            np.array([record.parameters for record in trained], np.int64),
            np.array([record.mult_adds for record in trained], np.int64),
            np.array([record.seconds for record in trained], np.float32),
            about,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> TabularBenchmark:
        """Read a table. Default: the one that comes with the package.

        Raises:
            ValueError: If the file is not a table.
            OSError: If it cannot be read.
        """
        path = _SHIPPED if path is None else Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                space = SearchSpace(**json.loads(str(file["space"])))
                columns = {name: file[name] for name in _COLUMNS}
                return cls(space, about=json.loads(str(file["about"])), **columns)
        except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: expected a tabular benchmark. Received: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table; an existing file is replaced atomically."""
        texts = {"space": dataclasses.asdict(self.space), "about": self.about}
        arrays = {name: np.array(json.dumps(text)) for name, text in texts.items()}
        arrays |= {name: getattr(self, name) for name in _COLUMNS}
        with replacing(path) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]

    def row(self, tokens: Tokens) -> int:
        """The row of a child.

        Raises:
            ValueError: If it is not in the table.
        """
        canonical = self.space.canonical(tokens)
        row = self._rows.get(canonical)  # type: ignore[attr-defined]
        if row is None:
            raise ValueError(f"Expected a child of the table. Received: {canonical}")
        return row

    def __call__(self, job: Job) -> Trained:
        """Return the result of a child. The seed of the job is ignored.

        Raises:
            ValueError: If it is not in the table.
        """
        row = self.row(self.space.tokens(job.genotype))
        rewards, losses = self.rewards[row].tolist(), self.losses[row].tolist()
        for part, least in enumerate(job.thresholds[: len(rewards) - 1], 1):
            if rewards[part - 1] < least:
                return Trained(tuple(rewards[:part]), tuple(losses[:part]), stopped=True)
        return Trained(tuple(rewards), tuple(losses), failed=not np.isfinite(losses).all())

    @property
    def final(self) -> np.ndarray:
        """float32 (children,): each child's reward."""
        return self.rewards[:, -1]

    def best(self, share: float) -> float:
        """The least reward among the best ``share`` of the children, at least one child."""
        count = max(round(share * len(self.final)), 1)
        return float(np.sort(self.final)[-count])
