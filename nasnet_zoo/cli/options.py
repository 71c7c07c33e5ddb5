"""Options of commands: read by tyro from a function's parameters and the dataclasses among them.

Positional-only parameters are positional arguments, all others are options. `nasnet_zoo.checking.parse`
turns texts into values, so that types, choices and ranges are declared once, in annotations.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import shlex
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import docstring_parser
import tyro
from tyro import _errors as errors
from tyro.conf import FlagCreatePairsOff, PositionalMetavarFromFieldName, UseAppendAction, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo
from tyro.extras import get_parser

from nasnet_zoo.cells.genotype import Genotype
from nasnet_zoo.cells.networks import NetworkGenotype, network_genotype
from nasnet_zoo.cells.recurrent import RecurrentGenotype
from nasnet_zoo.cells.serialization import load_genotype
from nasnet_zoo.checking import check_arguments, parse

from .figures import STDOUT, JsonFile

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class UsageError(ValueError):
    """A command line that a command does not take.

    Args:
        prog: The command, such as "nasnet-zoo train".
        message: What was expected, and what was received.
    """

    def __init__(self, prog: str, message: str) -> None:
        super().__init__(f"{prog}: {message} (see {prog} --help)")


@dataclass(frozen=True)
class General:
    """Options of every command.

    Args:
        version: Print the version.
        traceback: Show where an error was raised, before its line.
        imports: Python module, or .py file, that registers operations. Its code is run. May be
            repeated.
    """

    version: bool = False
    traceback: bool = False
    imports: Annotated[UseAppendAction[tuple[str, ...]], arg(name="import", metavar="MODULE")] = ()


def read_general(words: Sequence[str]) -> tuple[General, list[str]]:
    """Read the options of every command, which stand anywhere.

    Returns:
        The options, and the other words.

    Raises:
        UsageError: If an option lacks its value.
    """
    return _cli(General, words, "nasnet-zoo", return_unknown_args=True, add_help=False)


def read_some(settings: Callable[..., T], words: Sequence[str], prog: str) -> T:
    """Read settings from words that hold other options too.

    Args:
        settings: Dataclass of the settings.
        words: Words of the command line after the command's name.
        prog: Name of the command for messages, such as "nasnet-zoo train".

    Raises:
        UsageError: If a value does not fit.
    """
    return _cli(settings, words, prog, return_unknown_args=True, add_help=False)[0]


def documentation(command: Callable[..., Any]) -> docstring_parser.Docstring:
    """Read the documentation of a command: what it does, its arguments, and an example."""
    return docstring_parser.parse(command.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)


def read(command: Callable[..., Any], words: Sequence[str], prog: str) -> functools.partial[Any]:
    """Read the arguments of a command.

    Args:
        command: Function of the command.
        words: Words of the command line after its name.
        prog: Name of the command for messages, such as "nasnet-zoo train".

    Returns:
        The function with its arguments, to be called.

    Raises:
        UsageError: If the words are not those of the command.
        SystemExit: After ``--help``.
    """
    try:
        target = _reader(command, words, prog)
        return _cli(target, _with_files(words), prog, description=_description(command))
    except UsageError:
        raise
    except ValueError as error:  # of a dataclass whose fields do not fit each other
        raise UsageError(prog, str(error)) from None


def arguments(command: Callable[..., Any], words: Sequence[str]) -> list[Any]:
    """Describe the arguments of a command as actions of `argparse`, which does not read them.

    Args:
        command: Function of the command, or dataclass of options.
        words: Words that the defaults depend on.
    """
    target = command if isinstance(command, type) else _reader(command, words, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro has nothing newer for this
        return get_parser(target, add_help=False, registry=_REGISTRY, config=_CONFIG)._actions


def _reader(command: Callable[..., Any], words: Sequence[str], prog: str) -> Callable[..., Any]:
    """A function of the arguments of a command that checks them and binds the command to them."""
    signature = inspect.signature(command)
    defaults: dict[str, Any] = getattr(command, "defaults", lambda words: {})(words)

    @functools.wraps(command)
    def bind(*args: Any, **kwargs: Any) -> functools.partial[Any]:
        for name, value in zip(signature.parameters, args, strict=False):
            if value == ():
                raise UsageError(prog, f"expected {name}. Received: none")
        try:
            check_arguments(command, args, kwargs)
        except ValueError as error:
            raise UsageError(prog, str(error)) from None
        return functools.partial(command, *args, **kwargs)

    bind.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            parameter.replace(default=defaults.get(name, parameter.default))
            for name, parameter in signature.parameters.items()
        ]
    )
    return bind


def _with_files(words: Sequence[str]) -> list[str]:
    """Add the file that ``--json`` stands for alone."""
    found: list[str] = []
    for word, after in zip(words, [*words[1:], "--"], strict=False):
        alone = word == "--json" and after.startswith("-") and after != STDOUT
        found += [word, STDOUT] if alone else [word]
    return found


def _description(command: Callable[..., Any]) -> str:
    """What help says of a command above its options."""
    told = documentation(command)
    examples = [example.description or "" for example in told.examples]
    lines = [f"  {line}" for example in examples for line in example.splitlines()]
    return "\n".join([told.description or "", "", "Example:", *lines])


def defaults_from(defaults: Callable[[Sequence[str]], dict[str, Any]]) -> Callable[[F], F]:
    """Decorate a command some of whose defaults depend on its other words.

    Args:
        defaults: Function from the words after the command's name to defaults of its parameters.
    """

    def decorate(command: F) -> F:
        command.defaults = defaults  # type: ignore[attr-defined]
        return command

    return decorate


def print_help(prog: str, description: str) -> None:
    """Print the options of every command below a description, and exit."""
    _cli(General, ["--help"], f"{prog} COMMAND", description=description)


def _cli(target: Callable[..., Any], words: Sequence[str], prog: str, **kwargs: Any) -> Any:
    with errors.on_parse_error(_refuse):
        return tyro.cli(target, args=words, prog=prog, registry=_REGISTRY, config=_CONFIG, **kwargs)


def _refuse(event: errors.ParseErrorEvent) -> None:
    """Raise the one-line error of what tyro refuses."""
    match event:
        case errors.InstantiationFailure():
            name = f"{_name(event.argument)}: " if event.argument else ""
            message = name + event.message.replace("Expected a value:", "expected")
        case errors.MissingArgs(unrecognized_tokens=[]):
            names = [_name(missing.arg) for missing in event.missing_arguments]
            message = f"expected {', '.join(names)}. Received: none"
        case errors.MissingArgs(unrecognized_tokens=tokens) | errors.UnrecognizedArgs(tokens=tokens):
            message = f"expected the options of this command. Received: {shlex.join(tokens)}"
        case errors.BadValue():
            count, name = event.argument.lowered.nargs, _name(event.argument)
            message = (
                f"expected {'a value' if count == 1 else f'{count} values'} for {name}. Received: fewer"
            )
        case _:
            return
    raise UsageError(event.prog, message)


def _name(argument: Any) -> str:
    """The name of an argument in its command's usage."""
    return argument.lowered.metavar if argument.is_positional() else argument.display_name()


