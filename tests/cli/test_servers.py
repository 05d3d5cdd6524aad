"""`dte master`, and what all commands that serve have in common."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from harness.machine import connections, free_port, listens
from harness.processes import Processes, until

import dte as package

from .conftest import Dte, DteProcess, Signalled, check_refused


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_master_serves_until_it_is_told_to_end_and_exits_with_0(
    dte: Dte, signalled: Signalled, number: signal.Signals
) -> None:
    port = free_port()
    signalled(lambda: listens(port), number)
    where = ("--host", "127.0.0.1", "--port", str(port), "--journal", "none")
    result = dte("master", *where, "--log-level", "error")
    assert (result.exit_code, result.stderr) == (0, "")
    assert not listens(port)


def test_logs_are_objects_on_request_one_in_each_line(processes: Processes) -> None:
    port = free_port()
    master = processes.start_master(port, DTE_LOG_FORMAT="json")
    worker = processes.start_worker(port, "w", "--log-format", "json")
    with package.Client(f"http://127.0.0.1:{port}") as client:
        until(client.workers, "the worker has joined")
        job = client.submit("1/0")
        client.wait(job, 20)
    for process in (worker, master):
        process.end()
        entries = [json.loads(line) for line in process.output.splitlines()]
        assert all({"time", "level", "logger", "message"} <= entry.keys() for entry in entries)
    (failed,) = [entry for entry in entries if entry.get("job") == job.id]
    assert (failed["level"], failed["logger"]) == ("WARNING", "dte.master")
    assert any(entry.get("worker") == "w" for entry in entries)


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


@pytest.mark.parametrize("command", [("master", "--journal", "none"), ("worker",)], ids=str)
def test_a_server_says_that_its_port_is_in_use_and_what_to_do(
    dte: Dte, taken_port: int, command: tuple[str, ...]
) -> None:
    result = dte(*command, "--host", "127.0.0.1", "--port", str(taken_port))
    check_refused(
        *(result, 3, f"cannot listen on 127.0.0.1:{taken_port}: ", "; give another --port")
    )


def test_no_server_says_a_word_of_python_when_its_port_is_in_use(
    dte_process: DteProcess, taken_port: int
) -> None:
    for command in ("run", "master", "worker"):
        result = dte_process(
            *(command, "--port", str(taken_port)),
            **{f"DTE_{command.upper()}_HOST": "127.0.0.1"},
        )
        check_refused(result, 3, lines=1)


def test_master_says_that_the_host_is_wrong_and_not_the_port(dte_process: DteProcess) -> None:
    result = dte_process("master", "--host", "203.0.113.7", "--port", "0", "--no-auth")
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
        ("worker", ["--calls-per-process", "0"]),
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
    check_refused(dte(command, *arguments), 2, arguments[0], f"dte {command} --help")


@pytest.mark.parametrize("command", ["master", "worker"])
def test_a_star_that_the_shell_has_expanded_is_explained(
    dte: Dte, served: list[Any], command: str
) -> None:
    refused = dte(command, "--host", "README.md", "docs", "two words")
    check_refused(refused, 2, "docs 'two words'", "quote the star: --host '*'")
    assert served == []
