"""What the routes of this dialect know together: the polls, and the types of tasks."""

from __future__ import annotations

from collections.abc import Mapping

from dte.core.graph.handlers import HandlerPolicy
from dte.core.workers.worker import Announcement
from dte.master.api.dialects.polling import TASK, Polling, poller, polls
from dte.master.master import Master
from dte.master.plans import read_plan

DIALECT = "queue"
"""Marks the plans of jobs that were submitted here."""
HANDLERS = dict.fromkeys(("compute", "prime"), HandlerPolicy())
"""The types of tasks that every worker of this dialect does."""
TYPES_MAX = 1_000
"""How many types of tasks are known besides those."""


class QueueState:
    """The polls, and the types of tasks.

    A worker of this dialect does not say what it can do. So it is given the types that were
    submitted here, except those that other workers have announced.
    """

    def __init__(self, master: Master) -> None:
        self._master = master
        self.polling = Polling(master, HANDLERS)
        self._types: dict[str, None] = {}  # The one submitted last stands last.
        jobs = master.core.jobs
        self._before = [job for job in jobs.newest(jobs.waiting) if not job.is_terminal]

    def submitted(self, task_type: str) -> None:
        """Note the type of a task that is submitted; at the bound the oldest is forgotten."""
        if task_type not in HANDLERS:
            self._types.pop(task_type, None)
            self._types[task_type] = None
            if len(self._types) > TYPES_MAX:
                del self._types[next(iter(self._types))]

    def said(self, worker_id: str) -> Announcement:
        """What a worker would say of itself.

        Raises:
            InvalidRequest: its id cannot be shown.
        """
        settings = self._master.settings
        self._look_again()
        return poller(
            worker_id, self._handlers(), settings.queue_lease_s, settings.queue_dead_after_s
        )

    def _handlers(self) -> Mapping[str, HandlerPolicy]:
        if not self._types:
            return HANDLERS
        announced = {
            name
            for worker in self._master.core.workers()
            if not worker.gone and not polls(worker)
            for name in worker.announcement.handlers
        }
        return HANDLERS | dict.fromkeys(self._types.keys() - announced, HandlerPolicy())

    def _look_again(self) -> None:
        """Learn the types of tasks from before a restart, as their jobs are read again."""
        if not self._before:
            return
        unread = []
        for job in self._before:
            if job.plan is None and job.graph is None and not job.is_terminal:
                unread.append(job)
            # Most plans of others are told by their text, without being read.
            elif job.plan is not None and DIALECT in job.plan:
                plan = read_plan(job.plan)
                if plan.about.get("dialect") == DIALECT:
                    self.submitted(plan.graph[TASK].handler)
        self._before = unread
