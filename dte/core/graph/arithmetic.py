"""A job's DAG of operations, as flat arrays indexed by operation number.

An operation keeps its two operands in slots of its own. A literal goes there when the graph is
built, a result when the operation that gives it is done, so:

- an operation is ready when both of its slots are filled: one counter;
- handing it over reads two slots;
- a value lives until its last reader is done, without a count: it lies in the readers' slots.

Edge `2 * n` leads to the first slot of operation n, edge `2 * n + 1` to the second. The edges that
leave an operation are a linked list through `first_edge` and `next_edge`. The one operation
without an edge is the root, whose result is the job's answer. (In a formula with calls, operations
that only calls read have no edge either; `CallGraph` knows them and the root.)

An operation costs about 30 bytes and its operands; there are no objects for the garbage
collector to follow.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from dte.core.graph.numbers import Number

NO_EDGE = -1


class Graph:
    """The three verbs of a DAG: `add` operations, `take` ready ones, note results with `done`.

    `reserve` makes room for operations; `trim` gives back what they did not take.

    Attributes:
        ready: operations whose operands are known and that are not handed out; newest last.
        remaining: the number of operations that are not done.
        wide: its integers may have hundreds of digits.
        failure: the reason why the job fails in any case; None if there is none.
    """

    __slots__ = (
        "failure",
        "first_edge",
        "missing",
        "next_edge",
        "operands1",
        "operands2",
        "ready",
        "remaining",
        "symbols",
        "wide",
    )

    def __init__(self) -> None:
        self.symbols = bytearray()
        self.operands1: list[Number | None] = []
        self.operands2: list[Number | None] = []
        self.first_edge = array("i")
        self.next_edge = array("i")
        self.missing = bytearray()
        self.ready = array("i")
        self.remaining = 0
        self.failure: str | None = None
        self.wide = False

    def reserve(self, operations: int) -> Iterator[None]:
        """Make room, in slices; growing an array of millions would stop the loop for longer."""
        self.operands1 = [None] * operations
        yield
        self.operands2 = [None] * operations
        yield
        self.next_edge = array("i", [NO_EDGE]) * (2 * operations)
        yield
        self.first_edge = array("i", [NO_EDGE]) * operations
        self.symbols = bytearray(operations)
        self.missing = bytearray(operations)

    def trim(self) -> None:
        """Free the room that no operation has taken."""
        count = self.remaining
        del self.operands1[count:], self.operands2[count:], self.next_edge[2 * count :]
        del self.first_edge[count:], self.symbols[count:], self.missing[count:]

    def add(
        self,
        symbol: int,
        source1: int,
        value1: Number | None,
        source2: int,
        value2: Number | None,
    ) -> int:
        """Add an operation; its number.

        Args:
            symbol: the character code of ``+ - * /``.
            source1: the operation that gives the first operand; negative for a literal.
            value1: the first operand if it is a literal.
            source2: as `source1`, for the second operand.
            value2: as `value1`, for the second operand.

        Raises:
            IndexError: the graph has no room.
        """
        node = self.remaining
        self.remaining = node + 1
        self.symbols[node] = symbol
        missing = 0
        if source1 >= 0:
            first_edge = self.first_edge
            self.next_edge[node + node] = first_edge[source1]
            first_edge[source1] = node + node
            missing = 1
        else:
            self.operands1[node] = value1
        if source2 >= 0:
            first_edge = self.first_edge
            self.next_edge[node + node + 1] = first_edge[source2]
            first_edge[source2] = node + node + 1
            missing += 1
        else:
            self.operands2[node] = value2
        if missing:
            self.missing[node] = missing
        else:
            self.ready.append(node)
        return node

    def with_operands(
        self, operands1: list[Number | None], operands2: list[Number | None]
    ) -> Graph:
        """A copy of this graph, of which nothing is done, with other literals in its slots."""
        graph = Graph.__new__(Graph)
        graph.symbols = self.symbols  # These do not change any more and are shared.
        graph.first_edge = self.first_edge
        graph.next_edge = self.next_edge
        graph.operands1 = operands1
        graph.operands2 = operands2
        graph.missing = self.missing[:]
        graph.ready = self.ready[:]
        graph.remaining = self.remaining
        graph.failure = None
        graph.wide = False
        return graph

    def take(self, count: int) -> array[int]:
        """Take up to `count` ready operations, the newest first, which keeps few values alive."""
        ready = self.ready
        if count >= len(ready):
            self.ready = array("i")
            return ready
        taken = ready[-count:]
        del ready[-count:]
        return taken

    def requeue(self, nodes: array[int]) -> None:
        """Make operations that were taken ready again; their operands are still in their slots.

        They are taken last: an operation that no worker can do does not delay the others.
        """
        self.ready[0:0] = nodes

    def columns(self, nodes: Sequence[int]) -> tuple[str, list[Number], list[Number]]:
        """The symbols, first and second operands of `nodes`, in their order."""
        return (
            bytes(map(self.symbols.__getitem__, nodes)).decode("ascii"),
            list(map(self.operands1.__getitem__, nodes)),  # type: ignore[arg-type]
            list(map(self.operands2.__getitem__, nodes)),  # type: ignore[arg-type]
        )

    def done(self, nodes: Sequence[int], results: Sequence[Number]) -> Number | None:
        """Fill the slots that wait for results; returns the root's result, if it is among them."""
        operands1, operands2 = self.operands1, self.operands2
        first_edge, next_edge, missing = self.first_edge, self.next_edge, self.missing
        ready = self.ready.append
        answer = None
        for node, result in zip(nodes, results, strict=True):
            operands1[node] = operands2[node] = None
            edge = first_edge[node]
            if edge < 0:
                answer = result
                continue
            while True:
                reader = edge >> 1
                if edge & 1:
                    operands2[reader] = result
                else:
                    operands1[reader] = result
                if missing[reader] == 1:
                    missing[reader] = 0
                    ready(reader)
                else:
                    missing[reader] -= 1
                edge = next_edge[edge]
                if edge < 0:
                    break
        self.remaining -= len(nodes)
        return answer

    def supply(self, edges: Iterable[int], value: Number) -> None:
        """Put the result of a call into the slots that wait for it.

        Args:
            edges: the slots; each is filled once.
            value: a finite float, or an integer that is not too long.
        """
        missing = self.missing
        for edge in edges:
            reader = edge >> 1
            if edge & 1:
                self.operands2[reader] = value
            else:
                self.operands1[reader] = value
            missing[reader] -= 1
            if not missing[reader]:
                self.ready.append(reader)

    def is_done(self, node: int) -> bool:
        """True if an operation that was taken has its result."""
        return self.operands1[node] is None

    def free(self, count: int) -> bool:
        """Free up to `count` operations of a graph that is not needed; False when none are left."""
        for slots in (self.operands1, self.operands2):
            del slots[-count:]
        return bool(self.operands1)

    def check(self) -> None:
        """Assert every invariant of a graph in use; for tests, O(operations)."""
        assert len(set(self.ready)) == len(self.ready), "an operation is ready twice"
        for node in self.ready:
            assert self.missing[node] == 0, f"operation {node} is ready and misses operands"
            assert self.operands1[node] is not None, f"operation {node} has no first operand"
            assert self.operands2[node] is not None, f"operation {node} has no second operand"
        assert self.remaining >= len(self.ready), "more operations are ready than are left"
