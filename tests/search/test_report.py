import re
from dataclasses import replace
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest

from nasnet_zoo.cells import Cost, Genotype
from nasnet_zoo.page import Series, chart
from nasnet_zoo.search import SearchSpace
from nasnet_zoo.search.child import Trained
from nasnet_zoo.search.journal import Journal
from nasnet_zoo.search.report import averages, frequencies, report_html, write_report
from nasnet_zoo.search.search import Here, ranked, run_search

pytestmark = pytest.mark.tensorflow

SPACE = SearchSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=2)
# Operation, operation of the normal and of the reduction cell; one child comes twice.
CHILDREN = [(0, 0, 0, 0), (1, 1, 0, 0), (0, 1, 0, 0), (1, 1, 1, 1), (0, 1, 0, 0), (1, 1, 0, 1)]
REWARDS = [0.5, 0.8, 0.6, 0.9, 0.6, 0.7]


class Listed:
    """A policy that asks for given children, and tells an entropy."""

    def __init__(self, children):
        self.children, self.asked = children, 0

    def ask(self, count):
        self.asked += count
        rows = self.children[self.asked - count : self.asked]
        return np.array([[0, 0, a, b, 0, 0, 0, c, d, 0] for a, b, c, d in rows], np.int32)

    def log_probabilities(self, tokens):
        return None

    def tell(self, tokens, rewards):
        return {"entropy": 7.0 - self.asked}

    def state(self):
        return {}


def searched(path, children=CHILDREN, **settings):
    rewards = {
        SPACE.canonical(Listed([c]).ask(1)[0]): r for c, r in zip(CHILDREN, REWARDS, strict=True)
    }

    def train(job):
        return Trained((rewards[SPACE.canonical(SPACE.tokens(job.genotype))],), (1.0,))

    def cost(genotype):
        return Cost(1000 + len(genotype.name), 10, 2_500_000)

    journal = Journal(path, settings)
    run_search(Listed(children), SPACE, Here(train), journal, len(children), minibatch=2, cost=cost)
    return journal


def test_averages_of_the_best_different_children_by_hand(tmp_path):
    records = searched(tmp_path / "j.sqlite").children()
    assert averages(records, 1) == [0.5, 0.8, 0.8, 0.9, 0.9, 0.9]
    # The fifth child is the third again, and counts once.
    nan = float("nan")
    expected = [nan, nan, 1.9 / 3, 2.3 / 3, 2.3 / 3, 2.4 / 3]
    assert averages(records, 3) == pytest.approx(expected, nan_ok=True)
    mean = (0.9 + 0.8 + 0.7 + 0.6 + 0.5) / 5
    assert averages(records, 5) == pytest.approx([nan] * 5 + [mean], nan_ok=True)


def test_frequencies_of_operations_by_hand(tmp_path):
    best = ranked(searched(tmp_path / "j.sqlite").children())
    assert [record.reward for record in best] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert frequencies(best[:2], "normal") == {"sep_3x3": 1.0}
    assert frequencies(best[:2], "reduction") == {"sep_3x3": 0.5, "identity": 0.5}
    assert frequencies(best, "normal") == {"sep_3x3": 0.7, "identity": 0.3}


def test_the_report_tells_what_the_journal_holds(tmp_path):
    journal = searched(tmp_path / "j.sqlite", policy="ppo", seed=5)
    random = searched(tmp_path / "r.sqlite", CHILDREN[:4])
    write_report(journal, tmp_path / "report.html", random)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    # At the budget of the shorter one: 4 children, all different, of which no 5 are the best.
    for name in ("ppo", "random search"):
        assert row(html, name) == [name, "4", "0.9000", "-", "-"]
    (legend,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)[:1]
    assert "best 25" not in legend
    assert row(html, "normal cell") == ["normal cell", "sep_3x3", "70.0%", "70.0%"]
    assert row(html, "seed") == ["seed", "5"]
    assert "Out of 6 children, 5 of them different, <b>child 3</b> did best" in html
    assert "child 3: 0.9000, 1,007 parameters, 2.50 M mult-adds" in html
    assert html.count("<figure>") == 5
    assert html.count("entropy in nats against children") == 1
    # It refers to nothing else: only names of formats are addresses.
    assert set(re.findall(r"https?://[^\"']+", html)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in html


def test_the_winner_is_the_best_of_those_trained_anew(tmp_path):
    journal = searched(tmp_path / "j.sqlite", policy="ppo")
    best = ranked(journal.children())
    again = [replace(best[1], reward=0.95), replace(best[0], reward=0.93)]
    html = report_html(journal, again=again)
    assert "<b>child 3</b> did best with a reward of 0.9000" in html
    assert "Of the best 2, trained anew for longer, the winner is <b>child 1</b>" in html
    assert row(html, "child 1")[:2] == ["child 1", "0.8000"]
    assert row(html, "child 1")[2].startswith("0.9500")
    assert html.count("<figure>") == 2
    (shown,) = re.findall(r"<summary>The winner as JSON</summary><pre>(.*?)</pre>", html, re.DOTALL)
    assert Genotype.from_json(unescape(shown)) == Genotype.from_dict(again[0].genotype)


def row(html, first):
    (found,) = re.findall(rf"<tr><td>{first}</td>.*?</tr>", html)[:1]
    return re.findall(r"<td[^>]*>(.*?)</td>", found)


def test_a_report_needs_a_trained_child(tmp_path):
    with pytest.raises(ValueError, match="j.sqlite: expected a search with a trained child"):
        report_html(Journal(tmp_path / "j.sqlite", {}))


def test_a_journal_opens_with_the_settings_it_was_begun_with(tmp_path):
    searched(tmp_path / "j.sqlite", policy="ppo").close()
    assert Journal(tmp_path / "j.sqlite").settings == {"policy": "ppo"}
    with pytest.raises(ValueError, match=r"no.sqlite: expected the journal .* no such file"):
        Journal(tmp_path / "no.sqlite")


def test_a_charts_points_stand_where_its_axes_say():
    svg = chart([Series("one", [0, 50, 100], [0.5, 0.6, 1.0], "#000", names="abc")], "x", "y")
    root = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    labels = {e.text: e for e in root.iter(f"{space}text")}
    points = [(float(e.get("cx")), float(e.get("cy"))) for e in root.iter(f"{space}circle")]
    for k, text in ((0, "0"), (2, "100")):
        assert points[k][0] == pytest.approx(float(labels[text].get("x")), abs=0.1)
    for k, text in ((0, "0.5"), (1, "0.6"), (2, "1")):
        assert points[k][1] == pytest.approx(float(labels[text].get("y")) - 4, abs=0.1)
