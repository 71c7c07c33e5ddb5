import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasnet_zoo.search.expressions import Expression, quantity

VALUES = {"accuracy": 0.8, "latency": 24.0, "parameters": 2e6}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # By hand: (24 / 12) ** -0.07 = exp(-0.07 * ln 2) = 0.952638.
        ("accuracy * (latency / 12ms) ** -0.07", 0.8 * 0.952638),
        ("accuracy - latency / 1s", 0.776),
        ("accuracy * min(1M / parameters, 1)", 0.4),
        ("-accuracy ** 2", -0.64),
        ("2 ** 3 ** 2 / 512", 1.0),
        ("log(exp(2)) + sqrt(9) - max(1, 2, accuracy)", 3.0),
        ("tan(accuracy * 3.141592653589793 / 4) * 1e3 * 1e-3", math.tan(0.2 * math.pi)),
        ("1 - 500k / parameters", 0.75),
        ("1.5KB + .5us", 1500.0005),
    ],
)
def test_values_worked_by_hand(text, expected):
    assert Expression(text)(VALUES) == pytest.approx(expected, rel=1e-6)


def test_names_stand_in_the_order_of_the_expression():
    assert Expression("accuracy * max(latency, 1) / size").names == ("accuracy", "latency", "size")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy *", "invalid syntax"),
        ("", "invalid syntax"),
        ("accuracy / 0", "float division by zero"),
        ("accuracy / (1 - 1)", "float division by zero"),
        ("log(0)", "math domain error"),
        ("(-1) ** 0.5", "not a real number"),
        ("9 ** 9 ** 9", "Result too large|out of range"),
        ("12parsecs", "a unit: one of k, M, G, us, ms, s, B, KB, MB, GB. Received: 12parsecs"),
        ("sin(accuracy)", r"sin\(accuracy\) is not part of the language"),
        ("log(accuracy, 2)", "log takes one argument"),
        ("max(accuracy)", "max takes at least two"),
        ("accuracy if latency else 0", "not part of the language"),
        ("accuracy > 0.5", "not part of the language"),
        ("accuracy // 2", "not part of the language"),
        ("'accuracy'", "not part of the language"),
        ("accuracy.real", "not part of the language"),
        ("().__class__", "not part of the language"),
        ("__import__('os').system('true')", "not part of the language"),
        ("[accuracy][0]", "not part of the language"),
        ("(lambda: 1)()", "not part of the language"),
        ("max(*latency, 1)", "not part of the language"),
        ("accuracy + True", "not part of the language"),
        ("1 + " * 400 + "1", "more than 1000 characters"),
        ("-" * 999 + "1", "nesting|too many|recursion"),
        ("(" * 300 + "1" + ")" * 300, "nesting|too many"),
        ("accuracy\0", "null byte"),
    ],
)
def test_what_is_no_expression_is_refused_in_one_line(text, message):
    with pytest.raises(
        ValueError, match=f"Expected an expression such as .* Received: .*({message})"
    ) as e:
        Expression(text)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "values", "problem"),
    [
        ("accuracy / latency", {"latency": 0.0}, "float division by zero for accuracy=0.8, latency=0"),
        ("(accuracy - 1) ** 0.5", {}, "j"),
        ("exp(latency)", {"latency": 1e4}, "math range error"),
        ("accuracy * 1e200 * 1e200", {}, "inf"),
    ],
)
def test_a_value_that_is_no_finite_number_is_an_error_that_names_the_objectives(text, values, problem):
    with pytest.raises(
        ValueError, match=f"to be a finite number. Received: .*{problem}.*accuracy=|latency="
    ):
        Expression(text)({**VALUES, **values})


NUMBERS = st.floats(0.01, 100).map(lambda number: round(number, 3))
LEAVES = st.sampled_from(sorted(VALUES)) | NUMBERS.map(repr)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"-{part}"),
        st.tuples(inner, inner).map(lambda parts: f"max({parts[0]}, {parts[1]})"),
    ),
    max_leaves=12,
)


@given(TREES)
def test_it_computes_what_python_does(text):
    try:
        expected = eval(text, {"max": max}, dict(VALUES))
    except ZeroDivisionError:
        return
    try:
        assert Expression(text)(VALUES) == pytest.approx(expected, rel=1e-12)
    except ValueError:
        assert not math.isfinite(expected)


@pytest.mark.parametrize(
    ("text", "expected"), [("500k", 5e5), (" 12ms ", 12), ("1.5s", 1500), ("4MB", 4e6), (".5", 0.5)]
)
def test_quantities(text, expected):
    assert quantity(text) == expected


@pytest.mark.parametrize("text", ["", "k", "-1", "1 2", "1e", "0x10", "nan", "5 percent"])
def test_what_is_no_quantity(text):
    with pytest.raises(ValueError, match=r"Expected a (number such as 0.5, 500k or 12ms|unit)"):
        quantity(text)
