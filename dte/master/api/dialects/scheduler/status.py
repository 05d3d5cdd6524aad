"""The state of the scheduler: its tasks and its workers."""

from __future__ import annotations

from typing import Literal

import msgspec

from dte.master.api.dialects.scheduler.arguments import DIALECT
from dte.master.api.dialects.scheduler.base import STATUS, SchedulerHandler
from dte.master.api.dialects.tasks import count_by_state
from dte.master.api.openapi import documented


class WorkerShown(msgspec.Struct):
    """A worker; `last_heartbeat` is in seconds since 1970."""

    status: Literal["ACTIVE", "INACTIVE"]
    last_heartbeat: float


class StatusReply(msgspec.Struct):
    """The tasks in memory, counted by status, and the workers."""

    total_tasks: int
    tasks_by_status: dict[str, int]
    active_workers: int
    worker_details: dict[str, WorkerShown]


class Status(SchedulerHandler):
    @documented("Count tasks and list workers", replies={200: StatusReply})
    async def get(self) -> None:
        counted = await self.master.slices.run(count_by_state(self.master.core.jobs))
        by_status = dict.fromkeys(STATUS.values(), 0)
        for state, count in counted.items():
            by_status[STATUS[state]] += count
        shown = {status: count for status, count in by_status.items() if count}
        workers = self.master.core.workers()
        details: dict[str, WorkerShown] = {}
        # The last worker of a name is shown: one of this dialect, or else one that is active.
        ours = sorted(
            workers, key=lambda each: (each.announcement.dialect == DIALECT, not each.gone)
        )
        for worker in ours:
            details[worker.announcement.name] = WorkerShown(
                "INACTIVE" if worker.gone else "ACTIVE",
                round(self.master.clock.wall_s(worker.last_seen_at), 6),
            )
        active = sum(not worker.gone for worker in workers)
        self.reply(StatusReply(sum(counted.values()), shown, active, details))
