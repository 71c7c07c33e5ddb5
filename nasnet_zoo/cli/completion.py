"""``nasnet-zoo completion``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from .options import General, arguments, documentation
from .search import SpaceName

# Words that give a command other options.
_OTHERS = {
    "search": [["--space", space] for space in get_args(SpaceName)],
    "train": [["ptb_medium"]],
}


def completion(shell: Literal["bash", "zsh"], /) -> None:
    """Print a script that completes commands, options and files in a shell.

    Source it, or write it to where the shell looks for completions. For bash that is
    ~/.local/share/bash-completion/completions/nasnet-zoo.

    Args:
        shell: Shell to write the script for.

    Example:
        nasnet-zoo completion bash > ~/.local/share/bash-completion/completions/nasnet-zoo
    """
    from shtab import complete

    print(complete(_everything(), shell))


def _everything() -> argparse.ArgumentParser:
    """All commands and their options, as `argparse` would read them."""
    from . import COMMANDS, command_function

    root = argparse.ArgumentParser("nasnet-zoo")
    _add(root, arguments(General, []))
    groups = {"": root.add_subparsers()}
    for name in COMMANDS:
        first, _, last = name.rpartition(" ")
        if first not in groups:  # "search" is a command, too, "detect" is none
            group = (groups[""].choices or {}).get(first) or groups[""].add_parser(
                first, help=f"{first} COMMAND"
            )
            groups[first] = group.add_subparsers()
        function = command_function(name)
        command = groups[first].add_parser(last, help=documentation(function).short_description)
        for words in [[], *_OTHERS.get(name, [])]:
            _add(command, arguments(function, words))
    return root


def _add(command: argparse.ArgumentParser, actions: Sequence[Any]) -> None:
    """Add the arguments that a command does not have yet, with what completes them."""
    from shtab import FILE

    there = {action.dest for action in command._actions}
    for action in actions:
        if action.dest in there:
            continue
        metavar = str(action.metavar or "")
        choices = [name for part in re.findall(r"\{(.*?)\}", metavar) for name in part.split(",")]
        if choices:
            action.choices = choices
        elif action.nargs != 0 and not re.search(r"\b(INT|FLOAT)\b", metavar):
            action.complete = FILE
        command._add_action(action)
