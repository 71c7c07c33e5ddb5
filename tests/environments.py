"""Virtual environments in which nothing of ours is installed."""

import subprocess
import sys

import pytest


def environment(folder, *packages):
    """The Python of a new virtual environment that holds these packages alone."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [python, "-m", "pip", "install", "--quiet", *packages]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip(f"pip cannot install {', '.join(packages)}")
    return python


def output_of(*command, cwd):
    """What a command that succeeds prints."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
