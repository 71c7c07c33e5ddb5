"""Declared types and ranges: what is refused, and what the message says."""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pytest
from annotated_types import Ge, Gt, Interval
from hypothesis import given
from hypothesis import strategies as st

from nasnet_zoo.checking import (
    PositiveFloat,
    PositiveInt,
    Share,
    check,
    check_fields,
    checked,
    describe,
    parse,
)


@dataclass(frozen=True)
class Example:
    steps: Annotated[int, Ge(1)] = 3
    rate: Annotated[float, Gt(0)] = 0.1
    share: Annotated[float, Interval(ge=0, lt=1)] | None = None
    kind: Literal["sgd", "rmsprop"] = "sgd"
    flip: bool = False
    names: tuple[str, ...] = ()
    size: tuple[PositiveInt, PositiveInt] | None = None

    def __post_init__(self):
        check_fields(self)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("steps", 0, "an int of at least 1"),
        ("steps", 1.0, "an int of at least 1"),
        ("steps", True, "an int of at least 1"),
        ("steps", "2", "an int of at least 1"),
        ("rate", 0.0, "a finite number above 0"),
        ("rate", math.inf, "a finite number"),
        ("rate", math.nan, "a finite number"),
        ("share", 1.0, "a finite number of at least 0 and below 1 or none"),
        ("kind", "adam", "one of sgd, rmsprop"),
        ("flip", 1, "true or false"),
        ("names", ("a", 1), "a list, each a text"),
        ("size", (1, 0), "2 values"),
        ("size", (1,), "2 values"),
    ],
)
def test_what_does_not_fit_its_declaration_is_refused(field, value, expected):
    with pytest.raises(ValueError, match=f"Expected {field}: .*{expected}.*Received: {field}="):
        Example(**{field: value})


@given(st.integers(), st.floats())
def test_exactly_the_declared_numbers_fit(steps, share):
    fits = steps >= 1 and 0 <= share < 1
    try:
        Example(steps=steps, share=share)
    except ValueError:
        assert not fits
    else:
        assert fits


def test_arguments_of_functions():
    @checked
    def crop(image, share: Share = 1.0, *, size: PositiveInt | None = None):
        return image, share, size

    assert crop("any", 0.5, size=3) == ("any", 0.5, 3)
    with pytest.raises(ValueError, match="Expected share: .* Received: share=2"):
        crop("any", 2)
    with pytest.raises(ValueError, match="Expected size: an int of at least 1 or none"):
        crop("any", size=0)


@given(
    st.builds(
        Example,
        st.integers(1, 10**9),
        st.floats(1e-9, 1e9),
        st.none() | st.floats(0, 0.99),
        st.sampled_from(["sgd", "rmsprop"]),
        st.booleans(),
        st.lists(st.text("abc", min_size=1), min_size=1).map(tuple),
        st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    )
)
def test_texts_of_values_are_read_back(example):
    def text(value):
        if isinstance(value, tuple):
            return ",".join(map(text, value))
        return str(value).lower() if value is None or isinstance(value, bool) else str(value)

    hints = Example.__annotations__
    for field in dataclasses.fields(example):
        value = getattr(example, field.name)
        assert parse(field.name, text(value), hints[field.name]) == value


@pytest.mark.parametrize(("text", "kind"), [("1.5", PositiveInt), ("nan", Share), ("yes", bool)])
def test_a_text_that_is_no_value(text, kind):
    with pytest.raises(ValueError, match=f"Expected x: .*Received: '{text}'"):
        parse("x", text, kind)
    assert describe(kind)


@pytest.mark.parametrize("value", [[1, 2.5], (1.0,), range(1, 3), []])
def test_sequences(value):
    check("sizes", value, Sequence[PositiveFloat])


@pytest.mark.parametrize("value", [[1, 0], ["1"], "12", 1.0, None, {1.0}])
def test_what_is_no_such_sequence(value):
    with pytest.raises(ValueError, match="Expected sizes: a list, each a finite number above 0. Rec"):
        check("sizes", value, Sequence[PositiveFloat])


def test_an_int_beyond_every_float_is_not_finite():
    with pytest.raises(ValueError, match="Expected x: a finite number. Received: x=1000"):
        check("x", 10**400, float)


class Reader(Protocol):
    def read(self): ...


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Path("a"), str | os.PathLike[str]),
        ({}, Mapping[str, float]),
        (1, Any),
        (1, Reader),
        (len, Callable),
    ],
)
def test_what_is_of_a_class_and_what_cannot_be_checked(value, kind):
    check("x", value, kind)


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (None, str | os.PathLike[str], "a text or a path. Received: x=None"),
        ([], Mapping[str, float], r"Mapping. Received: x=\[\]"),
        (np.zeros((9, 99)), str, r"a text. Received: x=array\(\[\[0., 0., [^\n]{,200}\.\.\."),
    ],
)
def test_what_is_not_of_a_class_is_told_in_one_line(value, kind, told):
    with pytest.raises(ValueError, match=f"^Expected x: {told}$"):
        check("x", value, kind)
