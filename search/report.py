"""The report on a search: one HTML file, readable offline."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nasnet_zoo.cells import Genotype
from nasnet_zoo.cells.draw import genotype_svg
from nasnet_zoo.files import write_text
from nasnet_zoo.reports.charts import Series, chart
from nasnet_zoo.reports.pages import render

from .journal import Journal, Record
from .results import rewarded
from .search import ranked

#: What [N] compares with random search in Figure 6: the best, and averages of the best so many.
AVERAGED = (1, 5, 25)
_DRAWN = 12
# Of a search and of a random search; of the averages.
_COLOURS, _LINES = ("#2f80d0", "#d9772b"), ("-", "--", ":")


def write_report(
    journal: Journal,
    path: str | os.PathLike[str],
    random: Journal | None = None,
    retrained: Sequence[Record] = (),
) -> None:
    """Write the report on a search; an existing file is replaced atomically.

    Args:
        journal: Journal of the search.
        path: Path of the HTML file.
        random: Journal of a random search of the same space, to compare with at an equal number of
            children.
        retrained: The best children with the rewards of their retraining, best first. Default: none.

    Raises:
        ValueError: If no child of a journal was trained to the end.
    """
    values = report_values(journal, random, retrained)
    write_text(path, render("nasnet_zoo.search/report.html.j2", **values))


def report_values(
    journal: Journal, random: Journal | None = None, retrained: Sequence[Record] = ()
) -> dict[str, Any]:
    """The values of the variables of ``report.html.j2``; see `write_report`."""
    records = rewarded(journal)
    best = ranked(records)
    searches = {str(journal.settings.get("policy", "policy")): records}
    if random is not None:
        searches["random search"] = rewarded(random)
    top = (retrained or best)[:_DRAWN]
    return {
        "children": len(records),
        "trained": sum(record.same_as is None for record in records),
        "minutes": sum(record.seconds or 0.0 for record in records) / 60,
        "best": best[0],
        "retrained": retrained,
        "averages_table": _averages_table(searches),
        "averages_chart": _averages_chart(searches),
        "retrained_table": _retrained_table(retrained, best),
        "ranking_table": ranking_table(best),
        "rounds_charts": _rounds_charts(searches, journal.told()),
        "cost_charts": _cost_charts([record for record in best if record.parameters is not None]),
        "operations_table": _operations_table(best),
        "cells": [
            (
                record.genotype["name"],
                f"{record.reward:.4f}{_cost(record)}",
                genotype_svg(Genotype.from_dict(record.genotype)),
            )
            for record in top
        ],
        "settings": [(name, str(value)) for name, value in journal.settings.items()],
        "winner": json.dumps(top[0].genotype, indent=2),
    }


#: What `nasnet_zoo.reports` shows as a table: columns, rows, and the shares of the third column.
Table = tuple[Sequence[str], Sequence[Sequence[str]], Sequence[float] | None]


def ranking_table(best: Sequence[Record]) -> Table:
    """The best children, as many as are averaged at most."""
    best = best[: AVERAGED[-1]]
    rows = [
        (
            str(place),
            record.genotype["name"],
            f"{record.reward:.4f}",
            *_costs(record),
            f"{record.seconds or 0.0:.0f}",
        )
        for place, record in enumerate(best, 1)
    ]
    columns = ("", "child", "reward", "parameters", "mult-adds", "seconds")
    return columns, rows, [record.reward or 0.0 for record in best]


def averages(records: Sequence[Record], count: int) -> list[float]:
    """The average reward of the best ``count`` different children so far, after every child.

    It is NaN while there are fewer.
    """
    found: list[float] = []
    best: list[float] = []
    for record in records:
        if record.same_as is None:
            assert record.reward is not None
            best = sorted([*best, record.reward], reverse=True)[:count]
        found.append(float(np.mean(best)) if len(best) == count else math.nan)
    return found


def frequencies(records: Sequence[Record], cell: str) -> dict[str, float]:
    """The share of each operation in a cell, "normal" or "reduction", of children."""
    names = Counter(
        name
        for record in records
        for block in record.genotype[cell]["blocks"]
        for name in block["operations"]
    )
    return {name: count / names.total() for name, count in names.items()}


def _costs(record: Record) -> tuple[str, str]:
    if record.parameters is None or record.mult_adds is None:
        return "-", "-"
    return f"{record.parameters:,}", f"{record.mult_adds / 1e6:.2f} M"


def _cost(record: Record) -> str:
    return ", {} parameters, {} mult-adds".format(*_costs(record))


def _averages_table(searches: dict[str, list[Record]]) -> Table:
    """The averages where both searches end: at equal budget."""
    children = min(map(len, searches.values()))
    rows = []
    for name, records in searches.items():
        values = [averages(records[:children], count)[-1] for count in AVERAGED]
        shown = ("-" if math.isnan(value) else f"{value:.4f}" for value in values)
        rows.append((name, f"{children:,}", *shown))
    return ("search", "children", *map(_average_name, AVERAGED)), rows, None


def _retrained_table(retrained: Sequence[Record], best: Sequence[Record]) -> Table:
    before = {record.number: f"{record.reward:.4f}" for record in best}
    rows = [
        (
            record.genotype["name"],
            before.get(record.number, "-"),
            f"{record.reward:.4f}",
            *_costs(record),
        )
        for record in retrained
    ]
    columns = ("child", "reward in the search", "reward retrained", "parameters", "mult-adds")
    return columns, rows, None


def _average_name(count: int) -> str:
    return "best" if count == 1 else f"average of the best {count}"


def _averages_chart(searches: dict[str, list[Record]]) -> str:
    series = []
    for (name, records), colour in zip(searches.items(), _COLOURS, strict=False):
        for count, line in zip(AVERAGED, _LINES, strict=True):
            values = [v for v in averages(records, count) if not math.isnan(v)]
            numbers = range(1 + len(records) - len(values), 1 + len(records))
            if values:
                title = f"{name}: {_average_name(count)}"
                series.append(Series(title, numbers, values, colour, line))
    return chart(series, "children", "reward")


def _rounds_charts(searches: dict[str, list[Record]], told: Sequence[dict[str, float]]) -> str:
    series = []
    for (name, records), colour in zip(searches.items(), _COLOURS, strict=False):
        rounds: dict[int, list[float]] = {}
        for record in records:
            assert record.reward is not None
            rounds.setdefault(record.round, []).append(record.reward)
        ends = np.cumsum([len(rewards) for rewards in rounds.values()]).tolist()
        means = [float(np.mean(rewards)) for rewards in rounds.values()]
        series.append(Series(name, ends, means, colour))
    drawn = chart(series, "children", "mean reward of a minibatch")
    entropies = [one["entropy"] for one in told if "entropy" in one]
    if entropies:
        ends = series[0].x[: len(entropies)]
        one = Series("entropy", ends, entropies[: len(ends)], _COLOURS[0])
        drawn += chart([one], "children", "entropy in nats")
    return drawn


def _cost_charts(records: Sequence[Record]) -> str:
    if not records:
        return ""
    names = [f"{record.genotype['name']}: {record.reward:.4f}{_cost(record)}" for record in records]
    rewards = [record.reward or 0.0 for record in records]
    parameters = [(record.parameters or 0) / 1e3 for record in records]
    mult_adds = [(record.mult_adds or 0) / 1e6 for record in records]
    return "".join(
        chart([Series("children", costs, rewards, _COLOURS[0], names=names)], title, "reward")
        for title, costs in (("thousand parameters", parameters), ("million mult-adds", mult_adds))
    )


def _operations_table(best: Sequence[Record]) -> Table:
    chosen = best[: AVERAGED[-1]]
    rows, shares = [], []
    for cell in ("normal", "reduction"):
        among_best, among_all = frequencies(chosen, cell), frequencies(best, cell)
        for name, share in sorted(among_all.items(), key=lambda pair: -among_best.get(pair[0], 0.0)):
            shares.append(among_best.get(name, 0.0))
            rows.append((f"{cell} cell", name, f"{shares[-1]:.1%}", f"{share:.1%}"))
    columns = ("cell", "operation", f"among the best {len(chosen)}", f"among all {len(best):,}")
    return columns, rows, shares