_REGISTRY = ConstructorRegistry()
_CONFIG = (PositionalMetavarFromFieldName, FlagCreatePairsOff)
_NAMES = {int: "INT", float: "FLOAT", str: "TEXT"}


@_REGISTRY.primitive_rule
def _spec(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Return how values of a type are read; None for flags and dataclasses, which tyro knows."""
    kinds = [_plain(kind) for kind in _members(info.type) if kind is not type(None)]
    if not kinds or UseAppendAction in info.markers:
        return None
    origin, parts = typing.get_origin(kinds[0]), typing.get_args(kinds[0])
    nargs: int | Literal["*"] = 1
    read: Callable[[list[str]], Any]
    if kinds[0] is Genotype:
        metavar, read = "FILE", lambda texts: load_genotype(texts[0], network_genotype)
    elif kinds[0] is RecurrentGenotype:
        metavar, read = "FILE", lambda texts: RecurrentGenotype.load(texts[0])
    elif kinds[0] is JsonFile:
        metavar, read = "[FILE]", lambda texts: JsonFile(texts[0])
    elif origin is Mapping:
        nargs, metavar, read = "*", "NAME=VALUE ...", lambda texts: dict(map(_pair, texts))
    elif origin is tuple and parts[-1] is ...:
        nargs, metavar = "*", f"{_metavar(parts[0])} ..."
        read = functools.partial(_parts, itertools.repeat(parts[0]))
    elif origin is tuple:
        nargs, metavar = len(parts), " ".join(map(_metavar, parts))
        read = functools.partial(_parts, parts)
    elif all(kind in _NAMES or typing.get_origin(kind) is Literal for kind in kinds):
        metavar = "|".join(map(_metavar, kinds))
        read = lambda texts: parse("a value", texts[0], info.type)  # noqa: E731
    else:
        return None
    return PrimitiveConstructorSpec(nargs, metavar, read, lambda value: True, _texts)


def _members(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _plain(annotation: Any) -> Any:
    return annotation.__origin__ if typing.get_origin(annotation) is Annotated else annotation


def _metavar(annotation: Any) -> str:
    kind = _plain(annotation)
    return _NAMES.get(kind) or "{" + ",".join(map(str, typing.get_args(kind))) + "}"


def _pair(text: str) -> tuple[str, float | str]:
    """A name and its value, a number if it can be read as one."""
    name, _, value = text.partition("=")
    return name, parse(name, value, int | float | str)


def _parts(kinds: Iterable[Any], texts: list[str]) -> tuple[Any, ...]:
    return tuple(parse("a value", text, kind) for text, kind in zip(texts, kinds, strict=False))


def _texts(value: Any) -> list[str]:
    """Format a default value for help."""
    if isinstance(value, NetworkGenotype | RecurrentGenotype):
        return [value.name]
    if isinstance(value, Mapping):
        return [f"{name}={number}" for name, number in value.items()]
    return [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
