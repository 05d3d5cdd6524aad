"""A disk on which a sync takes long, under many clients."""

from __future__ import annotations

import asyncio
from typing import Any

from harness.cluster import Cluster
from harness.prober import Health, probed, within
from torture.disk.faulty import FaultyDisk
from torture.disk.load import Load


async def submit_on(
    system: Cluster, disk: FaultyDisk, sync_ms: int, clients: int, seconds: float
) -> tuple[Load, Health, int]:
    """Submit for some time while syncs take longer.

    Returns:
        What clients were told, how /health was answered, and how many commits there were.
    """
    disk.behave(sync_ms=sync_ms)
    load, over = Load(system.port), asyncio.Event()
    commits = system.client.get("/health")["commits"]
    with probed(system.port) as health:
        submitting = asyncio.create_task(load.run(clients, over))
        await asyncio.sleep(seconds)
        over.set()
        await submitting
    commits = system.client.get("/health")["commits"] - commits
    disk.behave()
    return load, health, commits


def figures(load: Load, health: Health, commits: int, seconds: float) -> dict[str, Any]:
    """The measured figures, for a table."""
    accepted_ms = sorted(load.accepted_ms)
    jobs = len(load.accepted)
    return {
        "jobs_s": round(jobs / seconds),
        "commits": commits,
        "jobs_a_commit": round(jobs / max(1, commits), 1),
        "submit_p50_ms": round(within(accepted_ms, 0.5), 1),
        "submit_p99_ms": round(within(accepted_ms, 0.99), 1),
        "health_p50_ms": round(health.within_ms(0.5), 1),
        "health_p99_ms": round(health.within_ms(0.99), 1),
        "health_max_ms": round(health.within_ms(1), 1),
    }
