"""Fields and arguments set from texts such as ``"epochs=10"``, as on a command line."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from nasnet_zoo.checking import parse

T = TypeVar("T")


def with_fields(data: T, pairs: Iterable[str]) -> T:
    """A copy of a dataclass with fields set from texts.

    Args:
        data: the dataclass.
        pairs: ``FIELD=VALUE``, ``PART.FIELD=VALUE`` for a field that is a dataclass; ``none`` for None,
            commas between several names.

    Raises:
        ValueError: if there is no such field, or the text is no value for it.
    """
    kinds = typing.get_type_hints(type(data), include_extras=True)
    names = [field.name for field in dataclasses.fields(data)]  # type: ignore[arg-type]
    parts = [name for name in names if dataclasses.is_dataclass(kinds[name])]
    values: dict[str, Any] = {}
    inner: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        part, dot, rest = pair.partition(".")
        if dot and part in parts:
            inner.setdefault(part, []).append(rest)
            continue
        if name not in names or name in parts or not equals:
            raise ValueError(
                f"Expected FIELD=VALUE with a field of {', '.join(names)}. Received: {pair!r}"
            )
        values[name] = parse(name, text, kinds[name])
    for name, inner_pairs in inner.items():
        try:
            values[name] = with_fields(getattr(data, name), inner_pairs)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return dataclasses.replace(data, **values)  # type: ignore[type-var]


def numbers(pairs: Iterable[str]) -> dict[str, float]:
    """Numbers by name, from texts such as ``"learning_rate=0.01"``.

    Raises:
        ValueError: if a value is no finite number.
    """
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        found[name] = parse(name, text, int | float)
    return found
