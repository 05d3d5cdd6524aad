"""Dialects whose workers poll: each as its own client and its own workers use it.

They share the words of `Dialect`, so that one test holds for all.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from wire.plain import Message
from wire.until import until

from master.rig import Rig


class Dialect:
    """The client and the workers of a dialect.

    Attributes:
        LEASE_S: the setting for the silence after which a task goes to another worker.
        WAITING: the status of a task that waits, also after its lease has run out.
        RUNNING: the status of a task that a worker has.
        SUCCEEDED: the status of a task with a result.
    """

    LEASE_S: ClassVar[str]
    WAITING: ClassVar[str]
    RUNNING: ClassVar[str]
    SUCCEEDED: ClassVar[str]

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def ask_submit(self) -> Message:
        """The reply to a submission."""
        raise NotImplementedError

    async def ask_poll(self, worker: str) -> Message:
        """The reply to a worker's poll."""
        raise NotImplementedError

    async def ask_report(self, worker: str | None, task_id: Any, **more: Any) -> Message:
        """The reply to a worker's result; None stands for a worker without a name."""
        raise NotImplementedError

    async def submit(self) -> Any:
        """Submit a task; its id."""
        raise NotImplementedError

    async def poll(self, worker: str) -> dict[str, Any] | None:
        """The task that a worker gets, if it gets one."""
        raise NotImplementedError

    async def polled(self, worker: str) -> dict[str, Any]:
        """The task that a worker gets, as soon as there is one."""
        for _ in range(500):
            task = await self.poll(worker)
            if task is not None:
                return task
            await self.next_moment()
        raise AssertionError("no task came")

    async def beat(self, worker: str) -> None:
        """A worker's heartbeat."""
        raise NotImplementedError

    async def counts(self, worker: str | None, task_id: Any) -> bool:
        """Whether a worker's result of a task counts."""
        raise NotImplementedError

    async def status(self, task_id: Any) -> str:
        """The status of a task, the only one that has been submitted."""
        raise NotImplementedError

    async def next_moment(self) -> None:
        now = self.rig.master.now()
        await until(lambda: self.rig.master.now() > now + 0.01, "the next moment")


class Queue(Dialect):
    """The queue's client and workers."""

    LEASE_S = "queue_lease_s"
    WAITING, RUNNING, SUCCEEDED = "pending", "in-progress", "completed"

    async def ask_submit(self) -> Message:
        return await self.rig.post("/submit-task", {"task_type": "compute"})

    async def ask_poll(self, worker: str) -> Message:
        return await self.rig.post("/get-task", {"worker_id": worker})

    async def submit(self, task_type: str = "compute", **more: Any) -> int:
        """Submit a task as the command-line client does; its id, where that client looks for it."""
        body = {"task_type": task_type, "task_data": {}} | more
        reply = await self.rig.post("/submit-task", body)
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

    async def ask_report(self, worker: str | None, task_id: Any, **more: Any) -> Message:
        body = {
            "task_id": task_id,
            "worker_id": worker,
            "status": "completed",
            "primes": [2, 3],
            "computation_time": 0.5,
            "method": "sieve",
        }
        return await self.rig.post("/submit-result", body | more)

    async def report(self, worker: str | None, task_id: int, **more: Any) -> dict[str, Any]:
        """The receipt of a worker's result."""
        reply = await self.ask_report(worker, task_id, **more)
        assert reply.status == 200, reply.json
        return dict(reply.json["data"])

    async def counts(self, worker: str | None, task_id: int) -> bool:
        return bool((await self.report(worker, task_id))["saved"])

    async def shown(self, task_id: int) -> dict[str, Any]:
        reply = await self.rig.get(f"/task/{task_id}")
        assert reply.status == 200, reply.json
        assert reply.json["status"] == "success"
        return dict(reply.json["data"])

    async def status(self, task_id: int) -> str:
        task = await self.shown(task_id)
        assert (task["assigned_to"] is None) == (task["status"] == self.WAITING)
        return str(task["status"])


class Scheduler(Dialect):
    """The scheduler's client and workers."""

    LEASE_S = "scheduler_dead_after_s"
    WAITING, RUNNING, SUCCEEDED = "PENDING", "RUNNING", "COMPLETED"

    async def ask_submit(self) -> Message:
        return await self.rig.post("/add_task", {"func_name": "process_data"})

    async def ask_poll(self, worker: str) -> Message:
        return await self.rig.get(f"/get_task/{worker}")

    async def submit(self, function: str = "process_data", **more: Any) -> str:
        reply = await self.rig.post("/add_task", {"func_name": function} | more)
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

    async def ask_report(self, worker: str | None, task_id: Any, **more: Any) -> Message:
        body = {"task_id": task_id, "status": "COMPLETED", "result": 1, "worker_id": worker}
        return await self.rig.post("/task_status", body | more)

    async def report(self, worker: str | None, task_id: str, **more: Any) -> str:
        """The message in reply to a worker's report."""
        reply = await self.ask_report(worker, task_id, **more)
        assert reply.status == 200, reply.json
        return str(reply.json["message"])

    async def counts(self, worker: str | None, task_id: str) -> bool:
        message = await self.report(worker, task_id)
        if "nothing is changed" in message:
            return False
        assert message == f"Task {task_id} is COMPLETED"
        return True

    async def statuses(self) -> dict[str, int]:
        """The number of tasks by status."""
        reply = await self.rig.get("/status")
        assert reply.json["total_tasks"] == sum(reply.json["tasks_by_status"].values())
        return dict(reply.json["tasks_by_status"])

    async def status(self, task_id: str) -> str:
        ((status, count),) = (await self.statuses()).items()
        assert count == 1
        return status
