"""Clients and workers of other systems, beside dte's own worker, over one master."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from harness.processes import until

from end_to_end.conftest import StartCluster

FIBONACCI = {
    "name": "Calculate Fibonacci",
    "handler": "fibonacci",
    "args": b64encode(b'{"n":10}').decode(),
}


def test_the_examples_of_the_dialect_of_resources_are_done(start_cluster: StartCluster) -> None:
    cluster = start_cluster(workers=0)
    client = cluster.client
    worker = {"id": "worker_id", "capabilities": ["capability1", "capability2"]}
    client.value("POST", "/workers", worker | {"resources": {"cpu": 100}})
    task_id = client.value("POST", "/tasks", FIBONACCI)["id"]
    until(lambda: task_id in client.get("/workers/worker_id")["CurrentTasks"], "it has the task")
    assert client.get(f"/tasks/{task_id}")["CompletedAt"] is None
    # It does not know the handler; a worker of dte does.
    cluster.start_worker("knows-it")
    cluster.until_announced(2)
    failed = {"status": "failed", "error": "handler not found"}
    reply = client.ask("POST", f"/workers/worker_id/tasks/{task_id}/complete", failed)
    assert reply.status == 204

    def done() -> Any:
        task = client.get(f"/tasks/{task_id}")
        return task if task["Status"] not in ("pending", "running") else None

    task = until(done, "the task is done")
    assert (task["Status"], task["WorkerID"]) == ("completed", "knows-it")
    assert b64decode(task["Result"]) == b"Fibonacci(10) = 55"


def test_tasks_of_the_queue_have_defaults_whoever_does_them(start_cluster: StartCluster) -> None:
    client = start_cluster(workers=1).client
    limits = {"limit": 30.0, "method": "unknown", "type": "prime", "note": "ignored"}
    for data in (limits, {"limit": 30}, None):
        body = {"task_type": "compute"} | ({} if data is None else {"task_data": data})
        number = client.value("POST", "/submit-task", body)["task_id"]
        client.finished(number)
        task = client.get(f"/task/{number}")["data"]
        assert (task["status"], task["method"]) == ("completed", "sieve"), task
        assert len(task["primes"]) == (9_592 if data is None else 10)
