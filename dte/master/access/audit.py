"""The audit log: which token did what. It is part of logs in JSON, for programs that collect them.

A record has the fields `token` and `action`, and those of the action.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dte.core.jobs.job import Job
from dte.logs import AUDIT
from dte.master.access.caller import Caller

log = logging.getLogger(AUDIT)


def submitted(caller: Caller, jobs: Sequence[Job]) -> None:
    """Log that jobs were accepted, or a retry of one."""
    if caller.token is None or not log.isEnabledFor(logging.INFO):
        return
    first, last = jobs[0], jobs[-1]
    shown = f"job {first.number}" if first is last else f"jobs {first.number} to {last.number}"
    fields = {"token": caller.name, "action": "submit", "job": first.number, "jobs": len(jobs)}
    if first.retry_of is not None:
        fields |= {"action": "retry", "retry_of": first.retry_of}
    log.info("the token %s submitted %s", caller.name, shown, extra=fields)


def cancelled(caller: Caller, job: Job) -> None:
    """Log that a job was cancelled."""
    if caller.token is None or not log.isEnabledFor(logging.INFO):
        return
    fields = {"token": caller.name, "action": "cancel", "job": job.number}
    log.info("the token %s cancelled job %d", caller.name, job.number, extra=fields)
