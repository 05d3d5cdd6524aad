"""A stranger on the same machine, without tokens, does no harm to workers of dte."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from harness.cluster import Cluster
from harness.http import BlockingClient
from harness.processes import until

from end_to_end.conftest import StartCluster

HANDLERS = """
import time
from pathlib import Path
import dte

def note(what):
    with open("effects", "a") as effects:
        effects.write(what + "\\n")

@dte.handler("transfer")
def transfer(to, amount):
    note(f"transfer {to} {amount}")
    return f"sent {amount} to {to}"

@dte.handler("hold")
def hold(until):
    note("hold")
    while not Path(until).exists():
        time.sleep(0.02)
    return "held"
"""
NAME = "worker-1"
STRANGER = {"incarnation": "stranger", "handlers": ["transfer", "hold", "echo"]}


@pytest.fixture(params=[(), ("--pull",)], ids=["called", "pulls"])
def cluster(start_cluster: StartCluster, tmp_path: Path, request: pytest.FixtureRequest) -> Cluster:
    (tmp_path / "mine.py").write_text(HANDLERS)
    options = ("--handlers", "mine", "--slots", "2", *request.param)
    return start_cluster(1, options=options, DTE_LEASE_S="6")


def effects(cluster: Cluster) -> list[str]:
    path = cluster.folder / "effects"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def submit(cluster: Cluster, handler: str, *args: Any) -> int:
    body = {"handler": handler, "args": args}
    return int(cluster.client.value("POST", "/jobs", body)["job_id"])


def holding(cluster: Cluster) -> int:
    """A job whose call runs at the worker until `let_go`."""
    job = submit(cluster, "hold", "go")
    until(lambda: effects(cluster) == ["hold"], "the call runs")
    return job


def let_go(cluster: Cluster) -> None:
    (cluster.folder / "go").touch()


def guessed(cluster: Cluster) -> list[int]:
    """The numbers that a stranger tries who has a lease: those of one start are alike."""
    submit(cluster, "spy")
    claim = {"worker": "spy", "handlers": ["spy"], "wait": 20}
    (call,) = cluster.client.value("POST", "/claim", claim)["calls"]
    first = call["lease"] // 10_000 * 10_000
    return [number for number in range(first, first + 30) if number != call["lease"]]


def test_nobody_reports_for_a_worker_or_extends_its_leases(cluster: Cluster) -> None:
    job = holding(cluster)
    master, numbers = cluster.client, guessed(cluster)
    for number in numbers:
        forged = {"worker": NAME, "results": [{"lease": number, "result": "FORGED"}]}
        for headers in ({}, {"X_Dte_Session": "x" * 43}):
            reply = master.ask("POST", "/result", forged, **headers)
            assert reply.json.get("accepted", []) == []
            body = {"worker": NAME, "leases": [number]}
            assert master.ask("POST", "/extend", body, **headers).json.get("extended", []) == []
    assert not master.get(f"/job/{job}")["finished"]
    let_go(cluster)
    assert master.finished(job)["answer"] == "held"


def test_nobody_drains_a_worker_or_takes_its_name_or_its_address(cluster: Cluster) -> None:
    job = holding(cluster)
    known = cluster.client.workers()[NAME]
    port = int(known["address"].rpartition(":")[2] or 1)
    for draining in (False, True):
        for incarnation in ("", "stranger"):
            said = STRANGER | {"incarnation": incarnation, "draining": draining}
            if known["address"]:
                own = {"worker_name": NAME, "port": port} | said
                for more in ({}, {"secret": "s" * 43, "incarnation": "stranger"}):
                    assert cluster.client.ask("POST", "/worker", own | more).status == 409
            else:
                for sessions in (False, True):
                    own = {"worker": NAME, "sessions": sessions} | said
                    assert cluster.client.ask("POST", "/claim", own).status == 409
    second = submit(cluster, "transfer", "bob", 7)
    assert cluster.client.finished(second)["answer"] == "sent 7 to bob"
    let_go(cluster)
    assert cluster.client.finished(job)["answer"] == "held"
    assert effects(cluster) == ["hold", "transfer bob 7"], "each has begun once"
    assert cluster.client.workers()[NAME]["state"] in ("free", "busy")


@pytest.mark.parametrize("cluster", [()], ids=["called"], indirect=True)
def test_a_worker_runs_and_stops_calls_for_its_master_alone(cluster: Cluster) -> None:
    job = holding(cluster)
    worker = BlockingClient(cluster.worker_ports[0])
    assert worker.get("/health") == {"status": "ok"}
    call = {"lease": 1, "job_id": 1, "node": "x", "handler": "transfer", "args": ["mallory", 1000]}
    call |= {"timeout": None, "attempt": 1, "lease_s": 10.0}
    occupying = [call | {"lease": lease, "handler": "sleep", "args": [0]} for lease in range(50)]
    for path, body in (
        ("/compute", call),
        ("/compute", {"calls": [call]}),
        ("/compute", {"calls": occupying}),
        ("/stop", {"leases": list(range(50))}),
    ):
        for headers in ({}, {"Authorization": "Bearer x"}):
            assert worker.ask("POST", path, body, **headers).status == 401
    second = submit(cluster, "transfer", "bob", 7)
    assert cluster.client.finished(second)["answer"] == "sent 7 to bob"
    let_go(cluster)
    assert cluster.client.finished(job)["answer"] == "held"
    assert effects(cluster) == ["hold", "transfer bob 7"]


def test_results_of_before_a_restart_of_the_master_count(cluster: Cluster) -> None:
    job = holding(cluster)
    cluster.restart_master(signal.SIGKILL)
    let_go(cluster)
    assert cluster.client.finished(job)["answer"] == "held"
    assert effects(cluster) == ["hold"]
