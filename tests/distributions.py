"""The package as users get it: its sources in a folder of their own, and the wheel built of them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def source_files():
    """Paths of all files of the project, relative to it, without what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(name) for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def copy_sources(folder):
    """Copies the project, without what was built in it."""
    for path in source_files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)
    return folder


def build_wheel(out):
    """Builds the wheel as pip does; gives its path."""
    with tempfile.TemporaryDirectory() as folder:
        sources = os.fspath(copy_sources(Path(folder)))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", os.fspath(out)]
        subprocess.run([*command, sources], check=True)
    (wheel,) = out.glob("*.whl")
    return wheel
