"""A job: what a client submits and asks about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dte.core.graph import Graph
    from dte.core.operations import Number


class JobState(Enum):
    """Where a job is in its life; the last two states never change.

    waiting ──▶ running ──▶ succeeded
       │           └──────▶ failed
       └──────────────────▶ (a job without operations ends at once)
    """

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Job:
    """One submitted formula.

    Attributes:
        number: the job's id, an integer from 1.
        task: the formula's text; a long one is cut, see `TASK_CHARS_KEPT`.
        operations: how many operations there are in all.
        graph: what is left to do; None once the job has ended, so that its memory is free.
        in_turns: whether the ready-set has the job among its turns.
        failures: how often operations have come to nothing alone, of those that have.
    """

    number: int
    task: str
    submitted_at: float
    operations: int
    graph: Graph | None
    state: JobState = JobState.WAITING
    started_at: float | None = None
    ended_at: float | None = None
    answer: Number | None = None
    error: str | None = None
    operations_done: int = 0
    in_turns: bool = False
    failures: dict[int, int] | None = None

    @property
    def progress(self) -> int:
        """How many operations are done."""
        return (
            self.operations_done if self.graph is None else self.operations - self.graph.remaining
        )

    @property
    def finished(self) -> bool:
        return self.graph is None


TASK_CHARS_KEPT = 16_384
"""A longer formula is kept, and listed, up to here with a ``…``: the graph has the rest."""


def kept_task(task: str) -> str:
    return task if len(task) <= TASK_CHARS_KEPT else task[:TASK_CHARS_KEPT] + "…"
