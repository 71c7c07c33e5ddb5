"""The report on a search: one HTML file, readable offline."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from nasnet_zoo.files import write_text
from nasnet_zoo.reports.charts import Series, chart
from nasnet_zoo.reports.pages import render

from .front import front, front_costs
from .journal import Journal, Record
from .results import rewarded
from .search import ranked
from .space import Space

#: What [N] compares with random search in Figure 6: the best, and averages of the best so many.
AVERAGED = (1, 5, 25)
_DRAWN = 12
# Children that the features of all are taken from, evenly by rank: to read 20,000 takes most time.
_DESCRIBED = 2000
# Of a search and of a random search; of the averages.
_COLOURS, _LINES = ("#2f80d0", "#d9772b"), ("-", "--", ":")
# Of the costs that are no plain numbers.
_UNITS = {"activation_memory": "bytes", "latency": "ms"}
_SCALES: dict[str | None, tuple[tuple[float, str], ...]] = {
    "bytes": ((1e6, "MB"), (1e3, "kB"), (1, "bytes")),
    "ms": ((1e3, "s"), (1, "ms")),
    None: ((1e6, "million"), (1e3, "thousand"), (1, "")),
}
# Of the children, and of the references in their order.
_GROUPS = ("#2f80d0", "#d9772b", "#3a9d5d", "#8a6fc0")


def write_report(
    journal: Journal,
    space: Space,
    path: str | os.PathLike[str],
    random: Journal | None = None,
    retrained: Sequence[Record] = (),
    *,
    objective: str = "reward",
    references: Mapping[str, Sequence[Record]] = MappingProxyType({}),
    files: Mapping[int, str] = MappingProxyType({}),
) -> None:
    """Write the report on a search; an existing file is replaced atomically.

    Args:
        journal: Journal of a search.
        space: Search space, which draws and describes the children.
        path: Path of the HTML file.
        random: Journal of a random search of the same space, to compare with at an equal number of
            children.
        retrained: The best children with the rewards of their retraining, best first. Default: none.
        objective: Name of the evaluator's reward.
        references: Other architectures that were evaluated as the children were, by the names of their
            groups. Their keys are their names.
        files: Path of the exported file, relative to the report, of children of the Pareto front, by
            number.

    Raises:
        ValueError: If no child of a journal was trained to the end.
    """
    options: dict[str, Any] = {"objective": objective, "references": references, "files": files}
    values = report_values(journal, space, random, retrained, **options)
    write_text(path, render("nasnet_zoo.search/report.html.j2", **values))


def report_values(
    journal: Journal,
    space: Space,
    random: Journal | None = None,
    retrained: Sequence[Record] = (),
    *,
    objective: str = "reward",
    references: Mapping[str, Sequence[Record]] = MappingProxyType({}),
    files: Mapping[int, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The values of the variables of ``report.html.j2``; see `write_report`."""
    records = rewarded(journal)
    best = ranked(records)
    searches = {str(journal.settings.get("policy", "policy")): records}
    if random is not None:
        searches["random search"] = rewarded(random)
    top = (retrained or best)[:_DRAWN]
    costs = front_costs(journal.settings, best)
    of_front = front(best, objective, costs)
    drawn = list({record.number: record for record in [*top, *of_front]}.values())
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
        **_family(family((retrained or best)[0], records), records, space),
        "minibatches_charts": _minibatches_charts(searches, journal.minibatches()),
        "objective": objective,
        "front_table": _front_table(of_front, objective, files),
        "front_files": bool(files),
        "front_costs": ", ".join(map(title, costs)),
        "cost_charts": _cost_charts(best, objective, references, _described(drawn, space)),
        "references_table": _references_table(references, objective),
        "features_table": _features_table(best, space),
        "legend": space.legend,
        "pictures": [
            (record.name, f"{record.reward:.4f}{_cost(record)}", picture)
            for record in drawn
            if (picture := space.draw(space.from_json(record.architecture)))
        ],
        "settings": [(name, str(value)) for name, value in journal.settings.items()],
        "winner": json.dumps(top[0].named_architecture, indent=2),
    }


def family(record: Record, records: Sequence[Record]) -> list[Record]:
    """A child and its ancestors, the oldest first.

    Args:
        record: The child.
        records: All children, itself among them. Of a parent with the reward of an earlier child that
            one, which was evaluated, is the ancestor.
    """
    by_number = {one.number: one for one in records}
    found = [by_number[record.number]]
    while (parent := found[-1].parent) is not None:
        found.append(by_number[by_number[parent].source])
    return found[::-1]


