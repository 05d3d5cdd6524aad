"""The health of a master, for its operators and their probes."""

from __future__ import annotations

import time

import msgspec

from dte import __version__
from dte.core.errors import DteError, Unavailable
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import documented


class HealthReply(msgspec.Struct):
    """The master's health; `error` is why its status is `failing`.

    The status is `failing` while the journal cannot be written. `error` also names damage that was
    found in the journal since the start, although the status may be `ok`.

    `longest_turn_s` is the longest time since the start for which the master's loop served nobody.
    """

    status: str
    service: str
    version: str
    uptime_s: float
    workers: int
    jobs_waiting: int
    operations_waiting: int
    operations_done: int
    stale_results: int
    webhooks_waiting: int
    webhooks_given_up: int
    journal: str
    commits: int
    longest_turn_s: float
    error: str | None
    auth: str


class Status(msgspec.Struct):
    """The status alone, for those without a token and for probes."""

    status: str


class Health(JsonHandler):
    @documented(
        "Get the health and the load of the master",
        replies={200: HealthReply | Status},
        description="Where tokens are needed, a request without one gets the status alone.",
    )
    def get(self) -> None:
        if self.identified is None:
            self.reply(Status("ok" if self.master.recorder.failure is None else "failing"))
            return
        core, recorder = self.master.core, self.master.recorder
        error = recorder.failure or recorder.damage
        self.reply(
            {
                "status": "ok" if recorder.failure is None else "failing",
                "service": "dispatcher",
                "version": __version__,
                "uptime_s": round(time.monotonic() - self.master.started_at, 3),
                "workers": sum(worker.state in ("free", "busy") for worker in core.workers()),
                "jobs_waiting": core.jobs.waiting,
                "operations_waiting": core.jobs.operations_waiting,
                "operations_done": core.jobs.operations_done,
                "stale_results": core.stale_results,
                "webhooks_waiting": len(self.master.webhooks),
                "webhooks_given_up": self.master.webhooks.given_up,
                "journal": self.master.settings.journal,
                "commits": recorder.commits,
                "longest_turn_s": round(self.master.turns.longest_s, 4),
                "error": None if error is None else str(error),
                "auth": "none" if self.master.access.is_open else "tokens",
            }
        )


class Live(JsonHandler):
    @documented(
        "Get a sign of life of the master, for probes",
        replies={200: Status},
        description="The reply comes while the loop of the master turns.",
    )
    def get(self) -> None:
        self.reply(Status("ok"))


class NotReady(msgspec.Struct):
    """The master serves no jobs now; `error` is the reason."""

    status: str
    error: str


class Ready(JsonHandler):
    @documented(
        "Get the readiness of the master, for probes and load balancers",
        replies={200: Status, 503: NotReady},
        description="A master is ready while it accepts jobs: it does not end, and it can write "
        "its journal.",
    )
    def get(self) -> None:
        error: DteError | None = self.master.jobs.refusal
        if error is None:
            self.reply(Status("ok"))
            return
        self.set_status(Unavailable.status)
        self.reply(NotReady("unavailable", str(error)))
