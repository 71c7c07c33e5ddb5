"""The figures of ``--json`` as docs/command-line.md documents them: an example for every command."""

import json
import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text()
_BLOCK = re.compile(r"^### ([^\n]*)\n(?:(?!^###).)*?```json\n(.*?)```", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    name: json.loads(example)
    for heading, example in _BLOCK.findall(PAGE)
    for name in re.findall("`(.*?)`", heading)
}
#: Objects whose keys are names of the user's data, and costs of children, which depend on the search.
_FREE = ("metrics", "missing", "operators", "seconds")
_COSTS = {"parameters", "mult_adds", "activation_memory"}


def check_figures(command, figures):
    """Asserts that figures have the documented keys and kinds of values."""
    _compare(EXAMPLES[command], figures, command)


def _compare(example, found, place):
    if example is None or found is None:  # a number that is not there
        return
    assert _kind(found) == _kind(example), place
    if isinstance(example, list) and example and found:
        _compare(example[0], found[0], f"{place}[0]")
    if isinstance(example, dict):
        if place.rpartition(".")[2] not in _FREE:
            missing, more = example.keys() - found.keys(), found.keys() - example.keys()
            assert not missing - _COSTS, place
            assert not more or "search" in place, place
        for name in example.keys() & found.keys():
            _compare(example[name], found[name], f"{place}.{name}")


def _kind(value):
    numbers = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if numbers else type(value).__name__
