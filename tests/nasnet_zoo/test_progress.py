"""Bars with the time left: on a terminal, of a command, and beside what is piped."""

import os
import pty
import subprocess
import sys

from nasnet_zoo.progress import showing_progress, track

LOOP = """
from nasnet_zoo.progress import showing_progress, track
with showing_progress():
    for number in track((n for n in range(3)), "measure", 3):
        print("item", number)
"""


def test_a_bar_is_on_the_terminal_and_what_is_printed_stays_in_its_pipe():
    terminal, stderr = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-c", LOOP]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, env=environment, check=True)
    os.close(stderr)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert done.stdout.split() == [b"item", b"0", b"item", b"1", b"item", b"2"]
    assert "measure" in shown
    assert "3/3" in shown
    assert "0:00:0" in shown
    assert "item" not in shown


def test_none_is_shown_elsewhere(capfd):
    with showing_progress():
        assert list(track(range(3), "measure")) == [0, 1, 2]  # no terminal
    assert list(track(range(3), "measure")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")
