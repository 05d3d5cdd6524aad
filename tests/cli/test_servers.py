"""Commands that serve: how they start, what they say, and that they leave nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from harness import machine
from harness.machine import alive, children, connections, free_port, kill, listens
from harness.master_thread import MasterThread
from harness.processes import Process, Processes, until

import dte as package
from dte import local
from dte.worker import server
from dte.worker.server import WorkerSettings

from .conftest import Dte, DteProcess


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with machine.taken_port() as port:
        yield port


@pytest.fixture
def signalled() -> Iterator[Callable[[Callable[[], object], signal.Signals], None]]:
    """Sends this process a signal when a condition holds and the signal is awaited."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    senders: list[threading.Thread] = []

    def send(condition: Callable[[], object], number: signal.Signals) -> None:
        def wait_and_send() -> None:
            until(condition, "the condition for the signal")
            until(lambda: signal.getsignal(number) != before[number], "the signal is awaited")
            os.kill(os.getpid(), number)

        senders.append(threading.Thread(target=wait_and_send))
        senders[-1].start()

    yield send
    for sender in senders:
        sender.join()


# dte run


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
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("\n  1+*\n    ^\n")


def test_run_tells_an_unknown_option_from_a_formula(dte: Dte) -> None:
    result = dte("run", "--worker", "3")
    assert result.exit_code == 2
    assert "no such option: --worker" in result.stderr


def test_run_says_that_its_port_is_in_use_and_what_to_do(dte: Dte, taken_port: int) -> None:
    result = dte("run", "--port", str(taken_port))
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"cannot listen on 127.0.0.1:{taken_port}: " in result.stderr
    assert "; give another --port" in result.stderr


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
    result = dte("run", "--workers", workers)
    assert result.exit_code == 2
    assert "--workers" in result.stderr


