"""Clients and workers on the other side of nginx, which has TLS and a path prefix."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPSConnection
from typing import Any, NamedTuple

import pytest
from harness.certificates import Authority, Pair
from harness.machine import HOST, free_port
from harness.nginx import nginx, start_nginx
from harness.processes import DTE, Process, Processes, run, until
from harness.tls import trusting

import dte

PREFIX = "/dte"


class Site(NamedTuple):
    """A master behind nginx.

    Attributes:
        tokens: the secrets of its tokens, by their roles, which are their names too.
    """

    master: Process
    port: int
    master_port: int
    tokens: dict[str, str]
    context: ssl.SSLContext
    authority: str

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}{PREFIX}"

    def settings(self, role: str) -> dict[str, str]:
        return {
            "DTE_MASTER": self.url,
            "DTE_TLS_CA": self.authority,
            "DTE_TOKEN": self.tokens[role],
        }

    def ask(self, path: str, role: str = "admin", **headers: str) -> tuple[int, Any, bytes]:
        connection = HTTPSConnection(HOST, self.port, timeout=60, context=self.context)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            named["Authorization"] = f"Bearer {self.tokens[role]}"
            connection.request("GET", f"{PREFIX}{path}", headers=named)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def workers(self) -> dict[str, dict[str, Any]]:
        status, _, body = self.ask("/worker")
        assert status == 200, body
        return {each["worker_name"]: each for each in json.loads(body)}


@pytest.fixture
def site(processes: Processes, authority: Authority, server_pair: Pair) -> Site:
    nginx()  # Without it, nothing is started.
    file = str(processes.folder / "dte.tokens")
    roles = ("client", "worker", "admin")
    tokens = {
        role: run(*DTE, "token", "new", role, role, "--tokens", file).stdout.strip()
        for role in roles
    }
    master_port = free_port()
    master = processes.start_master(
        master_port, DTE_TOKENS=file, DTE_TRUST_PROXY="127.0.0.1", DTE_LOG_LEVEL="info"
    )
    _, port = start_nginx(processes, server_pair, master_port)
    context = trusting(authority)
    return Site(master, port, master_port, tokens, context, authority.file)


def test_clients_and_workers_work_through_a_proxy(site: Site, processes: Processes) -> None:
    processes.start("worker", "--pull", "--name", "worker-1", **site.settings("worker"))
    until(lambda: "worker-1" in site.workers(), "the worker is known")
    token = site.tokens["client"]
    with dte.Client(site.url, token=token, tls_ca=site.authority) as client:
        assert client.compute("1+(2*3)/4-5") == -2.5
        assert client.call("echo", "hello") == "hello"
        long = f"{' ' * 3_000_000}6*7"
        assert client.compute(long) == 42
    shown = run(*DTE, "submit", "2*21", **site.settings("client"))
    assert (shown.returncode, shown.stdout.strip()) == (0, "2*21 = 42")


def test_a_worker_is_called_at_the_address_that_the_proxy_forwards(
    site: Site, processes: Processes
) -> None:
    options = ("--host", HOST, "--port", "0", "--name", "worker-1")
    processes.start("worker", *options, **site.settings("worker"))
    until(lambda: "worker-1" in site.workers(), "the worker is known")
    assert site.workers()["worker-1"]["address"].startswith(f"{HOST}:")
    with dte.Client(site.url, token=site.tokens["client"], tls_ca=site.authority) as client:
        assert client.compute("1+2") == 3


def test_events_come_as_they_happen(site: Site) -> None:
    connection = HTTPSConnection(HOST, site.port, timeout=60, context=site.context)
    try:
        headers = {"Authorization": f"Bearer {site.tokens['client']}"}
        connection.request("GET", f"{PREFIX}/events", headers=headers)
        events = connection.getresponse()
        assert events.status == 200
        with dte.Client(site.url, token=site.tokens["client"], tls_ca=site.authority) as client:
            job = client.submit("7")
        while (line := events.readline()) and f'"job_id":{job.id}'.encode() not in line:
            pass
        assert line, "the event comes while the stream is open"
    finally:
        connection.close()


def test_pages_are_complete_below_the_prefix(site: Site) -> None:
    status, headers, page = site.ask("/docs", Accept="text/html")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for link in (b'"docs/page.js"', b'"docs/page.css"', b'"openapi.json"'):
        assert link in page
    for path in ("/docs/page.js", "/docs/page.css", "/openapi.json"):
        assert site.ask(path)[0] == 200
    status, headers, _ = site.ask("/", Accept="text/html")
    assert (status, headers["Location"]) == (302, "docs")
    _, _, text = site.ask("/")
    assert f"curl {site.url}/jobs".encode() in text


@pytest.mark.parametrize(("origin", "status"), [("own", 200), ("foreign", 403)])
def test_the_origin_of_a_page_is_compared_with_the_host_of_the_proxy(
    site: Site, origin: str, status: int
) -> None:
    named = f"https://{HOST}:{site.port}" if origin == "own" else "https://evil.example"
    assert site.ask("/jobs", "client", Origin=named)[0] == status


def test_without_a_token_a_proxys_client_is_refused(site: Site) -> None:
    shown = run(*DTE, "submit", "1+2", **site.settings("client") | {"DTE_TOKEN": ""})
    assert shown.returncode != 0
    assert "token" in shown.stderr
