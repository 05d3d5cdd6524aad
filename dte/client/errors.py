"""What a client raises besides what the master says is wrong with a request.

DteError                 (dte.core.errors, with InvalidRequest, FormulaError, NotFound, …)
├── JobFailed            the job ended without an answer
│   ├── JobCancelled     because it was cancelled
│   └── JobTimedOut      because a call took longer than it may
├── WaitTimeout          the job has not ended in the time given; it goes on
├── Unreachable          no reply from the master
└── MasterFault          a reply that says that the master is at fault, or no master's at all
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dte.core.errors import DteError

if TYPE_CHECKING:
    from dte.client.replies import Job


class JobFailed(DteError):
    """A job ended without an answer.

    Attributes:
        job: the job; its `error` says why, and is this exception's text.
    """

    code = "job_failed"

    def __init__(self, job: Job) -> None:
        super().__init__(job.error or "the job failed")
        self.job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.job,)


class JobCancelled(JobFailed):
    """A job was cancelled."""

    code = "job_cancelled"


class JobTimedOut(JobFailed):
    """A call of a job took longer than its timeout, and was stopped."""

    code = "job_timed_out"


class WaitTimeout(DteError, TimeoutError):
    """The time to wait is over and jobs have not ended; they go on.

    Attributes:
        jobs: the ids of the jobs that were waited for.
        timeout_s: for how long.
    """

    code = "wait_timeout"

    def __init__(self, jobs: list[int], timeout_s: float) -> None:
        which = f"job {jobs[0]} has" if len(jobs) == 1 else f"{len(jobs)} jobs have"
        super().__init__(f"{which} not ended within {timeout_s:g} s")
        self.jobs = jobs
        self.timeout_s = timeout_s

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.jobs, self.timeout_s)


class Unreachable(DteError):
    code = "unreachable"


class MasterFault(DteError):
    code = "master_fault"
