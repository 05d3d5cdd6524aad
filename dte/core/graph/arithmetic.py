"""A job's DAG of operations, as flat arrays indexed by operation number.

An operation keeps its two operands in its own slots. A literal is stored there when the graph is
built, a result when the operation that computes it is done. So:

- an operation is ready when both slots are filled, which takes one counter;
- handing it over means reading two slots;
- a value lives until its last reader is done, without reference counts: readers hold it.

Edge `2 * n` leads to the first slot of operation n, edge `2 * n + 1` to the second. The edges that
leave an operation form a linked list through `first_edge` and `next_edge`. The one operation
without an edge is the root, whose result is the job's answer. (In a formula with calls, an
operation that only calls read has no edge either: `CallGraph` knows these, and the root.)

An operation takes about 30 bytes plus its operands. There are no objects for the garbage collector
to follow.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from dte.core.graph.numbers import Number

NO_EDGE = -1


class Graph:
    """The three verbs of a DAG: `add` operations, `take` ready ones, mark them `done`.

    `reserve` allocates room for a number of operations; `trim` frees the unused rest.

    Attributes:
        ready: operations whose operands are known and that no worker has; newest last.
        remaining: the number of operations that are not done.
        wide: integers in it may have hundreds of digits or more.
        failure: the reason why the job fails regardless of its results; None if there is none.
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
        """Allocate room, in slices: growing arrays of millions would stop the loop for longer."""
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
        """Free the room that no operation uses."""
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
        """Add an operation and return its number.

        Args:
            symbol: the character code of ``+ - * /``.
            source1: the operation that computes the first operand; negative for a literal.
            value1: the first operand if it is a literal, otherwise None.
            source2: the same for the second operand.
            value2: the same for the second operand.

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
        """A copy of this graph, with no operation done and other literals in the slots."""
        graph = Graph.__new__(Graph)
        graph.symbols = self.symbols  # Parts that never change are shared.
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
        """Take up to `count` ready operations, newest first, which keeps few values alive."""
        ready = self.ready
        if count >= len(ready):
            self.ready = array("i")
            return ready
        taken = ready[-count:]
        del ready[-count:]
        return taken

    def requeue(self, nodes: array[int]) -> None:
        """Make operations that were taken ready again; their operands are still in the slots.

        They go last, so that an operation that fails everywhere does not block the others.
        """
        self.ready[0:0] = nodes

    def columns(self, nodes: Sequence[int]) -> tuple[str, list[Number], list[Number]]:
        """The symbols, first operands and second operands of `nodes`, in order."""
        return (
            bytes(map(self.symbols.__getitem__, nodes)).decode("ascii"),
            list(map(self.operands1.__getitem__, nodes)),  # type: ignore[arg-type]
            list(map(self.operands2.__getitem__, nodes)),  # type: ignore[arg-type]
        )

    def done(self, nodes: Sequence[int], results: Sequence[Number]) -> Number | None:
        """Fill the slots that wait for these results; return the root's result if it is one."""
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
        """Store the result of a call in the slots that wait for it.

        Args:
            edges: the slots; each is supplied once in the life of the graph.
            value: a finite float, or an integer of at most `INTEGER_DIGITS_MAX` digits.
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

    def free(self, count: int) -> bool:
        """Free up to `count` operations of an unused graph; False when none are left."""
        for slots in (self.operands1, self.operands2):
            del slots[-count:]
        return bool(self.operands1)

    def check(self) -> None:
        """Assert the invariants of a graph in use; for tests, O(operations)."""
        assert len(set(self.ready)) == len(self.ready), "an operation is ready twice"
        for node in self.ready:
            assert self.missing[node] == 0, f"operation {node} is ready and misses operands"
            assert self.operands1[node] is not None, f"operation {node} has no first operand"
            assert self.operands2[node] is not None, f"operation {node} has no second operand"
        assert self.remaining >= len(self.ready), "more operations are ready than are left"
