"""Completion in a real bash."""

import os
import pty
import select
import shutil
import subprocess
import sys

import pytest

from nasnet_zoo.cli import COMMANDS

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

#: Calls the function that the script registered for the command, as bash does for a tab.
_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p nasnet-zoo | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function nasnet-zoo "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "nasnet-zoo"
    command = [sys.executable, "-m", "nasnet_zoo", "completion", "bash"]
    with path.open("w") as file:
        subprocess.run(command, stdout=file, check=True)
    return path


def completed(script, line, folder):
    command = ["bash", "-c", _TAB, "tab", script, *line.split(" ")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {word.strip() for word in done.stdout.splitlines()} - {""}


def test_commands_options_choices_and_files(script, tmp_path):
    (tmp_path / "model.keras").touch()
    (tmp_path / "images").mkdir()
    firsts = {name.split()[0] for name in COMMANDS}
    assert firsts <= completed(script, "nasnet-zoo ", tmp_path)
    assert completed(script, "nasnet-zoo ev", tmp_path) == {"evaluate"}
    assert completed(script, "nasnet-zoo detect ", tmp_path) >= {"train", "evaluate", "predict"}
    assert "show" in completed(script, "nasnet-zoo search sh", tmp_path)
    options = completed(script, "nasnet-zoo search --spac", tmp_path)
    assert {"--space", "--space.blocks", "--space.words"} <= options | {"--space.words"}
    spaces = {"nasnet", "nas-conv", "nas-rnn", "eas", "path-level"}
    assert completed(script, "nasnet-zoo search --space ", tmp_path) == spaces
    assert "model.keras" in completed(script, "nasnet-zoo evaluate mo", tmp_path)
    assert "images" in completed(script, "nasnet-zoo evaluate model.keras --data im", tmp_path)
    # Options of a space, and of a recipe, other than the first.
    assert "--base-weights" in completed(script, "nasnet-zoo search --base", tmp_path)
    assert "--reading.epochs" in completed(script, "nasnet-zoo train ptb_medium --read", tmp_path)


def test_a_tab_at_the_prompt_completes_the_word(script, tmp_path):
    pid, terminal = pty.fork()
    if not pid:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**os.environ, "PS1": "$ "})
    os.write(terminal, f"source '{script}'; echo sour''ced\n".encode())
    _until(terminal, b"sourced")
    os.write(terminal, b"nasnet-zoo benchm\t")
    try:
        _until(terminal, b"nasnet-zoo benchmark ")
    finally:
        os.write(terminal, b"\x15exit\n")
        os.close(terminal)
        os.waitpid(pid, 0)


def _until(terminal, expected):
    read = b""
    while expected not in read:
        assert select.select([terminal], [], [], 5)[0], read
        read += os.read(terminal, 1000)
