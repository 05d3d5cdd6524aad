"""One large formula, and how responsive the master is from its submission to its answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from figures import Row, latency
from harness.cluster import Cluster
from harness.machine import memory_bytes
from harness.workloads import Formula, mixed, small
from system import running

from dte import AsyncClient
from dte.wire.http.client import KeptAliveConnection

PAUSE_S = 0.01
"""The pause between two questions, which must not burden the master themselves."""


@dataclass
class Meanwhile:
    """The seconds of the large formula, and of other requests meanwhile."""

    elapsed_s: float = 0.0
    health_s: list[float] = field(default_factory=list)
    small_s: list[float] = field(default_factory=list)


def large(operations: int) -> list[Row]:
    """A formula of many operations beside small ones."""
    formula = mixed(operations, seed=1)
    with running() as system:
        before = memory_bytes(system.master.pid)
        found = asyncio.run(compute(system, formula))
        peak = memory_bytes(system.master.pid, "VmHWM")
    bytes_each = (peak - before) / operations
    health = f"  meanwhile GET /health ({len(found.health_s):,} times)"
    small_jobs = f"  meanwhile jobs of 4 operations ({len(found.small_s):,})"
    label = f"a formula of {operations:,} operations"
    memory = "  memory of the master, an operation"
    return [
        Row("large", label, "s", found.elapsed_s, aim="15 s a million"),
        Row("large.memory", memory, "bytes", bytes_each, aim="at most 150 bytes"),
        latency("large.health", health, found.health_s, "p99 at most 10 ms"),
        latency("large.small", small_jobs, found.small_s, "p99 at most 50 ms"),
    ]


async def compute(system: Cluster, formula: Formula) -> Meanwhile:
    """Submit the formula and wait for it, while others ask."""
    body = json.dumps({"task": formula.text}).encode()
    found = Meanwhile()
    over = asyncio.Event()

    async def repeat(request: Callable[[], Awaitable[object]], latencies_s: list[float]) -> None:
        while not over.is_set():
            started = time.perf_counter()
            await request()
            latencies_s.append(time.perf_counter() - started)
            await asyncio.sleep(PAUSE_S)

    async def compute_small() -> None:
        one = small(len(found.small_s))
        assert await small_client.compute(one.text) == one.answer

    async with AsyncClient(system.url) as client, AsyncClient(system.url) as small_client:
        await compute_small()
        submitting, asking = (KeptAliveConnection("127.0.0.1", system.port) for _ in range(2))
        meanwhile = [
            asyncio.create_task(
                repeat(lambda: asking.request("GET", "/health", b""), found.health_s)
            ),
            asyncio.create_task(repeat(compute_small, found.small_s)),
        ]
        started = time.perf_counter()
        status, _, reply = await submitting.request("POST", "/submit", body)
        assert status == 200, reply
        job = await client.wait(json.loads(reply)["job_id"])
        found.elapsed_s = time.perf_counter() - started
        over.set()
        await asyncio.gather(*meanwhile)
        submitting.close()
        asking.close()
    assert job.answer == formula.answer
    return found
