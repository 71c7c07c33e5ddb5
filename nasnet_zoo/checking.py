"""Types, choices and ranges, declared in annotations and checked in one way.

A field or a parameter states what it takes where it is declared, with the vocabulary of the library
annotated-types::

    @dataclass(frozen=True)
    class Budget:
        steps: Annotated[int, Ge(1)] = 300
        momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.9
        schedule: Literal["cosine", "exponential"] = "cosine"

        def __post_init__(self) -> None:
            check_fields(self)

Numbers are finite. A ``float`` takes ints too, an ``int`` no floats, and neither takes bools.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
import operator
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

from annotated_types import Ge, Gt, Interval, Le, Lt

F = TypeVar("F", bound=Callable[..., Any])

#: Counts and sizes.
PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
#: A fraction of a whole, in [0, 1].
Share = Annotated[float, Interval(ge=0, le=1)]
#: Share of values that dropout zeroes.
DropRate = Annotated[float, Interval(ge=0, lt=1)]
#: Seed of a random number generator.
Seed = Annotated[int, Interval(ge=0, lt=2**32)]

_BOUNDS: tuple[tuple[type, str, str, Callable[[Any, Any], bool]], ...] = (
    (Ge, "ge", "of at least", operator.ge),
    (Gt, "gt", "above", operator.gt),
    (Le, "le", "of at most", operator.le),
    (Lt, "lt", "below", operator.lt),
)
#: Maximum number of characters of a received value in a message.
_LONGEST = 200
_NUMBERS = {int: ("an int", numbers.Integral), float: ("a finite number", numbers.Real)}


def check_fields(instance: Any) -> None:
    """Check every field of a dataclass against its annotation.

    Raises:
        ValueError: If a field does not fit. The message names the first such field, what was expected
            and what was received.
    """
    for name, annotation in _hints(type(instance)).items():  # type: ignore[arg-type]
        if name in {field.name for field in dataclasses.fields(instance)}:
            check(name, getattr(instance, name), annotation)


def checked(function: F) -> F:
    """Decorate a function to check its arguments against their annotations before it runs."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check_arguments(function, args, kwargs)
        return function(*args, **kwargs)

    # Keras reads the arguments of a layer's ``__init__`` without looking behind decorators.
    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]


def check_arguments(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Check the arguments of a call against the annotations of the function.

    Raises:
        ValueError: With the first argument that does not fit, what was expected and what was received.
    """
    hints = _hints(function)
    for name, value in _signature(function).bind(*args, **kwargs).arguments.items():
        if name in hints:
            check(name, value, hints[name])


def check(name: str, value: Any, annotation: Any) -> None:
    """Check a value against an annotation. Protocols and `typing.Any` accept every value.

    Args:
        name: Name of the field or parameter, used in the message.
        value: Value to check.
        annotation: One of int, float, bool, str, `typing.Literal`, other classes, tuples, sequences and
            unions of these, and `typing.Annotated` with bounds.

    Raises:
        ValueError: If the value does not fit. The message says what was expected and what was received.
    """
    if not _fits(value, annotation):
        received = " ".join(repr(value).split())
        received = f"{received[:_LONGEST]}..." if len(received) > _LONGEST else received
        raise ValueError(f"Expected {name}: {describe(annotation)}. Received: {name}={received}")


def parse(name: str, text: str, annotation: Any) -> Any:
    """Parse a text such as ``12``, ``1e-3``, ``true``, ``none`` or ``a,b`` into a value.

    Raises:
        ValueError: If the text is not a value that fits the annotation.
    """
    for candidate in _readings(text, annotation):
        if _fits(candidate, annotation):
            return candidate
    raise ValueError(f"Expected {name}: {describe(annotation)}. Received: {text!r}")


def describe(annotation: Any) -> str:
    """Describe in words the values that an annotation accepts."""
    base, bounds = _split(annotation)
    if typing.get_origin(base) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(base)))}"
    if _is_union(base):
        kinds = [k for k in typing.get_args(base) if k is not type(None)]
        optional = len(kinds) < len(typing.get_args(base))
        return " or ".join([*map(describe, kinds), *(["none"] if optional else [])])
    if typing.get_origin(base) is tuple:
        kinds = [k for k in typing.get_args(base) if k is not ...]
        if ... in typing.get_args(base):
            return f"a list, each {describe(kinds[0])}"
        return f"{len(kinds)} values: {', '.join(map(describe, kinds))}"
    if typing.get_origin(base) is Sequence:
        return f"a list, each {describe(typing.get_args(base)[0])}"
    if base in _NUMBERS:
        told = " and ".join(f"{word} {bound}" for word, _, bound in bounds)
        return f"{_NUMBERS[base][0]} {told}".rstrip()
    kind = typing.get_origin(base) or base
    words = {bool: "true or false", str: "a text", os.PathLike: "a path"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _fits(value: Any, annotation: Any) -> bool:
    base, bounds = _split(annotation)
    if typing.get_origin(base) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in typing.get_args(base))
    if _is_union(base):
        return any(_fits(value, kind) for kind in typing.get_args(base))
    if typing.get_origin(base) is tuple:
        return _fits_tuple(value, typing.get_args(base))
    if typing.get_origin(base) is Sequence:
        (kind,) = typing.get_args(base)
        return _is_list(value) and all(_fits(item, kind) for item in value)
    if base in _NUMBERS:
        known = isinstance(value, _NUMBERS[base][1]) and not isinstance(value, bool)
        return known and _is_finite(value) and all(holds(value, bound) for _, holds, bound in bounds)
    if base is type(None):
        return value is None
    kind = typing.get_origin(base) or base
    # Other protocols than those of `typing.runtime_checkable` cannot be checked.
    unknown = getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False)
    return unknown or kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def _fits_tuple(value: Any, kinds: tuple[Any, ...]) -> bool:
    if not isinstance(value, (tuple, list)):
        return False
    if kinds[-1] is ...:
        return all(_fits(item, kinds[0]) for item in value)
    return len(value) == len(kinds) and all(map(_fits, value, kinds))


def _readings(text: str, annotation: Any) -> list[Any]:
    base, _ = _split(annotation)
    if _is_union(base):
        return [reading for kind in typing.get_args(base) for reading in _readings(text, kind)]
    if typing.get_origin(base) is tuple:
        kinds, parts = typing.get_args(base), text.split(",")
        kinds = kinds[:1] * len(parts) if kinds[-1] is ... else kinds
        read = [_readings(part, kind) for part, kind in zip(parts, kinds, strict=False)]
        return [tuple(reading[0] for reading in read)] if all(read) else []
    if base in (bool, type(None)):
        words = {"true": True, "false": False} if base is bool else {"none": None}
        return [words[text]] if text in words else []
    try:
        return [base(text)] if base in _NUMBERS else [text] if text else []
    except ValueError:
        return []


def _split(annotation: Any) -> tuple[Any, list[tuple[str, Callable[[Any, Any], bool], Any]]]:
    """The plain type, and its bounds as (words, comparison, number)."""
    if typing.get_origin(annotation) is not Annotated:
        return annotation, []
    base, bounds = _split(annotation.__origin__)
    for declared in annotation.__metadata__:
        for part in declared if isinstance(declared, Interval) else (declared,):
            bounds += [
                (words, holds, getattr(part, name))
                for kind, name, words, holds in _BOUNDS
                if isinstance(part, kind)
            ]
    return base, bounds


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


@functools.cache
def _hints(owner: Any) -> dict[str, Any]:
    return typing.get_type_hints(owner, include_extras=True)


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)
