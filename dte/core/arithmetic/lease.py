"""A batch lease: operations that one worker has until a deadline."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job
from dte.core.workers.worker import Worker


@dataclass(slots=True, eq=False)
class BatchLease:
    """One hand-over of operations; one without any is a probe.

    Attributes:
        number: shared by no other lease, so that a late result is recognised.
        parts: the operations, by job, in the order of the results.
        count: the number of operations.
        exclusive: it has one suspect operation, and its worker gets nothing beside it.
        lost_because: the reason why it ended without results, if it did.
        may_come_late: it ended by silence, so results may still come.
        kept: its columns, if they are sent in a later tick.
    """

    number: int
    worker: Worker
    parts: list[tuple[Job, array[int]]]
    count: int
    leased_at: float
    deadline: float
    exclusive: bool = False
    lost_because: str | None = None
    may_come_late: bool = False
    kept: tuple[str, list[Number], list[Number]] | None = None

    def columns(self) -> tuple[str, list[Number], list[Number]]:
        """The symbols, first and second operands of the operations, in the lease's order.

        Read them in the tick that makes the lease, while none of its jobs can have ended; later
        they must be `kept`.
        """
        if self.kept is not None:
            return self.kept
        symbols = bytearray()
        operands1: list[Any] = []
        operands2: list[Any] = []
        for job, nodes in self.parts:
            graph = job.graph
            assert graph is not None
            if len(nodes) == 1:  # As in most parts of small jobs.
                node = nodes[0]
                symbols.append(graph.symbols[node])
                operands1.append(graph.operands1[node])
                operands2.append(graph.operands2[node])
            else:
                symbols.extend(map(graph.symbols.__getitem__, nodes))
                operands1.extend(map(graph.operands1.__getitem__, nodes))
                operands2.extend(map(graph.operands2.__getitem__, nodes))
        return symbols.decode("ascii"), operands1, operands2
