"""A lease: operations handed to one worker until a deadline."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job
from dte.core.workers.worker import Worker


@dataclass(slots=True, eq=False)
class BatchLease:
    """One hand-over.

    Attributes:
        number: shared by no other lease, so that a late result is recognised.
        parts: the operations, by job, in the order of the results.
        count: how many operations there are.
        alone: whether it is of a suspect operation, which its worker has alone.
        lost_because: why it ended without results, if it did.
        may_come_late: whether it ended by silence, so that results may still come.
        kept: its columns, where they are sent in a later tick.
    """

    number: int
    worker: Worker
    parts: list[tuple[Job, array[int]]]
    count: int
    leased_at: float
    deadline: float
    alone: bool = False
    lost_because: str | None = None
    may_come_late: bool = False
    kept: tuple[str, list[Number], list[Number]] | None = None

    def columns(self) -> tuple[str, list[Number], list[Number]]:
        """The symbols, first and second operands of the operations, in the lease's order.

        To be read in the tick that makes the lease, when none of its jobs can have ended; else
        they are `kept`.
        """
        if self.kept is not None:
            return self.kept
        symbols = bytearray()
        operands1: list[Any] = []
        operands2: list[Any] = []
        for job, nodes in self.parts:
            graph = job.graph
            assert graph is not None
            if len(nodes) == 1:  # As most parts are where jobs are small.
                node = nodes[0]
                symbols.append(graph.symbols[node])
                operands1.append(graph.operands1[node])
                operands2.append(graph.operands2[node])
            else:
                symbols.extend(map(graph.symbols.__getitem__, nodes))
                operands1.extend(map(graph.operands1.__getitem__, nodes))
                operands2.extend(map(graph.operands2.__getitem__, nodes))
        return symbols.decode("ascii"), operands1, operands2
