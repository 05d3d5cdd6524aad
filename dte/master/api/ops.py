"""For those who operate a master: is it well?"""

from __future__ import annotations

import time

from dte import __version__
from dte.master.api.base import JsonHandler


class Health(JsonHandler):
    """``GET /health``: the master answers, and how much it has to do."""

    def get(self) -> None:
        core = self.master.core
        self.reply(
            {
                "status": "ok",
                "service": "dispatcher",
                "version": __version__,
                "uptime_s": round(time.monotonic() - self.master.started_at, 3),
                "workers": sum(worker.state in ("free", "busy") for worker in core.workers()),
                "jobs_waiting": core.jobs_waiting,
                "operations_waiting": core.operations_waiting,
                "operations_done": core.operations_done,
            }
        )
