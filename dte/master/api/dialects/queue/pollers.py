"""The workers of this dialect, and the tasks that they are given."""

from __future__ import annotations

from dataclasses import replace

from dte.core.calls.ready import Route
from dte.core.graph.handlers import HandlerPolicy
from dte.core.shares import OWN_USER
from dte.core.workers.worker import Announcement
from dte.master.access.seeds import is_seed
from dte.master.api.dialects.polling import Pollers, polls
from dte.master.master import Master

DIALECT = "queue"
"""Marks the plans of jobs that were submitted here."""
HANDLERS = dict.fromkeys(("compute", "prime"), HandlerPolicy())
"""The types of tasks that every worker of this dialect runs."""
TASKS = Route(DIALECT, refused=False)


class QueuePollers(Pollers):
    """The workers of this dialect.

    They do not say what they can run, and report a task of a type that they do not know as
    completed. So besides `HANDLERS` they are given tasks that were submitted here, except for those
    whose type another worker has announced, and never calls of other clients. One without a token
    is given tasks of `HANDLERS` alone.
    """

    def __init__(self, master: Master) -> None:
        settings = master.settings
        super().__init__(
            master, DIALECT, HANDLERS, settings.queue_lease_s, settings.queue_dead_after_s
        )

    def announcement(self, worker_id: str, owner: str = OWN_USER) -> Announcement:
        announcement = super().announcement(worker_id, owner)
        if is_seed(owner):
            return announcement
        waiting = set(self._master.core.calls.jobs.ready.handlers(TASKS)) - HANDLERS.keys()
        for worker in self._master.core.workers() if waiting else ():
            if not worker.gone and not polls(worker):
                waiting -= worker.announcement.handlers.keys()
        said = replace(announcement, tasks=frozenset(waiting))
        return self._master.admission.admit(said)
