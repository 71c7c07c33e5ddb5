"""The code blocks of Markdown pages, and running them: Python in one namespace, shell in one folder.

A block that cannot be run follows a comment, ``<!-- not run: REASON -->``. What a page needs and its
reader has, such as arrays of images, is made by a hidden block, from ``<!-- python`` to ``-->``.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$"
    r"|^<!-- (?P<hidden>python)\n(?P<prepares>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)

# What makes the commands of the pages short. A later option of a command wins over an earlier one.
_SMALL = (
    (r"nasnet-zoo train", "--run.epochs 1 --run.batch-size 8"),
    (r"nasnet-zoo train (cifar10|fashion_mnist(?!.*nas_v1))", "--model.cells 1 --model.filters 4"),
    (r"nasnet-zoo train treecell", "--model.cells 1 --model.width 8 --model.image-size 16"),
    (r"nasnet-zoo search --", "--children 4 --minibatch 2 --budget.steps 10"),
    (r"nasnet-zoo search --(?!.*ray)", "--executor serial"),
    (r"nasnet-zoo search --(?!.*nas-rnn)", "--budget.batch-size 8 --images 40 --image-size 8"),
    (r"nasnet-zoo search --.*nas-rnn", "--budget.model.units 8"),
    (r"nasnet-zoo search --.*--latency-target", "--latency-target child"),
    (r"nasnet-zoo detect train", "--model.preset nasnet_mobile --model.weights None --run.epochs 1"),
    (r"nasnet-zoo detect train", "--model.cells 1 --model.filters 8 --model.image-size 64"),
    (r"nasnet-zoo detect (evaluate|predict|export)", "--image-size 64"),
    (r"nasnet-zoo .*--weights imagenet", "--weights mobile.weights.h5"),
    (r"python examples/pasted.py", "--images 10"),
    (r"python examples/retinanet.py", "--epochs 1"),
    (r"python examples/own_space.py", "--children 10"),
    (r"python examples/finetune.py", "--epochs 1"),
)


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Args:
        page: The page.
        line: Number of the line before its first line.
        language: Language of the block, "" for none.
        code: What stands in it.
        reason: Why it is not run. None if it is.
        hidden: Whether a reader does not see it.
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str | None
    hidden: bool


def blocks_of(page):
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        hidden = match["hidden"] is not None
        code = match["prepares"] if hidden else match["code"]
        start = match.start("prepares" if hidden else "code")
        language = match["hidden"] or match["language"]
        yield Block(page, text.count("\n", 0, start), language, code, match["reason"], hidden)


def commands_of(page):
    """The words of each of our commands in a page's shell blocks, run or not."""
    for block in blocks_of(page):
        if block.language == "sh":
            for line in block.code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["nasnet-zoo"]:
                    yield words[1:]


def run_page(page, folder, monkeypatch):
    """Run the blocks of a page in a folder: those of Python here, in one module, as one script."""
    script = folder / f"{page.stem.replace('-', '_')}_page.py"
    module = types.ModuleType("__main__")
    module.__file__, module.__spec__ = str(script), None
    monkeypatch.setitem(sys.modules, "__main__", module)  # what workers import, and pickle looks up
    monkeypatch.chdir(folder)
    environment = {**os.environ, "PATH": f"{_commands(folder)}:{os.environ['PATH']}"}
    for block in blocks_of(page):
        if block.reason is not None:
            continue
        if block.language == "python":
            with script.open("a", encoding="utf-8") as lines:
                lines.write(block.code)
            code = compile("\n" * block.line + block.code, str(page), "exec", dont_inherit=True)
            exec(code, vars(module))
        elif block.language == "sh":
            shell = ["bash", "-euo", "pipefail", "-c", block.code]
            done = subprocess.run(shell, cwd=folder, env=environment, text=True, capture_output=True)
            place = f"{page.name}, line {block.line}"
            assert done.returncode == 0, f"{place}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        elif block.language == "json":
            json.loads(block.code)


def _commands(folder):
    """A folder with the commands of the pages, which run with small budgets."""
    commands = folder / ".commands"
    commands.mkdir()
    for name in ("nasnet-zoo", "python"):
        (commands / name).write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\n"
            f"import doc_pages\ndoc_pages.run_small({name!r}, sys.argv[1:])\n"
        )
        (commands / name).chmod(0o755)
    return commands


def run_small(name, words):
    """Become the command, with the options that make it short."""
    module = ["-m", "nasnet_zoo"] if name == "nasnet-zoo" else []
    os.execv(sys.executable, [sys.executable, *module, *words, *small_options(name, words)])


def small_options(name, words):
    """The options that make a command short."""
    line = " ".join([name, *words])
    return " ".join(options for pattern, options in _SMALL if re.match(pattern, line)).split()
