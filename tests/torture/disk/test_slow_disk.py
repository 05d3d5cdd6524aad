"""Syncs of the journal's disk take long: what must wait for them does, and nothing else."""

from __future__ import annotations

from pathlib import Path

from harness.cluster import running_cluster
from torture.disk.faulty import FaultyDisk
from torture.disk.slow import submit_on

SYNC_MS = 400
CLIENTS = 64
SECONDS = 3.0


async def test_submissions_share_commits_and_whoever_asks_does_not_wait(
    tmp_path: Path, faulty_disk: FaultyDisk
) -> None:
    with running_cluster(tmp_path, 1, **faulty_disk.environment) as system:
        load, health, commits = await submit_on(system, faulty_disk, SYNC_MS, CLIENTS, SECONDS)
        assert await load.ask_for_all() == []
    assert min(load.accepted_ms) >= SYNC_MS, "it was acknowledged before it was on the disk"
    assert len(load.accepted) / commits > CLIENTS / 4
    assert health.within_ms(0.5) < SYNC_MS / 4, "the loop waits for the disk"
    assert not health.others


async def test_no_commit_waits_for_the_disk_if_it_need_not_survive_a_loss_of_power(
    tmp_path: Path, faulty_disk: FaultyDisk
) -> None:
    settings = faulty_disk.environment | {"DTE_JOURNAL_SYNC": "normal"}
    with running_cluster(tmp_path, 1, **settings) as system:
        load, _, _ = await submit_on(system, faulty_disk, SYNC_MS, 1, 1.0)
        assert await load.ask_for_all() == []
    assert min(load.accepted_ms) < SYNC_MS
