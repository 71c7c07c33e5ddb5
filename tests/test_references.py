"""Every source that a docstring or comment cites by a tag is listed in docs/references.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_cited_tag_is_defined_once_and_every_defined_tag_is_cited():
    defined = re.findall(r"^\| \[(\w+)\] \|", (ROOT / "docs/references.md").read_text(), re.M)
    cited = set()
    for folder in ("cells", "nasnet_zoo", "search", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            for text in re.findall(r'#[^\n]*|""".*?"""', path.read_text(), re.S):
                cited |= set(re.findall(r"(?<![\w`.])\[([A-Z]|[A-Z]{2,})\](?![\w(`])", text))
    assert sorted(defined) == sorted(cited)
