"""Expressions of rewards, such as ``accuracy * (latency / 12ms) ** -0.07``."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Units that may follow a number: of counts, of times in milliseconds, and of sizes in bytes.
UNITS = {
    **{"k": 1e3, "M": 1e6, "G": 1e9},
    **{"us": 1e-3, "ms": 1.0, "s": 1e3},
    **{"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9},
}
#: Functions, and whether they take one argument.
_FUNCTIONS: dict[str, tuple[Callable[..., float], bool]] = {
    "exp": (math.exp, True),
    "log": (math.log, True),
    "max": (max, False),
    "min": (min, False),
    "sqrt": (math.sqrt, True),
    "tan": (math.tan, True),
}
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_NUMBER = re.compile(r"(?<![\w.])((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([A-Za-z]*)")
_LONGEST = 1000


def quantity(text: str) -> float:
    """Return the number of a text such as ``500k`` or ``12ms``, which is 12 as times are milliseconds.

    Raises:
        ValueError: If it is not a number of at least 0, with or without a unit.
    """
    if not (found := _NUMBER.fullmatch(text.strip())):
        raise ValueError(f"Expected a number such as 0.5, 500k or 12ms. Received: {text!r:.100}")
    return _scaled(*found.groups())


def _scaled(number: str, unit: str) -> float:
    if unit and unit not in UNITS:
        raise ValueError(f"Expected a unit: one of {', '.join(UNITS)}. Received: {number}{unit}")
    return float(number) * UNITS.get(unit, 1.0)


@dataclass(frozen=True)
class Expression:
    """An expression over objectives.

    It knows ``+ - * / **``, parentheses, exp, log, max, min, sqrt, tan, and numbers with `UNITS`. It
    is read, not run: nothing else that Python knows means anything in it.

    Args:
        text: The expression.

    Raises:
        ValueError: If it is no such expression, or a part of it that has no names has no value.

    Example::

        Expression("accuracy * (latency / 12ms) ** -0.07")({"accuracy": 0.8, "latency": 24.0})
    """

    text: str

    def __post_init__(self) -> None:
        try:
            if len(self.text) > _LONGEST:
                raise ValueError(f"more than {_LONGEST} characters")
            plain = _NUMBER.sub(lambda found: repr(_scaled(*found.groups())), self.text.strip())
            tree = ast.parse(plain, mode="eval").body
            function = _function(tree)
        except SyntaxError as error:
            raise self._error(error.msg) from None
        except (ArithmeticError, MemoryError, RecursionError, ValueError) as error:
            raise self._error(str(error) or "too deep a nesting") from None
        object.__setattr__(self, "_function", function)
        object.__setattr__(self, "_names", _names(tree))

    def _error(self, received: str) -> ValueError:
        expected = "an expression such as accuracy * (latency / 12ms) ** -0.07"
        return ValueError(f"Expected {expected}. Received: {self.text:.200}: {received}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the objectives in it."""
        return self._names  # type: ignore[attr-defined]

    def __call__(self, values: Mapping[str, float]) -> float:
        """Return the value for objectives of these values.

        Raises:
            ValueError: If the value is not a finite number.
        """
        try:
            found = self._function(values)  # type: ignore[attr-defined]
            problem = "" if isinstance(found, float) and math.isfinite(found) else f"{found}"
        except (ArithmeticError, ValueError) as error:
            problem = str(error)
        if problem:
            given = ", ".join(f"{name}={values[name]:g}" for name in self.names)
            raise ValueError(
                f"Expected {self.text} to be a finite number. Received: {problem} for {given}"
            )
        return found


Function = Callable[[Mapping[str, float]], float]


def _names(node: ast.AST) -> tuple[str, ...]:
    """The names below a node, each once, in the order of the text."""
    functions = {id(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name) and id(n) not in functions]
    return tuple(dict.fromkeys(name.id for name in sorted(names, key=lambda n: n.col_offset)))


def _function(node: ast.expr) -> Function:
    """The function of a node; one without names is computed at once."""
    match node:
        case ast.Name(id=name):
            return lambda values: float(values[name])
        case ast.Constant(value=float(number)):
            return lambda values: number
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            act, parts = _OPERATORS[type(op)], [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            act, parts = _OPERATORS[type(op)], [left, right]
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if name in _FUNCTIONS:
            act, takes_one = _FUNCTIONS[name]
            if takes_one != (len(parts) == 1) or not parts:
                raise ValueError(f"{name} takes {'one argument' if takes_one else 'at least two'}")
        case _:
            raise ValueError(f"{ast.unparse(node)} is not part of the language")
    functions = [_function(part) for part in parts]
    if act is operator.truediv and not _names(parts[1]):
        act(1.0, functions[1]({}))  # or every value would be an error

    def apply(values: Mapping[str, float]) -> float:
        return act(*(function(values) for function in functions))

    if not _names(node):
        number = apply({})
        if not isinstance(number, float):
            raise ValueError(f"{ast.unparse(node)} is not a real number")
        return lambda values: number
    return apply