#: What `nasnet_zoo.reports` shows as a table: columns, rows, and the shares of the third column.
Table = tuple[Sequence[str], Sequence[Sequence[str]], Sequence[float] | None]


def ranking_table(best: Sequence[Record]) -> Table:
    """The best children, as many as are averaged at most."""
    names = _cost_names(best)
    best = best[: AVERAGED[-1]]
    rows = [
        (
            str(place),
            record.name,
            f"{record.reward:.4f}",
            *(format_cost(record.costs.get(name)) for name in names),
            f"{record.seconds or 0.0:.0f}",
        )
        for place, record in enumerate(best, 1)
    ]
    columns = ("rank", "child", "reward", *map(title, names), "seconds")
    rewards = [max(record.reward or 0.0, 0.0) for record in best]
    whole = max([1.0, *rewards])
    return columns, rows, [reward / whole for reward in rewards]


def format_cost(value: float | None) -> str:
    """Format a cost: in full up to a million, then in millions."""
    if value is None:
        return "-"
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.2f} M"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def title(name: str) -> str:
    """The title of a cost by its name, with its unit."""
    unit = _UNITS.get(name)
    return name.replace("_", "-") + (f" ({unit})" if unit else "")


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


def mean_features(records: Sequence[Record], space: Space) -> dict[str, float]:
    """The mean of each feature of the space over children; a child without one counts as 0."""
    found: dict[str, float] = {}
    for record in records:
        for name, value in space.features(space.from_json(record.architecture)).items():
            found[name] = found.get(name, 0.0) + value / len(records)
    return found


def _cost_names(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(n for r in records for n, value in r.costs.items() if value is not None))


def _cost(record: Record) -> str:
    names = _cost_names([record])
    return "".join(f", {format_cost(record.costs[name])} {title(name)}" for name in names)


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
    names = _cost_names(retrained)
    rows = [
        (
            record.name,
            before.get(record.number, "-"),
            f"{record.reward:.4f}",
            *(format_cost(record.costs.get(name)) for name in names),
        )
        for record in retrained
    ]
    columns = ("child", "reward in the search", "reward retrained", *map(title, names))
    return columns, rows, None


def _family(line: Sequence[Record], records: Sequence[Record], space: Space) -> dict[str, Any]:
    """The table of a child and its ancestors, and the chart; None if it has none."""
    if len(line) == 1:
        return {"family_table": None}
    rows, described = [], _described(line, space)
    for record, before in zip(line, [None, *line], strict=False):
        gain = "" if before is None else f"{_reward(record) - _reward(before):+.4f}"
        what = described[record.number].replace("\n", "; ")
        rows.append((record.name, f"{_reward(record):.4f}", gain, what))
    ancestors = {record.number: record for record in line}
    x: list[float] = []
    y: list[float] = []
    for record in records:
        if record.same_as is None and (parent := ancestors.get(record.parent)):  # type: ignore[arg-type]
            x += [parent.number, record.number, math.nan]
            y += [_reward(parent), _reward(record), math.nan]
    numbers, rewards = [record.number for record in line], [_reward(record) for record in line]
    names = [row[0] for row in rows]
    series = [
        Series("children of ancestors", x, y, "#8888"),
        Series("line of the best", numbers, rewards, _COLOURS[0]),
        Series("ancestors", numbers, rewards, _COLOURS[0], names=names),
    ]
    columns = ("child", "reward", "more than its parent", "what it is")
    return {
        "family_table": (columns, rows, None),
        "family_chart": chart(series, "number of the child", "reward"),
    }


def _reward(record: Record) -> float:
    assert record.reward is not None
    return record.reward


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
    return chart(series, "children sampled", "reward")


def _minibatches_charts(searches: dict[str, list[Record]], metrics: Sequence[dict[str, float]]) -> str:
    series = []
    for (name, records), colour in zip(searches.items(), _COLOURS, strict=False):
        minibatches: dict[int, list[float]] = {}
        for record in records:
            if record.learned is not None:
                assert record.reward is not None
                minibatches.setdefault(record.learned, []).append(record.reward)
        in_order = [minibatches[number] for number in sorted(minibatches)]
        ends = np.cumsum([len(rewards) for rewards in in_order]).tolist()
        means = [float(np.mean(rewards)) for rewards in in_order]
        series.append(Series(name, ends, means, colour))
    drawn = chart(series, "children sampled", "mean reward of a minibatch")
    entropies = [one["entropy"] for one in metrics if "entropy" in one]
    if entropies:
        ends = series[0].x[: len(entropies)]
        one = Series("entropy", ends, entropies[: len(ends)], _COLOURS[0])
        drawn += chart([one], "children sampled", "entropy in nats")
    return drawn


