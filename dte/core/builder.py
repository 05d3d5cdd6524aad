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
from math import copysign, isfinite

from dte.core.graph import Graph
from dte.core.operations import Number

INTEGRAL = 1
"""Flag of an operand that is an integer whatever the values are."""
LITERAL = 2
"""Flag of an operand that stands in the formula itself."""

PLACES_MAX = 24
DIVISION = ord("/")


class GraphBuilder:
    """Adds literals and operations to a `graph`, each once.

    Args:
        operations_max: at most this many operations will be added.
    """

    def __init__(self, operations_max: int) -> None:
        self.graph = Graph()
        self._literals: list[Number] = []
        self._kinds = bytearray()
        size = 1 << (2 * operations_max + 7).bit_length()
        self._mask = size - 1
        self._literal_table = array("i", [-1]) * size
        self._operation_table = array("i", [-1]) * size
        self._left = array("i")
        self._right = array("i")

    def literal(self, value: Number) -> int:
        """The operand that stands for `value`."""
        integral = type(value) is int
        # 0.0 and -0.0 are equal to Python, and not the same operand; nor are 1 and 1.0.
        kind = INTEGRAL if integral else 4 if value == 0 and copysign(1, value) < 0 else 0
        literals, kinds, table, mask = self._literals, self._kinds, self._literal_table, self._mask
        place = hash((kind, value)) & mask
        for _ in range(PLACES_MAX):
            number = table[place]
            if number < 0:
                number = table[place] = len(literals)
                break
            if kinds[number] == kind and literals[number] == value:
                return number << 2 | LITERAL | integral
            place = (place + 1) & mask
        else:
            number = len(literals)
        literals.append(value)
        kinds.append(kind)
        if not integral and not isfinite(value) and self.graph.failure is None:
            self.graph.failure = "a number in the formula is too large for a float"
        return number << 2 | LITERAL | integral

    def operation(self, symbol: int, left: int, right: int) -> int:
        """The operand that stands for the result of an operation on two operands."""
        graph, lefts, rights = self.graph, self._left, self._right
        symbols, table, mask = graph.symbols, self._operation_table, self._mask
        integral = left & right & INTEGRAL if symbol != DIVISION else 0
        place = hash((symbol, left, right)) & mask
        for _ in range(PLACES_MAX):
            node = table[place]
            if node < 0:
                table[place] = len(lefts)
                break
            if lefts[node] == left and rights[node] == right and symbols[node] == symbol:
                return node << 2 | integral
            place = (place + 1) & mask
        lefts.append(left)
        rights.append(right)
        literals = self._literals
        node = graph.add(
            symbol,
            -1 if left & LITERAL else left >> 2,
            literals[left >> 2] if left & LITERAL else None,
            -1 if right & LITERAL else right >> 2,
            literals[right >> 2] if right & LITERAL else None,
        )
        return node << 2 | integral

    def value(self, operand: int) -> Number | None:
        """The value of an operand that is a literal, else None."""
        return self._literals[operand >> 2] if operand & LITERAL else None
