"""Work: what is to be done for a job, as a formula's text or a plan gives it."""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.graph.arithmetic import Graph
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number


@dataclass(slots=True)
class Work:
    """What is to be done for a job.

    Attributes:
        graph: its arithmetic; empty if it has none.
        value: of a formula that is a number, so that nothing is to be done.
        calls: its calls and what they wait for; None if there are none.
    """

    graph: Graph
    value: Number | None = None
    calls: CallGraph | None = None

    @property
    def operations(self) -> int:
        """How many operations there are, calls included."""
        calls = self.calls.remaining if self.calls is not None else 0
        return self.graph.remaining + calls

    @classmethod
    def failed(cls, reason: str) -> Work:
        """Work of which it is known that it fails, and why."""
        work = cls(Graph())
        work.graph.failure = reason
        return work
