import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import chromium
import pytest
from documented import check_figures
from evaluators import Function

from nasnet_zoo.cells import Genotype, register_operation
from nasnet_zoo.cells.operations import OPERATIONS
from nasnet_zoo.demo import DemoResult, ExportedFile
from nasnet_zoo.demo import report_html as demo_html
from nasnet_zoo.reports.charts import Series, chart
from nasnet_zoo.search import (
    Journal,
    NASNetSpace,
    Proposal,
    Result,
    Serial,
    Synchronous,
    run_search,
)
from nasnet_zoo.search.report import (
    averages,
    family,
    mean_features,
    ranking_table,
    report_values,
    write_report,
)
from nasnet_zoo.search.search import ranked

pytestmark = pytest.mark.tensorflow

SPACE = NASNetSpace(blocks=1, operations=("identity", "sep_3x3"), combinations=("add",), cells=2)
# Operation, operation of the normal and of the reduction cell; one child comes twice.
CHILDREN = [(0, 0, 0, 0), (1, 1, 0, 0), (0, 1, 0, 0), (1, 1, 1, 1), (0, 1, 0, 0), (1, 1, 0, 1)]
REWARDS = [0.5, 0.8, 0.6, 0.9, 0.6, 0.7]


class Listed:
    """A policy that asks for given children, and tells an entropy."""

    def __init__(self, children):
        self.children, self.asked, self.version = children, 0, 0

    def ask(self, count):
        self.asked += count
        rows = self.children[self.asked - count : self.asked]
        return [Proposal((0, 0, a, b, 0, 0, 0, c, d, 0), self.version) for a, b, c, d in rows]

    def tell(self, minibatch):
        return {"entropy": 7.0 - self.asked}

    def state(self):
        return {}


def searched(path, children=CHILDREN, **settings):
    keys = [SPACE.key(SPACE.decode(Listed([c]).ask(1)[0].actions)) for c in CHILDREN]
    rewards = dict(zip(keys, REWARDS, strict=True))

    def train(trial):
        return Result(rewards[SPACE.key(trial.child)])

    cost = {"parameters": 1007, "mult_adds": 2_500_000}
    executor = Serial(Function(train, lambda genotype: cost))
    journal = Journal(path, settings)
    run_search(Listed(children), SPACE, executor, journal, len(children), Synchronous(2))
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


def test_a_chart_is_drawn_in_the_order_of_its_series():
    """So that a few references are not hidden under hundreds of children."""
    children = Series("children", [1], [1], names=["one"])
    front = Series("front", [0, 2], [0, 2], "#123456")
    references = Series("references", [1], [1], "#abcdef", names=["two"], mark="D")
    drawn = chart([children, front, references], "parameters", "accuracy")
    places = [drawn.index(part) for part in ("<title>one<", "stroke: #123456", "<title>two<")]
    assert places == sorted(places)


def test_the_bars_of_a_ranking_are_shares_of_the_best_reward_above_1(tmp_path):
    best = ranked(searched(tmp_path / "j.sqlite").children())
    assert ranking_table(best)[2] == [0.9, 0.8, 0.7, 0.6, 0.5]
    large = [
        replace(best[0], reward=50.0),
        replace(best[1], reward=10.0),
        replace(best[2], reward=-1.0),
    ]
    assert ranking_table(large)[2] == [1.0, 0.2, 0.0]


def test_shares_of_operations_by_hand(tmp_path):
    best = ranked(searched(tmp_path / "j.sqlite").children())
    assert [record.reward for record in best] == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert mean_features(best[:2], SPACE) == {
        "normal cell: sep_3x3": 1.0,
        "reduction cell: sep_3x3": 0.5,
        "reduction cell: identity": 0.5,
    }
    whole = mean_features(best, SPACE)
    assert whole["normal cell: sep_3x3"] == pytest.approx(0.7)
    assert whole["normal cell: identity"] == pytest.approx(0.3)


