"""Processes have one life after another, and their logs are read."""

from __future__ import annotations

import signal
import sys

import pytest

from harness.machine import alive, children, state_of
from harness.processes import FAULT, Process, Processes, run, until

SLEEPS = (sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)")


def sleeping(processes: Processes) -> Process:
    process = processes.start(program=SLEEPS)
    until(lambda: process.output, "it has started")
    return process


def test_a_process_can_be_ended_and_started_again(processes: Processes) -> None:
    process = sleeping(processes)
    first = process.pid
    assert process.end(signal.SIGKILL) == -signal.SIGKILL
    assert (process.running, alive(first)) == (False, False)
    process.start()
    assert process.running
    assert process.pid != first
    until(lambda: process.output == "up\n", "its output is that of this life")
    assert process.log.read_text() == "up\nup\n"


def test_a_process_can_be_stopped_and_continued(processes: Processes) -> None:
    process = sleeping(processes)
    process.send(signal.SIGSTOP)
    until(lambda: state_of(process.pid) == "T", "it is stopped")
    process.send(signal.SIGCONT)
    until(lambda: state_of(process.pid) in "SR", "it goes on")


COUNTS = """
import asyncio, signal

async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: print("got", flush=True))
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_each_of_several_signals_is_received(processes: Processes) -> None:
    process = processes.start(program=(sys.executable, "-c", COUNTS))
    until(lambda: process.output, "it has started")
    for _ in range(20):
        process.send(signal.SIGTERM)
    until(lambda: process.output.count("got") == 20, "it has received each")


def test_nothing_is_left_behind_whatever_its_state(processes: Processes) -> None:
    with Processes(processes.folder) as others:
        parent = others.start(program=("/bin/sh", "-c", "sleep 60 & sleep 60"))
        (child, *_) = until(lambda: children(parent.pid), "it has a child")
        parent.send(signal.SIGSTOP)
    assert not alive(parent.pid)
    until(lambda: not alive(child), "its child has ended")


def test_a_master_that_ends_instead_of_listening_is_not_waited_for(processes: Processes) -> None:
    with pytest.raises(AssertionError, match=r"it has ended:\n.*no such file"):
        processes.start_master(1, program=("/bin/sh", "-c", "echo no such file; exit 3"))


def test_settings_of_this_process_are_not_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTE_LEASE_S", "7")
    shown = run("/bin/sh", "-c", "env | grep ^DTE_", DTE_GRACE_S="1").stdout.split()
    assert sorted(shown) == ["DTE_GRACE_S=1", "DTE_JOURNAL=none"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("2026-11-21 06:16:37,025 ERROR dte.master: POST /submit", True),
        ("2026-11-21 06:16:37,025 CRITICAL root: x", True),
        ("Traceback (most recent call last):", True),
        ('Traceback (most recent call last):\n  File "a/worker/calls.py", line 7, in run\n', True),
        ('Traceback (most recent call last):\n  File "a/worker/child.py", line 7, in run\n', False),
        (
            'Traceback (most recent call last):\n  File "/worker/child.py", line 7, in run_async\n',
            False,
        ),
        ("2026-11-21 06:16:37,025 WARNING dte.master: worker ERROR at 127.0.0.1:1", False),
        ("2026-11-21 06:16:37,025 INFO dte.master: worker Traceback joined", False),
    ],
)
def test_an_error_in_a_log_is_found(line: str, found: bool) -> None:
    assert bool(FAULT.search(f"before\n{line}\nafter")) == found


def test_errors_of_all_lives_are_found_and_new_ones_once(processes: Processes) -> None:
    error = "2026-01-01 10:00:00,000 ERROR dte.master: POST /submit"
    process = processes.start(program=("/bin/echo", error))
    process.exit_code()
    assert process.new_errors() == [error]
    process.start()
    process.exit_code()
    assert process.new_errors() == [error]
    assert process.new_errors() == []
    assert process.errors() == [error, error]
