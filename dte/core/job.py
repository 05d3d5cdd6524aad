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

    accepting ──▶ waiting ──▶ running ──▶ ending ──▶ succeeded
                     └────────────────────▶ └──────▶ failed

    A job is accepting until that it was accepted is recorded, and nobody sees it before; it is
    ending until its end is recorded, and nobody sees how it ended before.
    """

    ACCEPTING = "accepting"
    WAITING = "waiting"
    RUNNING = "running"
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


NEXT_STATES = {
    JobState.ACCEPTING: {JobState.WAITING},
    JobState.WAITING: {JobState.RUNNING, JobState.ENDING},
    JobState.RUNNING: {JobState.ENDING},
    JobState.ENDING: {JobState.SUCCEEDED, JobState.FAILED},
    JobState.SUCCEEDED: set(),
    JobState.FAILED: set(),
}
FINISHED = (JobState.SUCCEEDED, JobState.FAILED)


@dataclass(slots=True, eq=False)
class Job:
    """One submitted formula.

    Attributes:
        number: the job's id, an integer from 1.
        task: the formula's text; a long one is cut, see `TASK_CHARS_KEPT`.
        operations: how many operations there are in all.
        graph: what is left to do; None when nothing is, so that its memory is free, and until a job
            from before a restart has been read again.
        in_turns: whether the ready-set has the job among its turns.
        suspicions: what happened to workers that had its operations, by operation.
    """

    number: int
    task: str
    submitted_at: float
    operations: int
    graph: Graph | None
    state: JobState = JobState.ACCEPTING
    started_at: float | None = None
    ended_at: float | None = None
    answer: Number | None = None
    error: str | None = None
    operations_done: int = 0
    in_turns: bool = False
    suspicions: dict[int, Suspicion] | None = None

    @property
    def progress(self) -> int:
        """How many operations are done."""
        return (
            self.operations_done if self.graph is None else self.operations - self.graph.remaining
        )

    @property
    def finished(self) -> bool:
        """Whether its end is recorded."""
        return self.state in FINISHED

    def enter(self, state: JobState) -> None:
        """Go over to another state: the one place where a state changes.

        Raises:
            ValueError: there is no way from the present state to that one.
        """
        if state not in NEXT_STATES[self.state]:
            raise ValueError(f"job {self.number} is {self.state.value}, and never {state.value}")
        self.state = state


@dataclass(slots=True)
class Suspicion:
    """What happened while an operation was done.

    Attributes:
        workers_lost: how many workers ended.
        open: how many vanished, of which it is not known yet whether they ended.
        broken: how often the connection to a worker that had it alone broke, or was silent.
        garbled: how often a worker that had it alone replied with no result.
    """

    workers_lost: int = 0
    open: int = 0
    broken: int = 0
    garbled: int = 0


TASK_CHARS_KEPT = 16_384
"""A longer formula is kept, and listed, up to here with a ``…``: the graph has the rest."""


def kept_task(task: str) -> str:
    return task if len(task) <= TASK_CHARS_KEPT else task[:TASK_CHARS_KEPT] + "…"
