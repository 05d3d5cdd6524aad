"""Work: the operations of a job, as a formula or a plan gives them."""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.graph.arithmetic import Graph
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number


@dataclass(slots=True)
class Work:
    """The operations of a job.

    Attributes:
        graph: its arithmetic; empty if it has none.
        value: the answer of a formula that is just a number.
        calls: its calls and the edges between them; None if it has none.
    """

    graph: Graph
    value: Number | None = None
    calls: CallGraph | None = None

    @property
    def operations(self) -> int:
        """The number of operations, calls included."""
        return self.graph.remaining + (len(self.calls.calls) if self.calls is not None else 0)

    @classmethod
    def failed(cls, reason: str) -> Work:
        """Work that is known to fail."""
        work = cls(Graph())
        work.graph.failure = reason
        return work
