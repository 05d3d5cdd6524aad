from __future__ import annotations

import pytest
from harness.http import Dial, Line
from harness.until import until

from dte.core.workers.worker import Worker
from dte.master import presence
from master.rig import Rig, StartMaster

CLAIM = {"worker": "puller", "handlers": ["echo"], "incarnation": "a", "wait": 20}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "HUNG_UP_S", 0.05)


async def busy(rig: Rig, line: Line) -> tuple[Worker, int]:
    """A worker that pulls and has no free slot, and its lease."""
    job = await rig.accept(handler="echo")
    (call,) = (await line.ask("POST", "/claim", CLAIM)).json["calls"]
    assert call["job_id"] == job
    worker = rig.master.core.worker("pull:puller")
    assert worker is not None
    assert worker.state == "busy"
    return worker, int(call["lease"])


async def test_a_worker_that_pulls_and_closes_its_connection_with_all_slots_busy_is_checked(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(lease_s=1.5)
    line = await dial(rig.port)
    worker, _ = await busy(rig, line)
    line.close()
    await until(lambda: worker.state == "unreachable", "it is known to have ended")
    assert worker.unreachable == presence.HUNG_UP


async def test_a_worker_that_pulls_and_extends_its_leases_elsewhere_is_there(
    start_master: StartMaster, dial: Dial
) -> None:
    """A proxy may close a connection that has been idle."""
    rig = await start_master(lease_s=6.0)
    line, other = await dial(rig.port), await dial(rig.port)
    worker, lease = await busy(rig, line)
    line.close()
    await until(lambda: rig.master.workers.presence._checks, "it is being checked")
    reply = await other.ask("POST", "/extend", {"worker": "puller", "leases": [lease]})
    assert reply.json["extended"] == [lease]
    await until(lambda: not rig.master.workers.presence._checks, "it has been checked")
    assert worker.unreachable is None


async def test_a_connection_on_which_leases_were_extended_counts_too(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(lease_s=1.5)
    line, other = await dial(rig.port), await dial(rig.port)
    worker, lease = await busy(rig, line)
    reply = await other.ask("POST", "/extend", {"worker": "puller", "leases": [lease]})
    assert reply.json["extended"] == [lease]
    other.close()
    await until(lambda: worker.state == "unreachable", "it is known to have ended")
