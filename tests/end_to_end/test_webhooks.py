"""Webhooks of a master whose clients may be elsewhere: none leads to the machine of the master."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from harness.http import BlockingClient
from harness.machine import HOST, free_port
from harness.processes import Process, Processes, until

from dte.master.access.tokens import Role, TokenFile

SITE = """\
import socket

find = socket.getaddrinfo


def find_here(host, *more, **options):
    if host != "hook.example":
        return find(host, *more, **options)
    with open({names!r}, "a") as file:
        print(host, file=file)
    return find("127.0.0.1", *more, **options)


socket.getaddrinfo = find_here
"""
SECRET = "sesame"


class Receiver(ThreadingHTTPServer):
    """Takes everything.

    Attributes:
        taken: the headers and the bodies of all requests.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        super().__init__((HOST, 0), Taking)


class Taking(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        names = {name.lower(): value for name, value in self.headers.items()}
        self.server.taken.append((names, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep the output of tests quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Shop:
    """A master with tokens, where `hook.example` leads to 127.0.0.1, and a client of it."""

    def __init__(self, processes: Processes, **settings: str) -> None:
        folder = processes.folder
        self._names = folder / "names"
        self._names.touch()
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE.format(names=str(self._names)))
        paths = (str(folder / "site"), os.environ.get("PYTHONPATH", ""))
        tokens = str(folder / "dte.tokens")
        self._token = TokenFile(tokens).new(Role.CLIENT, "shop")
        port = free_port()
        self.master: Process = processes.start_master(
            port,
            DTE_TOKENS=tokens,
            DTE_JOURNAL="none",
            PYTHONPATH=os.pathsep.join(path for path in paths if path),
            **settings,
        )
        self._client = BlockingClient(port)

    @property
    def resolved(self) -> int:
        """How often the name has been resolved."""
        return len(self._names.read_text().splitlines())

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self._client.ask(method, path, body, Authorization=f"Bearer {self._token}")

    def submit(self, url: str) -> int:
        return int(self.ask("POST", "/submit", {"task": "42", "notify": url}).status)

    def health(self, name: str) -> Any:
        return self.ask("GET", "/health").json[name]


def test_no_webhook_leads_to_the_machine_of_the_master(
    processes: Processes, receiver: Receiver
) -> None:
    shop, port = Shop(processes), receiver.server_port
    hosts = ("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0", "localhost", "[::ffff:127.0.0.1]")
    for host in (*hosts, "[::1]", "user:word@hook.example"):
        assert shop.submit(f"http://{host}:{port}/") == 400
    assert shop.submit(f"http://hook.example:{port}/") == 200
    until(lambda: shop.health("webhooks_given_up") == 1, "it is given up")
    assert shop.health("webhooks_waiting") == 0
    assert shop.resolved == 1, "once, when there was something to post"
    assert "hook.example leads to 127.0.0.1, which is not public" in shop.master.output
    assert receiver.taken == []


def test_a_place_that_is_allowed_gets_webhooks_that_it_can_check(
    processes: Processes, receiver: Receiver, tmp_path: Path
) -> None:
    port, file = receiver.server_port, tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    places = {"DTE_WEBHOOK_TO": f"hook.example:{port}", "DTE_WEBHOOK_SECRET_FILE": str(file)}
    shop, url = Shop(processes, **places), f"http://hook.example:{port}/done?key=1"
    assert shop.submit(f"http://127.0.0.1:{port}/") == 400, "it is another place"
    assert shop.submit(url) == 200
    until(lambda: receiver.taken, "it is posted")
    ((headers, body),) = receiver.taken
    assert shop.resolved == 1
    assert headers["host"] == f"hook.example:{port}"
    at = headers["x-dte-timestamp"]

    def of(signed: str) -> bytes:
        return hmac.new(SECRET.encode(), signed.encode() + body, hashlib.sha256).digest()

    assert headers["x-dte-signature"] == f"sha256={of(f'{at}.').hex()}"
    assert headers["x-dte-url-signature"] == f"sha256={of(f'{at}.{url}.').hex()}"
    standard = base64.b64encode(of(f"{headers['webhook-id']}.{at}.")).decode()
    assert headers["webhook-signature"] == f"v1,{standard}"
