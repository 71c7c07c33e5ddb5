"""The site that `make docs` builds: its links, what it loads, and its pages on a phone."""

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import page, served
from doc_pages import ROOT

pytestmark = pytest.mark.slow
SITE = ROOT / "build/site"


@pytest.fixture(scope="module")
def pages():
    """The pages of the site by their paths in it."""
    built = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return {path.relative_to(SITE): path for path in sorted(SITE.rglob("*.html"))}


class _Links(HTMLParser):
    """The names that can be led to, the links, and what the page loads."""

    def __init__(self, text):
        super().__init__()
        self.names, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag in ("img", "script") and found.get("src"):
            self.loads.append(found["src"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(found["href"])


def test_links_lead_to_pages_and_places_of_the_site(pages):
    parsed = {path: _Links(path.read_text(encoding="utf-8")) for path in pages.values()}
    broken = []
    for path, links in parsed.items():
        for link in links.links + links.loads:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = parsed[target].names if target in parsed else {""}
            if not target.exists() or unquote(parts.fragment) not in known | {""}:
                broken.append((path.name, link))
    assert not broken
    elsewhere = {load for links in parsed.values() for load in links.loads if urlsplit(load).scheme}
    assert not elsewhere


def test_styles_and_scripts_load_nothing_from_elsewhere():
    for path in SITE.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:", path.read_text(encoding="utf-8")), path


def test_pages_in_a_browser(pages, tmp_path):
    """On a phone: no errors, every picture is there, and nothing is wider than the screen."""
    wide, missing = [], []
    with served(SITE) as root, page(f"{root}/index.html", tmp_path) as shown:
        shown.resize(390, 844)
        for path in map(Path.as_posix, pages):
            if path == "404.html":
                continue
            shown.open(f"{root}/{path}")
            width = shown("document.documentElement.scrollWidth")
            if width > 390:
                wide.append((path, width))
            unseen = "[...document.images].filter((image) => !image.naturalWidth)"
            missing += shown(f"[{unseen}.map((image) => image.src)]")[0]
        assert not shown.errors
    assert not missing
    assert not wide


def test_search_finds_a_page(pages, tmp_path):
    with served(SITE) as root, page(f"{root}/index.html?q=ScheduledDropPath", tmp_path) as shown:
        shown("document.querySelectorAll('.md-search-result__item').length")
        assert not shown.errors
