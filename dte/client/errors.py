"""Exceptions of the client, besides those for requests that the master refuses.

DteError                 (dte.core.errors, with InvalidRequest, FormulaError, NotFound, …)
├── JobFailed            the job ended without an answer (dte.client.job)
│   ├── JobCancelled     it was cancelled
│   └── JobTimedOut      a call exceeded its timeout
├── WaitTimeout          the job has not ended in the given time; it continues
├── Unreachable          no reply from the master
│   └── TlsFailed        there is no secure connection to it, for example to a wrong certificate
└── MasterFault          the master reports an internal error, or the reply is not a master's
"""

from __future__ import annotations

from dte.core.errors import DteError


class WaitTimeout(DteError, TimeoutError):
    """Jobs have not ended in the given time. They continue. `jobs` are their ids."""

    code = "wait_timeout"

    def __init__(self, jobs: list[int], timeout_s: float) -> None:
        which = f"job {jobs[0]} has" if len(jobs) == 1 else f"{len(jobs)} jobs have"
        super().__init__(f"{which} not ended within {timeout_s:g} s")
        self.jobs = jobs
        self.timeout_s = timeout_s


class Unreachable(DteError):
    code = "unreachable"


class TlsFailed(Unreachable):
    """There is no secure connection to the master. The text says why, and what to do."""

    code = "tls_failed"


class MasterFault(DteError):
    code = "master_fault"
