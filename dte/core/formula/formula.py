"""Formulas: their bounds, and a parse of a whole text, at once or in slices."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass

from dte.core.errors import TooLarge
from dte.core.formula.builder import GraphBuilder
from dte.core.formula.parser import Parser
from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.core.graph.work import Work

SLICE_CHARS = 1024
SIGNS = "+-*/×÷−"
COUNT_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class FormulaLimits:
    """The bounds of a formula: characters, operations, decimal digits of an integer, calls."""

    chars_max: int = 16_000_000
    operations_max: int = 2_000_000
    digits_max: int = INTEGER_DIGITS_MAX
    calls_max: int = 100_000


def parse(text: str, limits: FormulaLimits, pure: Collection[str] = frozenset()) -> Work:
    """Parse a short formula at once.

    Args:
        pure: names of handlers known to be pure: equal calls of these become one.

    Raises:
        FormulaError: it has a syntax error.
        TooLarge: it exceeds a bound.
    """
    slices = parse_in_slices(text, limits, pure)
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def parse_in_slices(
    text: str, limits: FormulaLimits, pure: Collection[str] = frozenset()
) -> Generator[None, None, Work]:
    """Parse a formula in slices of a few milliseconds; the generator returns its work.

    Args:
        pure: as for `parse`.

    Raises:
        FormulaError: it has a syntax error.
        TooLarge: it exceeds a bound.
    """
    if len(text) > limits.chars_max:
        raise TooLarge(
            f"formula too large: {len(text)} characters > {limits.chars_max} (formula_chars_max)"
        )
    operators = 0  # Signs and exponents count too, so there are at most this many operations.
    for start in range(0, len(text), COUNT_CHARS):
        operators += sum(text.count(sign, start, start + COUNT_CHARS) for sign in SIGNS)
        yield
    builder = GraphBuilder(min(operators, limits.operations_max), pure)
    yield from builder.reserve()
    parser = Parser(text, limits.digits_max, limits.calls_max, builder)
    try:
        while parser.read(SLICE_CHARS):
            yield
        operand = parser.finish()
    except IndexError:
        raise TooLarge(
            f"formula too large: more than {limits.operations_max} operations "
            "(formula_operations_max)"
        ) from None
    value = builder.value(operand)
    yield from builder.finish(operand)
    return Work(builder.graph, value, builder.calls)
