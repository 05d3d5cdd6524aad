"""Does the four operations as Python does them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from dte.core.graph.numbers import INTEGER_DIGITS_MAX, INTEGER_LIMIT, Number

FUNCTIONS: dict[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


class OperationFailed(ArithmeticError):
    """An operation without a result; the text says why."""


def compute(symbol: str, left: Number, right: Number) -> Number:
    """The result of one operation.

    Raises:
        KeyError: there is no such operation.
        OperationFailed: division by zero, overflow, or an integer too long to travel.
    """
    function = FUNCTIONS[symbol]
    try:
        result = function(left, right)
    except ZeroDivisionError:
        raise OperationFailed("division by zero") from None
    except OverflowError:
        raise OperationFailed("overflow, an integer is too large for a float") from None
    if not -INTEGER_LIMIT < result < INTEGER_LIMIT:
        if isinstance(result, int):
            raise OperationFailed(f"the result has more than {INTEGER_DIGITS_MAX} digits")
        raise OperationFailed("overflow, the result is not a finite number")
    return result


def compute_all(
    symbols: str, lefts: Sequence[Number], rights: Sequence[Number]
) -> tuple[list[Number], dict[int, str]]:
    """The results of operations in columns, and why some failed, by their place.

    Raises:
        KeyError: a symbol is no operation.
        ValueError: the columns differ in length.
    """
    if not len(symbols) == len(lefts) == len(rights):
        raise ValueError("operations, op1 and op2 differ in length")
    try:
        # All in C; what fails, or what is too large, is found out one by one below.
        results = list(map(operator.call, map(FUNCTIONS.__getitem__, symbols), lefts, rights))
        if not results or (min(results) > -INTEGER_LIMIT and max(results) < INTEGER_LIMIT):
            return results, {}
    except ArithmeticError:
        pass
    results, errors = [], {}
    for place, (symbol, left, right) in enumerate(zip(symbols, lefts, rights, strict=True)):
        try:
            results.append(compute(symbol, left, right))
        except OperationFailed as error:
            results.append(0)
            errors[place] = str(error)
    return results, errors
