"""For those who operate a master: is it well?"""

from __future__ import annotations

import time

import msgspec

from dte import __version__
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import documented


class HealthReply(msgspec.Struct):
    """How the master is; `error` says why it is `failing`."""

    status: str
    service: str
    version: str
    uptime_s: float
    workers: int
    jobs_waiting: int
    operations_waiting: int
    operations_done: int
    stale_results: int
    journal: str
    commits: int
    error: str | None


class Health(JsonHandler):
    """``GET /health``: the master answers, and how much it has to do."""

    @documented("Whether the master is well, and how much it has to do", replies={200: HealthReply})
    def get(self) -> None:
        core, recorder = self.master.core, self.master.recorder
        failing = recorder is not None and recorder.failure is not None
        self.reply(
            {
                "status": "failing" if failing else "ok",
                "service": "dispatcher",
                "version": __version__,
                "uptime_s": round(time.monotonic() - self.master.started_at, 3),
                "workers": sum(worker.state in ("free", "busy") for worker in core.workers()),
                "jobs_waiting": core.jobs.waiting,
                "operations_waiting": core.jobs.operations_waiting,
                "operations_done": core.jobs.operations_done,
                "stale_results": core.stale_results,
                "journal": self.master.settings.journal,
                "commits": recorder.commits if recorder is not None else 0,
                "error": str(recorder.failure) if recorder is not None and failing else None,
            }
        )
