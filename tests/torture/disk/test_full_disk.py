"""The journal's disk becomes full: work is refused, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import errno
import resource
import signal
from pathlib import Path

from harness.cluster import running_cluster
from torture.disk.faulty import JOURNAL, FaultyDisk
from torture.disk.outage import Outage, go_through
from torture.disk.small_disk import fill

RECOVERY_MAX_S = 5.0
EXIT_MASTER = 3


def check(outage: Outage, status: int) -> None:
    """Check what must hold of every outage."""
    assert outage.problems == []
    assert set(outage.refused) == {status}
    assert outage.retry_after == ["5"]
    assert outage.health["status"] == "failing"
    assert outage.recovered_s < RECOVERY_MAX_S


async def test_a_full_disk(tmp_path: Path, mounted_disk: Path) -> None:
    """A real one: it is filled to the last byte by somebody else, who then deletes his file."""
    with running_cluster(tmp_path, 1, DTE_JOURNAL=str(mounted_disk / JOURNAL)) as system:
        outage = await go_through(
            system, lambda: fill(mounted_disk), (mounted_disk / "filler").unlink
        )
    check(outage, 507)
    assert "full" in outage.health["error"]


async def test_writes_that_fail_as_on_a_full_disk(tmp_path: Path, faulty_disk: FaultyDisk) -> None:
    with running_cluster(tmp_path, 1, **faulty_disk.environment) as system:
        outage = await go_through(
            system, lambda: faulty_disk.behave(write_errno=errno.ENOSPC), faulty_disk.behave
        )
    check(outage, 507)


LENGTH_BYTES = 4_096
"""Less than any file of the journal has: its log begins anew now and then, so as much as it has
might last for long."""


async def test_a_limit_on_the_length_of_files(tmp_path: Path) -> None:
    """As by `ulimit -f`; for SQLite this is not a full disk, but some error."""
    with running_cluster(tmp_path, 1) as system:

        def limit_files(length: int) -> None:
            hard = resource.prlimit(system.master.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(system.master.pid, resource.RLIMIT_FSIZE, (length, hard))

        outage = await go_through(
            system,
            lambda: limit_files(LENGTH_BYTES),
            lambda: limit_files(resource.RLIM_INFINITY),
        )
    check(outage, 503)


def test_a_master_does_not_start_on_a_full_disk_and_says_why(
    tmp_path: Path, faulty_disk: FaultyDisk
) -> None:
    with running_cluster(tmp_path, 1, **faulty_disk.environment) as system:
        job = system.client.finished(system.client.submit("1+2"))
        system.master.end(signal.SIGKILL)
        faulty_disk.behave(write_errno=errno.ENOSPC)
        system.master.start()
        assert system.master.exit_code() == EXIT_MASTER
        assert "disk is full" in system.master.output
        assert "Traceback" not in system.master.output
        faulty_disk.behave()
        system.start_master()
        assert system.client.finished(job["job_id"]) == job
