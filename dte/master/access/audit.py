"""The audit log: which token did what. It is part of logs in JSON, for programs that collect them.

A record has the fields `token`, which is a token's name, and `action`, and those of the action.
Records about workers are those of the master's log, with their tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from dte.core.jobs.job import Job
from dte.core.workers.worker import Announcement
from dte.logs import AUDIT, one_line
from dte.master.access.caller import Caller
from dte.master.access.tokens import Token

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


def changed(gone: Iterable[Token], new: Iterable[Token]) -> None:
    """Log which tokens are valid no longer, and which are new."""
    for tokens, state in ((gone, "gone"), (new, "new")):
        for token in tokens:
            fields = {"token": token.name, "action": f"token_{state}", "role": token.role.value}
            log.info("the token %s is %s", token.name, state, extra=fields)


def fields_of(said: Announcement) -> dict[str, Any]:
    """The fields of a record about a worker: its name, and its token if it has one."""
    fields = {"worker": one_line(said.name)}
    return fields | {"token": said.token} if said.token else fields
