"""A worker and clients of the newest landed commit work with today's master, and vice versa."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness.cluster import Cluster
from harness.processes import DTE, TESTS, Processes, run

from compatibility.landed import NEWEST, NotHere, extract

TODAY = str(TESTS.parent)
CLIENT = str(Path(__file__).with_name("python_client.py"))
HANDLERS = """import dte

tried = []


@dte.handler("own")
def own(count):
    for done in range(count):
        dte.progress(done / count, "on its way")
    return count


@dte.handler("sometimes", retries=2)
async def sometimes(what):
    tried.append(what)
    if len(tried) < 2:
        raise OSError("not yet")
    return what
"""
FOUND: dict[str, Any] = {
    "formulas": {
        "compute": -2.5,
        "exact": (10**50 - 1) ** 2,
        "tree": sum(n * n for n in range(2_000)),
        "map": [1 / 3, -0.0, 7],
        "key": True,
        "job": 6,
        "fails": "JobFailed",
        "syntax": "FormulaError",
        "conflict": "Conflict",
        "unknown": "NotFound",
        "listed": 1,
    },
    "calls": {
        "call": {"a": [1, None, "ß"]},
        "async": 0.01,
        "own": 20,
        "graph": [2, 3, 5, 7, 11, 13, 17, 19, 23],
        "formula": 832046,
        "retried": "once",
        "timed out": "JobTimedOut",
        "fails": "JobFailed",
    },
    "lives": {
        "why": ["worker"],
        "cancelled": ["cancelled", "cancelled"],
        "last event": "succeeded",
        "again": "failed",
        "node": ["fibonacci", "failed", 1],
        "workers": ["peer"],
    },
    "asynchronous": {"at once": [*range(1, 40, 2), "x"]},
}
"""What `python_client` must find, whoever is old."""


@dataclass(frozen=True)
class Peers:
    """A master of one age, with a worker of the other, and the age of clients.

    Attributes:
        code: the folder of the clients' `dte`.
    """

    cluster: Cluster
    folder: Path
    code: str

    def ask(self, *arguments: str, code: int = 0) -> str:
        """The output of the command line, which must end with that code."""
        settings = {"DTE_MASTER": self.cluster.url, "PYTHONPATH": self.code}
        done = run(*DTE, *arguments, folder=self.folder, **settings)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def ask_json(self, *arguments: str) -> Any:
        """Its output with ``--json``."""
        return json.loads(self.ask(*arguments, "--json"))


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the package `dte` of the newest landed commit."""
    folder = tmp_path_factory.mktemp("code")
    try:
        extract(NEWEST, folder)
    except NotHere as reason:
        # Nothing can be installed that would bring the history.
        pytest.skip(str(reason))
    return str(folder)


@pytest.fixture(scope="module", params=["push", "pull"])
def way(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options of a worker that is called, or that claims its work."""
    return ("--pull",) if request.param == "pull" else ()


@pytest.fixture(scope="module", params=["today's master", "landed master"])
def peers(
    request: pytest.FixtureRequest,
    code: str,
    way: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Peers]:
    """A master with a worker of the other age."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / "own.py").write_text(HANDLERS)
    masters, others = (TODAY, code) if request.param == "today's master" else (code, TODAY)
    with Processes(folder, PYTHONPATH=masters) as processes:
        cluster = Cluster(processes, 0)
        options = ("--handlers", "own", *way)
        processes.start_worker(cluster.port, "peer", *options, PYTHONPATH=others)
        cluster.until_announced(1)
        yield Peers(cluster, folder, others)
        assert not cluster.master.errors()


def test_python_s_clients_are_served(peers: Peers) -> None:
    done = run(sys.executable, CLIENT, peers.cluster.url, PYTHONPATH=peers.code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found.pop("code")).is_relative_to(peers.code)
    assert {part: json.dumps(each) for part, each in found.items()} == {
        part: json.dumps(each) for part, each in FOUND.items()
    }


def test_the_command_line_is_served(peers: Peers) -> None:
    assert peers.ask("submit", "1+(2*3)/4-5", "2*21") == "1+(2*3)/4-5 = -2.5\n2*21 = 42\n"
    peers.ask("submit", "1/0", code=1)
    peers.ask("submit", "1+*2", code=2)
    assert peers.ask("call", "echo", "hello") == '"hello"\n'
    (peers.folder / "graph.json").write_text(
        '{"graph": {"a": {"handler": "primes", "args": {"limit": 10}},'
        ' "b": {"handler": "echo", "args": [{"ref": "a"}]}}, "answer": "b"}'
    )
    assert peers.ask("graph", "graph.json") == "[2,3,5,7]\n"
    job = json.loads(peers.ask("call", "nobody_has_it", "--no-wait", "--json"))["job_id"]
    assert peers.ask_json("why", str(job))["reasons"][0]["waits_for"] == "worker"
    assert peers.ask_json("cancel", str(job))["job_id"] == job
    assert (
        json.loads(peers.ask("job", str(job), "--wait", "--json", code=1))["state"] == "cancelled"
    )
    assert peers.ask_json("retry", str(job))["retry_of"] == job
    assert [node["state"] for node in peers.ask_json("nodes", str(job))] == ["cancelled"]
    assert peers.ask_json("jobs")[1]["job_id"] == job
    assert [worker["worker_name"] for worker in peers.ask_json("workers")] == ["peer"]
    events = peers.ask("events", str(job), "--after", "0", "--json").splitlines()
    assert json.loads(events[-1])["state"] == "cancelled"


def test_a_commit_that_is_not_here_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="there is no commit 0000000 in this checkout"):
        extract("0000000", tmp_path)
