"""Parses the text of a formula into a graph of operations.

    formula = sum
    sum     = product {("+" | "-") product}          left to right
    product = factor {("*" | "/") factor}            left to right
    factor  = {"+" | "-"} (number | "(" sum ")")

Numbers are written as in Python: ``7``, ``.5``, ``5.``, ``1e-3``. The parser is an operator
precedence parser (Dijkstra's shunting yard) over explicit stacks, so nothing is too deep for it,
and it is fed slices, so nothing is too long.

A chain of integer sums or of integer products is exact in any order, so it becomes a balanced tree
while it is read, in the way a binary counter adds: two neighbours of equal rank merge into one of
the next rank. A chain that meets a float or a division goes on from left to right, as Python does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dte.core.builder import INTEGRAL, GraphBuilder
from dte.core.errors import FormulaError, TooLarge, caret_lines
from dte.core.graph import Graph
from dte.core.operations import INTEGER_DIGITS_MAX, Number

TOKEN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|\S", re.ASCII)
CUT = re.compile(r"[()*/×÷−\s]|(?<![eE])[+\-]", re.ASCII)
"""Where a text may be cut without cutting a number."""

SPELLINGS = str.maketrans("×÷−", "*/-")
OPERATORS = "+-*/"
SUMS = frozenset("+-")
PRODUCTS = frozenset("*/")
SLICE_CHARS = 4096


@dataclass(frozen=True, slots=True)
class FormulaLimits:
    """The bounds of one formula: characters, operations, and decimal digits of an integer."""

    chars_max: int = 16_000_000
    operations_max: int = 2_000_000
    digits_max: int = INTEGER_DIGITS_MAX


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula: its graph, or the `value` of a formula without any operation."""

    graph: Graph
    value: Number | None


def parse(text: str, limits: FormulaLimits) -> Formula:
    """Parse a whole formula.

    Raises:
        FormulaError: it has a syntax error.
        TooLarge: it exceeds a bound.
    """
    parser = FormulaParser(text, limits)
    while not parser.step():
        pass
    return parser.result()


