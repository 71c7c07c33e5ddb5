"""Fields and arguments set from texts such as ``"epochs=10"``, as on a command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def with_fields(data: T, pairs: Iterable[str]) -> T:
    """A copy of a dataclass with fields set from texts.

    Args:
        data: whose fields are of type bool, int, float, str or tuple[str, ...] (names with commas in
            between), or of one of these or None ("none").
        pairs: ``FIELD=VALUE``.

    Raises:
        ValueError: if there is no such field, or the text is no value for it.
    """
    types = {field.name: str(field.type) for field in dataclasses.fields(data)}  # type: ignore[arg-type]
    values = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in types:
            raise ValueError(f"Expected a field of {', '.join(types)}. Received: {name!r}")
        values[name] = _parsed(name, types[name], text)
    return dataclasses.replace(data, **values)  # type: ignore[type-var]


def numbers(pairs: Iterable[str]) -> dict[str, float]:
    """Numbers by name, from texts.

    Raises:
        ValueError: if a value is no number.
    """
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            found[name] = int(text) if text.isdigit() else float(text)
        except ValueError:
            raise ValueError(f"Expected a number for {name}. Received: {text!r}") from None
    return found


def _parsed(name: str, kind: str, text: str) -> Any:
    if text == "none" and "None" in kind:
        return None
    kind = kind.removesuffix(" | None")
    if kind == "bool" and text in ("true", "false"):
        return text == "true"
    if kind == "tuple[str, ...]":
        return tuple(text.split(","))
    try:
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        wanted = "true or false" if kind == "bool" else f"a value of type {kind}"
        raise ValueError(f"Expected {wanted} for {name}. Received: {text!r}") from None
