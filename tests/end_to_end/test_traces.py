"""The stack trace of a handler reaches whoever asks about its call, also after a restart."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from harness.cluster import Cluster
from harness.processes import DTE, Processes, run, until

import dte
from end_to_end.conftest import StartCluster

MODULE = """
import dte

def check(value):
    if value < 5:
        raise ValueError(f"{value} is too small")

@dte.handler("fail")
def fail(value: int):
    check(value)

@dte.handler("fail_async", retries=1)
async def fail_async(value: int):
    check(value)

@dte.handler("loud")
def loud():
    raise ValueError("\\0" * 1_000_000)
"""
FRAMES = ["Traceback (most recent call last):", "in fail", "in check", "ValueError: 1 is too small"]


@pytest.fixture
def cluster(start_cluster: StartCluster, processes: Processes, tmp_path: Path) -> Cluster:
    (tmp_path / "failing.py").write_text(MODULE)
    started = start_cluster(0)
    started.workers["w"] = processes.start_worker(started.port, "w", "--handlers", "failing")
    started.until_announced(1)
    return started


def submit(cluster: Cluster, **job: Any) -> dict[str, Any]:
    number = cluster.client.value("POST", "/jobs", job)["job_id"]
    return cluster.client.finished(number)


def shows_frames(text: str) -> bool:
    """True if a text has the frames of the handler from the first on, in their order."""
    places = [text.rfind(each) for each in FRAMES]
    return min(places) >= 0 and places == sorted(places) and "child.py" not in text


def test_the_trace_of_a_call_is_in_its_job_and_its_node_also_after_a_restart(
    cluster: Cluster,
) -> None:
    job = submit(cluster, handler="fail", args=[1])
    assert job["error"] == "ValueError: 1 is too small"
    assert shows_frames(job["trace"])
    (node,) = cluster.client.get(f"/job/{job['job_id']}/nodes")
    assert node["trace"] == job["trace"]
    cluster.restart_master()
    assert cluster.client.get(f"/job/{job['job_id']}") == job
    assert cluster.client.get(f"/job/{job['job_id']}/nodes") == [node]


def test_the_trace_of_a_graph_is_that_of_the_call_that_failed(cluster: Cluster) -> None:
    graph = {
        "first": {"handler": "echo", "args": [1]},
        "bad": {"handler": "fail_async", "args": [{"ref": "first"}]},
        "last": {"handler": "echo", "args": [{"ref": "bad"}]},
    }
    job = submit(cluster, graph=graph, answer="last")
    assert "in fail_async" in job["trace"]
    nodes = {each["node"]: each for each in cluster.client.get(f"/job/{job['job_id']}/nodes")}
    assert nodes["bad"]["trace"] == job["trace"]
    assert nodes["bad"]["attempts"] == 2
    assert [nodes[name]["trace"] for name in ("first", "last")] == [None, None]


def test_a_formula_has_the_trace_of_its_call(cluster: Cluster) -> None:
    job = submit(cluster, formula="1 + fail(1)")
    assert shows_frames(job["trace"])


def test_a_call_without_frames_has_no_trace(cluster: Cluster) -> None:
    assert submit(cluster, handler="fail", args=["x"])["trace"] is None
    assert submit(cluster, handler="echo", args=[1])["trace"] is None


def test_a_trace_is_short_and_may_have_any_characters(cluster: Cluster) -> None:
    job = submit(cluster, handler="loud", args=[])
    assert len(job["error"]) <= 2000
    assert "in loud" in job["trace"]
    assert len(job["trace"]) <= 8000
    cluster.restart_master()
    assert cluster.client.get(f"/job/{job['job_id']}") == job


def test_python_code_gets_the_trace_with_the_exception(cluster: Cluster) -> None:
    with dte.Client(cluster.url) as client:
        with pytest.raises(dte.JobFailed) as raised:
            client.call("fail", 1)
        assert shows_frames(raised.value.trace or "")
        assert str(raised.value) == "ValueError: 1 is too small"
        assert raised.value.__notes__ == [raised.value.trace]
        (node,) = client.nodes(raised.value.job)
        assert node.trace == raised.value.trace


def test_the_commands_show_the_trace(cluster: Cluster) -> None:
    number = str(submit(cluster, handler="fail", args=[1])["job_id"])
    for command in (("job", number), ("nodes", number), ("call", "fail", "1")):
        done = run(*DTE, *command, "--master", cluster.url)
        assert shows_frames(done.stdout + done.stderr), command
    done = run(*DTE, "nodes", number, "--json", "--master", cluster.url)
    assert shows_frames(json.loads(done.stdout)[0]["trace"])


def test_a_webhook_has_the_trace(cluster: Cluster) -> None:
    bodies: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        submit(cluster, handler="fail", args=[1], notify=url)
        until(lambda: bodies, "the webhook")
        server.shutdown()
    assert shows_frames(bodies[0]["trace"])
