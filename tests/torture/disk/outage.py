"""A disk fails while clients submit, and recovers; then the master is killed and started again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.cluster import Cluster
from harness.http import PlainClient
from harness.prober import within
from harness.until import until
from torture.disk.load import Load

CLIENTS = 8
BEFORE = 50
REFUSALS = 20
AFTER = 50
"""How many acknowledgements and refusals are waited for."""
LONG_OPERATIONS = 100_000
"""Of a job that goes on while the disk fails: half a second of work and more."""
READS = 50


@dataclass
class Outage:
    """The course of an outage.

    Attributes:
        accepted: how many jobs were acknowledged.
        refused: how many were refused, by status.
        retry_after: what refusals told in that header.
        health: what /health said meanwhile.
        read_ms: how long ``GET /job/{id}`` took meanwhile, in order of size.
        recovered_s: how long after the disk was well the first job was acknowledged.
        problems: what was lost, doubled, changed or wrong.
    """

    accepted: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    retry_after: list[str | None] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    read_ms: list[float] = field(default_factory=list)
    recovered_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """The same, for a table."""
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "reads_p99_ms": round(within(self.read_ms, 0.99), 1),
            "recovered_s": round(self.recovered_s, 2),
            "problems": self.problems,
        }


async def go_through(
    system: Cluster, break_disk: Callable[[], object], mend_disk: Callable[[], object]
) -> Outage:
    """Submit before, while and after the disk fails; account for all that was acknowledged."""
    outage, client, load = Outage(), PlainClient(system.port), Load(system.port)
    over = asyncio.Event()
    submitting = asyncio.create_task(load.run(CLIENTS, over))
    try:
        await until(lambda: len(load.accepted) >= BEFORE, "jobs are accepted")
        task, same = _long_task()
        long_job = (await client.post("/submit", {"task": task})).json["job_id"]
        load.accepted[long_job] = same
        break_disk()
        await until(lambda: _refused(load) >= REFUSALS, "submissions are refused")
        outage.health = (await client.get("/health")).json
        await _read(client, min(load.accepted), outage)
        await _see_progress(client, long_job)
        mend_disk()
        mended_at, before = time.monotonic(), len(load.accepted)
        await until(lambda: len(load.accepted) > before, "a job is accepted again")
        outage.recovered_s = time.monotonic() - mended_at
        await until(lambda: len(load.accepted) > before + AFTER, "jobs are accepted again")
    finally:
        over.set()
        await submitting
    outage.problems += await load.ask_for_all()
    system.restart_master(signal.SIGKILL)
    outage.problems += await load.ask_for_all()
    outage.accepted = len(load.accepted)
    outage.refused = {status: n for status, n in load.statuses.items() if status != 200}
    outage.retry_after = list(load.retry_after)
    return outage


async def die_in(
    system: Cluster, break_disk: Callable[[], object], mend_disk: Callable[[], object]
) -> list[str]:
    """Kill the master while the disk fails; what was lost, doubled, changed or wrong."""
    load, over = Load(system.port), asyncio.Event()
    submitting = asyncio.create_task(load.run(CLIENTS, over))
    try:
        await until(lambda: len(load.accepted) >= BEFORE, "jobs are accepted")
        break_disk()
        await until(lambda: _refused(load) >= REFUSALS, "submissions are refused")
    finally:
        over.set()
        await submitting
    system.master.end(signal.SIGKILL)
    mend_disk()
    system.start_master()
    return await load.ask_for_all()


def _refused(load: Load) -> int:
    return sum(count for status, count in load.statuses.items() if status != 200)


def _long_task() -> tuple[str, str]:
    """A formula of many operations, and the same for Python's parser, which has its bounds."""
    numbers = range(LONG_OPERATIONS // 2)
    return "+".join(f"{n}*{n}" for n in numbers), f"sum(n*n for n in {numbers})"


async def _read(client: PlainClient, number: int, outage: Outage) -> None:
    """Ask for a job that was accepted, again and again."""
    for _ in range(READS):
        asked_at = time.monotonic()
        reply = await client.get(f"/job/{number}")
        outage.read_ms.append((time.monotonic() - asked_at) * 1e3)
        if reply.status != 200:
            outage.problems.append(f"GET /job/{number} is answered with {reply.status}")
    outage.read_ms.sort()


async def _see_progress(client: PlainClient, number: int) -> None:
    """See that workers go on, until all of a job's operations are done."""

    async def all_is_done() -> bool:
        job = (await client.get(f"/job/{number}")).json
        return bool(job["operations_done"] == job["operations"])

    await until(all_is_done, "all operations are done", poll_s=0.02)
