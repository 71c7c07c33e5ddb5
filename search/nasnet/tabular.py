"""A tabular benchmark: all children of a small space, trained once and for all.

Policies are then compared in seconds.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nasnet_zoo.cells import Genotype
from nasnet_zoo.files import replacing
from nasnet_zoo.search.evaluator import Evaluator, Result, Trial
from nasnet_zoo.search.journal import Record

from .space import NASNetSpace

_SHIPPED = Path(__file__).with_name("tabular.npz")
_COLUMNS = ("actions", "rewards", "losses", "parameters", "mult_adds", "seconds")


@dataclass(frozen=True, eq=False)
class TabularBenchmark(Evaluator[Genotype]):
    """Results of all children of a space, by canonical form.

    It is an evaluator that looks up what `FastChild` would find with the seed of the table::

        table = TabularBenchmark.load()
        records = run_search(PPO(table.space), table.space, Serial(table), journal, children=300)

    Args:
        space: Search space of the table.
        actions: int32 (children, actions), canonical.
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

    objective: ClassVar[str] = "accuracy"

    space: NASNetSpace
    actions: np.ndarray
    rewards: np.ndarray
    losses: np.ndarray
    parameters: np.ndarray
    mult_adds: np.ndarray
    seconds: np.ndarray
    about: dict[str, Any]

    def __post_init__(self) -> None:
        children = len(self.actions)
        curves = (children, *self.rewards.shape[1:2])
        shapes = {
            "actions": (children, len(self.space.choices)),
            "rewards": curves,
            "losses": curves,
        }
        for name in _COLUMNS:
            found, expected = getattr(self, name).shape, shapes.get(name, (children,))
            if found != expected:
                raise ValueError(f"Expected {name} of the shape {expected}. Received: {found}")
        if not ((self.rewards >= 0) & (self.rewards <= 1)).all():
            raise ValueError(f"Expected rewards in [0, 1]. Received: up to {self.rewards.max()}")
        for child in self.actions:
            self.space.check(child)
        rows = {tuple(child): row for row, child in enumerate(self.actions.tolist())}
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "evaluations", self.rewards.shape[1])

    @classmethod
    def of(
        cls, space: NASNetSpace, records: Iterable[Record], about: dict[str, Any]
    ) -> TabularBenchmark:
        """The table of a journal's children.

        Those that have the reward of another are left out, and those whose worker was lost.
        """
        trained = [
            record
            for record in records
            if record.same_as is None and record.state not in ("asked", "lost")
        ]
        evaluations = max(len(record.curve) for record in trained)

        def padded(curves: Iterable[Sequence[float]], missing: float) -> np.ndarray:
            rows = [[*curve, *[missing] * evaluations][:evaluations] for curve in curves]
            return np.array(rows, np.float32)

        return cls(
            space,
            np.array([json.loads(record.key) for record in trained], np.int32),
            padded((record.curve for record in trained), 0.0),
            padded((record.metrics.get("losses", ()) for record in trained), np.inf),
            np.array([record.costs["parameters"] for record in trained], np.int64),
            np.array([record.costs["mult_adds"] for record in trained], np.int64),
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
                space = NASNetSpace(**json.loads(str(file["space"])))
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

    def row(self, actions: Sequence[int]) -> int:
        """The row of a child.

        Raises:
            ValueError: If it is not in the table.
        """
        canonical = self.space.canonical(actions)
        row = self._rows.get(canonical)  # type: ignore[attr-defined]
        if row is None:
            raise ValueError(f"Expected a child of the table. Received: {canonical}")
        return row

    def cost(self, architecture: Genotype) -> dict[str, float]:
        """Return the numbers of trainable parameters and of multiply-adds on one image."""
        row = self.row(self.space.actions(architecture))
        return {"parameters": int(self.parameters[row]), "mult_adds": int(self.mult_adds[row])}

    def prepare(self, architecture: Genotype) -> int:
        """Return the row of a child.

        Raises:
            ValueError: If it is not in the table.
        """
        return self.row(self.space.actions(architecture))

    def evaluate(self, trial: Trial) -> Result:
        """Return the result of a child. The seed of the trial is ignored."""
        rewards, losses = self.rewards[trial.child].tolist(), self.losses[trial.child].tolist()
        for stop in range(1, len(rewards) + 1):
            curve, metrics = rewards[:stop], {"losses": losses[:stop]}
            if not math.isfinite(losses[stop - 1]):
                return Result.failed("diverged", curve=curve[:-1], metrics=metrics)
            if stop < len(rewards) and (trial.stops(curve) or trial.pauses(curve)):
                return Result(curve[-1], curve, "stopped", metrics=metrics)
        return Result(rewards[-1], rewards, metrics={"losses": losses})

    @property
    def final(self) -> np.ndarray:
        """float32 (children,): each child's reward."""
        return self.rewards[:, -1]

    def best(self, share: float) -> float:
        """The least reward among the best ``share`` of the children, at least one child."""
        count = max(round(share * len(self.final)), 1)
        return float(np.sort(self.final)[-count])
