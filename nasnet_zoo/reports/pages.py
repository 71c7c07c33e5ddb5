"""HTML pages from Jinja2 templates. Each is one file that is readable offline."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """Fill a template. Values are escaped, except where a template marks them as HTML.

    Args:
        template: Package and name of the file, such as "nasnet_zoo.search/report.html.j2". It extends
            "nasnet_zoo.reports/page.html.j2", which holds the style.
        values: Values of the template's variables.
    """
    return _PAGES.get_template(template).render(values)


def _source(template: str) -> str:
    package, name = template.split("/")
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


_PAGES = jinja2.Environment(
    loader=jinja2.FunctionLoader(_source),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)  # As the script of the page reads them.
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?($|[ %]).*|-?")
_PAGES.tests["number_text"] = lambda text: bool(_NUMBER.fullmatch(text.replace(",", "")))
