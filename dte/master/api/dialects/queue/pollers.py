"""The workers of this dialect, and the types of tasks that they are given."""

from __future__ import annotations

from collections.abc import Mapping

from dte.core.graph.handlers import HandlerPolicy
from dte.master.api.dialects.polling import Pollers, polls
from dte.master.api.dialects.tasks import TASK
from dte.master.master import Master
from dte.master.plans import read_plan

DIALECT = "queue"
"""Marks the plans of jobs that were submitted here."""
HANDLERS = dict.fromkeys(("compute", "prime"), HandlerPolicy())
"""The types of tasks that every worker of this dialect runs."""
TYPES_MAX = 1_000
"""Bound on the other types that are remembered."""


class QueuePollers(Pollers):
    """The workers of this dialect.

    They do not say what they can run. So they are given the types that were submitted here, except
    those that other workers have announced.
    """

    def __init__(self, master: Master) -> None:
        settings = master.settings
        super().__init__(master, HANDLERS, settings.queue_lease_s, settings.queue_dead_after_s)
        self._types: dict[str, None] = {}  # The one submitted last stands last.
        jobs = master.core.jobs
        self._unread = [job for job in jobs.newest(jobs.waiting) if not job.is_terminal]

    def submitted(self, task_type: str) -> None:
        """Remember the type of a submitted task; at the bound the oldest is forgotten."""
        if task_type not in HANDLERS:
            self._types.pop(task_type, None)
            self._types[task_type] = None
            if len(self._types) > TYPES_MAX:
                del self._types[next(iter(self._types))]

    def handlers(self) -> Mapping[str, HandlerPolicy]:
        self._read_types()
        if not self._types:
            return HANDLERS
        announced = {
            name
            for worker in self._master.core.workers()
            if not worker.gone and not polls(worker)
            for name in worker.announcement.handlers
        }
        return HANDLERS | dict.fromkeys(self._types.keys() - announced, HandlerPolicy())

    def _read_types(self) -> None:
        """Learn the types of tasks from before a restart, once their plans have been read."""
        if not self._unread:
            return
        unread = []
        for job in self._unread:
            if job.plan is None and job.graph is None and not job.is_terminal:
                unread.append(job)
            # The text rules out most plans of other dialects without decoding them.
            elif job.plan is not None and DIALECT in job.plan:
                plan = read_plan(job.plan)
                if plan.about.get("dialect") == DIALECT:
                    self.submitted(plan.graph[TASK].handler)
        self._unread = unread