class FormulaParser:
    """Parses a formula in steps of some thousand characters.

    Call `step` until it says True, then `result`.

    Raises:
        TooLarge: the text is longer than the bound.
    """

    def __init__(self, text: str, limits: FormulaLimits) -> None:
        if len(text) > limits.chars_max:
            raise TooLarge(
                f"the formula has {len(text)} characters; "
                f"this master takes up to {limits.chars_max} (formula_chars_max)"
            )
        self._text = text
        self._limits = limits
        self._position = 0
        operators = sum(map(text.count, "+-*/×÷−"))
        self._builder = GraphBuilder(min(operators, limits.operations_max))
        self._operands: list[int] = []
        self._ranks: list[int] = []
        self._pending: list[str] = []
        """Operators and open parentheses; ``(-`` is a parenthesis to be negated."""
        self._depth = 0
        self._negative = False
        self._operand_next = True

    def step(self) -> bool:
        """Parse the next slice; True when the whole formula has been parsed.

        Raises:
            FormulaError: a syntax error.
            TooLarge: more operations than the bound.
        """
        start = self._position
        cut = CUT.search(self._text, start + SLICE_CHARS)
        end = cut.start() if cut else len(self._text)
        self._position = end
        part = self._text[start:end]
        if not part.isascii():
            part = part.translate(SPELLINGS)
        self._read(TOKEN.findall(part), start)
        operations_max = self._limits.operations_max
        if self._builder.graph.remaining > operations_max:
            raise TooLarge(
                f"the formula has more than {operations_max} operations, "
                "which is as many as this master takes (formula_operations_max)"
            )
        if end < len(self._text):
            return False
        self._finish()
        return True

    def result(self) -> Formula:
        """The parsed formula, once `step` has said True."""
        return Formula(self._builder.graph, self._builder.value(self._operands[0]))

    def _read(self, tokens: list[str], start: int) -> None:
        operands, ranks, pending = self._operands, self._ranks, self._pending
        operand_next, negative = self._operand_next, self._negative
        for index, token in enumerate(tokens):
            if operand_next:
                if token == "(":
                    pending.append("(-" if negative else "(")
                    self._depth += 1
                    negative = False
                elif token in SUMS:
                    negative ^= token == "-"
                else:
                    try:
                        value = self._number(token)
                    except ValueError as error:
                        raise self._error(str(error), start, index) from None
                    operands.append(self._builder.literal(-value if negative else value))
                    ranks.append(0)
                    operand_next = negative = False
            elif token in SUMS:
                if pending:
                    self._reduce_term()
                    self._reduce(SUMS)
                pending.append(token)
                operand_next = True
            elif token in PRODUCTS:
                if pending:
                    self._reduce(PRODUCTS)
                pending.append(token)
                operand_next = True
            elif token == ")" and self._depth:
                self._close()
            else:
                raise self._error(self._not_an_operator(token), start, index)
        self._operand_next, self._negative = operand_next, negative

    def _close(self) -> None:
        self._reduce_term()
        self._reduce(SUMS, whole=True)
        self._depth -= 1
        if self._pending.pop() == "(-":
            # Minus one times x is -x for every number, and 0 - x is not: -0.0 keeps its sign.
            minus_one = self._builder.literal(-1)
            self._operands[-1] = self._builder.operation(ord("*"), self._operands[-1], minus_one)
        self._ranks[-1] = 0

    def _finish(self) -> None:
        if self._operand_next:
            what = (
                "the formula is empty"
                if not self._operands and not self._pending
                else ("the formula ends where a number or '(' is expected")
            )
            raise self._error_at(what, len(self._text) + 1)
        if self._depth:
            missing = "a ')' is" if self._depth == 1 else f"{self._depth} ')' are"
            raise self._error_at(f"{missing} missing at the end", len(self._text) + 1)
        self._reduce_term()
        self._reduce(SUMS, whole=True)

    def _reduce_term(self) -> None:
        """Merge the product on top of the stacks into one term of a sum."""
        self._reduce(PRODUCTS, whole=True)
        self._ranks[-1] = 0

    def _reduce(self, run: frozenset[str], whole: bool = False) -> None:
        """Merge the run of equal precedence on top of the stacks.

        Integers merge while the last two are of equal rank, or, for the `whole`, until one is left.
        Anything else merges from left to right at once.
        """
        pending = self._pending
        if not pending or pending[-1] not in run:
            return
        operands, ranks = self._operands, self._ranks
        if pending[-1] == "/" or not operands[-1] & operands[-2] & INTEGRAL:
            operator, right = pending.pop(), operands.pop()
            ranks.pop()
            self._reduce_integers(run, whole=True)
            operands[-1] = self._builder.operation(ord(operator), operands[-1], right)
        else:
            self._reduce_integers(run, whole)

    def _reduce_integers(self, run: frozenset[str], whole: bool) -> None:
        pending, operands, ranks = self._pending, self._operands, self._ranks
        while pending and pending[-1] in run and (whole or ranks[-1] == ranks[-2]):
            operator, right = pending.pop(), operands.pop()
            rank = ranks.pop()
            if run is SUMS and pending and pending[-1] == "-":
                # x - l + r is x - (l - r), and x - l - r is x - (l + r).
                operator = "-" if operator == "+" else "+"
            operands[-1] = self._builder.operation(ord(operator), operands[-1], right)
            ranks[-1] = max(rank, ranks[-1]) + 1

    def _number(self, token: str) -> Number:
        """The value of a number's token.

        Raises:
            ValueError: the token is something else, with what it is as the message.
        """
        if not token.isascii() or not (token[0].isdigit() or (token[0] == "." and len(token) > 1)):
            raise ValueError(_not_a_number(token))
        if not token.isdigit():
            return float(token)
        if token[0] == "0" and token.strip("0"):
            raise ValueError(f"a number cannot begin with 0: write {_brief(token.lstrip('0'))}")
        if len(token) > self._limits.digits_max:
            raise ValueError(
                f"a number with {len(token)} digits; this master takes up to "
                f"{self._limits.digits_max} (digits_max)"
            )
        return int(token)

    def _not_an_operator(self, token: str) -> str:
        if token == ")":
            return "')' without a '(' before it"
        if token == "(" or (token[0].isascii() and token[0].isdigit()) or token[0] == ".":
            return f"an operator is missing before {_brief(token)!r}"
        return _not_a_number(token)

    def _error(self, reason: str, start: int, index: int) -> FormulaError:
        """A syntax error at token `index` of the slice that begins at `start`."""
        text = self._text
        places: Iterator[re.Match[str]] = TOKEN.finditer(text, start, self._position)
        column = next(match.start() for at, match in enumerate(places) if at == index) + 1
        return self._error_at(reason, column)

    def _error_at(self, reason: str, column: int) -> FormulaError:
        return FormulaError(reason, column, caret_lines(self._text, column))


def _not_a_number(token: str) -> str:
    if token in "+-*/)":
        return f"a number or '(' is expected before {token!r}"
    if token == ".":
        return "'.' without a digit"
    shown = token if token.isprintable() else f"U+{ord(token):04X}"
    return f"{shown!r} is not part of a formula, which has numbers, + - * / and parentheses"


def _brief(token: str) -> str:
    return token if len(token) <= 24 else f"{token[:21]}…"
