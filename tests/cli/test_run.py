"""`dte run`: what it prints, how it exits, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from harness.machine import alive, children, free_port, kill, listens
from harness.processes import Process, Processes, until

import dte as package
from dte import local, local_workers

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
    check_refused(
        dte("run", "--worker", "3"), 2, "no such option: --worker; did you mean --workers?"
    )


def test_run_says_that_its_port_is_in_use_and_what_to_do(dte: Dte, taken_port: int) -> None:
    refused = dte("run", "--port", str(taken_port), "--journal", "none")
    check_refused(refused, 3, "; give another --port", "clients", "--master or DTE_MASTER")
    refused = dte("run", "--port", str(taken_port), "1+2")
    check_refused(refused, 3, "; give another --port\n")


def test_run_says_which_port_is_in_use(dte_process: DteProcess, taken_port: int) -> None:
    assert str(taken_port) in dte_process("run", "--port", str(taken_port)).stderr


def test_run_with_formulas_does_not_need_the_port_of_a_master_that_serves(
    dte_process: DteProcess, taken_port: int
) -> None:
    """The ``.env`` of a master that serves may well be in the current folder."""
    result = dte_process("run", "1+2", DTE_MASTER_PORT=str(taken_port), DTE_WORKERS="1")
    assert result.returncode == 0


def test_run_says_that_a_worker_did_not_start(dte: Dte, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_workers, "sys", SimpleNamespace(executable=shutil.which("false")))
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
    result = dte("run", "--port", str(port), "--workers", "1", "--journal", "none")
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
    until(lambda: not any(map(alive, workers)), "the workers have ended", 20)


def test_no_workers_are_left_when_run_with_formulas_is_terminated(
    starting: tuple[Process, list[int]],
) -> None:
    process, workers = starting
    process.end(signal.SIGTERM)
    until(lambda: not any(map(alive, workers)), "the workers have ended", 20)


def test_run_outlives_its_terminal_if_it_was_told_to(processes: Processes) -> None:
    """This is ``nohup dte run &``."""
    port = free_port()
    ignoring = ("/bin/sh", "-c", 'trap "" HUP; exec "$0" -m dte "$@"', sys.executable)
    process = processes.start("run", "--port", str(port), program=ignoring)
    until(lambda: "Ctrl-C" in process.output, "it serves")
    process.send(signal.SIGHUP)
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0


# A small production


SERVE = ("run", "--workers", "1", "--journal", "none")
SLOW = """
import dte, os, time
from pathlib import Path

VERSION = 1

@dte.handler("version")
def version() -> int:
    return VERSION

@dte.handler("slow")
def slow(file: str) -> int:
    Path(file).touch()
    while Path(file).exists():
        time.sleep(0.05)
    return VERSION

@dte.handler("fail")
def fail() -> None:
    raise KeyError("no such photo")

@dte.handler("process")
def process() -> int:
    return os.getpid()

@dte.handler("memory")
def memory() -> int:
    import resource
    return resource.getrlimit(resource.RLIMIT_AS)[0]

@dte.handler("slots")
def slots() -> str:
    print("printed by a handler", flush=True)
    return os.getcwd()