def test_run_serves_until_sigterm_and_exits_with_0(
    dte: Dte, signalled: Callable[[Callable[[], object], signal.Signals], None]
) -> None:
    def serves() -> bool:
        return getattr(signal.getsignal(signal.SIGTERM), "__module__", "") == local.__name__

    port = free_port()
    signalled(serves, signal.SIGTERM)
    result = dte("run", "--port", str(port), "--workers", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"a master at http://127.0.0.1:{port}" in result.stdout
    assert not listens(port)


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


def two_workers(process: Process) -> list[int]:
    """The two workers of a `dte run`, as soon as both are programs of their own."""
    workers = [
        child
        for child in children(process.pid)
        if b"\0worker\0" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return workers if len(workers) == 2 else []


def test_ctrl_c_of_run_while_it_starts_ends_all_processes(processes: Processes) -> None:
    process = processes.start("run", "1+2")
    workers = until(lambda: two_workers(process), "the workers are started")
    try:
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
    finally:
        for worker in workers:
            kill(worker)


def pauses(pid: int) -> int:
    """How often the main thread of a process has waited for something."""
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


def test_no_workers_are_left_when_run_with_formulas_is_terminated(processes: Processes) -> None:
    process = processes.start("run", "1+2")
    workers = until(lambda: two_workers(process), "the workers are started")
    try:
        process.end(signal.SIGTERM)
        until(lambda: not any(map(alive, workers)), "the workers have ended", 2)
    finally:
        for worker in workers:
            kill(worker)


def test_run_outlives_its_terminal_if_it_was_told_to(processes: Processes) -> None:
    """As in ``nohup dte run &``."""
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


# dte master


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_master_serves_until_it_is_told_to_end_and_exits_with_0(
    dte: Dte,
    signalled: Callable[[Callable[[], object], signal.Signals], None],
    number: signal.Signals,
) -> None:
    port = free_port()
    signalled(lambda: listens(port), number)
    where = ("--host", "127.0.0.1", "--port", str(port), "--journal", "none")
    result = dte("master", *where, "--log-level", "error")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not listens(port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_the_process_of_a_master_exits_with_0_while_a_client_waits(
    processes: Processes, number: signal.Signals
) -> None:
    port = free_port()
    master = processes.start_master(port)
    with package.Client(f"http://127.0.0.1:{port}") as client:
        client.submit("1+2")
        waiting = processes.start("job", "1", "--wait", DTE_MASTER=f"http://127.0.0.1:{port}")
        until(lambda: connections(port) >= 2, "both clients are connected")
    assert master.end(number) == 0
    assert "Traceback" not in master.output
    waiting.kill()


def test_master_says_that_its_port_is_in_use_and_what_to_do(dte: Dte, taken_port: int) -> None:
    where = ("--host", "127.0.0.1", "--port", str(taken_port))
    result = dte("master", *where, "--journal", "none")
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"cannot listen on 127.0.0.1:{taken_port}: " in result.stderr
    assert "; give another --port" in result.stderr


def test_master_says_that_the_host_is_wrong_and_not_the_port(dte_process: DteProcess) -> None:
    result = dte_process("master", "--host", "203.0.113.7", "--port", "0")
    assert result.returncode == 3
    assert "--host" in result.stderr


def test_master_says_where_it_listens(processes: Processes) -> None:
    port = free_port()
    master = processes.start_master(port)
    until(lambda: f":{port}" in master.output, "it says where it listens", 2)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_masters_bounds_can_be_set(processes: Processes, dte: Dte, way: str) -> None:
    port = free_port()
    if way == "option":
        arguments = ("--host", "127.0.0.1", "--port", str(port), "--formula-chars-max", "5")
        processes.start("master", *arguments)
        until(lambda: listens(port), "the master listens")
    else:
        processes.start_master(port, DTE_FORMULA_CHARS_MAX="5")
    result = dte("submit", "1+2+3+4", DTE_MASTER=f"http://127.0.0.1:{port}")
    assert result.exit_code == 3
    assert "7 characters > 5 (formula_chars_max)" in result.stderr


def test_a_master_takes_its_port_from_the_environment(processes: Processes) -> None:
    port = free_port()
    processes.start("master", DTE_MASTER_HOST="127.0.0.1", DTE_MASTER_PORT=str(port))
    until(lambda: listens(port), "the master listens")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("master", ["--port", "65536"]),
        ("master", ["--port", "http"]),
        ("master", ["--jobs-kept", "0"]),
        ("master", ["--digits-max", "4301"]),
        ("master", ["--lease-s", "0"]),
        ("master", ["--grace-s", "-1"]),
        ("master", ["--journal-sync", "off"]),
        ("master", ["--log-level", "loud"]),
        ("master", ["--frobnicate"]),
        ("master", ["1+2"]),
        ("worker", ["--port", "-1"]),
        ("worker", ["--slots", "0"]),
        ("worker", ["--slots", "65"]),
        ("worker", ["--memory-mb", "1"]),
        ("worker", ["--grace-s", "-1"]),
        ("worker", ["--announce-port", "0"]),
        ("worker", ["--announce-port", "65536"]),
        ("worker", ["--heartbeat-s", "0"]),
        ("worker", ["--heartbeat-s", "nan"]),
        ("worker", ["--master", "nonsense"]),
        ("worker", ["--frobnicate"]),
    ],
)
def test_servers_refuse_what_they_do_not_understand(
    dte: Dte, command: str, arguments: list[str]
) -> None:
    result = dte(command, *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
    assert f"dte {command} --help" in result.stderr


# dte worker


def test_worker_serves_until_sigterm_leaves_its_master_and_exits_with_0(
    dte: Dte,
    idle_master: MasterThread,
    signalled: Callable[[Callable[[], object], signal.Signals], None],
) -> None:
    signalled(idle_master.workers, signal.SIGTERM)
    result = dte(
        *("worker", "--host", "127.0.0.1", "--port", "0", "--name", "mine"),
        DTE_MASTER=idle_master.url,
    )
    assert result.exit_code == 0
    with package.Client(idle_master.url) as client:
        (worker,) = client.workers()
    assert (worker.worker_name, worker.state) == ("mine", "draining")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_the_process_of_a_worker_exits_with_0(
    processes: Processes, idle_master: MasterThread, number: signal.Signals
) -> None:
    worker = processes.start_worker(idle_master.port, "mine")
    until(lambda: f"announced to {idle_master.url}" in worker.output, "the worker is announced")
    assert worker.end(number) == 0
    assert "worker mine listens on port" in worker.output
    assert "Traceback" not in worker.output


def test_a_worker_looks_for_its_master_until_it_is_told_to_end(processes: Processes) -> None:
    worker = processes.start_worker(free_port(), "mine")
    until(lambda: "cannot announce" in worker.output, "it says that there is no master")
    assert "trying again" in worker.output
    assert worker.end() == 0
    assert "Traceback" not in worker.output


def test_worker_says_that_its_port_is_in_use_and_what_to_do(dte: Dte, taken_port: int) -> None:
    result = dte("worker", "--host", "127.0.0.1", "--port", str(taken_port))
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"cannot listen on 127.0.0.1:{taken_port}: " in result.stderr
    assert "; give another --port" in result.stderr


def test_a_worker_takes_its_settings_from_the_environment(
    processes: Processes, idle_master: MasterThread
) -> None:
    port = free_port()
    processes.start(
        "worker",
        DTE_MASTER=idle_master.url,
        DTE_WORKER_HOST="127.0.0.1",
        DTE_WORKER_PORT=str(port),
        DTE_WORKER_NAME="mine",
    )
    until(idle_master.workers, "the worker is announced")
    with package.Client(idle_master.url) as client:
        (worker,) = client.workers()
    assert (worker.worker_name, worker.address, worker.slots) == ("mine", f"127.0.0.1:{port}", 2)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[WorkerSettings]:
    """The settings of workers that are to be served; none of them is."""
    settings: list[WorkerSettings] = []

    async def serve(given: WorkerSettings, stop: object) -> None:
        settings.append(given)

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.delenv("CACHE_DIR", raising=False)
    return settings


WORK = {
    "--handlers": ("DTE_HANDLERS", "a.b,c", "handlers", ("a.b", "c")),
    "--slots": ("DTE_WORKER_SLOTS", "7", "slots", 7),
    "--memory-mb": ("DTE_WORKER_MEMORY_MB", "512", "memory_mb", 512),
    "--spool": ("DTE_WORKER_SPOOL", "results", "spool", "results"),
    "--grace-s": ("DTE_WORKER_GRACE_S", "0.5", "grace_s", 0.5),
    "--pull": ("DTE_WORKER_PULL", "1", "pull", True),
}


@pytest.mark.parametrize("way", ["option", "environment"])
@pytest.mark.parametrize("option", WORK)
def test_what_a_worker_does_can_be_set(
    dte: Dte, served: list[WorkerSettings], option: str, way: str
) -> None:
    variable, text, name, value = WORK[option]
    if way == "environment":
        result = dte("worker", **{variable: text})
    else:
        result = dte("worker", option, *([] if option == "--pull" else [text]))
    assert result.exit_code == 0
    assert getattr(served[0], name) == value


def test_a_worker_that_is_told_nothing_has_the_defaults_of_its_settings(
    dte: Dte, served: list[WorkerSettings]
) -> None:
    dte("worker")
    assert served == [WorkerSettings()]


def test_handlers_can_be_given_several_times(dte: Dte, served: list[WorkerSettings]) -> None:
    dte("worker", "--handlers", "a", "--handlers", "b c,d")
    dte("worker", DTE_HANDLERS="a b,c")
    assert [each.handlers for each in served] == [("a", "b", "c", "d"), ("a", "b", "c")]


def test_a_worker_takes_the_names_that_others_gave_to_settings_of_its_spool(
    dte: Dte, served: list[WorkerSettings]
) -> None:
    cache = {"CACHE_DIR": "cache", "CACHE_RETRY_INTERVAL": "10", "CACHE_TTL_SECONDS": "60"}
    dte("worker", **cache)
    dte("worker", "--spool", "mine", **cache)
    assert [each.spool for each in served] == ["cache", "mine"]
    assert (served[0].spool_retry_s, served[0].spool_ttl_s) == (10.0, 60.0)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_of_the_spool_that_is_none_is_refused(
    dte: Dte, served: list[WorkerSettings], text: str
) -> None:
    result = dte("worker", CACHE_TTL_SECONDS=text)
    assert result.exit_code == 2
    assert "CACHE_TTL_SECONDS" in result.stderr
    assert not served


def test_handlers_of_the_current_folder_are_found(
    processes: Processes, idle_master: MasterThread
) -> None:
    """By the command `dte` too, whose own folder Python looks into first."""
    (processes.folder / "mine.py").write_text(
        "from dte.handlers.registry import handler\n"
        '@handler("resize")\n'
        "def resize(width: int) -> int:\n"
        "    return width\n"
    )
    program = (sys.executable, "-P", "-c", "from dte.cli.main import entry; entry()")
    worker = processes.start_worker(idle_master.port, "mine", "--handlers", "mine", program=program)
    until(lambda: "announced to" in worker.output, "the worker is announced")
    assert "resize" in worker.output
    assert worker.end() == 0


@pytest.mark.parametrize("command", [["worker", "--port", "0"], ["run", "1+2"]], ids=str)
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "ModuleNotFoundError: "),
        ("1/0", "ZeroDivisionError: "),
        ("def f(:", "SyntaxError: "),
        ("raise SystemExit(7)", "SystemExit"),
        (
            "import dte\n@dte.handler('a', timeout='5')\ndef a(): ...",
            "TypeError: handler a: timeout must be positive seconds or None, not '5'",
        ),
        (
            "import dte\n@dte.handler('a b')\ndef a(): ...",
            "ValueError: a handler's name has letters, digits and _",
        ),
        (
            "import dte\nclass Y: ...\n@dte.handler('a')\ndef a(y: Y): ...",
            "TypeError: argument 'y' of handler a: JSON cannot be converted to Y",
        ),
    ],
)
def test_handlers_that_cannot_be_loaded_are_named_with_the_reason(
    dte_process: DteProcess, tmp_path: Path, command: list[str], source: str | None, reason: str
) -> None:
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    result = dte_process(*command, "--handlers", "mine")
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "mine" in result.stderr
    assert reason in result.stderr


