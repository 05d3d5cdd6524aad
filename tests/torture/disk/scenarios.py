"""The scenarios of `scripts/disk-faults`, each in a folder of its own."""

from __future__ import annotations

import asyncio
import errno
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness.cluster import Cluster, running_cluster
from harness.processes import run_module
from torture.disk.faulty import JOURNAL, FaultyDisk, compile_library
from torture.disk.outage import go_through
from torture.disk.slow import figures, submit_on
from torture.disk.small_disk import fill, small_disk
from torture.runner import Found

CLIENTS = 64
SMALL_DISK_MB = 16
TIMEOUT_S = 1_200.0
QUICK_STEP = 25
"""Of how many calls a quick run has one fail."""


@dataclass(frozen=True)
class Scope:
    """The place of a scenario, and its extent.

    Attributes:
        folder: for its files, on a real disk.
        memory: for journals that are synced hundreds of times.
        seconds: how long clients submit.
        quick: whether some of the cases are enough.
    """

    folder: Path
    memory: Path
    seconds: float
    quick: bool


def slow(sync_ms: int, scope: Scope) -> Found:
    """Each sync takes so much longer, and 64 clients submit."""
    disk = _disk(scope)
    with running_cluster(scope.folder, 1, **disk.environment) as system:

        async def measure() -> Found:
            await submit_on(system, disk, 0, CLIENTS, 1.0)
            load, health, commits = await submit_on(system, disk, sync_ms, CLIENTS, scope.seconds)
            problems = await load.ask_for_all()
            return Found(figures(load, health, commits, scope.seconds), problems)

        return asyncio.run(measure())


def full(scope: Scope) -> Found:
    """A small disk is filled to the last byte, and there is space again."""
    with small_disk(scope.folder / "disk", SMALL_DISK_MB) as disk:
        journal = str(disk / JOURNAL)
        with running_cluster(scope.folder, 1, DTE_JOURNAL=journal) as system:
            return _outage(system, lambda: fill(disk), (disk / "filler").unlink)


def failing(call: str, error: int, scope: Scope) -> Found:
    """All syncs or all writes fail for a while."""
    disk = _disk(scope)
    with running_cluster(scope.folder, 1, **disk.environment) as system:
        return _outage(system, lambda: disk.behave(**{call: error}), disk.behave)


def losses(kind: str, scope: Scope) -> Found:
    """See `disk.losses`."""
    folder = scope.memory
    (folder / "journal").mkdir()
    disk = FaultyDisk(folder / "journal", compile_library(scope.folder), folder / "log")
    step = QUICK_STEP if scope.quick and kind != "power" else 1
    report = _report("torture.disk.losses", str(folder), kind, str(step), **disk.environment)
    return Found({"looked": report["looked"]}, report["problems"])


def crashes(kind: str, scope: Scope) -> Found:
    """See `disk.crashes`."""
    report = _report("torture.disk.crashes", str(scope.memory), kind)
    return Found({"ended": report["ends"]}, report["problems"])


SCENARIOS: dict[str, Callable[[Scope], Found]] = {
    "64 clients, syncs as they are": partial(slow, 0),
    "64 clients, syncs take 20 ms more": partial(slow, 20),
    "a full disk": full,
    "writes fail with ENOSPC": partial(failing, "write_errno", errno.ENOSPC),
    "writes fail with EIO": partial(failing, "write_errno", errno.EIO),
    "syncs fail with EIO": partial(failing, "sync_errno", errno.EIO),
    "power fails around each sync": partial(losses, "power"),
    "each call fails once with EIO, then power": partial(losses, "EIO"),
    "each call fails once with ENOSPC, then power": partial(losses, "ENOSPC"),
    "the core's process ends at each commit": partial(crashes, "core"),
    "a master's process ends at each commit": partial(crashes, "master"),
}


def _disk(scope: Scope) -> FaultyDisk:
    (scope.folder / "disk").mkdir()
    disk = FaultyDisk(scope.folder / "disk", compile_library(scope.folder))
    disk.behave()
    return disk


def _outage(system: Cluster, break_disk: Callable[[], Any], mend_disk: Callable[[], Any]) -> Found:
    outage = asyncio.run(go_through(system, break_disk, mend_disk))
    found = outage.figures()
    return Found(found, found.pop("problems"))


def _report(module: str, *arguments: str, **settings: str) -> dict[str, Any]:
    """The JSON that another module prints."""
    done = run_module(module, *arguments, timeout_s=TIMEOUT_S, **settings)
    sys.stderr.write(done.stderr)
    done.check_returncode()
    return dict(json.loads(done.stdout))
