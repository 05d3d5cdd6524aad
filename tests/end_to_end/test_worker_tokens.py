"""Workers with tokens: named after them, and nobody else's are taken over."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import pytest
from harness.http import BlockingClient, Message
from harness.machine import HOST, free_port
from harness.processes import Process, Processes, until, until_listening

from dte.master.access.tokens import Role, TokenFile


class Site:
    """A master with tokens."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        path = str(processes.folder / "dte.tokens")
        file = TokenFile(path)
        self.tokens = {
            role.value: file.new(role, name)
            for role, name in ((Role.ADMIN, "root"), (Role.WORKER, "fleet"), (Role.CLIENT, "shop"))
        }
        self.port = free_port()
        self._client = BlockingClient(self.port)
        journal = str(processes.folder / "journal.db")
        settings = {"DTE_TOKENS": path, "DTE_JOURNAL": journal, "DTE_LEASE_S": "6"}
        self.master = processes.start_master(self.port, **settings)

    def ask(self, role: str, method: str, path: str, body: Any = None, **more: str) -> Message:
        token = f"Bearer {self.tokens[role]}"
        return self._client.ask(method, path, body, Authorization=token, **more)

    def workers(self) -> Mapping[str, Any]:
        return {each["worker_name"]: each for each in self.ask("admin", "GET", "/worker").json}

    def start_worker(self, *options: str) -> Process:
        """Start a worker without a name."""
        words = ("worker", "--master", f"http://{HOST}:{self.port}", "--port", "0", *options)
        return self.processes.start(*words, DTE_TOKEN=self.tokens["worker"])

    def call(self, handler: str, *args: Any) -> Any:
        body = {"handler": handler, "args": args}
        number = self.ask("client", "POST", "/jobs", body).json["job_id"]
        return until(lambda: self._answer(number), f"job {number} is finished")["answer"]

    def _answer(self, number: int) -> Any:
        job = self.ask("client", "GET", f"/job/{number}").json
        return job if job["finished"] else None


@pytest.fixture
def site(processes: Processes) -> Site:
    return Site(processes)


@pytest.mark.parametrize("options", [("--host", HOST), ("--pull",)], ids=["called", "pulls"])
def test_a_worker_is_named_after_its_token_and_works(site: Site, options: tuple[str, ...]) -> None:
    worker = site.start_worker(*options)
    (name,) = until(site.workers, "it is known")
    assert name.startswith("fleet-")
    assert name.endswith(f"-{worker.pid}")
    assert site.call("echo", 7) == 7
    forged = {"worker": name, "draining": True, "worker_name": name, "handlers": ["echo"]}
    for role in ("client", "worker"):
        for path in ("/claim", "/worker"):
            said = forged | {"port": int(site.workers()[name]["address"].rpartition(":")[2] or 1)}
            assert site.ask(role, "POST", path, said).status in (200, 403, 409)
    assert site.call("echo", 8) == 8
    site.master.end(signal.SIGKILL)
    site.master.start()
    until_listening(site.master, site.port)
    assert site.call("echo", 9) == 9


def test_no_token_and_no_secret_is_in_a_log(site: Site) -> None:
    worker = site.start_worker("--host", HOST)
    until(site.workers, "it is known")
    assert site.call("echo", 7) == 7
    for process in (site.master, worker):
        assert "fleet" in process.output
        assert site.tokens["worker"] not in process.output
