"""The journal's disk gives errors: work is refused, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from harness.cluster import running_cluster
from harness.processes import run_module
from torture.disk.faulty import FaultyDisk
from torture.disk.outage import die_in, go_through

RECOVERY_MAX_S = 5.0
TIMEOUT_S = 120.0


@pytest.mark.parametrize("call", ["sync_errno", "write_errno"])
async def test_a_disk_that_fails_for_a_while(
    tmp_path: Path, faulty_disk: FaultyDisk, call: str
) -> None:
    with running_cluster(tmp_path, 1, **faulty_disk.environment) as system:
        outage = await go_through(
            system, lambda: faulty_disk.behave(**{call: errno.EIO}), faulty_disk.behave
        )
    assert outage.problems == []
    assert set(outage.refused) == {503}
    assert outage.retry_after == ["5"]
    assert outage.health["status"] == "failing"
    assert "I/O error" in outage.health["error"]
    assert outage.recovered_s < RECOVERY_MAX_S


@pytest.mark.parametrize("call", ["sync_errno", "write_errno"])
async def test_a_master_that_is_killed_while_its_disk_fails(
    tmp_path: Path, faulty_disk: FaultyDisk, call: str
) -> None:
    """Jobs that it could not write may be lost; those that it acknowledged are not."""
    with running_cluster(tmp_path, 1, **faulty_disk.environment) as system:
        lost = await die_in(
            system, lambda: faulty_disk.behave(**{call: errno.EIO}), faulty_disk.behave
        )
    assert lost == []


@pytest.mark.parametrize(("kind", "step"), [("power", 1), ("EIO", 23), ("ENOSPC", 29)])
def test_nothing_that_was_told_is_lost_whatever_call_fails_and_wherever_the_power_ends(
    memory_folder: Path, faulty_library: Path, kind: str, step: int
) -> None:
    """Also when the system forgets what it could not sync. See `disk.losses`."""
    journal = memory_folder / "journal"
    journal.mkdir()
    disk = FaultyDisk(journal, faulty_library, memory_folder / "log")
    losses = ("torture.disk.losses", str(memory_folder), kind, str(step))
    looked = run_module(*losses, timeout_s=TIMEOUT_S, **disk.environment)
    assert looked.returncode == 0, looked.stderr
    report = json.loads(looked.stdout)
    assert report["problems"] == []
    assert report["looked"] > 300
    assert not looked.stderr