"""


@pytest.fixture
def own(processes: Processes) -> Callable[..., tuple[Process, package.Client]]:
    """Starts a `dte run` with handlers of its own, and gives a client of it."""
    (processes.folder / "own.py").write_text(SLOW)

    def start(*options: str) -> tuple[Process, package.Client]:
        port = free_port()
        process = processes.start(*SERVE, "--port", str(port), "--handlers", "own", *options)
        until(lambda: "Ctrl-C" in process.output, "it serves")
        return process, package.Client(f"http://127.0.0.1:{port}")

    return start


def test_run_starts_a_worker_that_was_killed_again_and_says_so(
    own: Callable[..., tuple[Process, package.Client]],
) -> None:
    process, client = own()
    said = "WARNING dte.run: worker-1 was killed by signal 9 (SIGKILL)"
    with client:
        for times in (1, 2):
            (worker,) = children(process.pid)
            kill(worker)
            until(lambda times=times: process.output.count(said) == times, "it says so")
            assert client.call("version") == 1
    assert "it is started again in 0.5 s" in process.output
    assert "it is started again in 1 s" in process.output
    assert process.end(signal.SIGINT) == 130


def test_run_passes_bounds_of_processes_on_to_its_workers(
    own: Callable[..., tuple[Process, package.Client]],
) -> None:
    process, client = own("--calls-per-process", "1", "--slots", "1", "--memory-mb", "2000")
    with client:
        assert len({client.call("process") for _ in range(3)}) == 3
        assert 2000 << 20 <= client.call("memory") < 4000 << 20
    assert process.end() == 0


def test_run_names_the_next_job_in_what_can_be_tried(processes: Processes) -> None:
    port = free_port()
    for number in (1, 2):
        process = processes.start("run", "--workers=1", "--port", str(port), DTE_JOURNAL="")
        until(lambda process=process: "Ctrl-C" in process.output, "it serves")
        assert f"curl http://127.0.0.1:{port}/job/{number}\n" in process.output
        with package.Client(f"http://127.0.0.1:{port}") as client:
            assert client.submit("1+2").id == number
        assert process.end() == 0


def test_the_end_of_run_says_nothing_of_its_workers(
    own: Callable[..., tuple[Process, package.Client]], tmp_path: Path
) -> None:
    """They are killed, as they do not end in time."""
    process, client = own("--slots", "1")
    with client:
        client.submit_call("slow", str(tmp_path / "file"))
        until((tmp_path / "file").exists, "it runs")
    (worker,) = children(process.pid)
    process.send(signal.SIGTERM)
    kill(worker)
    assert process.exit_code() == 0
    assert "is gone" not in process.output
    assert "fail:" not in process.output


def test_run_prints_which_handler_failed_in_which_job(
    own: Callable[..., tuple[Process, package.Client]],
) -> None:
    process, client = own()
    with client, pytest.raises(package.JobFailed):
        client.call("fail")
    until(lambda: "WARNING dte.master: job 1" in process.output, "it says so")
    (line,) = (line for line in process.output.splitlines() if "dte.master: job 1" in line)
    assert "handler fail failed" in line
    assert "KeyError: 'no such photo'" in line
    assert process.end() == 0


def test_run_keeps_jobs_in_its_folder_unless_told_otherwise(processes: Processes) -> None:
    journal = processes.folder / "dte.db"
    port = free_port()
    command = ("run", "--workers", "1", "--port", str(port))
    for ids in ([1], [1, 2]):
        process = processes.start(*command, DTE_JOURNAL="")
        until(lambda process=process: "Ctrl-C" in process.output, "it serves")
        assert "Jobs are kept in dte.db" in process.output
        with package.Client(f"http://127.0.0.1:{port}") as client:
            assert client.compute("1+2") == 3
            assert sorted(job.id for job in client.jobs()) == ids
        assert process.end(signal.SIGINT) == 130
    assert journal.exists()
    process = processes.start(*command, "--journal", "none")
    until(lambda: "Jobs are not kept" in process.output, "it serves")
    assert process.end() == 0


def test_a_second_run_in_a_folder_is_told_of_the_first(
    processes: Processes, dte_process: DteProcess
) -> None:
    first = processes.start("run", "--port", str(free_port()), DTE_JOURNAL="")
    until(lambda: "Ctrl-C" in first.output, "it serves")
    second = dte_process("run", "--port", str(free_port()), DTE_JOURNAL="")
    check_refused(second, 3, "dte.db is in use", "--journal none", lines=1)
    # With formulas there is no journal, also if a variable is meant for the first one.
    done = dte_process("run", "--workers", "1", "1+2", DTE_JOURNAL="dte.db")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1+2 = 3\n", "")


def test_run_with_formulas_keeps_a_journal_only_if_the_command_says_so(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    for _ in range(2):
        dte_process("run", "--workers", "1", "1+2", DTE_JOURNAL="")
    assert not list(tmp_path.glob("dte.db*"))
    dte_process("run", "--workers", "1", "1+2", "--journal", "mine.db")
    assert (tmp_path / "mine.db").exists()


def test_run_gives_its_workers_slots_and_its_host(dte: Dte, processes: Processes) -> None:
    port = free_port()
    process = processes.start(*SERVE, "--port", str(port), "--slots", "3", "--host", "127.0.0.2")
    until(lambda: f"http://127.0.0.2:{port}" in process.output, "it serves")
    with package.Client(f"http://127.0.0.2:{port}") as client:
        (worker,) = client.workers()
        assert worker.handler_slots == 3
        assert client.compute("1+2") == 3
    assert process.end() == 0


@pytest.mark.parametrize("host", ["*", "0.0.0.0"])
def test_run_on_all_addresses_calls_itself_at_one(processes: Processes, host: str) -> None:
    process = processes.start(*SERVE, "--port", str(free_port()), "--host", host, "--no-auth")
    until(lambda: "a master at http://127.0.0.1:" in process.output, "it serves")
    assert process.end() == 0


def test_the_log_level_of_run_is_that_of_its_master_and_workers(processes: Processes) -> None:
    process = processes.start(*SERVE, "--port", str(free_port()), "--log-level", "info")
    until(lambda: "Ctrl-C" in process.output, "it serves")
    for words in ("INFO dte.master: master listens on", "INFO dte.worker: worker worker-1"):
        until(lambda words=words: words in process.output, words)
    assert process.end() == 0


def test_what_handlers_print_is_not_mixed_with_answers(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text(
        "import os, sys, dte\n"
        "print('printed by the module', flush=True)\n"
        "os.system('echo printed by a program')\n"
        "@dte.handler('loud')\n"
        "def loud() -> int:\n"
        "    print('printed by a handler', flush=True)\n"
        "    os.system('echo printed by a program of a handler')\n"
        "    return 7\n"
    )
    done = dte_process("run", "--json", "--workers", "1", "--handlers", "loud", "loud()")
    assert json.loads(done.stdout)["answer"] == 7
    for words in ("by the module", "by a program\n", "by a handler", "by a program of a handler"):
        assert words in done.stderr


# Changed modules


def test_run_replaces_its_workers_when_a_module_changes_and_lets_calls_end(
    own: Callable[..., tuple[Process, package.Client]], processes: Processes
) -> None:
    process, client = own("--reload", "--slots", "1")
    flag = processes.folder / "flag"
    module = processes.folder / "own.py"
    with client:
        assert client.call("version") == 1
        running = client.submit_call("slow", str(flag))
        until(flag.exists, "the call runs")
        module.write_text(SLOW.replace("VERSION = 1", "VERSION = 2"))
        until(lambda: client.call("version") == 2, "the new module is used", 60)
        assert not client.job(running).finished
        flag.unlink()
        assert client.wait(running, 60).answer == 1
        # What cannot be loaded leaves the workers as they are.
        module.write_text("def version(:")
        until(lambda: "keeps its handlers as they were" in process.output, "it says so", 60)
        assert "own.py, line 1" in process.output
        assert client.call("version") == 2
        module.write_text(SLOW.replace("VERSION = 1", "VERSION = 3"))
        until(lambda: client.call("version") == 3, "the new module is used", 60)
        until(lambda: len(children(process.pid)) == 1, "the old workers have ended", 60)
    assert process.end(signal.SIGINT) == 130


def test_ctrl_c_of_run_with_reload_does_not_wait_for_calls(
    own: Callable[..., tuple[Process, package.Client]], processes: Processes
) -> None:
    process, client = own("--reload")
    flag = processes.folder / "flag"
    with client:
        client.submit_call("slow", str(flag))
        until(flag.exists, "the call runs")
    workers = children(process.pid)
    assert process.end(signal.SIGINT) == 130
    assert not any(map(alive, workers))


def test_run_says_what_it_imports_when_that_takes_long(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / "tardy.py").write_text("import time\ntime.sleep(2.5)\nraise OSError('no disk')\n")
    refused = dte_process("run", "--journal", "none", "--handlers", "tardy")
    check_refused(refused, 2, "still importing tardy\n", "OSError: no disk (tardy.py, line 3)")


def test_reload_without_handlers_is_refused(dte: Dte) -> None:
    check_refused(dte("run", "--reload"), 2, "--reload needs --handlers")


@pytest.mark.parametrize("options", [("--tls-cert", "master.pem"), ("--tls-cert=master.pem",)])
def test_a_run_with_tls_leads_to_a_master_and_a_worker(dte: Dte, options: tuple[str, ...]) -> None:
    check_refused(dte("run", *options), 2, "--tls-cert; for TLS, use dte master and dte worker")
