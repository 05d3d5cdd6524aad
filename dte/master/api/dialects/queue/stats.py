"""The number of waiting tasks, and the workers."""

from __future__ import annotations

from typing import Literal

import msgspec

from dte.core.jobs.job import JobState
from dte.core.workers.worker import Worker
from dte.master.api.dialects.queue.base import ALIVE, QueueHandler
from dte.master.api.dialects.tasks import count_by_state
from dte.master.api.openapi import documented


class WorkerShown(msgspec.Struct):
    """An active worker; `metadata` is the text of the JSON that it sent."""

    worker_id: str
    last_heartbeat: str
    status: str
    metadata: str | None


class Stats(msgspec.Struct):
    """The number of waiting tasks, and the workers."""

    pending_tasks: int
    active_workers: int
    workers: list[WorkerShown]


class StatsReply(msgspec.Struct):
    """The reply to `GET /stats`."""

    status: Literal["success"]
    data: Stats


class StatsHandler(QueueHandler):
    @documented("Count waiting tasks and list the workers", replies={200: StatsReply})
    async def get(self) -> None:
        counted = await self.master.slices.run(count_by_state(self.master.core.jobs))
        workers = [self._shown(worker) for worker in self.master.core.workers() if not worker.gone]
        active = sum(worker.status == ALIVE for worker in workers)
        self.reply(StatsReply("success", Stats(counted[JobState.WAITING], active, workers)))

    def _shown(self, worker: Worker) -> WorkerShown:
        # Workers of other dialects may have other values there, or none.
        status, metadata = worker.info.get("status"), worker.info.get("metadata")
        return WorkerShown(
            worker.announcement.name,
            self.local_time(self.master.clock.wall_s(worker.last_seen_at)) or "",
            status if isinstance(status, str) else ALIVE,
            metadata if isinstance(metadata, str) else None,
        )
