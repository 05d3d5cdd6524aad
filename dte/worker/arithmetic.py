"""The four operations, with the results of Python's own operators."""

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
    """An operation has no result. The text gives the reason."""


def compute(symbol: str, left: Number, right: Number) -> Number:
    """Compute one operation.

    Raises:
        KeyError: the symbol is unknown.
        OperationFailed: division by zero, overflow, or an integer with too many digits.
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
    """Compute operations in columns; return the results, and the reasons of failures by index.

    Raises:
        KeyError: a symbol is unknown.
        ValueError: the columns differ in length.
    """
    if not len(symbols) == len(lefts) == len(rights):
        raise ValueError("operations, op1 and op2 differ in length")
    try:
        # This runs in C. Failures and results out of range are found one by one below.
        results = list(map(operator.call, map(FUNCTIONS.__getitem__, symbols), lefts, rights))
        if not results or (min(results) > -INTEGER_LIMIT and max(results) < INTEGER_LIMIT):
            return results, {}
    except ArithmeticError:
        pass
    results, errors = [], {}
    for index, (symbol, left, right) in enumerate(zip(symbols, lefts, rights, strict=True)):
        try:
            results.append(compute(symbol, left, right))
        except OperationFailed as error:
            results.append(0)
            errors[index] = str(error)
    return results, errors
