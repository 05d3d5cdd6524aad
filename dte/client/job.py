"""A job as the master describes it, and the exceptions for a job that ended without an answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from dte.core.errors import DteError

TERMINAL = frozenset(("succeeded", "failed", "timed_out", "cancelled"))
"""Final states of jobs and of calls."""


class Job(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """The status of a job at the time of the request.

    Attributes:
        id: the job's number.
        finished: the job has ended.
        answer: the value of the formula, or the result of the calls: any JSON. Integers are exact,
            of any length.
        error: the reason of the failure, if the job failed.
        state: ``waiting``, ``running``, ``cancelling``, ``succeeded``, ``failed``, ``timed_out`` or
            ``cancelled``.
        operations: the number of its operations.
        operations_done: the number of operations that have a result. One that failed or was skipped
            has none.
        submitted_at, started_at, ended_at: times by the master's clock.
        priority: jobs with a higher priority run first.
        retry_of: the job whose failed part this job repeats, if it is a retry.
        trace: the stack trace of the handler by which the job failed, if there is one.
    """

    id: int
    finished: bool
    answer: Any = None
    error: str | None = None
    state: str = "waiting"
    operations: int = 0
    operations_done: int = 0
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    priority: int = 0
    retry_of: int | None = None
    trace: str | None = None

    @property
    def succeeded(self) -> bool:
        """True if the job ended with an answer. The answer of a call can be None."""
        known = self.answer is not None or self.state == "succeeded"
        return self.finished and self.error is None and known

    def result(self) -> Any:
        """Return the answer of a job that has ended.

        Raises:
            JobFailed: the job has no answer; `JobCancelled` or `JobTimedOut` if it was cancelled or
                timed out.
            ValueError: the job has not ended.
        """
        if not self.finished:
            raise ValueError(f"job {self.id} has not ended; wait for it first")
        if not self.succeeded:
            raise _FAILURES.get(self.state, JobFailed)(self)
        return self.answer


class JobSummary(msgspec.Struct, frozen=True, rename={"id": "job_id"}):
    """A job in the list of recent jobs: its id, its work, its answer or error, what it retries."""

    id: int
    task: str
    finished: bool
    answer: Any = None
    error: str | None = None
    state: str = "waiting"
    retry_of: int | None = None


class JobFailed(DteError):
    """A job ended without an answer. The text of the exception is the `error` of its `job`.

    Attributes:
        trace: the stack trace of the handler that failed, which Python prints as a note; None if
            there is none.
    """

    code = "job_failed"

    def __init__(self, job: Job) -> None:
        super().__init__(job.error or "the job failed")
        self.job = job
        self.trace = job.trace
        if job.trace is not None:
            self.add_note(job.trace)


class JobCancelled(JobFailed):
    """A job was cancelled."""

    code = "job_cancelled"


class JobTimedOut(JobFailed):
    """A call of a job exceeded its timeout and was stopped."""

    code = "job_timed_out"


_FAILURES = {"cancelled": JobCancelled, "timed_out": JobTimedOut}
