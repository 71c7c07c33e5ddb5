"""Samplers of Optuna as policies: TPE, Gaussian processes, NSGA-II and NSGA-III."""

from __future__ import annotations

import functools
import inspect
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from nasnet_zoo.checking import PositiveInt, Seed, check, checked, parse
from nasnet_zoo.extras import import_extra

from .blocks import Blocks, packed, unpacked
from .policies import Experience, Proposal, SeededPolicy, check_state
from .registry import Sampler
from .space import SequenceSpace

# Options of samplers that are numbers or words; others are objects of Optuna.
_KINDS = {"bool": bool, "float": float, "int": int, "None": type(None)}
# What other packages a sampler needs, and the extras of this one that install them.
_NEEDS = {"GPSampler": {"scipy": "optuna", "torch": "torch"}}


class OptunaPolicy(SeededPolicy):
    """A sampler of Optuna over the steps of a space.

    Every step with more than one choice is a categorical parameter, every child a trial of a study.
    Children that are still evaluated are running trials, which samplers take into account. A child that
    failed has the reward 0, and is a failed trial where there are several objectives.

    What is drawn depends on the seed, on the trials so far, and on how often it was asked, so a
    restored policy draws the same children.

    Args:
        space: Search space.
        sampler: Name of a class of ``optuna.samplers``.
        seed: Seed of the random draws.
        objectives: Number of objectives. If there is one, it is the reward.
        options: Arguments of the sampler that are numbers, booleans or None, such as
            ``{"n_startup_trials": 20}``, or texts of them, such as "true". TPE's ``constant_liar`` is
            true by default.

    Raises:
        ValueError: If the sampler has no such option, or an option is out of range.
        ImportError: If Optuna is not installed, or what the sampler needs.
    """

    space: SequenceSpace

    @checked
    def __init__(
        self,
        space: SequenceSpace,
        sampler: Sampler = "TPESampler",
        seed: Seed = 0,
        objectives: PositiveInt = 1,
        options: Mapping[str, Any] = {},
    ) -> None:
        self._optuna = import_extra("optuna", "optuna")
        for module, extra in _NEEDS.get(sampler, {}).items():
            import_extra(module, extra)
        if len(space.lengths) > 1:
            raise ValueError(
                "Expected a space of one length with a sampler of Optuna, whose trials have the same "
                f"parameters. Received: lengths of {', '.join(map(str, space.lengths))} draws"
            )
        super().__init__(space, seed)
        self.objectives = objectives
        make = getattr(self._optuna.samplers, sampler)
        known = _options(make)
        if unknown := sorted(set(options) - set(known)):
            raise ValueError(
                f"Expected options of {sampler}: {', '.join(known)}. Received: {', '.join(unknown)}"
            )
        given = {name: _read(name, value, known[name]) for name, value in options.items()}
        if "constant_liar" in known:
            given.setdefault("constant_liar", True)
        self._sampler = functools.partial(make, **given)
        categories = _shared(self._optuna.distributions.CategoricalDistribution)
        self._parameters = {
            f"{step:04}": categories(range(choices))
            for step, choices in enumerate(space.choices)
            if choices > 1
        }
        self._begin()

    def _begin(self) -> None:
        """Begin with a study without trials."""
        self._blocks = Blocks("trials")
        self._storage = self._optuna.storages.InMemoryStorage()
        with _quiet(self._optuna):
            self._study = self._optuna.create_study(
                storage=self._storage,
                sampler=self._sampler(seed=0),
                directions=["maximize"] * self.objectives,
            )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)

    def ask(self, count: int) -> list[Proposal]:
        """Return the next children to try."""
        # A sampler's own random numbers and caches are none of the state.
        (seed,) = np.random.SeedSequence(self._next_seed()).generate_state(1).tolist()
        proposals = []
        with _quiet(self._optuna):
            self._study.sampler = self._sampler(seed=seed)
            for _ in range(count):
                trial = self._study.ask(self._parameters)
                self._blocks.changed(trial.number)
                proposals.append(Proposal(self._actions(trial.params), self.version))
        return proposals

    def _actions(self, parameters: Mapping[str, int]) -> tuple[int, ...]:
        steps = range(len(self.space.choices))
        return tuple(parameters.get(f"{step:04}", 0) for step in steps)

    def tell(self, minibatch: Sequence[Experience]) -> dict[str, float]:
        """Tell the study what its trials, which children are by number, have reached."""
        with _quiet(self._optuna):
            for number, _, reward, objectives in minibatch:
                values = list(objectives) if self.objectives > 1 else [reward]
                state = None if values else self._optuna.trial.TrialState.FAIL
                self._study.tell(number, values or None, state)
                self._blocks.changed(number)
        self.version += 1
        return {}

    def state(self) -> dict[str, np.ndarray]:
        """The counts, and as JSON what the study and its trials consist of, in blocks of trials."""
        return {
            **super().state(),
            "study": packed(self._storage.get_study_system_attrs(self._study_id)),
            **self._blocks.arrays(self._study.get_trials(deepcopy=False), self._row),
        }

    def _row(self, trial: Any) -> list[Any]:
        """A trial: its actions, its values, and what the sampler noted of it.

        A running trial has the values None, a failed one an empty list.
        """
        values = list(trial.values or ()) if trial.state.is_finished() else None
        return [self._actions(trial.params), values, trial.system_attrs]

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state."""
        names = [name for name in ("study", *self._blocks.names(state)) if name in state]
        like = {**super().state(), "study": np.zeros(0, np.uint8)}
        check_state(state, {**like, **{name: state[name] for name in names}})
        attributes = unpacked(state["study"], "study")
        check("study", attributes, dict)
        trials = [self._trial(row) for row in self._blocks.read(state)]
        self._restore_counts(state)
        self._begin()
        for name, value in attributes.items():
            self._storage.set_study_system_attr(self._study_id, name, value)
        self._study.add_trials(trials)

    def _trial(self, row: Any) -> Any:
        """The trial of `_row`."""
        check("trial", row, tuple[Any, Any, Any])
        actions, values, attributes = row
        check("trial's values", values, tuple[float, ...] | None)
        check("trial's attributes", attributes, dict)
        actions = self.space.check(actions)
        states = self._optuna.trial.TrialState
        return self._optuna.trial.create_trial(
            state=states.RUNNING if values is None else states.COMPLETE if values else states.FAIL,
            values=values or None,
            params={name: actions[int(name)] for name in self._parameters},
            distributions=self._parameters,
            system_attrs=attributes,
        )


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's messages and its warnings that something is experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@functools.cache
def _shared(kind: Any) -> Any:
    """A class of distributions that is not copied, and is equal to itself at once.

    Every trial has all of them, and Optuna copies and compares them with each other for every child.
    """
    return type(
        f"Shared{kind.__name__}",
        (kind,),
        {
            "__deepcopy__": lambda self, memo: self,
            "__eq__": lambda self, other: self is other or kind.__eq__(self, other),
            "__hash__": kind.__hash__,
        },
    )


def _options(sampler: type) -> dict[str, Any]:
    """The options of a sampler that are numbers or booleans, with their types."""
    found = {}
    for name, parameter in inspect.signature(sampler).parameters.items():
        kinds = str(parameter.annotation).split(" | ")
        if name != "seed" and all(kind in _KINDS for kind in kinds):
            found[name] = functools.reduce(operator.or_, [_KINDS[kind] for kind in kinds])
    return found


def _read(name: str, value: Any, kind: Any) -> Any:
    if isinstance(value, str):
        return parse(name, value, kind)
    check(name, value, kind)
    return value
