"""The report on a search: one HTML file, readable offline."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np

from nasnet_zoo.cells import Genotype
from nasnet_zoo.files import write_text
from nasnet_zoo.page import CELLS_NOTE, Series, cells_figure, chart, page, table

from .journal import Journal, Record
from .search import ranked

#: What [N] compares with random search in Figure 6: the best, and averages of the best so many.
AVERAGED = (1, 5, 25)
_DRAWN = 5
_POLICY_COLOURS, _RANDOM_COLOURS = ("#12355b", "#2f74b5", "#8bb8de"), ("#8c4a12", "#d07a2c", "#eab88a")


def write_report(
    journal: Journal,
    path: str | os.PathLike[str],
    random: Journal | None = None,
    again: Sequence[Record] = (),
) -> None:
    """Writes the report on a search; an existing file is replaced in one step.

    Args:
        journal: of the search.
        path: of the HTML file.
        random: the journal of a random search of the same space, to compare with at an equal number
            of children.
        again: the best children with the rewards of their training anew, best first, if there was one.

    Raises:
        ValueError: if no child of a journal was trained to the end.
    """
    write_text(path, report_html(journal, random, again))


def report_html(journal: Journal, random: Journal | None = None, again: Sequence[Record] = ()) -> str:
    """The report as one HTML page that refers to nothing outside itself; see `write_report`."""
    records = rewarded(journal)
    best = ranked(records)
    searches = {str(journal.settings.get("policy", "policy")): records}
    if random is not None:
        searches["random search"] = rewarded(random)
    trained = sum(record.same_as is None for record in records)
    minutes = sum(record.seconds or 0.0 for record in records) / 60
    lead = (
        f"Out of {len(records):,} children, {trained:,} of them different, "
        f"<b>{escape(Genotype.from_dict(best[0].genotype).name)}</b> did best with a reward of "
        f"{best[0].reward:.4f}. Their training took {minutes:,.0f} minutes of one process."
    )
    if again:
        lead += (
            f" Of the best {len(again):,}, trained anew for longer, the winner is "
            f"<b>{escape(Genotype.from_dict(again[0].genotype).name)}</b> with a reward of "
            f"{again[0].reward:.4f}."
        )
    top = (again or best)[:_DRAWN]
    cells = "".join(
        cells_figure(place, Genotype.from_dict(record.genotype), f"{record.reward:.4f}{_cost(record)}")
        for place, record in enumerate(top, 1)
    )
    settings = [(name, str(value)) for name, value in journal.settings.items()]
    sections = [
        ("The best children", f"<p>{_BEST_NOTE}</p>{_best_table(searches)}{_best_chart(searches)}"),
        ("How it went", f"<p>{_ROUNDS_NOTE}</p>{_rounds_charts(searches, journal.told())}"),
        ("Operations", f"<p>{_OPERATIONS_NOTE}</p>{_operations_table(best)}"),
        ("The winners", f"<p>{CELLS_NOTE}</p>{cells}"),
        (
            "How it was done",
            f"{table(('setting', 'value'), settings)}<details><summary>The winner as JSON</summary>"
            f"<pre>{escape(json.dumps(top[0].genotype, indent=2))}</pre></details>",
        ),
    ]
    if again:
        sections.insert(1, ("Trained anew", f"<p>{_AGAIN_NOTE}</p>{_again_table(again, best)}"))
    costed = [record for record in best if record.parameters is not None]
    if costed:
        sections.insert(-3, ("Reward against cost", _cost_charts(costed)))
    return page("nasnet-zoo search", "nasnet-zoo search", lead, sections)


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


_BEST_NOTE = (
    "The best child and the averages of the best 5 and 25 different ones, over the number of children "
    "that were sampled, repeated ones counted."
)
_AGAIN_NOTE = (
    "The best children of the search, trained anew for longer. Rewards of the two trainings do not "
    "compare."
)
_ROUNDS_NOTE = (
    "The mean reward of every minibatch, and where the policy has one, the entropy of what a child's "
    "tokens were drawn from: it falls as the policy makes up its mind."
)
_OPERATIONS_NOTE = (
    "How often each operation stands in the best children, and in all different children that were "
    "trained to the end."
)


def rewarded(journal: Journal) -> list[Record]:
    """The children of a journal that have a reward.

    Raises:
        ValueError: if none was trained to the end.
    """
    records = [record for record in journal.children() if record.reward is not None]
    if not ranked(records):
        raise ValueError(f"{journal.path}: expected a search with a trained child. Received: none")
    return records


def _cost(record: Record) -> str:
    if record.parameters is None or record.mult_adds is None:
        return ""
    return f", {record.parameters:,} parameters, {record.mult_adds / 1e6:.2f} M mult-adds"


def _best_table(searches: dict[str, list[Record]]) -> str:
    """The averages where both searches end: at equal budget."""
    children = min(map(len, searches.values()))
    found = {
        name: [averages(records[:children], count)[-1] for count in AVERAGED]
        for name, records in searches.items()
    }
    rows = [
        (name, f"{children:,}", *("-" if math.isnan(value) else f"{value:.4f}" for value in values))
        for name, values in found.items()
    ]
    return table(("search", "children", *map(_average_name, AVERAGED)), rows)


def _again_table(again: Sequence[Record], best: Sequence[Record]) -> str:
    before = {record.number: record for record in best}
    rows = [
        (
            Genotype.from_dict(record.genotype).name,
            f"{before[record.number].reward:.4f}" if record.number in before else "-",
            f"{record.reward:.4f}{_cost(record)}",
        )
        for record in again
    ]
    return table(("child", "reward in the search", "reward trained anew"), rows)


def _average_name(count: int) -> str:
    return "best" if count == 1 else f"average of the best {count}"


def _best_chart(searches: dict[str, list[Record]]) -> str:
    series = []
    for (name, records), colours, dashed in zip(
        searches.items(), (_POLICY_COLOURS, _RANDOM_COLOURS), (False, True), strict=False
    ):
        for count, colour in zip(AVERAGED, colours, strict=True):
            values = [v for v in averages(records, count) if not math.isnan(v)]
            numbers = range(1 + len(records) - len(values), 1 + len(records))
            if values:
                series.append(
                    Series(f"{name}: {_average_name(count)}", numbers, values, colour, dashed)
                )
    return chart(series, "children", "reward")


def _rounds_charts(searches: dict[str, list[Record]], told: Sequence[dict[str, float]]) -> str:
    series = []
    for (name, records), colours, dashed in zip(
        searches.items(), (_POLICY_COLOURS, _RANDOM_COLOURS), (False, True), strict=False
    ):
        rounds: dict[int, list[float]] = {}
        for record in records:
            assert record.reward is not None
            rounds.setdefault(record.round, []).append(record.reward)
        ends = np.cumsum([len(rewards) for rewards in rounds.values()]).tolist()
        means = [float(np.mean(rewards)) for rewards in rounds.values()]
        series.append(Series(name, ends, means, colours[1], dashed))
    charts = [chart(series, "children", "mean reward of a minibatch")]
    entropies = [one["entropy"] for one in told if "entropy" in one]
    if entropies:
        ends = series[0].x[: len(entropies)]
        one = Series("entropy", ends, entropies[: len(ends)], _POLICY_COLOURS[1])
        charts.append(chart([one], "children", "entropy in nats"))
    return f'<div class="side">{"".join(charts)}</div>'


def _cost_charts(records: Sequence[Record]) -> str:
    names = [f"child {record.number}: {record.reward:.4f}{_cost(record)}" for record in records]
    rewards = [record.reward or 0.0 for record in records]
    charts = []
    for title, unit, costs in (
        ("thousand parameters", 1e3, [record.parameters or 0 for record in records]),
        ("million mult-adds", 1e6, [record.mult_adds or 0 for record in records]),
    ):
        scaled = [cost / unit for cost in costs]
        points = Series("children", scaled, rewards, _POLICY_COLOURS[1], names=names)
        charts.append(chart([points], title, "reward"))
    return f'<div class="side">{"".join(charts)}</div>'


def _operations_table(best: Sequence[Record]) -> str:
    chosen = best[: AVERAGED[-1]]
    rows, shares = [], []
    for cell in ("normal", "reduction"):
        among_best, among_all = frequencies(chosen, cell), frequencies(best, cell)
        for name, share in sorted(among_all.items(), key=lambda pair: -among_best.get(pair[0], 0.0)):
            shares.append(among_best.get(name, 0.0))
            rows.append((f"{cell} cell", name, f"{shares[-1]:.1%}", f"{share:.1%}"))
    columns = ("cell", "operation", f"among the best {len(chosen)}", f"among all {len(best):,}")
    return table(columns, rows, shares)
