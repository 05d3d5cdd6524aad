"""The builder: makes the graph of a formula, in which equal subexpressions are one operation.

An operand is an integer with two flags: `number << 2 | LITERAL | INTEGRAL`, where the number is an
operation's or a literal's. Equal operations are found in a hash table of 4-byte entries, the
numbers of operations. A dict would take 100 bytes an entry, and growing one of a million entries
stops the loop for some 40 ms. A search probes a bounded number of entries, so that no input can
make it slow; in the rare case that all are taken, an equal operation is not found and stands in the
graph twice. Literals are compared by value together with operations: finding equal ones first would
cost as much again.

While a formula is read, a call stands among the literals, and so in the slots of the operations
that read it; `finish` makes these operations wait for it. So a formula without calls pays nothing
for them.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence
from math import copysign, isfinite
from typing import Any

from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import Call, Ref
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number

INTEGRAL = 1
"""Flag of an operand that is an integer for all values."""
LITERAL = 2
"""Flag of an operand that is a literal of the formula."""

PLACES_MAX = 24
EMPTY = -1
FINISH_LITERALS = 100_000
AWAITING_OPERATIONS = 10_000
"""Operations that are searched for calls in a slice."""
FROM_LITERAL = -1
"""The source of an operand that is a literal."""
TIMES = ord("*")
DIVISION = ord("/")


class GraphBuilder:
    """Adds literals and operations to a `graph`, each once, and calls to `calls`.

    Run `reserve` before the first and `finish` after the last. They yield between slices, as large
    tables take milliseconds to make and to free.

    Args:
        operations_max: most operations that will be added.
        pure: names of handlers known to be pure: equal calls of these become one.

    Attributes:
        calls: None until the first call.
    """

    calls: CallGraph | None = None
    _known_calls: dict[tuple[str, tuple[int | str, ...]], int]
    """The operands of pure calls, by handler and arguments; from the first call on."""

    def __init__(self, operations_max: int, pure: Collection[str] = ()) -> None:
        self.graph = Graph()
        self._operations_max = operations_max
        self._pure = pure
        self._literals: list[Any] = []
        size = 1 << (2 * operations_max + 7).bit_length()
        self._mask = size - 1
        self._table = array("i")
        self._sources1 = array("i")
        self._sources2 = array("i")

    def reserve(self) -> Iterator[None]:
        """Make room for everything that will be added, in slices."""
        yield from self.graph.reserve(self._operations_max)
        yield
        self._table = array("i", [EMPTY]) * (self._mask + 1)
        yield
        # At full length: growing them would copy millions of entries, for tens of milliseconds.
        self._sources1 = array("i", [FROM_LITERAL]) * self._operations_max
        yield
        self._sources2 = array("i", [FROM_LITERAL]) * self._operations_max

    def finish(self, answer: int) -> Iterator[None]:
        """Let operations wait for calls, and free what only the parser needs, in slices.

        Args:
            answer: the operand that stands for the whole formula.
        """
        self.graph.trim()
        self._table = self._sources1 = self._sources2 = array("i")
        if self.calls is not None:
            if answer & LITERAL:
                self.calls.answer = self._literals[answer >> 2]
            else:
                self.calls.root = answer >> 2
            yield from self._await_calls()
        while self._literals:
            yield
            del self._literals[-FINISH_LITERALS:]

    def _await_calls(self) -> Iterator[None]:
        """Let operations wait for the calls in their slots, in slices."""
        graph = self.graph
        graph.wide = True  # The integers that calls give may be of any length.
        edges: dict[Call, list[int]] = {}
        for start in range(0, graph.remaining, AWAITING_OPERATIONS):
            yield
            end = start + AWAITING_OPERATIONS
            for side, operands in enumerate((graph.operands1, graph.operands2)):
                slots: list[Any] = operands[start:end]
                for node, value in enumerate(slots, start):
                    if type(value) is Call:
                        edges.setdefault(value, []).append(node + node + side)
                        operands[node] = None
                        graph.missing[node] += 1
        yield
        graph.ready = array("i", [node for node in graph.ready if not graph.missing[node]])
        for call, leading in edges.items():
            call.edges = tuple(leading)

    def literal(self, value: Number) -> int:
        """The operand that stands for `value`."""
        number = len(self._literals)
        self._literals.append(value)
        if type(value) is int:
            return number << 2 | LITERAL | INTEGRAL
        if not isfinite(value) and self.graph.failure is None:
            self.graph.failure = "a number in the formula is too large for a float"
        return number << 2 | LITERAL

    def operation(self, symbol: int, left: int, right: int) -> int:
        """The operand that stands for the result of an operation on two operands.

        Raises:
            IndexError: more operations than `operations_max`.
        """
        graph, literals = self.graph, self._literals
        integral = left & right & INTEGRAL if symbol != DIVISION else 0
        source1 = source2 = FROM_LITERAL
        value1 = value2 = None
        if left & LITERAL:
            value1 = literals[left >> 2]
        else:
            source1 = left >> 2
        if right & LITERAL:
            value2 = literals[right >> 2]
        else:
            source2 = right >> 2
        table, mask = self._table, self._mask
        place = hash((symbol, source1, value1, source2, value2)) & mask
        places_left = PLACES_MAX
        while (node := table[place]) >= 0 and places_left:
            if (
                self._sources1[node] == source1
                and self._sources2[node] == source2
                and graph.symbols[node] == symbol
                and _same(graph.operands1[node], value1)
                and _same(graph.operands2[node], value2)
            ):
                return node << 2 | integral
            place = (place + 1) & mask
            places_left -= 1
        node = graph.add(symbol, source1, value1, source2, value2)
        if places_left:
            table[place] = node
        self._sources1[node] = source1
        self._sources2[node] = source2
        return node << 2 | integral

    def call(self, handler: str, column: int, operands: Sequence[int]) -> int:
        """The operand that stands for the result of a call.

        Args:
            column: its column in the text, from 1; with the handler it is the call's name.
            operands: its arguments.
        """
        if self.calls is None:
            self.calls = CallGraph()
            self.calls.arithmetic = {}
            self._known_calls = {}
        key = (handler, tuple(map(self._key, operands)))
        pure = handler in self._pure
        if pure and key in self._known_calls:
            return self._known_calls[key]
        call = Call(f"{handler}@{column}", handler, [], pure=pure)
        sources: dict[str, int] = {}
        for operand in operands:
            argument = self._literals[operand >> 2] if operand & LITERAL else None
            if argument is None:
                argument = Ref(f"#{operand >> 2}")
            elif type(argument) is Call:
                argument = Ref(argument.name)
            if type(argument) is Ref:
                sources[argument.name] = operand
            call.args.append(argument)
        self._link(call, sources)
        self.calls.calls[call.name] = call
        self.calls.remaining += 1
        self.calls.size += 2 * len(call.name) + len(handler) + sum(map(_size, call.args))
        number = len(self._literals)
        self._literals.append(call)
        operand = number << 2 | LITERAL
        if pure:
            self._known_calls[key] = operand
        return operand

    def _key(self, operand: int) -> int | str:
        """A key that equal arguments share; of literals, their text."""
        value = self.value(operand)
        return operand if value is None else repr(value)

    def _link(self, call: Call, sources: dict[str, int]) -> None:
        """Let a call wait for other calls and for operations, given by the names of its refs."""
        assert self.calls is not None
        assert self.calls.arithmetic is not None
        call.refs = tuple(sources)
        call.missing = len(sources)
        for name, operand in sources.items():
            if operand & LITERAL:
                self._literals[operand >> 2].readers.append(call)
            else:
                self.calls.arithmetic.setdefault(operand >> 2, []).append((call, name))

    def negation(self, operand: int) -> int:
        """The operand that stands for minus an operand."""
        if (value := self.value(operand)) is not None:
            return self.literal(-value)
        # Minus one times x is -x for every number; 0 - x is not -0.0 for x = 0.0.
        return self.operation(TIMES, operand, self.literal(-1))

    def value(self, operand: int) -> Number | None:
        """The value of an operand that is a literal; None if it is not."""
        literal = self._literals[operand >> 2] if operand & LITERAL else None
        return None if type(literal) is Call else literal


def _same(one: Any, other: Any) -> bool:
    """True for literals that are one operand; 1 and 1.0 are not, nor are 0.0 and -0.0."""
    if one is other:
        return True
    if one != other or type(one) is not type(other):
        return False
    return bool(one) or type(one) is int or copysign(1, one) == copysign(1, other)


def _size(argument: Number | Ref) -> int:
    """About how many bytes an argument takes."""
    return argument.bit_length() // 3 + 8 if type(argument) is int else 24
