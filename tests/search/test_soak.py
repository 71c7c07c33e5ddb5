"""A short soak: real children, real processes, workers that are killed (`benchmarks/soak.py`)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.parametrize("options", [[], ["--kill-driver"]])
def test_the_account_adds_up(tmp_path, options):
    command = [sys.executable, SOAK, "--out", tmp_path / "soak", "--children", "20", "--kills", "4"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "20 asked = " in done.stdout
    workers, drivers = map(int, re.search(r"(\d+) workers and (\d+) drivers", done.stdout).groups())
    assert 0 < workers + drivers <= 4
