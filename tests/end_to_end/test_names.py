"""Names of handlers: users' own ones in the place of built-in ones, and arguments of both kinds."""

from __future__ import annotations

import pytest
from harness.cluster import Cluster
from harness.processes import DTE, run

import dte
from end_to_end.conftest import StartCluster

MAIL = """
import dte

@dte.handler("send_email")
def send_email(recipient, subject="", body=""):
    return f"really sent to {recipient}"

@dte.handler("process_data")
def process_data(x: int, y: int) -> int:
    return 100 * x + y

@dte.handler("merge")
def merge(parts: list[str], sep: str = ",", *, title: str) -> str:
    return f"{title}: {sep.join(parts)}"
"""


def cluster_with(start_cluster: StartCluster, *workers: str) -> Cluster:
    """A master with a worker that has users' handlers, and one that has none, in an order."""
    cluster = start_cluster(workers=0)
    (cluster.folder / "mail.py").write_text(MAIL)
    for count, name in enumerate(workers, 1):
        cluster.start_worker(name, *(("--handlers", "mail") if name == "mine" else ()))
        cluster.until_announced(count)
    return cluster


def test_users_handlers_win_over_built_in_ones(start_cluster: StartCluster) -> None:
    cluster = cluster_with(start_cluster, "plain", "mine")
    with dte.Client(cluster.url) as client:
        sent = client.map("send_email", ["me"] * 20, timeout_s=20)
        assert set(sent) == {"really sent to me"}
        assert client.compute("process_data(1, 2) + 1", 20) == 103
        assert client.map("process_data", [1, 1, 1], [2, 2, 2]) == [102] * 3
        assert client.call("fibonacci", 10) == 55, "nobody has replaced it"
    # A task of a dialect means the built-in one, whoever does it.
    http = cluster.client
    for _ in range(6):
        for function, args in (("process_data", [1, 2]), ("send_email", ["me", "hi", "text"])):
            body = {"func_name": function, "args": args}
            number = int(http.value("POST", "/add_task", body)["task_id"])
            answer = http.finished(number)["answer"]
            assert answer in (3, "Email sent to me with subject 'hi'"), answer
    # Without its worker a call waits: the built-in one is another.
    cluster.workers["mine"].end()
    number = http.value("POST", "/jobs", {"handler": "send_email", "args": ["me"]})["job_id"]
    (reason,) = http.get(f"/job/{number}/why")["reasons"]
    assert reason["waits_for"] == "worker"
    assert "the built-in one does not count" in reason["text"]
    cluster.start_worker("again", "--handlers", "mail")
    assert http.finished(number)["answer"] == "really sent to me"


def test_arguments_are_mixed_in_calls_graphs_and_commands(start_cluster: StartCluster) -> None:
    cluster = cluster_with(start_cluster, "mine")
    with dte.Client(cluster.url) as client:
        assert client.call("merge", ["a", "b"], title="all") == "all: a,b"
        graph = dte.Graph()
        first = graph.call("echo", "x")
        graph.call("merge", [first, "y"], "-", title=first)
        assert client.run(graph, timeout_s=20) == "x: x-y"
        with pytest.raises(dte.JobFailed, match="'title' is missing"):
            client.call("merge", [])
        with pytest.raises(dte.JobFailed, match="'sep' is given twice, by position and by name"):
            client.call("merge", ["a"], ",", sep="-", title="b")
    done = run(*DTE, "call", "merge", '["a"]', "--arg", "title=all", "--master", cluster.url)
    assert (done.stdout, done.returncode) == ('"all: a"\n', 0)
    body = {"handler": "merge", "args": [["a"]], "kwargs": {"title": "all"}}
    number = cluster.client.value("POST", "/jobs", body)["job_id"]
    assert cluster.client.finished(number)["answer"] == "all: a"
    listed = {job["job_id"]: job["task"] for job in cluster.client.get("/jobs")}
    assert listed[number] == 'merge(["a"], title="all")'


def test_a_worker_that_does_not_mix_gets_no_such_call(start_cluster: StartCluster) -> None:
    http = start_cluster(workers=0).client
    body = {"handler": "merge", "args": [["a"]], "kwargs": {"title": "all"}}
    number = http.value("POST", "/jobs", body)["job_id"]
    claim = {"worker": "w", "handlers": ["merge"], "wait": 0.2}
    assert http.value("POST", "/claim", claim)["calls"] == []
    (call,) = http.value("POST", "/claim", claim | {"kwargs": True})["calls"]
    assert (call["args"], call["kwargs"], call["job_id"]) == ([["a"]], {"title": "all"}, number)
