"""Dialects whose workers poll, as their own clients and workers use them.

Both have the same methods, so that one test holds for both.
"""

from __future__ import annotations

import json
from typing import Any

from harness.http import Message
from harness.until import until

from master.rig import Rig


class Dialect:
    """A dialect of a running master.

    Attributes:
        LEASE_S: the setting for the silence after which a task goes to another worker.
    """

    LEASE_S: str

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def poll(self, worker: str) -> dict[str, Any] | None:
        """The task that a worker reads from the reply to its poll."""
        raise NotImplementedError

    async def polled(self, worker: str) -> dict[str, Any]:
        """The task that a worker gets, as soon as there is one."""
        for _ in range(500):
            if (task := await self.poll(worker)) is not None:
                return task
            await self.next_moment()
        raise AssertionError("no task came")

    async def next_moment(self) -> None:
        now = self.rig.master.clock.now()
        await until(lambda: self.rig.master.clock.now() > now + 0.01, "the next moment")


class Queue(Dialect):
    """The queue's client and workers."""

    LEASE_S = "queue_lease_s"
    WAITING, RUNNING, SUCCEEDED = "pending", "in-progress", "completed"

    async def ask_submit(self, task_type: str = "compute", **more: Any) -> Message:
        body = {"task_type": task_type, "task_data": {}}
        return await self.rig.post("/submit-task", body | more)

    async def ask_poll(self, worker: str) -> Message:
        return await self.rig.post("/get-task", {"worker_id": worker})

    async def ask_report(self, worker: str | None, task_id: int, **more: Any) -> Message:
        body = {"task_id": task_id, "worker_id": worker, "status": "completed"}
        body |= {"primes": [2, 3], "computation_time": 0.5, "method": "sieve"}
        return await self.rig.post("/submit-result", body | more)

    async def submit(self, task_type: str = "compute", **more: Any) -> int:
        """Submit a task as the command-line client does; its id, where that client looks for it."""
        reply = await self.ask_submit(task_type, **more)
        assert reply.status == 201, reply.json
        assert reply.json["task_id"] == reply.json["data"]["task_id"]
        return int(reply.json["task_id"])

    async def poll(self, worker: str) -> dict[str, Any] | None:
        reply = await self.ask_poll(worker)
        assert reply.status == 200, reply.json
        if reply.json.get("task") is None and "task_id" not in reply.json:
            return None
        return {**reply.json, "payload": json.loads(reply.json["payload"])}

    async def beat(self, worker: str) -> None:
        assert (await self.rig.post("/heartbeat", {"worker_id": worker})).status == 200

    async def report(self, worker: str | None, task_id: int, **more: Any) -> dict[str, Any]:
        """The receipt of a worker's result."""
        reply = await self.ask_report(worker, task_id, **more)
        assert reply.status == 200, reply.json
        return dict(reply.json["data"])

    async def counts(self, worker: str | None, task_id: int) -> bool:
        """Report a worker's result, and return whether it counts."""
        return bool((await self.report(worker, task_id))["saved"])

    async def shown(self, task_id: int) -> dict[str, Any]:
        reply = await self.rig.get(f"/task/{task_id}")
        assert (reply.status, reply.json["status"]) == (200, "success")
        return dict(reply.json["data"])

    async def status(self, task_id: int) -> str:
        task = await self.shown(task_id)
        assert (task["assigned_to"] is None) == (task["status"] == self.WAITING)
        return str(task["status"])


class Scheduler(Dialect):
    """The scheduler's client and workers."""

    LEASE_S = "scheduler_dead_after_s"
    WAITING, RUNNING, SUCCEEDED = "PENDING", "RUNNING", "COMPLETED"

    async def ask_submit(self, function: str = "process_data", **more: Any) -> Message:
        return await self.rig.post("/add_task", {"func_name": function} | more)

    async def ask_poll(self, worker: str) -> Message:
        return await self.rig.get(f"/get_task/{worker}")

    async def ask_report(self, worker: str | None, task_id: str, **more: Any) -> Message:
        body = {"task_id": task_id, "status": "COMPLETED", "result": 1, "worker_id": worker}
        return await self.rig.post("/task_status", body | more)

    async def submit(self, function: str = "process_data", **more: Any) -> str:
        reply = await self.ask_submit(function, **more)
        assert reply.status == 201, reply.json
        task_id: str = reply.json["task_id"]
        assert isinstance(task_id, str)
        return task_id

    async def poll(self, worker: str) -> dict[str, Any] | None:
        reply = await self.ask_poll(worker)
        if reply.status == 204:
            assert not reply.body
            return None
        assert reply.status == 200, reply.json
        return dict(reply.json)

    async def beat(self, worker: str) -> None:
        assert (await self.rig.ask("PUT", f"/heartbeat/{worker}")).status == 200

    async def report(self, worker: str | None, task_id: str, **more: Any) -> str:
        """The message in reply to a worker's report."""
        reply = await self.ask_report(worker, task_id, **more)
        assert reply.status == 200, reply.json
        return str(reply.json["message"])

    async def counts(self, worker: str | None, task_id: str) -> bool:
        """Report a worker's result, and return whether it counts."""
        message = await self.report(worker, task_id)
        assert message.endswith(("nothing is changed", f"Task {task_id} is COMPLETED"))
        return "nothing is changed" not in message

    async def statuses(self) -> dict[str, int]:
        """The number of tasks by status."""
        reply = await self.rig.get("/status")
        assert reply.json["total_tasks"] == sum(reply.json["tasks_by_status"].values())
        return dict(reply.json["tasks_by_status"])

    async def status(self, task_id: str) -> str:
        """The status of a task, the only one."""
        ((status, count),) = (await self.statuses()).items()
        assert count == 1
        return status
