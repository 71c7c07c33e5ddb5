"""``--json`` means the same for every command."""

import inspect
import json
import os
import subprocess
import sys

import pytest
from documented import EXAMPLES, check_figures

from nasnet_zoo.cli import COMMANDS, command_function, main
from nasnet_zoo.cli.figures import JsonFile, run
from nasnet_zoo.cli.options import UsageError, read


def test_every_command_that_finds_something_has_it_and_is_documented():
    having = {n for n in COMMANDS if "json" in inspect.signature(command_function(n)).parameters}
    assert having == set(COMMANDS) - {"completion"} == set(EXAMPLES)


def test_standard_output_is_the_figures_and_nothing_else():
    command = [sys.executable, "-m", "nasnet_zoo", "models", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    check_figures("models", found)
    mobile = {row["model"]: row for row in found}["nasnet_mobile"]
    assert (mobile["published_parameters"], mobile["published_mult_adds"]) == (5_300_000, 564_000_000)
    assert "nasnet_mobile " in done.stderr  # the table


def test_what_native_code_writes_goes_to_standard_error(capfd):
    def command():
        print("text")
        sys.stdout.flush()
        os.write(1, b"native\n")
        return {"nothing": float("nan"), "much": float("inf"), "name": "é", "pair": (1, 2)}

    run(command, JsonFile("-"))
    out, err = capfd.readouterr()
    assert json.loads(out) == {"nothing": None, "much": None, "name": "é", "pair": [1, 2]}
    assert err == "text\nnative\n"
    os.write(1, b"afterwards\n")
    assert capfd.readouterr().out == "afterwards\n"


def test_an_error_leaves_standard_output_empty(capfd):
    assert main(["search", "best", "no/such/folder", "--json"]) == 1
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ("predict m.keras a.png --json", "-"),
        ("predict m.keras a.png --json -", "-"),
        ("predict m.keras a.png --json found.json", "found.json"),
        ("predict --json found.json m.keras a.png", "found.json"),
        ("predict --json --top 2 m.keras a.png", "-"),
        ("predict m.keras a.png --json=found.json", "found.json"),
    ],
)
def test_it_stands_alone_or_before_a_file(words, path):
    name, *words = words.split()
    call = read(command_function(name), words, "nasnet-zoo predict")
    assert call.keywords["json"] == JsonFile(path)
    assert call.args == ("m.keras", ("a.png",))


def test_it_does_not_take_a_model_for_its_file():
    with pytest.raises(UsageError, match="name of a .json file, or none .*Received: 'a.tflite'"):
        read(command_function("benchmark"), ["--json", "a.tflite", "b.tflite"], "nasnet-zoo benchmark")
