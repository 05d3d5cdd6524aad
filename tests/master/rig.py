"""A master of this process that is asked over HTTP, as its clients and workers ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from harness.http import HOST, Message, PlainClient, PlainServer
from tornado.web import Application

from dte.core.workers.worker import Worker
from dte.master.master import Master
from dte.master.server import MasterServer
from dte.master.settings import Settings


class Rig(PlainClient):
    """A client of a running master, whose insides a test may look at."""

    def __init__(self, **bounds: Any) -> None:
        self.server = MasterServer(Settings(**{"host": HOST, "port": 0} | bounds))
        self.server.start()
        super().__init__(self.server.port)
        self._stopped = False

    @property
    def master(self) -> Master:
        return self.server.master

    @property
    def application(self) -> Application:
        application: Any = self.server._http.request_callback
        assert isinstance(application, Application)
        return application

    async def stop(self, grace_s: float = 0) -> None:
        """Stop the master, if that has not been done."""
        if not self._stopped:
            self._stopped = True
            await self.server.stop(grace_s)

    async def submit(self, task: str) -> int:
        """Submit a formula, and give its job's id."""
        reply = await self.post("/submit", {"task": task})
        assert reply.status == 200, reply.json
        return int(reply.json["job_id"])

    async def job(self, number: int, wait_s: float = 0) -> dict[str, Any]:
        """How a job stands, now or when it has ended."""
        reply = await self.get(f"/job/{number}?wait={wait_s}")
        assert reply.status == 200, reply.json
        return dict(reply.json)

    async def compute(self, task: str) -> dict[str, Any]:
        """A formula's job when it has ended."""
        job = await self.job(await self.submit(task), wait_s=20)
        assert job["finished"], f"{task} has not been computed"
        return job

    async def accept(self, **said: Any) -> int:
        """Submit a graph, a call or a formula to `POST /jobs`, and give its job's id."""
        reply = await self.post("/jobs", said)
        assert reply.status == 201, reply.json
        return int(reply.json["job_id"])

    async def nodes(self, number: int) -> dict[str, dict[str, Any]]:
        """The calls of a job, by their names."""
        reply = await self.get(f"/job/{number}/nodes")
        assert reply.status == 200, reply.json
        return {node["node"]: node for node in reply.json}

    async def why(self, number: int) -> dict[str, dict[str, Any]]:
        """What the unfinished operations of a job wait for, by their names."""
        reply = await self.get(f"/job/{number}/why")
        assert reply.status == 200, reply.json
        return {reason["node"]: reason for reason in reply.json["reasons"]}

    async def cancel(self, number: int) -> dict[str, Any]:
        """Cancel a job; how it stands then."""
        reply = await self.post(f"/job/{number}/cancel")
        assert reply.status == 200, reply.json
        return dict(reply.json)

    async def announce(self, worker: PlainServer | int, **said: Any) -> None:
        """Announce a worker, by itself or by its port."""
        port = worker if isinstance(worker, int) else worker.port
        reply = await self.post("/worker", {"worker_name": "w", "port": port} | said)
        assert reply.status == 200, reply.json

    def worker(self, worker: PlainServer | int) -> Worker:
        """What the master knows of a worker."""
        port = worker if isinstance(worker, int) else worker.port
        (known,) = (
            known
            for known in self.master.core.workers()
            if known.announcement.address.endswith(f":{port}")
        )
        return known

    def pass_over(self, passed_s: float) -> None:
        """Let a time pass for what the master knows of workers: their signs of life, and leases."""
        core = self.master.core
        for worker in core.workers():
            worker.last_seen_at -= passed_s
        for batch in core.arithmetic.leases.values():
            batch.deadline -= passed_s
        for lease in core.calls.leases:
            lease.deadline -= passed_s
            core.calls.leases.watch(lease)
        self.master.wake()

    @property
    def idle(self) -> bool:
        """Whether nothing waits: no job, no operation, no lease, no request."""
        core = self.master.core
        return not (
            core.jobs.waiting
            or core.jobs.operations_waiting
            or core.arithmetic.leases
            or len(self.master.waiters)
        )


def check_bound(reply: Message, status: int, *words: str) -> None:
    """A refusal names the bound that is met, and when to come again if that makes sense."""
    assert reply.status == status, reply.json
    for word in words:
        assert word in reply.json["error"]
    assert ("retry-after" in reply.headers) == (status == 429)


StartMaster = Callable[..., Awaitable[Rig]]
"""The fixture `start_master`."""

Hire = Callable[..., Awaitable[PlainServer]]
"""The fixture `hire`."""
