"""The site that `make docs` builds: its links, what it loads, and its pages on a phone."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from chromium import page, served
from doc_pages import ROOT
from filelock import FileLock

pytest.importorskip("mkdocstrings")
pytestmark = pytest.mark.slow
PIP = "pip install --quiet --disable-pip-version-check --no-deps --target build/package ."


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    (ROOT / "build").mkdir(exist_ok=True)
    with FileLock(ROOT / "build/site.lock"):  # another worker may build one
        shutil.rmtree(ROOT / "build/package", ignore_errors=True)
        for command in (PIP, f"mkdocs build --strict --site-dir {folder}"):
            words = [sys.executable, "-m", *command.split()]
            built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
            assert built.returncode == 0, built.stderr[-3000:]
    return folder


def pages_of(site):
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]


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


def test_links_lead_to_pages_and_places_of_the_site(site):
    parsed = {path: _Links(path.read_text(encoding="utf-8")) for path in pages_of(site)}
    broken = []
    for path, links in parsed.items():
        for link in links.links + links.loads:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = parsed[target].names if target in parsed else {""}
            if not target.exists() or unquote(parts.fragment) not in known | {""}:
                broken.append((path.name, link))
    assert not broken
    elsewhere = {load for links in parsed.values() for load in links.loads if urlsplit(load).scheme}
    assert not elsewhere


def test_styles_load_nothing_from_elsewhere(site):
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:", path.read_text(encoding="utf-8")), path


def test_pages_in_a_browser(site, tmp_path):
    """On a phone: no errors, every picture is there, and nothing is wider than the screen."""
    wide, missing = [], []
    with served(site) as root, page(f"{root}/index.html", tmp_path) as shown:
        shown.resize(390, 844)
        for path in (path.relative_to(site).as_posix() for path in pages_of(site)):
            shown.open(f"{root}/{path}")
            width = shown("document.documentElement.scrollWidth")
            if width > 390:
                wide.append((path, width))
            unseen = "[...document.images].filter((image) => !image.naturalWidth)"
            missing += shown(f"[{unseen}.map((image) => image.src)]")[0]
        assert not shown.errors
    assert not missing
    assert not wide


def test_search_finds_a_page(site, tmp_path):
    with served(site) as root, page(f"{root}/index.html?q=ScheduledDropPath", tmp_path) as shown:
        shown("document.querySelectorAll('.md-search-result__item').length")
        assert not shown.errors
