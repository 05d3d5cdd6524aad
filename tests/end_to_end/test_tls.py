"""Masters and workers with TLS, as processes."""

from __future__ import annotations

import json
import re
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

DOMAIN = "dte.example.com"
DOCUMENT = Path(__file__).parents[2] / "docs" / "tls.md"


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
    until(lambda: "the previous certificate stays" in server.output, "a wrong key is refused")
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


def recipe(heading: str, files: dict[str, str], master_url: str) -> list[dict[str, str]]:
    """The settings that the documents show below a heading, with files and a master of a test."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S)
    found = []
    for block in re.findall(r"```ini\n(.*?)```", section, re.S):
        pairs = [line.split("=", 1) for line in block.splitlines() if not line.startswith("#")]
        settings = {name: files.get(Path(value).name, value) for name, value in pairs}
        if "DTE_MASTER" in settings:
            settings["DTE_MASTER"] = master_url
        found.append(settings)
    return found


def serve(processes: Processes, command: str, settings: dict[str, str]) -> Process:
    server = processes.start(command, **settings)
    until(lambda: "listens on" in server.output, "it listens")
    return server


def token(processes: Processes, role: str, name: str, *options: str) -> str:
    made = run(*DTE, "token", "new", role, name, *options, folder=processes.folder)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_a_master_with_tls_as_the_documents_show_it(
    processes: Processes, authority: Authority, server_pair: Pair
) -> None:
    port = free_port()
    files = {"master.pem": server_pair.cert, "master.key": server_pair.key}
    files |= {"authority.pem": authority.file}
    for role, name in (("client", "shop"), ("worker", "gpu")):
        file = processes.folder / f"{name}.token"
        token(processes, role, name, "--to", str(file))
        files[file.name] = str(file)
    master, client, worker = recipe("A master with TLS", files, f"https://localhost:{port}")
    serve(processes, "master", master | {"DTE_MASTER_PORT": str(port)})
    serve(processes, "worker", worker | {"DTE_WORKER_PORT": str(free_port())})
    done = run(*DTE, "submit", "2*21", **client)
    assert (done.returncode, done.stdout) == (0, "2*21 = 42\n")


def test_certificates_that_are_made_as_the_documents_show_it_are_trusted(
    processes: Processes,
) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.S)
    made = run("bash", "-e", "-c", script.replace(DOMAIN, "localhost"), folder=processes.folder)
    assert made.returncode == 0, made.stderr
    pair = Pair(str(processes.folder / "master.pem"), str(processes.folder / "master.key"))
    _, port = start(processes, "master", pair)
    known = {"DTE_TLS_CA": str(processes.folder / "authority.pem")}
    asked = run(*DTE, "jobs", "--master", f"https://localhost:{port}", **known)
    assert asked.returncode == 0, asked.stderr


def test_mutual_tls_as_the_documents_show_it(
    processes: Processes, authority: Authority, server_pair: Pair
) -> None:
    """Master and worker call each other, each by its own certificate, and nobody sends a token."""
    port = free_port()
    gpu = authority.issue("DNS:gpu", file="gpu")
    shop = authority.issue("DNS:shop", file="shop")
    files = {"master.pem": server_pair.cert, "master.key": server_pair.key}
    files |= {"authority.pem": authority.file, "gpu.pem": gpu.cert, "gpu.key": gpu.key}
    files |= {"shop.pem": shop.cert, "shop.key": shop.key}
    master, worker, client = recipe("Mutual TLS", files, f"https://localhost:{port}")
    token(processes, "worker", "gpu")
    token(processes, "client", "shop")
    serve(processes, "master", master | {"DTE_MASTER_PORT": str(port)})
    started = serve(processes, "worker", worker | {"DTE_WORKER_PORT": str(free_port())})
    until(lambda: "announced to" in started.output, "the worker is announced")
    assert "worker gpu-" in started.output, "it is named after its certificate"
    done = run(*DTE, "submit", "2*21", **client)
    assert (done.returncode, done.stdout) == (0, "2*21 = 42\n")
    done = run(*DTE, "call", "echo", '"hello"', **client)
    assert (done.returncode, "hello" in done.stdout) == (0, True)
    known = {"DTE_MASTER": client["DTE_MASTER"], "DTE_TLS_CA": client["DTE_TLS_CA"]}
    stranger = run(*DTE, "submit", "2*21", **known)
    assert stranger.returncode != 0
    assert "--tls-cert" in stranger.stderr
