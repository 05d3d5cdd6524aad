"""Processes that the system gives to a worker are reaped, and no others."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.cluster import running_cluster
from harness.machine import children, free_port, kill, state_of
from harness.processes import Processes, run, until

import dte

SUBREAPER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
"""
SCRIPT = f"""{SUBREAPER}
import asyncio, multiprocessing, signal, subprocess, time
from dte.worker.orphans import reaped

def ended(pid):
    try:
        return open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return None

def orphan():
    shell = subprocess.run(
        ["setsid", "sh", "-c", "sleep 0.2 >/dev/null & echo $!"], capture_output=True
    )
    return int(shell.stdout)

async def main():
    own = subprocess.Popen(["sh", "-c", "exit 3"])
    child = multiprocessing.get_context("spawn").Process(target=sys.exit, args=(4,))
    child.start()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    early = orphan()
    while ended(early) is False:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        with reaped():
            late = orphan()
            while any(ended(pid) is not None for pid in (early, late)):
                await asyncio.sleep(0.01)
    print(own.wait(), child.exitcode)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_orphans_are_reaped_and_the_exit_codes_of_own_processes_stay(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = run(sys.executable, str(script), timeout_s=60)
    assert (ran.stdout, ran.stderr) == ("3 4\n", "")


HANDLERS = """
import subprocess, dte

@dte.handler("script")
def script():
    command = ["sh", "-c", "sleep 0.2 >/dev/null & echo $!"]
    return int(subprocess.run(command, capture_output=True).stdout)
"""
AS_SUBREAPER = (
    sys.executable,
    "-c",
    f"{SUBREAPER}os.execv(sys.executable, [sys.executable, '-m', 'dte', *sys.argv[1:]])",
)


def test_a_worker_reaps_what_programs_of_its_handlers_leave_behind(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    with running_cluster(tmp_path, workers=0) as cluster:
        cluster.processes.start_worker(
            cluster.port, "w1", "--handlers", "mine", program=AS_SUBREAPER
        )
        with dte.Client(cluster.url) as client:
            left = [client.call("script") for _ in range(5)]
        until(lambda: not any(map(state_of, left)), "they have ended and are reaped")


def test_run_reaps_what_programs_of_its_handlers_leave_behind_and_restarts_workers(
    processes: Processes,
) -> None:
    """It starts the workers itself, so it must learn how these have ended."""
    (processes.folder / "mine.py").write_text(HANDLERS)
    port = free_port()
    options = ("--workers", "1", "--handlers", "mine", "--port", str(port))
    process = processes.start("run", *options, program=AS_SUBREAPER)
    until(lambda: "Ctrl-C" in process.output, "it serves")
    with dte.Client(f"http://127.0.0.1:{port}") as client:
        left = [client.call("script") for _ in range(5)]
        until(lambda: not any(map(state_of, left)), "they have ended and are reaped")
        (worker,) = children(process.pid)
        kill(worker)
        until(lambda: "worker-1 was killed by signal 9" in process.output, "it says so")
        assert isinstance(client.call("script"), int)
    assert process.end() == 0
