"""What a master's replies are read into."""

from __future__ import annotations

from datetime import datetime

import msgspec

from dte.client.errors import JobFailed
from dte.core.operations import Number


class Job(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """How a job stood when the master was asked.

    Attributes:
        id: the job's number.
        finished: whether it has ended.
        answer: the formula's value, if it has been computed.
        error: why there is none, if the job failed.
        state: ``waiting``, ``running``, ``succeeded`` or ``failed``.
        operations: how many operations it has.
        operations_done: how many of them are done.
        submitted_at, started_at, ended_at: by the master's clock.
    """

    id: int
    finished: bool
    answer: Number | None = None
    error: str | None = None
    state: str = "waiting"
    operations: int = 0
    operations_done: int = 0
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    def result(self) -> Number:
        """The answer of a job that has ended.

        Raises:
            JobFailed: it ended without one.
            ValueError: it has not ended.
        """
        if not self.finished:
            raise ValueError(f"job {self.id} has not ended; wait for it first")
        if self.answer is None:
            raise JobFailed(self)
        return self.answer


class JobSummary(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """A job among the last ones: its id, formula, and answer or error once it has ended."""

    id: int
    task: str
    finished: bool
    answer: Number | None = None
    error: str | None = None


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker as the master knows it.

    Attributes:
        worker_name: need not be unique; the `address` is.
        state: ``free``, ``busy``, ``pausing``, ``draining`` or ``gone``.
        slots: how many requests it takes at a time.
        leases: how many it has now.
        batch: how many operations it is handed in one at most.
        operations_done: since it was first known.
        failures: in a row, and the last of them.
        heard_at: when it last announced itself or answered.
    """

    worker_name: str
    address: str
    state: str
    slots: int
    leases: int
    batch: int
    operations_done: int
    failures: int
    last_failure: str | None
    heard_at: datetime | None


class BatchAccepted(msgspec.Struct, frozen=True):
    """The reply to many formulas: their ids in order, and how they stand if that was asked for."""

    job_ids: list[int]
    jobs: list[Job] = []


class ErrorReply(msgspec.Struct, frozen=True):
    """A master's reply with an error status."""

    error: str
    code: str = ""
    reason: str = ""
    column: int = 0
    caret: str = ""
    index: int | None = None
    wait_max_s: float = 0.0
