"""Builds a graph in which equal subexpressions are one operation.

An operand is a number that carries two flags: `number << 2 | LITERAL | INTEGRAL`, where the number
is an operation's or a literal's. Equal things are found in hash tables of 4 bytes a place, whose
entries are the numbers of literals and operations kept beside them. A dict would take 100 bytes an
entry, and growing one of a million entries stops the loop for some 40 ms. A search looks at a
bounded number of places, so that no input can make it slow; in the rare case that all are taken, an
equal thing is not found and stands in the graph twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from math import copysign, isfinite

from dte.core.graph import Graph
from dte.core.operations import Number

INTEGRAL = 1
"""Flag of an operand that is an integer whatever the values are."""
LITERAL = 2
"""Flag of an operand that stands in the formula itself."""

PLACES_MAX = 24
EMPTY = -1
FINISH_LITERALS = 100_000
TIMES = ord("*")
DIVISION = ord("/")


class GraphBuilder:
    """Adds literals and operations to a `graph`, each once.

    Run `reserve` before the first and `finish` after the last: they are slices of work, as large
    tables take milliseconds to make and to throw away.

    Args:
        operations_max: at most this many operations will be added.
    """

    def __init__(self, operations_max: int) -> None:
        self.graph = Graph()
        self._operations_max = operations_max
        self._literals: list[Number] = []
        self._kinds = bytearray()
        size = 1 << (2 * operations_max + 7).bit_length()
        self._mask = size - 1
        self._literal_table = array("i")
        self._operation_table = array("i")
        self._left = array("i")
        self._right = array("i")

    def reserve(self) -> Iterator[None]:
        """Make room for all that will be added, in slices."""
        yield from self.graph.reserve(self._operations_max)
        yield
        self._literal_table = array("i", [EMPTY]) * (self._mask + 1)
        yield
        self._operation_table = array("i", [EMPTY]) * (self._mask + 1)

    def finish(self) -> Iterator[None]:
        """Throw away what is not of the graph, in slices."""
        self.graph.trim()
        self._literal_table = self._operation_table = array("i")
        while self._literals:
            yield
            del self._literals[-FINISH_LITERALS:]

    def literal(self, value: Number) -> int:
        """The operand that stands for `value`."""
        integral = 1 if type(value) is int else 0
        # 0.0 and -0.0 are equal to Python, and not the same operand; nor are 1 and 1.0.
        kind = integral or (4 if value == 0 and copysign(1, value) < 0 else 0)
        literals, kinds, table, mask = self._literals, self._kinds, self._literal_table, self._mask
        place = hash((kind, value)) & mask
        places_left = PLACES_MAX
        while (number := table[place]) >= 0 and places_left:
            if kinds[number] == kind and literals[number] == value:
                return number << 2 | LITERAL | integral
            place = (place + 1) & mask
            places_left -= 1
        number = len(literals)
        if places_left:
            table[place] = number
        literals.append(value)
        kinds.append(kind)
        if not integral and not isfinite(value) and self.graph.failure is None:
            self.graph.failure = "a number in the formula is too large for a float"
        return number << 2 | LITERAL | integral

    def operation(self, symbol: int, left: int, right: int) -> int:
        """The operand that stands for the result of an operation on two operands.

        Raises:
            IndexError: more operations than `operations_max`.
        """
        graph, lefts, rights = self.graph, self._left, self._right
        table, mask = self._operation_table, self._mask
        integral = left & right & INTEGRAL if symbol != DIVISION else 0
        place = hash((symbol, left, right)) & mask
        places_left = PLACES_MAX
        while (node := table[place]) >= 0 and places_left:
            if lefts[node] == left and rights[node] == right and graph.symbols[node] == symbol:
                return node << 2 | integral
            place = (place + 1) & mask
            places_left -= 1
        if places_left:
            table[place] = len(lefts)
        lefts.append(left)
        rights.append(right)
        literals = self._literals
        if left & LITERAL:
            source1, value1 = -1, literals[left >> 2]
        else:
            source1, value1 = left >> 2, None
        if right & LITERAL:
            return graph.add(symbol, source1, value1, -1, literals[right >> 2]) << 2 | integral
        return graph.add(symbol, source1, value1, right >> 2, None) << 2 | integral

    def negation(self, operand: int) -> int:
        """The operand that stands for minus an operand."""
        if operand & LITERAL:
            return self.literal(-self._literals[operand >> 2])
        # Minus one times x is -x for every number; 0 - x is not: -0.0 keeps its sign.
        return self.operation(TIMES, operand, self.literal(-1))

    def value(self, operand: int) -> Number | None:
        """The value of an operand that is a literal, else None."""
        return self._literals[operand >> 2] if operand & LITERAL else None
