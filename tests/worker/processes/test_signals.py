"""Signals that reach the processes of handlers."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from harness.machine import children

from dte.worker.processes.signals import PATIENCE_S
from worker.rig import StartRig, noted

SERVICE_SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


async def test_a_call_ends_well_although_its_process_got_the_signals_of_its_service(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    lease = one.start("wait_for_file", str(tmp_path / "mine"), str(tmp_path / "other"))
    pid = await noted(tmp_path / "mine")
    for number in SERVICE_SIGNALS:
        os.kill(pid, number)  # It arrives before the worker gets its own.
    one.executor.leave()
    for number in SERVICE_SIGNALS:
        os.kill(pid, number)
    await asyncio.sleep(PATIENCE_S + 0.5)
    (tmp_path / "other").touch()
    assert await one.value_of(lease) == "seen"


async def test_a_process_that_gets_the_signal_while_it_starts_runs_its_call(rig: StartRig) -> None:
    one = rig()
    before = set(children(os.getpid()))
    lease = one.start("pid")
    (started,) = set(children(os.getpid())) - before - trackers()
    one.executor.leave()
    for number in SERVICE_SIGNALS:
        os.kill(started, number)
    assert await one.value_of(lease) == started


def trackers() -> set[int]:
    """The processes of multiprocessing that track resources; it starts one with the first child."""
    return {
        pid
        for pid in children(os.getpid())
        if b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


async def test_an_idle_process_outlives_the_signal_of_its_service(rig: StartRig) -> None:
    one = rig()
    pid = await one.value("pid")
    one.executor.leave()
    os.kill(pid, signal.SIGTERM)
    assert await one.value("pid") == pid


async def test_programs_and_processes_that_handlers_start_end_by_signals(rig: StartRig) -> None:
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
    assert await rig().value("ends_of_programs") == [-number for number in numbers]


async def test_a_handlers_own_signal_handlers_work_during_its_call(
    rig: StartRig, tmp_path: Path
) -> None:
    one = rig()
    lease = one.start("handle_signals", str(tmp_path / "mine"))
    pid = await noted(tmp_path / "mine")
    numbers = [signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM]
    for number in numbers:
        os.kill(pid, number)
        await asyncio.sleep(0.1)
    assert await one.value_of(lease) == numbers


async def test_a_process_that_alone_is_told_to_end_does(rig: StartRig, tmp_path: Path) -> None:
    one = rig()
    lease = one.start("spin", str(tmp_path / "spin"))
    os.kill(await noted(tmp_path / "spin"), signal.SIGTERM)
    report = await one.report(lease)
    assert (report.state, report.error) == (
        "failed",
        "the handler's process ended with exit code 15",
    )
