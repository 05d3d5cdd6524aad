"""Templates: formulas that differ only in their numbers are parsed once and then filled in.

Clients that submit thousands of short formulas make them by a rule: ``3+(2*3)/4-5``,
``8+(2*8)/4-5``. Their shape is ``#+(#*#)/#-#``. The shape, with the information which numbers are
equal and so may make subexpressions equal, is the key of a template: a graph, and for each operand
the number that stands there.

A template comes from the parser itself, which gets the shape with markers for the numbers. The
template is kept only if every literal is a marker; so it cannot disagree with the parser, and
formulas that no template can stand for (names, numbers that begin with 0) are left to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import NamedTuple

from dte.core.errors import DteError
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.arithmetic import Graph
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work

NUMBER = re.compile(r"((?!0\d)[\d.]+(?:[eE][+-]?\d+)?)", re.ASCII)
SIGNS = re.compile(r"[#()*/+\-×÷−\s]*")
CHARS_MAX = 256
"""Longer formulas are parsed. Integers of shorter ones have too few digits to be `wide`."""
NUMBERS_MAX = 32
"""Formulas of more numbers are parsed: finding equal numbers takes quadratic time."""
SHAPES_MAX = 1_000
"""When this many are known, all are forgotten: most of them do not come back."""
FIRST_MARKER = 1_000
MARKERS = {"integer": "{}", "float": "{}.5", "zero": "0", "neither": "?"}
"""The marker of a number in the text that the parser reads, by the number's kind."""


class Shape(NamedTuple):
    """Everything that decides about the graph of a formula, except for the values of its numbers.

    Attributes:
        text: the formula with ``#`` for each number.
        equal: for each number the index of the first one that is equal to it.
        kinds: the `_kind` of each number; empty if all are integers other than 0.
    """

    text: str
    equal: tuple[int, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """The common part of the formulas of a shape.

    Attributes:
        graph: with markers; no operation of it is done.
        signed: numbers with the opposite sign are needed too.
        picks1: the indices of the first operands among the numbers, followed by the numbers with
            the opposite sign if `signed`, and by None for results.
        picks2: the indices of the second operands.
    """

    graph: Graph
    signed: bool
    picks1: Sequence[int]
    picks2: Sequence[int]

    def work(self, numbers: Sequence[Number]) -> Work:
        """The work of the formula with these numbers."""
        other_sign = [-number for number in numbers] if self.signed else ()
        pick = [*numbers, *other_sign, None].__getitem__
        operands1, operands2 = list(map(pick, self.picks1)), list(map(pick, self.picks2))
        return Work(self.graph.with_operands(operands1, operands2))


class Templates:
    """Reads short formulas; fills in a template if the shape is known.

    Args:
        limits: of each formula.
    """

    def __init__(self, limits: FormulaLimits) -> None:
        self.limits = limits
        # No number has more digits than the text has characters.
        self._chars_max = min(CHARS_MAX, limits.chars_max, limits.digits_max)
        self._templates: dict[Shape, Template | None] = {}
        """None for shapes that no template can stand for."""
        self._seen: set[Shape] = set()
        """Shapes that were seen once; most formulas that people type are not seen again."""

    def parse(self, text: str, pure: Collection[str] = frozenset()) -> Work:
        """Read a formula as `dte.core.formula.formula.parse` does."""
        work = self._fill_in(text) if len(text) <= self._chars_max else None
        return parse(text, self.limits, pure) if work is None else work

    def _fill_in(self, text: str) -> Work | None:
        """The work of a formula whose shape has a template."""
        parts = NUMBER.split(text)
        if not 4 < len(parts) <= 2 * NUMBERS_MAX + 1:
            return None
        numbers: list[Number]
        try:
            numbers = list(map(int, parts[1::2]))
            kinds = () if all(numbers) else tuple(map(_kind, numbers))
        except ValueError:
            numbers = list(map(_number, parts[1::2]))
            kinds = tuple(map(_kind, numbers))
        if kinds:
            typed = list(zip(kinds, numbers, strict=True))  # 1 and 1.0 are equal but differ.
            equal = tuple(map(typed.index, typed))
        else:
            equal = tuple(map(numbers.index, numbers))
        shape = Shape("#".join(parts[::2]), equal, kinds)
        template = self._templates.get(shape)
        if template is not None:
            return template.work(numbers)
        if shape not in self._templates:
            self._learn(shape, parts)
        return None

    def _learn(self, shape: Shape, parts: Sequence[str]) -> None:
        """Note that a shape was seen; make its template the second time."""
        if shape not in self._seen:
            if len(self._seen) == SHAPES_MAX:
                self._seen.clear()
            self._seen.add(shape)
            return
        if len(self._templates) == SHAPES_MAX:
            self._templates.clear()
        self._templates[shape] = _template(shape, parts, self.limits)


def _number(text: str) -> Number:
    if text.isdigit():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return nan  # Something like 1.2.3, which the parser refuses.


def _kind(number: Number) -> str:
    """The property of a number that decides about the graph."""
    if type(number) is float:
        return "float" if isfinite(number) else "neither"
    return "integer" if number else "zero"  # Zero is its own opposite.


def _template(shape: Shape, parts: Sequence[str], limits: FormulaLimits) -> Template | None:
    """The template of a shape, if it can have one.

    Args:
        parts: a formula of the shape, as `NUMBER` splits it.
    """
    if not SIGNS.fullmatch(shape.text):
        return None  # A letter or digit beside a number may be part of another token.
    kinds = shape.kinds or ("integer",) * len(shape.equal)
    texts = [
        MARKERS[kind].format(FIRST_MARKER + place)
        for kind, place in zip(kinds, shape.equal, strict=True)
    ]
    marked = list(parts)
    marked[1::2] = texts
    try:
        work = parse("".join(marked), limits)
    except DteError:
        return None
    markers = list(map(_number, texts))
    # Compared by their texts: 0 is not 0.0.
    pool = list(map(repr, [*markers, *[-marker for marker in markers], None]))
    operands = list(map(repr, work.graph.operands1 + work.graph.operands2))
    if not all(operand in pool for operand in operands):
        return None
    picks = list(map(pool.index, operands))
    signed = any(len(markers) <= pick < 2 * len(markers) for pick in picks)
    if not signed:
        picks = [min(pick, len(markers)) for pick in picks]
    count = work.graph.remaining
    return Template(work.graph, signed, picks[:count], picks[count:])
