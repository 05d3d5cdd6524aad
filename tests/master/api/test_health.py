from __future__ import annotations

import pytest
from harness.until import until

from dte import __version__
from dte.core.workers import availability
from master import fakes
from master.rig import Hire, Rig


async def test_health_of_a_master_with_nothing_to_do(rig: Rig) -> None:
    reply = await rig.get("/health")
    assert reply.status == 200
    health = reply.json
    assert 0 <= health.pop("uptime_s") < 60
    assert 0 <= health.pop("longest_turn_s") < 60
    assert health == {
        "status": "ok",
        "service": "dispatcher",
        "version": __version__,
        "workers": 0,
        "jobs_waiting": 0,
        "operations_waiting": 0,
        "operations_done": 0,
        "stale_results": 0,
        "webhooks_waiting": 0,
        "webhooks_given_up": 0,
        "journal": "none",
        "commits": 0,
        "error": None,
        "auth": "none",
    }


async def test_health_counts_what_waits_and_what_is_done(rig: Rig, hire: Hire) -> None:
    await rig.post("/submit", {"tasks": ["1+2.5*3", "4", "5/6"]})
    health = (await rig.get("/health")).json
    assert (health["jobs_waiting"], health["operations_waiting"]) == (2, 3)
    await hire(rig, fakes.good)
    await rig.get("/jobs?ids=1-3&wait=20")
    health = (await rig.get("/health")).json
    assert (health["jobs_waiting"], health["operations_waiting"]) == (0, 0)
    assert health["operations_done"] == 3


async def test_health_counts_workers_that_can_be_counted_on(
    rig: Rig, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free and busy workers, without those that fail or leave."""
    monkeypatch.setattr(availability, "backoff_s", lambda *_: 60.0)
    await hire(rig, fakes.good)
    busy = await hire(rig, fakes.silent)
    failing = await hire(rig, fakes.hanging_up)
    await rig.announce(await hire(rig, fakes.good), draining=True)
    await rig.post("/submit", {"tasks": ["1/2", "3/4", "5/6"]})
    await until(lambda: busy.requests and rig.worker(failing).last_failure, "all had their turn")
    states = sorted(worker["state"] for worker in (await rig.get("/worker")).json)
    assert states == ["busy", "draining", "free", "pausing"]
    assert (await rig.get("/health")).json["workers"] == 2