def test_a_spool_that_cannot_be_written_to_is_named(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = dte_process("worker", "--port", "0", "--spool", "file", "--log-level", "warning")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("dte: cannot write to file: ")
    assert "--spool" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_worker_that_pulls_ends_with_0_although_there_is_no_master(
    processes: Processes, number: signal.Signals
) -> None:
    worker = processes.start_worker(free_port(), "mine", "--pull")
    until(lambda: "cannot claim work" in worker.output, "it says that there is no master")
    assert worker.end(number) == 0
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_worker_announces_the_port_at_which_it_is_reached(
    processes: Processes, idle_master: MasterThread, way: str
) -> None:
    """Where ports are mapped, that is not the port at which it listens."""
    option = ("--announce-port", "36000") if way == "option" else ()
    settings = {} if option else {"DTE_WORKER_ANNOUNCE_PORT": "36000"}
    processes.start_worker(idle_master.port, "mine", *option, **settings)
    until(idle_master.workers, "the worker is announced")
    with package.Client(idle_master.url) as client:
        assert [worker.address for worker in client.workers()] == ["127.0.0.1:36000"]


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_worker_announces_itself_as_often_as_it_is_told_to(
    processes: Processes, idle_master: MasterThread, way: str
) -> None:
    option = ("--heartbeat-s", "0.1") if way == "option" else ()
    settings = {} if option else {"DTE_WORKER_HEARTBEAT_S": "0.1"}
    processes.start_worker(idle_master.port, "mine", *option, **settings)
    until(idle_master.workers, "the worker is announced")
    heard = set()

    def heard_often() -> bool:
        heard.add(client.workers()[0].heard_at)
        return len(heard) > 4

    with package.Client(idle_master.url) as client:
        until(heard_often, "it is heard of five times", 4.0)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_second_signal_ends_a_worker_at_once(
    processes: Processes, second: signal.Signals
) -> None:
    """The first one has it take leave, here of a master that does not answer."""
    port = free_port()
    master = processes.start_master(port)
    worker = processes.start_worker(port, "mine", "--heartbeat-s", "60")
    until(lambda: "announced to" in worker.output, "the worker is announced")
    master.send(signal.SIGSTOP)
    worker.send(signal.SIGTERM)
    until(lambda: connections(port), "it takes leave")
    assert worker.end(second) == 128 + second
    assert "Traceback" not in worker.output


def test_no_server_says_a_word_of_python_when_its_port_is_in_use(
    dte_process: DteProcess, taken_port: int
) -> None:
    for command in ("run", "master", "worker"):
        result = dte_process(
            *(command, "--port", str(taken_port)),
            **{f"DTE_{command.upper()}_HOST": "127.0.0.1"},
        )
        assert (result.returncode, result.stdout) == (3, "")
        assert len(result.stderr.splitlines()) == 1
