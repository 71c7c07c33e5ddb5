"""The Pareto front of a search: the children that no other one beats in all objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .expressions import Expression
from .journal import Record
from .objectives import pareto_front
from .search import ranked


def front_costs(settings: Mapping[str, Any], records: Sequence[Record]) -> tuple[str, ...]:
    """Return the costs that a search trades its evaluator's reward for.

    They are those among its ``objectives``, else those in the expression of its ``reward``, else
    ``latency`` where it was measured, else all costs.

    Args:
        settings: Settings of the search.
        records: Children of the search.
    """
    costs = tuple(dict.fromkeys(name for record in records for name in record.costs))
    objectives, reward = settings.get("objectives"), settings.get("reward")
    named = objectives or (Expression(reward).names if reward else ())
    measured = ("latency",) if "latency" in costs else costs
    return tuple(name for name in named if name in costs) or measured


def front(records: Sequence[Record], objective: str, costs: Sequence[str]) -> list[Record]:
    """Return the children that no other one beats in all objectives, the greatest reward first.

    Args:
        records: Children of a search. Only those that were evaluated to the end count, each once.
        objective: Name of the evaluator's reward.
        costs: Names of the costs. Children without one of them do not count.
    """
    candidates = [r for r in ranked(records) if all(r.costs.get(name) is not None for name in costs)]
    values = np.array(
        [[r.objectives(objective)[objective], *(-r.costs[name] for name in costs)] for r in candidates]
    ).reshape(len(candidates), 1 + len(costs))
    best = [candidates[index] for index in pareto_front(values)]
    return sorted(best, key=lambda record: -record.objectives(objective)[objective])
