"""For those who operate a master: is it well?"""

from __future__ import annotations

import time

from dte import __version__
from dte.master.api.base import JsonHandler


class Health(JsonHandler):
    """``GET /health``: the master answers, and how much it has to do."""

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
