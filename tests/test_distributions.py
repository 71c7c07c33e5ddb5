"""The wheel and the sdist: what is in them, and that equal sources give equal bytes."""

import configparser
import os
import re
import subprocess
import tarfile
import venv
import zipfile
from datetime import date
from pathlib import Path

import pytest
from distributions import ROOT, copy_sources, source_files
from packaging.specifiers import SpecifierSet

import nasnet_zoo

_BUILD = """
from setuptools import build_meta
build_meta.build_sdist("dist")
build_meta.build_wheel("dist")
"""
#: Folders of the project, and where they stand in the package.
_PLACES = {"nasnet_zoo": "nasnet_zoo", "cells": "nasnet_zoo/cells"}
_PLACES |= {"search": "nasnet_zoo/search", "export": "nasnet_zoo/export"}


def setup():
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg")
    return read


def test_the_classifiers_name_every_python_that_is_supported():
    named = re.findall(r"Python :: (3\.\d+)", setup()["metadata"]["classifiers"])
    assert named == ["3.11", "3.12", "3.13"]
    allowed = SpecifierSet(setup()["options"]["python_requires"])
    assert [f"3.{n}" for n in range(8, 14) if f"3.{n}" in allowed] == named


def test_every_folder_with_python_files_is_a_package():
    folders = {path.parent for path in source_files() if path.suffix == ".py"}
    made = {
        f"{_PLACES[folder.parts[0]]}/{'/'.join(folder.parts[1:])}".strip("/").replace("/", ".")
        for folder in folders
        if folder.parts and folder.parts[0] in _PLACES
    }
    assert set(setup()["options"]["packages"].split()) == made


def test_the_version_is_the_same_everywhere():
    version = nasnet_zoo.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    heading = re.search(r"^## (\S+) \((.*)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading[1] == version
    assert heading[2] == "unreleased" or date.fromisoformat(heading[2])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and sdist, each built in two folders whose files have other times and permissions."""
    folder = tmp_path_factory.mktemp("built")
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment" / "bin" / "python"
    requires = re.search(r'requires = \["(.*?)"\]', (ROOT / "pyproject.toml").read_text())[1]
    subprocess.run([python, "-m", "pip", "install", "--quiet", requires], check=True)
    made = []
    for name, mode, umask in (("first", 0o644, 0o022), ("other place", 0o600, 0o077)):
        place = copy_sources(folder / name)
        for path in place.rglob("*"):
            if path.is_file():
                path.chmod(mode)
                os.utime(path, (1e9, 1e9 + mode))
        (place / "dist").mkdir()
        subprocess.run(
            [python, "-c", f"import os; os.umask({umask})\n{_BUILD}"],
            cwd=place,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        made.append(sorted((place / "dist").iterdir(), key=lambda path: path.suffix))
    return made


@pytest.mark.slow
def test_equal_sources_give_equal_bytes(built):
    first, second = built
    assert [path.suffix for path in first] == [".gz", ".whl"]
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    (_, path), _ = built
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = f"nasnet_zoo-{nasnet_zoo.__version__}.dist-info"
        metadata = wheel.read(f"{info}/METADATA").decode()
        licence = wheel.read(f"{info}/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert "\nLicense: Apache-2.0\n" in metadata
    expected = {
        f"{_PLACES[path.parts[0]]}/{'/'.join(path.parts[1:])}"
        for path in source_files()
        if path.parts[0] in _PLACES
    }
    assert {name for name in names if not name.startswith(info)} == expected
    assert "nasnet_zoo/py.typed" in names
    assert {Path(name).parts[0] for name in names} == {"nasnet_zoo", info}


@pytest.mark.slow
def test_the_sdist_holds_the_project(built, tmp_path):
    (path, _), _ = built
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (top,) = tmp_path.iterdir()
    names = {file.relative_to(top) for file in top.rglob("*") if file.is_file()}
    hidden = {file for file in source_files() if file.parts[0].startswith(".")}
    assert set(source_files()) - hidden <= names
    made = {"PKG-INFO", "nasnet_zoo.egg-info"}
    assert {file.parts[0] for file in names - set(source_files())} == made
