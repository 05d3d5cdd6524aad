"""Masters and workers with TLS, as processes."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from harness.certificates import Authority, Pair
from harness.machine import HOST, free_port
from harness.processes import DTE, Process, Processes, run, until, until_listening
from harness.tls import trusting

import dte


def ask(port: int, context: ssl.SSLContext, method: str, path: str, body: Any = None) -> Any:
    connection = HTTPSConnection(HOST, port, timeout=60, context=context)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def shown(port: int, authority: Authority) -> Any:
    """The serial number of the certificate that a server shows to a new client."""
    with (
        socket.create_connection((HOST, port)) as connection,
        trusting(authority).wrap_socket(connection, server_hostname=HOST) as secure,
    ):
        certificate = secure.getpeercert()
        assert certificate
        return certificate["serialNumber"]


@pytest.fixture
def pair(server_pair: Pair, tmp_path: Path) -> Pair:
    """A certificate whose files the test may replace."""
    mine = Pair(str(tmp_path / "mine.pem"), str(tmp_path / "mine.key"))
    shutil.copy(server_pair.cert, mine.cert)
    shutil.copy(server_pair.key, mine.key)
    return mine


def start(processes: Processes, command: str, pair: Pair, **settings: str) -> tuple[Process, int]:
    port = free_port()
    options = ("--port", str(port), "--tls-cert", pair.cert, "--tls-key", pair.key)
    server = processes.start(command, *options, **settings)
    until_listening(server, port)
    return server, port


@pytest.mark.parametrize("command", ["master", "worker"])
def test_sighup_has_the_certificate_read_again(
    processes: Processes, authority: Authority, pair: Pair, command: str
) -> None:
    server, port = start(processes, command, pair)
    first = shown(port, authority)
    assert ask(port, trusting(authority), "GET", "/health")["status"] == "ok"
    another = authority.issue("DNS:localhost", "IP:127.0.0.1", file=f"another-{command}")
    shutil.copy(another.cert, pair.cert)
    server.send(signal.SIGHUP)
    until(lambda: "the certificate stays" in server.output, "a wrong key is refused")
    assert shown(port, authority) == first
    shutil.copy(another.key, pair.key)
    server.send(signal.SIGHUP)
    until(lambda: "was read again" in server.output, "the certificate is read again")
    assert shown(port, authority) != first
    assert server.end() == 0


def test_without_tls_sighup_ends_a_master_as_before(processes: Processes) -> None:
    assert processes.start_master(free_port()).end(signal.SIGHUP) == 0


@pytest.mark.parametrize("command", ["master", "worker"])
def test_a_certificate_that_cannot_be_used_is_refused(processes: Processes, command: str) -> None:
    server = processes.start(command, "--port", "0", "--tls-cert", "missing.pem")
    assert server.exit_code() == 2
    assert "missing.pem" in server.output
    assert "Traceback" not in server.output


def test_certificates_are_enough_where_both_sides_demand_them(
    processes: Processes, authority: Authority, server_pair: Pair
) -> None:
    """Master and worker call each other, each by its own certificate, and nobody sends a token."""
    file = str(processes.folder / "dte.tokens")
    for role, name in (("worker", "gpu"), ("client", "shop")):
        assert run(*DTE, "token", "new", role, name, "--tokens", file).returncode == 0
    demanding = {"DTE_TLS_CLIENT_CA": authority.file, "DTE_TLS_CA": authority.file}
    _, port = start(processes, "master", server_pair, DTE_TOKENS=file, **demanding)
    url = f"https://{HOST}:{port}"
    mine = authority.issue("DNS:gpu", f"IP:{HOST}", file="gpu")
    worker, _ = start(processes, "worker", mine, DTE_MASTER=url, DTE_WORKER_NAME="gpu", **demanding)
    until(lambda: "announced to" in worker.output, "the worker is announced")
    shop = authority.issue("DNS:shop", file="shop")
    shown = {"tls_cert": shop.cert, "tls_key": shop.key, "tls_ca": authority.file}
    with dte.Client(url, **shown) as client:
        assert client.compute("1+(2*3)/4-5") == -2.5
        assert client.call("echo", ["hello"]) == ["hello"]
    settings = {f"DTE_{name.upper()}": value for name, value in shown.items()}
    done = run(*DTE, "submit", "2*21", DTE_MASTER=url, **settings)
    assert (done.returncode, done.stdout) == (0, "2*21 = 42\n")
    stranger = run(*DTE, "submit", "2*21", DTE_MASTER=url, DTE_TLS_CA=authority.file)
    assert stranger.returncode != 0
    assert "--tls-cert" in stranger.stderr
