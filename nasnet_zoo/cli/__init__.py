"""The command line, ``nasnet-zoo``: one function per command, whose parameters are its options.

To add a command, write its function into a file of this folder and enter it in `COMMANDS`. The file
imports no backend: what a command needs is imported when it runs.
"""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from nasnet_zoo import __version__
from nasnet_zoo.cells.operations import import_operations

from .options import General, UsageError, print_help, read, read_general

#: The commands, and the functions of this package that they call.
COMMANDS = {
    "demo": "demo.demo",
    "models": "models.models",
    "convert": "convert.convert",
    "search": "search.search",
    "search best": "results.best_child",
    "search list": "results.list_children",
    "search show": "results.show_child",
    "train": "train.train",
    "evaluate": "evaluate.evaluate",
    "predict": "predict.predict",
    "export": "export.export",
    "transform": "transform.transform",
    "verify": "verify.verify",
    "benchmark": "benchmark.benchmark",
    "detect train": "detect.train",
    "detect evaluate": "detect.evaluate",
    "detect predict": "detect.predict",
    "detect export": "detect.export",
}
_TOO_LARGE = "expected images, batches and networks that fit into memory. Received: larger ones"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments. Default: those of the process.

    Returns:
        The exit status: 0; 1 after an error, which is one line on standard error; 2 after wrong
        arguments; 130 after Ctrl-C.

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
    except KeyboardInterrupt as stop:
        return failed(str(stop) or "stopped", 130)
    except UsageError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
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


def command_function(name: str) -> Callable[..., None]:
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
            read(command_function(name), words[length:], f"nasnet-zoo {name}")()
            return
    _list_commands(words)


def _list_commands(words: list[str]) -> None:
    """Print the commands, or those of a group such as ``detect``, if help is asked for."""
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    group = words.pop(0) if words[:1] and words[0] in groups else ""
    names = [name for name in COMMANDS if name.startswith(group)]
    prog = f"nasnet-zoo {group}".strip()
    if words[:1] not in (["-h"], ["--help"]):
        received = repr(words[0]) if words else "none"
        raise UsageError(prog, f"expected a command of {', '.join(names)}. Received: {received}")
    docs = {name: inspect.getdoc(command_function(name)) or "" for name in names}
    print_help(prog, "\n".join(f"- {name}: {doc.splitlines()[0]}" for name, doc in docs.items()))


def _warning(message: Warning | str, *place: Any, **line: Any) -> str:
    return f"nasnet-zoo: warning: {' '.join(str(message).split())}\n"