def _described(records: Sequence[Record], space: Space) -> dict[int, str]:
    """What children consist of, by number."""
    return {r.number: space.describe(space.from_json(r.architecture)) for r in records}


def _cost_charts(
    records: Sequence[Record],
    objective: str,
    references: Mapping[str, Sequence[Record]],
    described: Mapping[int, str],
) -> str:
    """The children and the references over each cost, with the front of that cost."""
    groups = {"children": records, **references}
    drawn = ""
    for cost in _cost_names(records):
        shown = {
            group: [record for record in some if record.costs.get(cost) is not None]
            for group, some in groups.items()
        }
        most = max(record.costs[cost] for some in shown.values() for record in some)
        scale, unit = _scale(cost, most)
        series = []
        for (group, some), colour in zip(shown.items(), itertools.cycle(_GROUPS)):
            x = [record.costs[cost] / scale for record in some]
            y = [record.objectives(objective)[objective] for record in some]
            notes = [_note(record, group, objective, described) for record in some]
            mark = "o" if group == "children" else "D"
            series.append(Series(group, x, y, colour, names=notes, mark=mark))
        if len(best := front(records, objective, (cost,))) > 1:
            x = [record.costs[cost] / scale for record in reversed(best)]
            y = [record.objectives(objective)[objective] for record in reversed(best)]
            # The corners of what these children dominate.
            corners = np.repeat(x, 2)[1:].tolist(), np.repeat(y, 2)[:-1].tolist()
            # Between the children and the references, which are few and drawn last.
            series.insert(1, Series("Pareto front of the children", *corners, _GROUPS[0]))
        drawn += chart(series, cost.replace("_", "-") + (f" ({unit})" if unit else ""), objective)
    return drawn


def _scale(cost: str, most: float) -> tuple[float, str]:
    """What the values of a cost are divided by in a chart, and the unit of what is shown."""
    scales = _SCALES[_UNITS.get(cost)]
    return next((pair for pair in scales if most >= pair[0]), scales[-1])


def _note(record: Record, group: str, objective: str, described: Mapping[int, str]) -> str:
    """What is shown of a child under the pointer: its figures, and what it consists of."""
    own = group == "children"
    value = record.objectives(objective)[objective]
    figures = f"{record.name if own else record.key}: {value:.4f}{_cost(record)}"
    return f"{figures}\n{described[record.number]}" if own and record.number in described else figures


def _front_table(of_front: Sequence[Record], objective: str, files: Mapping[int, str]) -> Table:
    names = _cost_names(of_front)
    rows = [
        (
            record.name,
            f"{record.objectives(objective)[objective]:.4f}",
            *(format_cost(record.costs.get(name)) for name in names),
            *([files.get(record.number, "")] if files else ()),
        )
        for record in of_front
    ]
    return ("child", objective, *map(title, names), *(["file"] if files else ())), rows, None


def _references_table(references: Mapping[str, Sequence[Record]], objective: str) -> Table | None:
    records = [record for some in references.values() for record in some]
    names = _cost_names(records)
    rows = [
        (
            record.key,
            f"{record.objectives(objective)[objective]:.4f}",
            *(format_cost(record.costs.get(name)) for name in names),
        )
        for record in records
    ]
    return (("architecture", objective, *map(title, names)), rows, None) if rows else None


def _features_table(best: Sequence[Record], space: Space) -> Table | None:
    """The means of the space's features, those that are greatest among the best first."""
    chosen = best[: AVERAGED[-1]]
    some = best[:: max(-(-len(best) // _DESCRIBED), 1)]
    of = "all" if some == best else f"{len(some):,} of"
    among_best, among_all = mean_features(chosen, space), mean_features(some, space)
    names = sorted(among_all, key=lambda name: -among_best.get(name, 0.0))
    rows = [(name, f"{among_best.get(name, 0.0):.4g}", f"{among_all[name]:.4g}") for name in names]
    columns = ("feature", f"mean of the best {len(chosen)}", f"mean of {of} {len(best):,}")
    return (columns, rows, None) if rows else None
