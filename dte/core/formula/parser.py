"""The formula parser: it reads a text slice by slice and adds operations and calls to a builder.

    formula = sum
    sum     = product {("+" | "-") product}          left to right
    product = factor {("*" | "/") factor}            left to right
    factor  = {"+" | "-"} (number | "(" sum ")" | call)
    call    = name "(" [sum {"," sum}] ")"           name: a handler without "-" in its name

Numbers are written as in Python: ``7``, ``.5``, ``5.``, ``1e-3``. The parser is an operator
precedence parser (Dijkstra's shunting yard) with explicit stacks, so nesting depth has no limit. It
reads slices, so length has none either.

A chain of integer sums or of integer products is exact in any order, so the parser builds a
balanced tree from it, as a binary counter adds: two neighbours of equal rank merge into one of the
next rank. From the first float, division or call on, a chain is evaluated from left to right, as in
Python: the result of a call may be a float.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from operator import length_hint

from dte.core.errors import FormulaError, TooLarge, caret_lines
from dte.core.formula.builder import INTEGRAL, GraphBuilder
from dte.core.graph.handlers import NAME_CHARS_MAX
from dte.core.graph.numbers import INTEGER_LIMIT, Number

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*", re.ASCII)
TOKEN = re.compile(rf"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[-+*/()]|{NAME.pattern}|\S", re.ASCII)
CUT = re.compile(r"[()*/×÷,\s]|(?<![eE])[+\-−]", re.ASCII)
"""Positions at which a text can be cut without cutting a number or a name."""

SPELLINGS = str.maketrans("×÷−", "*/-")
OPERATORS = frozenset("+-*/")
SUMS = frozenset("+-")
PRODUCTS = frozenset("*/")
FLIPPED = {"+": "-", "-": "+"}
BOTTOM = "bottom"
"""A sentinel under the operators, so that the stack is never empty."""
NEGATED = 1
CALLED = 2
OPENINGS = ("(", "(-", "f(")
"""The kinds of an open parenthesis on the operator stack: plain, negated, of a call."""
NUMBER_STARTS = frozenset(string.digits + ".")
NAME_STARTS = frozenset(string.ascii_letters + "_")
NUMBER_CHARS_MAX = 8192
"""Longest number in characters. Integers have the limit `digits_max` too."""
TOO_LONG = f"a number of more than {NUMBER_CHARS_MAX} characters"
ARGUMENTS_MAX = 100
SAFE_BITS = (INTEGER_LIMIT - 1).bit_length() - 1
"""Every integer of this many bits can be sent. Chains that may exceed it are not balanced: a
partial result could be too long where none is in Python's own order."""
WIDE_BITS = 1024
"""For longer integers, encoding and decoding cost more than the rest of an operation."""


@dataclass(slots=True)
class _OpenCall:
    """A call whose parenthesis is open or comes next; `operands` are its arguments so far."""

    name: str
    column: int
    negative: bool
    operands: list[int] = field(default_factory=list)


