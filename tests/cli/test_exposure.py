"""Who reaches a master, and the refusal of one that anybody could use."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from harness.http import BlockingClient
from harness.machine import free_port, free_ports, listens
from harness.processes import Processes, until

import dte as package

from .conftest import Dte, DteProcess, check_refused

MASTERS = ("master", "run")


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "::", "192.0.2.1"])
@pytest.mark.parametrize("command", MASTERS)
def test_a_master_for_others_without_tokens_is_refused_with_the_way_out(
    dte_process: DteProcess, command: str, host: str
) -> None:
    result = dte_process(command, "--host", host, "--port", "0", DTE_JOURNAL="")
    check_refused(result, 2, "others could run your handlers", lines=1)
    for way_out in ("dte.tokens", "dte token new client NAME", "--no-auth", "DTE_NO_AUTH=1"):
        assert way_out in result.stderr


def test_the_way_out_names_the_file_of_tokens_that_is_given(dte_process: DteProcess) -> None:
    result = dte_process("master", "--host", "*", "--tokens", "our tokens")
    assert "dte token new client NAME --tokens 'our tokens'" in result.stderr


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        ({}, (), "new client NAME, and dte token new worker NAME. "),
        ({}, ("--journal", "data/dte.db"), "new client NAME --tokens data/dte.tokens"),
        ({"DTE_JOURNAL": "data/dte.db"}, (), "new client NAME --tokens data/dte.tokens"),
        (
            {"DTE_JOURNAL": "data/dte.db"},
            ("--journal", "dte.db"),
            "new client NAME --tokens dte.tokens",
        ),
    ],
)
def test_the_way_out_makes_tokens_for_the_master_that_was_refused(
    dte: Dte,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    options: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = dte("master", "--host", "*", *options, **settings)
    check_refused(refused, 2, expected, lines=1)


def test_a_master_with_tokens_may_listen_anywhere(
    dte: Dte, served: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dte("token", "new", "client", "shop").exit_code == 0
    result = dte("master", "--host", "*")
    assert (result.exit_code, result.stderr) == (0, "")
    assert served[0].host == "*"


@pytest.mark.parametrize("setting", [{"DTE_NO_AUTH": "1"}, {}])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_master_for_everybody_warns_at_every_start_and_says_so(
    processes: Processes, setting: dict[str, str], host: str
) -> None:
    port = free_port()
    options = () if setting else ("--no-auth",)
    master = processes.start("master", *options, "--host", host, "--port", str(port), **setting)
    until(lambda: listens(port), "the master listens")
    assert "WARNING dte.access: the master serves everybody" in master.output
    assert BlockingClient(port).get("/health")["auth"] == "none"


def test_a_master_for_this_machine_alone_says_nothing_of_tokens(processes: Processes) -> None:
    port = free_port()
    master = processes.start("master", "--port", str(port))
    until(lambda: listens(port), "the master listens")
    assert "token" not in master.output


@pytest.mark.parametrize("command", MASTERS)
def test_no_auth_and_tokens_contradict_each_other(
    dte_process: DteProcess, command: str, tmp_path: Path
) -> None:
    dte_process("token", "new", "client", "shop", DTE_JOURNAL="")
    result = dte_process(command, "--no-auth", "--port", "0", DTE_JOURNAL="")
    check_refused(result, 2, "--no-auth contradicts the tokens in dte.tokens", lines=1)


@pytest.mark.parametrize("command", MASTERS)
def test_a_master_whose_file_of_tokens_others_may_open_is_refused(
    dte_process: DteProcess, tmp_path: Path, command: str
) -> None:
    (tmp_path / "dte.tokens").touch()
    (tmp_path / "dte.tokens").chmod(0o644)
    result = dte_process(command, "--host", "*", DTE_JOURNAL="")
    check_refused(result, 2, "chmod 600", lines=1)


def test_servers_listen_on_this_machine_alone_by_default(dte: Dte, served: list[Any]) -> None:
    for command in ("master", "worker"):
        assert dte(command).exit_code == 0
    assert [each.host for each in served] == ["localhost", ""]


def test_a_master_and_a_worker_on_one_machine_are_reached_from_nowhere_else(
    processes: Processes,
) -> None:
    ports = free_ports(2)
    processes.start("master", "--port", str(ports[0]))
    until(lambda: listens(ports[0]), "the master listens")
    url = f"http://localhost:{ports[0]}"
    processes.start("worker", "--port", str(ports[1]), DTE_MASTER=url)
    with package.Client(url) as client:
        assert client.compute("1+(2*3)/4-5") == -2.5
    for port in ports:
        assert listens(port)
        with socket.socket() as probe:
            # The other addresses of the loopback network stand for all other addresses.
            assert probe.connect_ex(("127.0.0.2", port)) != 0
