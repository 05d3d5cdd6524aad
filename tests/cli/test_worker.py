"""`dte worker`: its settings, what it says, and how it ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from harness.machine import connections, free_port
from harness.master_thread import MasterThread
from harness.processes import Processes, until

import dte as package
from dte.worker.server import WorkerSettings

from .conftest import Dte, DteProcess, Signalled, StartWorker, check_refused

# Its life


def test_worker_serves_until_sigterm_leaves_its_master_and_exits_with_0(
    dte: Dte, idle_master: MasterThread, idle_client: package.Client, signalled: Signalled
) -> None:
    signalled(idle_master.workers, signal.SIGTERM)
    result = dte(
        *("worker", "--host", "127.0.0.1", "--port", "0", "--name", "mine"),
        DTE_MASTER=idle_master.url,
    )
    assert result.exit_code == 0
    (worker,) = idle_client.workers()
    assert (worker.worker_name, worker.state) == ("mine", "draining")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_the_process_of_a_worker_exits_with_0(
    start_worker: StartWorker, idle_master: MasterThread, number: signal.Signals
) -> None:
    worker = start_worker(idle_master.port, f"announced to {idle_master.url}")
    assert worker.end(number) == 0
    assert "worker mine listens on port" in worker.output
    assert "Traceback" not in worker.output


def test_a_worker_looks_for_its_master_until_it_is_told_to_end(start_worker: StartWorker) -> None:
    worker = start_worker(free_port(), "cannot announce")
    assert "trying again" in worker.output
    assert worker.end() == 0
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_worker_that_pulls_ends_with_0_although_there_is_no_master(
    start_worker: StartWorker, number: signal.Signals
) -> None:
    worker = start_worker(free_port(), "cannot claim work", "--pull")
    assert worker.end(number) == 0
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_second_signal_ends_a_worker_at_once(
    processes: Processes, start_worker: StartWorker, second: signal.Signals
) -> None:
    """The first one has it take leave, here of a master that does not answer."""
    port = free_port()
    master = processes.start_master(port)
    worker = start_worker(port, "announced to", "--heartbeat-s", "60")
    master.send(signal.SIGSTOP)
    worker.send(signal.SIGTERM)
    until(lambda: connections(port), "it takes leave")
    assert worker.hurry(second) == 128 + second
    assert "Traceback" not in worker.output


# Its settings


WORK = {
    "--handlers": ("DTE_HANDLERS", "a.b,c", "handlers", ("a.b", "c")),
    "--slots": ("DTE_WORKER_SLOTS", "7", "slots", 7),
    "--memory-mb": ("DTE_WORKER_MEMORY_MB", "512", "memory_mb", 512),
    "--calls-per-process": ("DTE_WORKER_CALLS_PER_PROCESS", "9", "calls_per_process", 9),
    "--spool": ("DTE_WORKER_SPOOL", "results", "spool", "results"),
    "--spool-retry-s": ("DTE_WORKER_SPOOL_RETRY_S", "10", "spool_retry_s", 10.0),
    "--spool-ttl-s": ("DTE_WORKER_SPOOL_TTL_S", "60", "spool_ttl_s", 60.0),
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


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\nb", "'a\\nb' has characters that cannot be printed"),
        ("\x1b[2J", "cannot be printed"),
        ("n" * 201, "must have at most 200 characters, not 201"),
    ],
)
def test_a_name_that_every_master_refuses_is_a_usage_error(
    dte: Dte, served: list[WorkerSettings], name: str, words: str
) -> None:
    for result in (dte("worker", "--name", name), dte("worker", DTE_WORKER_NAME=name)):
        check_refused(result, 2, "--name", words)
    assert served == []


def test_a_worker_that_is_told_nothing_has_the_defaults_of_its_settings(
    dte: Dte, served: list[WorkerSettings]
) -> None:
    dte("worker")
    assert served == [WorkerSettings()]


def test_handlers_can_be_given_several_times(dte: Dte, served: list[WorkerSettings]) -> None:
    dte("worker", "--handlers", "a", "--handlers", "b c,d")
    dte("worker", DTE_HANDLERS="a b,c")
    assert [each.handlers for each in served] == [("a", "b", "c", "d"), ("a", "b", "c")]


@pytest.mark.parametrize("option", ["--spool-retry-s", "--spool-ttl-s"])
@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_of_the_spool_that_is_none_is_refused(
    dte: Dte, served: list[WorkerSettings], option: str, text: str
) -> None:
    check_refused(dte("worker", option, text), 2, option)
    assert not served


def test_a_spool_that_cannot_be_written_to_is_named(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = dte_process("worker", "--port", "0", "--spool", "file", "--log-level", "warning")
    check_refused(result, 2, "--spool")
    assert result.stderr.startswith("dte: cannot write to file: ")


def test_a_worker_takes_its_settings_from_the_environment(
    processes: Processes, idle_master: MasterThread, idle_client: package.Client
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
    (worker,) = idle_client.workers()
    assert (worker.worker_name, worker.address, worker.slots) == ("mine", f"127.0.0.1:{port}", 2)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_worker_announces_the_port_at_which_it_is_reached(
    start_worker: StartWorker, idle_master: MasterThread, idle_client: package.Client, way: str
) -> None:
    """It differs from the port on which the worker listens if ports are mapped."""
    option = ("--announce-port", "36000") if way == "option" else ()
    settings = {} if option else {"DTE_WORKER_ANNOUNCE_PORT": "36000"}
    start_worker(idle_master.port, "announced to", *option, **settings)
    assert [worker.address for worker in idle_client.workers()] == ["127.0.0.1:36000"]


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_worker_announces_itself_as_often_as_it_is_told_to(
    start_worker: StartWorker, idle_master: MasterThread, idle_client: package.Client, way: str
) -> None:
    option = ("--heartbeat-s", "0.1") if way == "option" else ()
    settings = {} if option else {"DTE_WORKER_HEARTBEAT_S": "0.1"}
    start_worker(idle_master.port, "announced to", *option, **settings)
    seen = set()

    def seen_often() -> bool:
        seen.add(idle_client.workers()[0].heard_at)
        return len(seen) > 4

    until(seen_often, "it has announced itself five times", 4.0)


# Its handlers


def test_handlers_of_the_current_folder_are_found(
    processes: Processes, start_worker: StartWorker, idle_master: MasterThread
) -> None:
    """By the command `dte` too, whose own folder Python looks into first."""
    (processes.folder / "mine.py").write_text(
        "from dte.handlers.registry import handler\n"
        '@handler("resize")\n'
        "def resize(width: int) -> int:\n"
        "    return width\n"
    )
    program = (sys.executable, "-P", "-c", "from dte.cli.main import entry; entry()")
    worker = start_worker(idle_master.port, "announced to", "--handlers", "mine", program=program)
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
    check_refused(dte_process(*command, "--handlers", "mine"), 2, "mine", reason, lines=1)