class Parser:
    """The parser; its stacks persist between slices.

    Args:
        digits_max: limit of decimal digits in an integer.
        calls_max: limit of calls.
    """

    _last_token = ""
    """The last token of the previous slice."""
    _offsets: list[int] | None = None
    """Start of each token within the slice; computed for error messages only."""

    def __init__(self, text: str, digits_max: int, calls_max: int, builder: GraphBuilder) -> None:
        self._text = text
        self._digits_max = digits_max
        self._calls_max = calls_max
        self._builder = builder
        self._position = 0
        self._operands: list[int] = []
        self._ranks: list[int] = []
        self._bits: list[int] = []
        """An upper bound of the bits of each operand, if it is an integer."""
        self._pending = [BOTTOM]
        """Operators and open parentheses (`OPENINGS`)."""
        self._open_calls: list[_OpenCall] = []
        self._opening = 0
        """Kind of the next parenthesis, if one follows: an index into `OPENINGS`."""
        self._operand_next = True

    def read(self, chars: int) -> bool:
        """Read about `chars` more characters.

        Returns:
            False when the text is at its end.

        Raises:
            FormulaError: a syntax error.
            IndexError: more operations than the builder has room for.
        """
        start = self._position
        hard_end = min(len(self._text), start + chars + NUMBER_CHARS_MAX)
        cut = CUT.search(self._text, start + chars, hard_end + 1)
        end = self._position = cut.start() if cut else hard_end
        part = self._text[start:end]
        if not part.isascii():
            part = part.translate(SPELLINGS)
        tokens = TOKEN.findall(part)
        if cut is None and end < len(self._text) and tokens[-1][0] in ".0123456789":
            # Only a number that goes on after the end can be this long without a cut.
            self._read(tokens[:-1], start)
            raise self._error(TOO_LONG, start, len(tokens) - 1)
        self._read(tokens, start)
        if end == len(self._text):
            return False
        self._offsets = None
        if tokens:
            self._last_token = tokens[-1]
        return True

    def finish(self) -> int:
        """The operand of the whole formula, after all of it has been read.

        Raises:
            FormulaError: the text ends too early.
        """
        pending = self._pending
        if self._operand_next:
            if self._opening == CALLED:
                raise self._not_called()
            empty = not self._operands and pending == [BOTTOM]
            what = "is empty" if empty else "ends where a number or '(' is expected"
            raise self._error_at(f"the formula {what}", len(self._text) + 1)
        open_count = len(pending) - 1 - sum(map(pending.count, OPERATORS))
        if open_count:
            missing = "a ')' is" if open_count == 1 else f"{open_count} ')' are"
            raise self._error_at(f"{missing} missing at the end", len(self._text) + 1)
        if pending[-1] in PRODUCTS:
            self._reduce(PRODUCTS, whole=True)
        if pending[-1] in SUMS:
            self._reduce(SUMS, whole=True)
        return self._operands[0]

    def _read(self, tokens: list[str], start: int) -> None:
        operands, ranks, pending = self._operands, self._ranks, self._pending
        bits = self._bits
        literal, digits_max = self._builder.literal, self._digits_max
        value: Number
        operand_next, opening = self._operand_next, self._opening
        if opening == CALLED and tokens and tokens[0] != "(":
            raise self._not_called()
        rest = iter(tokens)

        def index() -> int:
            """Index of the current token; for rare cases, because counting it takes time."""
            return len(tokens) - 1 - length_hint(rest)

        for token in rest:
            if operand_next:
                if token == "(":
                    pending.append(OPENINGS[opening] if opening else "(")
                    opening = 0
                elif token in SUMS:
                    opening ^= token == "-"
                else:
                    try:
                        # The common case, an integer; after the first digit all are ASCII.
                        if "1" <= token < ":" and token.isdecimal() and len(token) <= digits_max:
                            value = int(token)
                        else:
                            value = self._odd_number(token)
                    except ValueError as error:
                        if self._begins_call(tokens, index(), opening, start, str(error)):
                            opening = CALLED
                        else:
                            operand_next = False
                        continue
                    operands.append(literal(-value if opening else value))
                    ranks.append(0)
                    bits.append(value.bit_length() if type(value) is int else 0)
                    operand_next = False
                    opening = 0
            elif token == ")":
                # On top of the stacks: a product, below it a sum, below it a parenthesis.
                if pending[-1] in OPERATORS:
                    if pending[-2] == "(":
                        self._merge(pending[-1])
                    else:
                        self._reduce(PRODUCTS, whole=True)
                        self._reduce(SUMS, whole=True)
                closed = pending.pop()
                if closed != "(":
                    self._close(closed, start, index())
                ranks[-1] = 0
            elif token in OPERATORS:
                if pending[-1] in PRODUCTS:
                    self._reduce(PRODUCTS, whole=token in SUMS)
                if token in SUMS:
                    ranks[-1] = 0
                    if pending[-1] in SUMS:
                        self._reduce(SUMS)
                pending.append(token)
                operand_next = True
            elif token == ",":
                self._end_argument(start, index())
                operand_next = True
            else:
                raise self._error(self._not_an_operator(token, start, index()), start, index())
        self._operand_next, self._opening = operand_next, opening

    def _begins_call(
        self, tokens: list[str], index: int, opening: int, start: int, reason: str
    ) -> bool:
        """Take a token that is not a number where an operand is expected.

        Returns:
            True for a name, which begins a call; False for the end of a call without arguments.

        Raises:
            FormulaError: any other token; `reason` says why.
        """
        token = tokens[index]
        if token[0] in NAME_STARTS:
            self._name(token, opening == NEGATED, start, index)
            if tokens[index + 1 : index + 2] not in ([], ["("]):
                raise self._not_called() from None
            return True
        before = tokens[index - 1] if index else self._last_token
        if token == ")" and before == "(" and self._pending[-1] == OPENINGS[CALLED]:
            self._pending.pop()
            self._call()
            return False
        raise self._error(reason, start, index) from None

    def _close(self, opening: str, start: int, index: int) -> None:
        """Close a negated parenthesis or that of a call; its content is on top of the stacks."""
        if opening == OPENINGS[NEGATED]:
            self._operands[-1] = self._builder.negation(self._operands[-1])
        elif opening == OPENINGS[CALLED]:
            self._take_argument()
            self._call()
        else:
            raise self._error("')' without a '(' before it", start, index)

    def _name(self, name: str, negative: bool, start: int, index: int) -> None:
        """Begin a call with its name."""
        column = self._column(start, index)
        if len(name) > NAME_CHARS_MAX:
            raise self._error_at(f"a name of more than {NAME_CHARS_MAX} characters", column)
        self._open_calls.append(_OpenCall(name, column, negative))
        # Nested calls are never equal, so the formula has at least this many.
        self._check_calls(len(self._open_calls))

    def _end_argument(self, start: int, index: int) -> None:
        """Take the last argument before a comma."""
        if self._pending[-1] in PRODUCTS:
            self._reduce(PRODUCTS, whole=True)
        if self._pending[-1] in SUMS:
            self._reduce(SUMS, whole=True)
        if self._pending[-1] != OPENINGS[CALLED]:
            raise self._error(
                "unexpected ','; commas separate arguments, and decimals use '.'",
                start,
                index,
            )
        self._take_argument()
        if len(self._open_calls[-1].operands) == ARGUMENTS_MAX:
            raise self._error(f"more than {ARGUMENTS_MAX} arguments in a call", start, index)

    def _take_argument(self) -> None:
        self._open_calls[-1].operands.append(self._operands.pop())
        self._ranks.pop()
        self._bits.pop()

    def _call(self) -> None:
        """Turn the innermost open call, whose arguments are complete, into an operand."""
        call = self._open_calls.pop()
        operand = self._builder.call(call.name, call.column, call.operands)
        assert self._builder.calls is not None
        self._check_calls(self._builder.calls.remaining)
        self._operands.append(self._builder.negation(operand) if call.negative else operand)
        self._ranks.append(0)
        self._bits.append(0)

    def _check_calls(self, count: int) -> None:
        if count > self._calls_max:
            raise TooLarge(f"formula too large: more than {self._calls_max} calls (calls_max)")

    def _reduce(self, run: frozenset[str], whole: bool = False) -> None:
        """Merge the run of equal precedence on top of the stacks.

        Integers merge while the last two have equal rank, or with `whole` until one is left.
        Everything else merges from left to right at once.
        """
        pending, operands, ranks = self._pending, self._operands, self._ranks
        while pending[-1] in run:
            if whole and pending[-2] not in run:
                self._merge(pending[-1])  # A single operator, the common case.
            elif (
                pending[-1] == "/"
                or not operands[-1] & operands[-2] & INTEGRAL
                or self._bits[-1] + self._bits[-2] >= SAFE_BITS
            ):
                self._reduce_from_left(run)
            elif whole or ranks[-1] == ranks[-2]:
                # x - l + r is x - (l - r), and x - l - r is x - (l + r).
                flip = run is SUMS and pending[-2] == "-"
                self._merge(FLIPPED[pending[-1]] if flip else pending[-1])
            else:
                return

    def _merge(self, operator: str) -> None:
        """Replace the last operator and the last two operands by an operation."""
        operands, ranks, bits = self._operands, self._ranks, self._bits
        self._pending.pop()
        right, rank, right_bits = operands.pop(), ranks.pop(), bits.pop()
        operands[-1] = self._builder.operation(ord(operator), operands[-1], right)
        if rank >= ranks[-1]:
            ranks[-1] = rank
        ranks[-1] += 1
        if operator == "*":
            merged_bits = bits[-1] + right_bits
        else:
            merged_bits = (bits[-1] if bits[-1] > right_bits else right_bits) + 1
        if merged_bits > WIDE_BITS:
            self._builder.graph.wide = True
        bits[-1] = merged_bits if operands[-1] & INTEGRAL else 0

    def _reduce_from_left(self, run: frozenset[str]) -> None:
        """Merge a whole run from left to right, with the same partial results as Python."""
        count = 0
        while self._pending[-1 - count] in run:
            count += 1
        operators = self._pending[-count:]
        rest = [(self._operands.pop(), self._ranks.pop(), self._bits.pop()) for _ in operators]
        del self._pending[-count:]
        for operator in operators:
            operand, rank, bits = rest.pop()
            self._pending.append(operator)
            self._operands.append(operand)
            self._ranks.append(rank)
            self._bits.append(bits)
            self._merge(operator)

    def _odd_number(self, token: str) -> Number:
        """The value of a number that is not a positive integer, or that has too many digits.

        Raises:
            ValueError: the token is not such a number; the message says what is wrong.
        """
        if not (token.isascii() and token.isdigit()):
            if len(token) == 1 or token[0] > "9":
                raise ValueError(_not_a_number(token))
            if len(token) > NUMBER_CHARS_MAX:
                raise ValueError(TOO_LONG)
            return float(token)
        if token[0] == "0":
            if token.strip("0"):
                raise ValueError(f"a number cannot begin with 0: write {_brief(token.lstrip('0'))}")
            return 0
        raise ValueError(f"number too long: {len(token)} digits > {self._digits_max} (digits_max)")

    def _not_called(self) -> FormulaError:
        """The error of a name without a parenthesis after it."""
        call = self._open_calls[-1]
        name = _brief(call.name)
        return self._error_at(
            f"unknown name {name!r}; write {name}(…) to call that handler",
            call.column,
        )

    def _not_an_operator(self, token: str, start: int, index: int) -> str:
        if token[0] in NAME_STARTS:
            name = NAME.match(self._text, self._column(start, index) - 1)
            token = name[0] if name else token  # The whole name, even if the slice cuts it.
        elif token != "(" and token[0] not in NUMBER_STARTS:
            return _not_a_number(token)
        return f"an operator is missing before {_brief(token)!r}"

    def _column(self, start: int, index: int) -> int:
        """Column of token `index` of the slice that begins at `start`."""
        if self._offsets is None:
            part = self._text[start : self._position].translate(SPELLINGS)
            self._offsets = [match.start() for match in TOKEN.finditer(part)]
        return start + self._offsets[index] + 1

    def _error(self, reason: str, start: int, index: int) -> FormulaError:
        """A syntax error at token `index` of the slice that begins at `start`."""
        return self._error_at(reason, self._column(start, index))

    def _error_at(self, reason: str, column: int) -> FormulaError:
        return FormulaError(reason, column, caret_lines(self._text, column))


def _not_a_number(token: str) -> str:
    if token in "+-*/),":
        return f"a number or '(' is expected before {token!r}"
    if token == ".":
        return "'.' without a digit"
    if token in ("'", '"'):
        return "a formula has no strings; to pass one to a handler, submit a call of the handler"
    shown = token if token.isprintable() else f"U+{ord(token):04X}"
    return f"{shown!r} is not part of a formula, which has numbers, + - * / and parentheses"


def _brief(token: str) -> str:
    return token if len(token) <= 24 else f"{token[:21]}…"
