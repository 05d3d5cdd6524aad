"""Protects: processes start and end without a trace on the machine."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from worker.rig import StartRig

pytestmark = pytest.mark.usefixtures("own_handlers")


def shared_by_name(pid: int) -> set[str]:
    """The files of shared memory that a process uses and that stay when it is killed."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[-1] for line in lines if "/dev/shm/" in line and "(deleted)" not in line}


async def test_processes_that_are_killed_leave_no_semaphores_behind(rig: StartRig) -> None:
    before = shared_by_name(os.getpid())
    pid = await rig().value("pid")
    assert shared_by_name(pid) | shared_by_name(os.getpid()) <= before


async def test_a_process_that_is_stopped_while_it_starts_prints_nothing(
    rig: StartRig, capfd: pytest.CaptureFixture[str]
) -> None:
    one = rig()
    call = one.start("pid")
    await one.executor.close()
    assert one.reports[call].state == "returned"
    assert capfd.readouterr().err == ""


def files_of_this_process() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_processes_that_have_ended_leave_no_files_open(rig: StartRig) -> None:
    one = rig()
    assert await one.value("echo", 1) == 1
    before = files_of_this_process()
    gc.disable()
    try:
        for _ in range(4):
            assert await one.error("exit", 3)
        assert await one.value("echo", 1) == 1
        assert files_of_this_process() <= before
    finally:
        gc.enable()
