"""What there is to be said of a graph, so that two can be compared."""

from __future__ import annotations

from typing import Any

from dte.core.graph.arithmetic import Graph
from dte.core.graph.numbers import Number


def said_of(graph: Graph) -> tuple[Any, ...]:
    """All that a graph has, with its operands as they are written: 1 is not 1.0, 0.0 not -0.0."""
    return (
        bytes(graph.symbols),
        _written(graph.operands1),
        _written(graph.operands2),
        list(graph.first_edge),
        list(graph.next_edge),
        bytes(graph.missing),
        list(graph.ready),
        graph.remaining,
        graph.failure,
        graph.wide,
    )


def _written(operands: list[Number | None]) -> list[str]:
    return list(map(repr, operands))
