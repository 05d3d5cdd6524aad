"""`dte run`: what it prints, how it exits, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from harness.machine import alive, children, free_port, kill, listens
from harness.processes import Process, Processes, until

import dte as package
from dte import local

from .conftest import Dte, DteProcess, Signalled, check_refused


@pytest.fixture
def running(processes: Processes) -> Iterator[tuple[Process, int]]:
    """A `dte run` that serves, and its port."""
    port = free_port()
    process = processes.start("run", "--port", str(port))
    until(lambda: "Ctrl-C" in process.output, "it serves")
    workers = children(process.pid)
    yield process, port
    for worker in workers:
        kill(worker)


@pytest.fixture
def starting(processes: Processes) -> Iterator[tuple[Process, list[int]]]:
    """A `dte run` with a formula, and its two workers, which have just been started."""
    process = processes.start("run", "1+2")
    workers = until(lambda: two_workers(process), "the workers are started")
    yield process, workers
    for worker in workers:
        kill(worker)


def two_workers(process: Process) -> list[int]:
    """The two workers of a `dte run`, as soon as both are programs of their own."""
    workers = [
        child
        for child in children(process.pid)
        if b"\0worker\0" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return workers if len(workers) == 2 else []


def test_run_with_formulas_prints_the_answers_and_leaves(dte: Dte) -> None:
    result = dte("run", "1+(2*3)/4-5", "-2*3", "--workers", "1")
    assert (result.stdout, result.stderr, result.exit_code) == (
        "1+(2*3)/4-5 = -2.5\n-2*3 = -6\n",
        "",
        0,
    )


def test_run_with_a_formula_that_fails_exits_with_1(dte: Dte) -> None:
    result = dte("run", "--json", "1/0", "6*7", DTE_WORKERS="1")
    assert result.exit_code == 1
    assert [json.loads(line)["answer"] for line in result.stdout.splitlines()] == [None, 42]


def test_run_with_a_syntax_error_exits_with_2_and_points_at_it(dte: Dte) -> None:
    result = dte("run", "1+*", "--workers", "1")
    check_refused(result, 2)
    assert result.stderr.endswith("\n  1+*\n    ^\n")


def test_run_tells_an_unknown_option_from_a_formula(dte: Dte) -> None:
    check_refused(dte("run", "--worker", "3"), 2, "no such option: --worker")


def test_run_says_that_its_port_is_in_use_and_what_to_do(dte: Dte, taken_port: int) -> None:
    check_refused(dte("run", "--port", str(taken_port)), 3, "; give another --port")


def test_run_says_which_port_is_in_use(dte_process: DteProcess, taken_port: int) -> None:
    assert str(taken_port) in dte_process("run", "--port", str(taken_port)).stderr


def test_run_with_formulas_does_not_need_the_port_of_a_master_that_serves(
    dte_process: DteProcess, taken_port: int
) -> None:
    """The ``.env`` of a master that serves may well be in the current folder."""
    result = dte_process("run", "1+2", DTE_MASTER_PORT=str(taken_port), DTE_WORKERS="1")
    assert result.returncode == 0


def test_run_says_that_a_worker_did_not_start(dte: Dte, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "sys", SimpleNamespace(executable=shutil.which("false")))
    result = dte("run", "1+2")
    assert (result.exit_code, result.stderr) == (3, "dte: worker-1 ended with exit code 1\n")


@pytest.mark.parametrize("workers", ["0", "257", "many"])
def test_run_takes_from_1_to_256_workers(dte: Dte, workers: str) -> None:
    check_refused(dte("run", "--workers", workers), 2, "--workers")


def test_run_serves_until_sigterm_and_exits_with_0(dte: Dte, signalled: Signalled) -> None:
    def serves() -> bool:
        return getattr(signal.getsignal(signal.SIGTERM), "__module__", "") == local.__name__

    port = free_port()
    signalled(serves, signal.SIGTERM)
    result = dte("run", "--port", str(port), "--workers", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"a master at http://127.0.0.1:{port} and 1 worker." in result.stdout
    assert not listens(port)


def test_what_run_says_can_be_pasted_into_a_terminal(
    dte: Dte, running: tuple[Process, int]
) -> None:
    process, port = running
    lines = [shlex.split(line) for line in process.output.splitlines() if line.startswith("  ")]
    (submit, url, _, body), (_, ask), command = lines
    assert submit == "curl"
    assert url.startswith(f"http://127.0.0.1:{port}/")
    with urlopen(url, body.encode()) as reply:
        assert json.load(reply)["job_id"] == 1
    with package.Client(f"http://127.0.0.1:{port}") as client:
        client.wait(1, 20)
    with urlopen(ask) as reply:
        assert json.load(reply)["answer"] == -2.5
    assert dte(*command[1:]).stdout == "1+(2*3)/4-5 = -2.5\n"


def test_ctrl_c_of_run_ends_all_processes(running: tuple[Process, int]) -> None:
    process, port = running
    workers = children(process.pid)
    assert len(workers) == 2
    assert process.end(signal.SIGINT) == 130
    assert not any(map(alive, workers))
    assert not listens(port)
    assert "Traceback" not in process.output


def test_a_second_ctrl_c_of_run_leaves_no_processes_either(running: tuple[Process, int]) -> None:
    process, _ = running
    workers = children(process.pid)
    process.send(signal.SIGINT)
    process.send(signal.SIGINT)
    assert process.exit_code() == 130
    until(lambda: not any(map(alive, workers)), "the workers have ended")


def test_ctrl_c_of_run_while_it_starts_ends_all_processes(
    starting: tuple[Process, list[int]],
) -> None:
    process, workers = starting
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # They do not announce themselves.
    before = pauses(process.pid)
    until(lambda: pauses(process.pid) > before + 20, "it polls for its workers")
    process.send(signal.SIGINT)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert process.exit_code() == 130
    assert not any(map(alive, workers))
    assert process.output == ""


def pauses(pid: int) -> int:
    """Return the number of times that the main thread of a process has waited."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])


def test_sigterm_of_run_ends_all_processes(running: tuple[Process, int]) -> None:
    process, _ = running
    workers = children(process.pid)
    assert process.end(signal.SIGTERM) == 0
    assert not any(map(alive, workers))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL], ids=str)
def test_no_workers_are_left_when_the_terminal_or_the_process_is_gone(
    running: tuple[Process, int], number: signal.Signals
) -> None:
    process, _ = running
    workers = children(process.pid)
    process.end(number)
    until(lambda: not any(map(alive, workers)), "the workers have ended", 2)


def test_no_workers_are_left_when_run_with_formulas_is_terminated(
    starting: tuple[Process, list[int]],
) -> None:
    process, workers = starting
    process.end(signal.SIGTERM)
    until(lambda: not any(map(alive, workers)), "the workers have ended", 2)


def test_run_outlives_its_terminal_if_it_was_told_to(processes: Processes) -> None:
    """This is ``nohup dte run &``."""
    port = free_port()
    ignoring = ("/bin/sh", "-c", 'trap "" HUP; exec "$0" -m dte "$@"', sys.executable)
    process = processes.start("run", "--port", str(port), program=ignoring)
    until(lambda: "Ctrl-C" in process.output, "it serves")
    process.send(signal.SIGHUP)
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0


def test_run_ends_when_a_worker_has_died_and_says_which(running: tuple[Process, int]) -> None:
    process, _ = running
    first, second = sorted(children(process.pid))
    kill(first)
    assert process.exit_code() == 3
    assert "dte: worker-1 ended with exit code -9" in process.output
    assert not alive(second)