class Page(HTMLParser):
    """The tags, attributes and text of a page whose tags are all closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def check_refers_to_nothing(self):
        assert {"img", "link", "iframe", "a"}.isdisjoint(self.tags)
        assert self.tags.count("script") == 1  # ours, that sorts tables
        assert not [name for name, _ in self.attributes if name == "src" or name.startswith("on")]
        addresses = [value for name, value in self.attributes if name in ("href", "src")]
        assert all(value.startswith("#") for value in addresses)
        names = [value for name, value in self.attributes if name == "id"]
        assert len(names) == len(set(names))
        assert {value[1:] for value in addresses} <= set(names)


def written(path, *arguments, **options):
    write_report(arguments[0], SPACE, path, *arguments[1:], **options)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    page.check_refers_to_nothing()
    return html, page


def test_the_report_shows_what_the_journal_holds(tmp_path):
    journal = searched(tmp_path / "j.sqlite", policy="ppo", seed=5)
    random = searched(tmp_path / "r.sqlite", CHILDREN[:4])
    html, page = written(tmp_path / "report.html", journal, random)
    # At the budget of the shorter one: 4 children, all different, fewer than 5.
    for name in ("ppo", "random search"):
        assert row(html, name) == [name, "4", "0.9000", "-", "-"]
    assert "best 25" not in page.text[page.text.index("reward against children") :]
    assert row(html, "1") == ["1", "child 3", "0.9000", "1,007", "2.50 M", "0"]
    assert row(html, "normal cell: sep_3x3") == ["normal cell: sep_3x3", "0.7", "0.7"]
    assert row(html, "seed") == ["seed", "5"]
    assert "Out of 6 children, 5 of them different, <b>child 3</b> did best" in html
    # Under the pointer, of both costs, and under the cell.
    figures = "child 3: 0.9000, 1,007 parameters, 2.50 M mult-adds"
    assert html.count(f"{figures}\nnormal cell: 2 = add(sep_3x3 of") == 2
    assert page.tags.count("figure") == 5
    assert page.tags.count("svg") == 5 + 5
    assert html.count("entropy in nats against children") == 1
    # The same journal, the same bytes.
    assert written(tmp_path / "again.html", journal, random)[0] == html


def test_the_family_of_the_winner_by_hand(tmp_path):
    journal = searched(tmp_path / "j.sqlite", policy="evolution")
    assert "Family tree" not in written(tmp_path / "alone.html", journal)[0]
    # Child 3, the winner, is a mutation of child 4, which has the reward of child 2, that of child 0.
    parents = {3: 4, 2: 0, 5: 0, 4: 1}
    records = [replace(record, parent=parents.get(record.number)) for record in journal.children()]
    assert [record.number for record in family(records[3], records)] == [0, 2, 3]
    journal.commit_results(records)
    html, _ = written(tmp_path / "report.html", journal)
    assert "<h2>Family tree</h2>" in html
    table = html[html.index("<h2>Family tree</h2>") :]
    assert row(table, "child 0")[:3] == ["child 0", "0.5000", ""]
    assert row(table, "child 2")[:3] == ["child 2", "0.6000", "+0.1000"]
    assert row(table, "child 3")[:3] == ["child 3", "0.9000", "+0.3000"]
    assert "sep_3x3" in row(table, "child 3")[3]


def test_the_winner_is_the_best_of_those_that_were_retrained(tmp_path):
    journal = searched(tmp_path / "j.sqlite", policy="ppo")
    best = ranked(journal.children())
    retrained = [replace(best[1], reward=0.95), replace(best[0], reward=0.93)]
    html, page = written(tmp_path / "report.html", journal, retrained=retrained)
    assert "<b>child 3</b> did best with a reward of 0.9000" in html
    assert "Of the best 2, retrained for longer, the winner is <b>child 1</b>" in html
    assert row(html, "child 1") == ["child 1", "0.8000", "0.9500", "1,007", "2.50 M"]
    assert page.tags.count("figure") == 2
    (shown,) = re.findall(r"<summary>The winner as JSON</summary><pre>(.*?)</pre>", html, re.DOTALL)
    winner = Genotype.from_json(unescape(shown))
    assert winner.name == "child 1"
    assert winner.to_dict() == {"name": "child 1", **retrained[0].architecture}


def row(html, first):
    (found,) = re.findall(rf"<tr><td[^>]*>{first}</td>.*?</tr>", html)[:1]
    return re.findall(r"<td[^>]*>(.*?)</td>", found)


def test_names_are_text(tmp_path):
    """Names of operations, policies and data sets come from users and files."""
    odd = "<script>alert('$x$')</script>"
    register_operation(odd, lambda stride, channels, filters: (), label=odd)
    try:
        journal = searched(tmp_path / "j.sqlite", policy=odd, data="a<b>&amp;")
        record = ranked(journal.children())[0]
        block = {"inputs": [0, 1], "operations": [odd, "identity"], "combination": "add"}
        cell = {**record.architecture["normal"], "blocks": [block]}
        retrained = [replace(record, architecture={"normal": cell, "reduction": cell})]
        html, page = written(tmp_path / "report.html", journal, retrained=retrained)
    finally:
        del OPERATIONS[odd]
    assert page.text.count(odd) >= 4
    assert "a<b>&amp;" in page.text
    assert html.count("<script") == 1


def test_the_demos_report_is_the_searchs_with_the_winners_files(tmp_path):
    journal = searched(tmp_path / "j.sqlite", policy="ppo", seed=5)
    onnx = ExportedFile("model.onnx", "ONNX", "ONNX Runtime", 2_340_000, 0.00123, 0.929, 3e-6)
    result = DemoResult(
        data="Data set <a&b>: 12 images.",
        training="Trained.",
        ranking=tuple(ranked(journal.children())),
        search=report_values(journal, SPACE),
        accuracy=0.934,
        exports=(onnx,),
        steps=(("train", 61.0), ("export", 59.0)),
    )
    check_figures("demo", result.figures())
    html = demo_html(result)
    page = Page(html)
    page.check_refers_to_nothing()
    assert row(html, "ONNX") == ["ONNX", "ONNX Runtime", "2.34 MB", "1.23 ms", "92.9%", "3.0e-06"]
    assert row(html, "export") == ["export", "59.0 s"]
    for text in ("93.4%", "2.0 minutes", "Trained.", "<a&b>", "child 3 did best"):
        assert text in page.text
    write_report(journal, SPACE, tmp_path / "report.html")
    headings = re.findall("<h2>.*?</h2>", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert re.findall("<h2>.*?</h2>", html) == ["<h2>The winner's files</h2>", *headings]


def test_a_browser_sorts_tables_and_a_phone_shows_the_page_whole(tmp_path):
    journal = searched(tmp_path / "j.sqlite", policy="ppo", data="digits " * 40)
    write_report(journal, SPACE, tmp_path / "report.html")
    frame = '<!doctype html><iframe src="report.html" width="390" height="800"></iframe>'
    (tmp_path / "phone.html").write_text(frame)
    phone = tmp_path / "profile"
    with chromium.served(tmp_path) as site, chromium.page(f"{site}/phone.html", phone) as wait_for:
        wait_for("(inner = frames[0].document).readyState == 'complete' && !!inner.body")
        # Wide tables scroll by themselves.
        wait_for("(root = inner.documentElement).scrollWidth == root.clientWidth")
        wait_for("(tables = [...inner.querySelectorAll('table')]).length")
        wait_for("!!(ranking = tables.find(table => /rank/.test(table.innerText)))")

        def shown(heading):
            """Children and costs after a choice of a heading."""
            choose = f"[...ranking.querySelectorAll('button')].find(b => b.textContent == '{heading}')"
            cells = "r => r.cells[1].textContent + ' ' + r.cells[2].textContent"
            table = f"[...ranking.tBodies[0].rows].map({cells}).join()"
            return wait_for(f"{choose}.click(), {table}").split(",")

        best_first = [f"{record.name} {record.reward:.4f}" for record in ranked(journal.children())]
        assert shown("reward") == best_first[::-1]
        assert shown("reward") == best_first
        assert shown("child") == sorted(best_first)
        assert wait_for("ranking.querySelectorAll('[aria-sort]').length") == 1


def test_a_report_needs_a_trained_child(tmp_path):
    with pytest.raises(ValueError, match="j.sqlite: expected a search with a trained child"):
        report_values(Journal(tmp_path / "j.sqlite", {}), SPACE)


def test_a_journal_opens_with_the_settings_it_was_begun_with(tmp_path):
    searched(tmp_path / "j.sqlite", policy="ppo").close()
    assert Journal(tmp_path / "j.sqlite").settings == {"policy": "ppo"}
    with pytest.raises(ValueError, match=r"no.sqlite: expected the journal .* no such file"):
        Journal(tmp_path / "no.sqlite")
