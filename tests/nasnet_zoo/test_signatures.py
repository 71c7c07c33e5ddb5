"""The builders' arguments, as a type checker and an editor see them."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import nasnet_zoo as zoo
from nasnet_zoo.presets import PRESETS

ROOT = Path(__file__).parents[2]
PROGRAM = """\
from nasnet_zoo import NASNetLarge, NASNetMobile

NASNetMobile((96, 96, 3), classes=10, drop_path_keep=0.9, drop_path_steps=100, pooling=None)
NASNetLarge(include_top=False, weights="imagenet", class_names=["a", "b"])
NASNetMobile(class_count=10)
NASNetLarge(classes="ten")
NASNetMobile((96, 96, 3), pooling="median")
"""


def test_a_type_checker_knows_the_arguments_of_the_builders(tmp_path):
    package = tmp_path / "nasnet_zoo"
    package.mkdir()
    for part in (*(ROOT / "nasnet_zoo").iterdir(), ROOT / "cells", ROOT / "search", ROOT / "export"):
        (package / part.name).symlink_to(part)
    (tmp_path / "program.py").write_text(PROGRAM)
    options = ["--config-file", ROOT / "pyproject.toml", "--follow-imports", "silent"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir", tmp_path / "cache", "program.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    errors = re.findall(r"^program\.py:(\d+): error: (.*?)  \[", checked.stdout, re.MULTILINE)
    assert [int(line) for line, _ in errors] == [5, 6, 7], checked.stdout + checked.stderr
    assert "class_count" in errors[0][1]


def test_an_editor_shows_the_arguments_of_the_builders():
    defaults = {}
    for name in zoo.__all__:
        value = getattr(zoo, name)
        parameters = inspect.signature(value).parameters if callable(value) else {}
        if "pool_padding" in parameters:
            defaults[parameters["name"].default] = parameters["classes"].default
            assert all(f"    {argument}: " in value.__doc__ for argument in parameters)
    assert defaults == {name: PRESETS[name].classes for name in zoo.list_models()}
