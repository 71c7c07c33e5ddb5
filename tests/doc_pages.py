"""The code blocks of Markdown pages, and running them: all of a page in one process and one folder.

A block that cannot be run follows a comment, ``<!-- not run: REASON -->``. What a page needs and its
reader has, such as arrays of images, is made by a hidden block, from ``<!-- python`` to ``-->``.
"""

import glob
import json
import re
import shlex
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from nasnet_zoo import cli

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
    (r"nasnet-zoo detect train", "--run.epochs 1 --model.image-size 64"),
    (r"nasnet-zoo detect train pasted", "--model.cells 1 --model.filters 8"),
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
            for words in map(_words, _lines(block.code)):
                if words[:1] == ["nasnet-zoo"]:
                    yield words[1 : words.index(">") if ">" in words else None]


def run_page(page, folder, monkeypatch):
    """Run the blocks of a page in a folder. Those of Python are one module, and one script."""
    script = folder / f"{page.stem.replace('-', '_')}_page.py"
    module = types.ModuleType("__main__")
    module.__file__, module.__spec__ = str(script), None
    monkeypatch.setitem(sys.modules, "__main__", module)  # what workers import, and pickle looks up
    monkeypatch.chdir(folder)
    for block in blocks_of(page):
        if block.reason is not None:
            continue
        if block.language == "python":
            with script.open("a", encoding="utf-8") as lines:
                lines.write(block.code)
            code = compile("\n" * block.line + block.code, str(page), "exec", dont_inherit=True)
            exec(code, vars(module))
        elif block.language == "sh":
            for line in _lines(block.code):
                assert _run_line(line) == 0, f"{page.name}, block of line {block.line}: {line}"
        elif block.language == "json":
            json.loads(block.code)


def small_options(words):
    """The options that make a command short."""
    line = " ".join(words)
    return " ".join(options for pattern, options in _SMALL if re.match(pattern, line)).split()


def _lines(code):
    """The commands of a shell block."""
    return [line for line in code.replace("\\\n", " ").splitlines() if _words(line)]


def _words(line):
    return shlex.split(line, comments=True)


def _run_line(line):
    """The exit status of a command. Ours run in this process, which has imported TensorFlow already."""
    words = [name for word in _words(line) for name in sorted(glob.glob(word)) or [word]]
    words += small_options(words)
    if words[0] == "nasnet-zoo":
        return cli.main(words[1:])
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]]).returncode
    return subprocess.run(line, shell=True).returncode
