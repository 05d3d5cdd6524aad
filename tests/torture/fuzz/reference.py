"""Python's own word on a formula's text: its `eval` has the last one.

Two things Python does not do, and so the text is prepared for it:

- It knows neither ``×``, ``÷``, ``−`` nor a line end in the middle of an expression.
- It takes no more than 200 nested parentheses. So each pair, from the inside, is evaluated apart,
  and stands as a name in the text around it.

And it does more than formulas can say: powers, names, ``()``. Those count as refused, and so
do calls, unless it is told what they give.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from functools import partial
from math import copysign, isfinite
from typing import Any

from dte.core.graph.numbers import INTEGER_LIMIT, Number

LANGUAGE = re.compile(r"[0-9.eE+\-*/() ]*")
"""With these characters alone, an `int` or `float` can only come from the four operations, from
powers, and from divisions that drop the rest."""
SPELLINGS = str.maketrans("×÷−\t\n\r\f\v", "*/-     ")
NUMBER_OR_NAME = re.compile(
    r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|([a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)*)",
    re.ASCII | re.IGNORECASE,
)
PARENTHESES_MAX = 150
NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.UAdd, ast.USub),
)

Function = Callable[..., Number]
"""Takes the name of a handler, and the arguments of a call."""
Evaluate = Callable[[str, Mapping[str, Any]], Any]


class Refused(Exception):
    """Python takes the text for no formula."""


class Undecided(Exception):
    """Python gives up: the text is too long or too deep for its own parser."""


def value(text: str) -> Number:
    """The value that Python's `eval` gives for a formula, even if it is infinite, or too long.

    Raises:
        Refused: it is no formula.
        ArithmeticError: Python divides by zero or meets an overflow; the text may be no formula
            behind that place.
        Undecided: Python gives up.
    """
    result = _by_parentheses(text, _plain_value)
    assert isinstance(result, int | float)
    return result


def value_with_calls(text: str, function: Function) -> Number:
    """The value of a formula in which `function` says what calls give.

    Raises:
        Refused: it is no formula.
        ArithmeticError: as for `value`.
        Undecided: Python gives up.
    """
    names: dict[str, Any] = {}

    def plain(match: re.Match[str]) -> str:
        """A name that Python takes for one, whatever the handler's is."""
        if match[1] is None:
            return match[0]
        name = f"call_{len(names)}"
        names[name] = partial(function, match[1])
        return f" {name} "

    text = NUMBER_OR_NAME.sub(plain, text.translate(SPELLINGS))
    if text.count("(") > PARENTHESES_MAX:
        raise Undecided
    result = _plain_value(text, names)
    assert isinstance(result, int | float)
    return result


def value_by_steps(text: str) -> Number | None:
    """The value if each partial result, in Python's order, is one that travels; else None.

    Raises:
        Refused: it is no formula.
        Undecided: Python gives up.
    """
    result = _by_parentheses(text, _watched_value)
    assert isinstance(result, Watched)
    return result.value


def travels(result: Number) -> bool:
    """True for a finite float, and for an integer that Python prints."""
    if isinstance(result, int):
        return -INTEGER_LIMIT < result < INTEGER_LIMIT
    return isfinite(result)


def identical(one: Number, other: Number) -> bool:
    """True for two numbers that are equal in type and in every bit."""
    if type(one) is not type(other) or one != other:
        return False
    return isinstance(one, int) or copysign(1, one) == copysign(1, other)


def _by_parentheses(text: str, evaluate: Evaluate) -> Any:
    text = text.translate(SPELLINGS)
    if not LANGUAGE.fullmatch(text) or "**" in text or "//" in text:
        raise Refused
    if text.count("(") <= PARENTHESES_MAX:
        return evaluate(text, {})
    names: dict[str, Any] = {}
    open_texts = [""]
    for piece in re.split(r"([()])", text):
        if piece == "(":
            open_texts.append("")
        elif piece == ")" and len(open_texts) > 1:
            name = f"inner_{len(names)}"
            names[name] = evaluate(open_texts.pop(), names)
            open_texts[-1] += f" {name} "
        else:
            open_texts[-1] += piece
    if len(open_texts) > 1:
        raise Refused
    return evaluate(open_texts[0], names)


def _plain_value(text: str, names: Mapping[str, Any]) -> Any:
    try:
        result = eval(text.strip(), {"__builtins__": {}}, names)
    except (SyntaxError, NameError, TypeError, AttributeError):
        raise Refused from None
    except (RecursionError, MemoryError):
        raise Undecided from None
    if type(result) is not int and type(result) is not float:
        raise Refused
    return result


class Watched:
    """A number that knows whether all that it was made from travels; if not, it is None."""

    def __init__(self, value: Number | None) -> None:
        self.value = value if value is not None and travels(value) else None

    def _with(self, function: Callable[[Any, Any], Number], other: Watched) -> Watched:
        if self.value is None or other.value is None:
            return Watched(None)
        try:
            return Watched(function(self.value, other.value))
        except ArithmeticError:
            return Watched(None)

    def __add__(self, other: Watched) -> Watched:
        return self._with(operator.add, other)

    def __sub__(self, other: Watched) -> Watched:
        return self._with(operator.sub, other)

    def __mul__(self, other: Watched) -> Watched:
        return self._with(operator.mul, other)

    def __truediv__(self, other: Watched) -> Watched:
        return self._with(operator.truediv, other)

    def __pos__(self) -> Watched:
        return self

    def __neg__(self) -> Watched:
        return Watched(None if self.value is None else -self.value)


def _watched_value(text: str, names: Mapping[str, Any]) -> Any:
    try:
        tree = ast.parse(text.strip(), mode="eval")
        for node in list(ast.walk(tree)):
            if not isinstance(node, NODES):
                raise Refused
            if isinstance(node, ast.Name) and node.id not in names:
                raise Refused
            for field, child in list(ast.iter_fields(node)):
                if isinstance(child, ast.Constant):
                    setattr(node, field, _watched(child))
        code = compile(tree, "<formula>", "eval")
    except SyntaxError:
        raise Refused from None
    except (RecursionError, MemoryError):
        raise Undecided from None
    return eval(code, {"__builtins__": {}, "Watched": Watched}, names)


def _watched(constant: ast.Constant) -> ast.expr:
    """The same number, watched; what Python takes ``...`` for is no number."""
    if type(constant.value) is not int and type(constant.value) is not float:
        raise Refused
    name = ast.copy_location(ast.Name("Watched", ast.Load()), constant)
    return ast.copy_location(ast.Call(name, [constant], []), constant)
