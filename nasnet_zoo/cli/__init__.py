"""The command line, ``nasnet-zoo``: one function per command, whose parameters are its options.

To add a command, write its function into a file of this folder and enter it in `GROUPS`. The file
imports no backend: what a command needs is imported when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from nasnet_zoo import __version__
from nasnet_zoo.cells.operations import import_operations
from nasnet_zoo.progress import showing_progress

from .figures import run
from .options import General, UsageError, documentation, print_help, read, read_general

#: The commands by task, and the functions of this package that they call.
GROUPS = {
    "Get to know it": {
        "demo": "demo.demo",
        "models": "models.models",
    },
    "Train a network and use it": {
        "train": "train.train",
        "evaluate": "evaluate.evaluate",
        "predict": "predict.predict",
        "convert": "convert.convert",
        "transform": "transform.transform",
    },
    "Search for an architecture": {
        "search": "search.search",
        "search best": "results.best_child",
        "search list": "results.list_children",
        "search show": "results.show_child",
    },
    "Export to other runtimes": {
        "export": "export.export",
        "verify": "verify.verify",
        "benchmark": "benchmark.benchmark",
    },
    "Detect objects": {
        "detect train": "detect.train",
        "detect evaluate": "detect.evaluate",
        "detect predict": "detect.predict",
        "detect export": "detect.export",
    },
    "Set up the shell": {
        "completion": "completion.completion",
    },
}
#: The commands, and the functions of this package that they call.
COMMANDS = {name: function for group in GROUPS.values() for name, function in group.items()}
_NOBODY_READS = 141  # as of programs that SIGPIPE ends
#: What the exit status of every command says.
EXIT_STATUS = {
    0: "Done.",
    1: "Failed, or a check that was asked for did not pass. Standard error has a line with the reason.",
    2: "Wrong arguments.",
    130: "Stopped by Ctrl-C. Searches and trainings go on when they are called again.",
    _NOBODY_READS: "The reader of the output has closed it, as head does.",
}
_TOO_LARGE = "expected images, batches and networks that fit into memory. Received: larger ones"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments. Default: those of the process.

    Returns:
        The exit status, one of `EXIT_STATUS`.

    Raises:
        SystemExit: With status 0, after ``--help``.
    """
    general = General()
    formatwarning, warnings.formatwarning = warnings.formatwarning, _warning

    def failed(message: str, status: int = 1) -> int:
        if general.traceback:
            traceback.print_exc()
        print(f"nasnet-zoo: {' '.join(message.split())}", file=sys.stderr)
        return status

    try:
        general, words = read_general(sys.argv[1:] if argv is None else argv)
        _run(general, words)
        sys.stdout.flush()
    except SystemExit as stop:
        if stop.code != 1:
            raise
        return _NOBODY_READS  # Rich leaves so
    except KeyboardInterrupt as stop:
        return failed(str(stop) or "stopped", 130)
    except UsageError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python writes when it ends
        return _NOBODY_READS
    except MemoryError as error:
        return failed(f"{_TOO_LARGE}. {error}")
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        return failed(str(error))
    except Exception as error:
        if type(error).__name__ == "ResourceExhaustedError":  # of TensorFlow
            return failed(_TOO_LARGE)
        defect = "a defect of nasnet-zoo, or of operations that it was given; --traceback shows where"
        return failed(f"{defect}. {type(error).__name__}: {error}")
    finally:
        warnings.formatwarning = formatwarning
    return 0


def command_function(name: str) -> Callable[..., Any]:
    """Find the function of a command."""
    module, function = COMMANDS[name].split(".")
    return getattr(import_module(f"{__name__}.{module}"), function)


def _run(general: General, words: list[str]) -> None:
    if general.version:
        print(f"nasnet-zoo {__version__}")
        return
    for module in general.imports:
        import_operations(module)
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            call = read(command_function(name), words[length:], f"nasnet-zoo {name}")
            with showing_progress():
                run(call, call.keywords.get("json"))
            return
    _list_commands(words)


def _list_commands(words: list[str]) -> None:
    """Print the commands, or those that begin with a word such as ``detect``, if help is asked for."""
    firsts = {name.split()[0] for name in COMMANDS if " " in name}
    first = words.pop(0) if words[:1] and words[0] in firsts else ""
    names = [name for name in COMMANDS if name.startswith(first)]
    prog = f"nasnet-zoo {first}".strip()
    if words[:1] not in (["-h"], ["--help"]):
        received = repr(words[0]) if words else "none"
        raise UsageError(prog, f"expected a command of {', '.join(names)}. Received: {received}")
    lines = []
    for task, group in GROUPS.items():
        shown = [name for name in group if name in names]
        lines += ["", f"{task}:"] if shown else []
        for name in shown:
            summary = documentation(command_function(name)).short_description
            lines.append(f"  {name:<{max(map(len, names))}}  {summary}")
    lines += ["", f"{prog} COMMAND --help shows the options of a command and an example of it."]
    lines += ["", "Exit status:", *(f"  {status:<3}  {what}" for status, what in EXIT_STATUS.items())]
    print_help(prog, "\n".join(lines[1:]))


def _warning(message: Warning | str, *place: Any, **line: Any) -> str:
    return f"nasnet-zoo: warning: {' '.join(str(message).split())}\n"
