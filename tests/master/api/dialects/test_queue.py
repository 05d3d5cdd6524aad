"""The queue's dialect: its client and its workers, as they are, against a master."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness.http import Line, Message
from harness.until import until

from master.api.dialects import conversations
from master.api.dialects.pollers import Queue
from master.rig import Hire, Rig, StartMaster


@pytest.fixture
def queue(keeping: Rig) -> Queue:
    """The dialect of a master, once with a journal and once without."""
    return Queue(keeping)


@pytest.mark.parametrize("file", conversations.files("queue"), ids=lambda file: file.stem)
async def test_the_replies_are_those_of_the_golden_files(keeping: Rig, file: Path) -> None:
    await conversations.hold(keeping, file)


@pytest.mark.parametrize("data", [[1, 2], "text", 7, None, {"ref": "a"}, {"literal": [{"ref": 1}]}])
async def test_the_data_come_back_as_they_were(queue: Queue, data: Any) -> None:
    await queue.submit("resize", task_data=data)
    task = await queue.poll("w")
    assert task is not None
    assert task["payload"] == data
    assert task["task_type"] == "resize"


@pytest.mark.parametrize("claims", [True, False], ids=["claims", "polls"])
async def test_a_result_without_a_name_does_not_count_for_a_worker_of_another_dialect(
    queue: Queue, claims: bool
) -> None:
    graph = {"a": {"handler": "process_data", "args": [1, 2]}}
    task_id = await queue.rig.accept(graph=graph)
    if claims:
        claimed = await queue.rig.post("/claim", {"worker": "able", "handlers": ["process_data"]})
        assert claimed.json["calls"]
    else:
        assert (await queue.rig.get("/get_task/able")).status == 200
    receipt = await queue.report(None, task_id)
    assert (receipt["saved"], receipt["status"]) == (False, "in-progress")
    assert receipt["message"] == "Task is not assigned to this worker"
    assert (await queue.rig.job(task_id))["state"] == "running"


async def test_a_worker_that_is_silent_is_dead_and_its_task_goes_to_another(
    start: StartMaster,
) -> None:
    rig = await start(queue_dead_after_s=0.2)
    queue = Queue(rig)
    task_id = await queue.submit()
    await rig.post("/heartbeat", {"worker_id": "w", "status": "alive", "metadata": {"a": 1}})
    assert await queue.poll("w")
    stats = (await rig.get("/stats")).json["data"]
    assert stats["active_workers"] == 1
    assert stats["workers"][0]["metadata"] == '{"a":1}'
    rig.master.core.workers()[0].last_seen_at -= 10
    await until(lambda: rig.master.core.workers()[0].gone, "the worker's end")
    stats = (await rig.get("/stats")).json["data"]
    assert (stats["active_workers"], stats["pending_tasks"]) == (0, 1)
    assert (await queue.polled("other"))["task_id"] == task_id


async def test_a_task_that_loses_all_its_workers_fails(start: StartMaster) -> None:
    rig = await start(queue_lease_s=0.1, queue_attempts_max=2)
    queue = Queue(rig)
    task_id = await queue.submit()
    assert (await queue.shown(task_id))["max_attempts"] == 2
    for number in range(2):
        await queue.polled(f"worker-{number}")
        await until(lambda: not rig.master.core.calls.leases, "the lease's end")
    await until(lambda: rig.idle, "the job's end")
    task = await queue.shown(task_id)
    assert (task["status"], task["attempts"]) == ("failed", 2)
    assert "2 workers died" in task["error"]


async def test_a_result_that_is_too_long_fails_its_task_and_says_why(start: StartMaster) -> None:
    rig = await start(value_bytes_max=1_000)
    queue = Queue(rig)
    for primes in ([7] * 600, [7] * 5_000):
        task_id = await queue.submit()
        assert await queue.poll("w")
        assert (await queue.report("w", task_id, primes=primes))["saved"]
        task = await queue.shown(task_id)
        assert task["status"] == "failed"
        assert "value_bytes_max" in task["error"]


async def test_a_worker_that_is_called_does_the_tasks_too(queue: Queue, hire: Hire) -> None:
    asked: list[Any] = []

    async def compute(request: Message, line: Line) -> None:
        asked.append(request.json)
        result = {"status": "completed", "primes": [2], "computation_time": 0.1, "method": "sieve"}
        await line.reply(200, {"result": result})

    await hire(queue.rig, compute, handlers=["compute"], arithmetic=False)
    task_id = await queue.submit(task_data={"limit": 2, "method": "sieve"})
    await until(lambda: queue.rig.idle, "the job's end")
    assert asked[0]["args"] == {"limit": 2, "method": "sieve"}
    task = await queue.shown(task_id)
    assert (task["status"], task["primes"], task["assigned_to"]) == ("completed", [2], "w")


async def test_types_that_another_worker_has_announced_are_left_to_it(queue: Queue) -> None:
    await queue.rig.post("/claim", {"worker": "able", "handlers": ["resize"], "wait": 0})
    await queue.submit("resize")
    assert await queue.poll("w") is None
    assert (await queue.rig.post("/claim", {"worker": "able", "handlers": ["resize"]})).json[
        "calls"
    ]


async def test_jobs_of_other_kinds_are_shown(queue: Queue) -> None:
    await queue.rig.post("/submit", {"task": "1+2"})
    assert (await queue.shown(1))["task_type"] == "formula"
    graph = {"a": {"handler": "compute", "args": [10]}, "b": {"handler": "prime", "args": [20]}}
    assert (await queue.rig.post("/jobs", {"graph": graph})).status == 201
    assert (await queue.shown(2))["task_type"] == "graph"
    assert (await queue.shown(2))["status"] == "pending"
    # Both calls are of one job, and such a worker names only the job.
    for _ in graph:
        task = await queue.polled("w")
        assert task["payload"] in ({"limit": 10}, {"limit": 20})
        assert task["task_id"] == 2
        assert (await queue.report("w", 2))["saved"]
    task = await queue.shown(2)
    assert task["status"] == "completed"
    assert set(task["result"]) == {"a", "b"}
    assert (await queue.rig.get("/stats")).json["data"]["pending_tasks"] == 1


async def test_a_cancelled_task_is_failed_and_goes_to_nobody(queue: Queue) -> None:
    task_id = await queue.submit()
    await queue.rig.post(f"/job/{task_id}/cancel")
    assert await queue.poll("w") is None
    task = await queue.shown(task_id)
    assert (task["status"], task["error"]) == ("failed", "cancelled")
    assert not (await queue.report("w", task_id))["saved"]


async def test_a_body_that_is_too_large_is_refused(start: StartMaster) -> None:
    rig = await start(body_bytes_max=1_000, value_bytes_max=500)
    for path in ("/submit-task", "/get-task", "/submit-result", "/heartbeat"):
        reply = await rig.post(path, {"task_type": "compute", "task_data": "a" * 1_000})
        assert reply.status == 413, path
    reply = await rig.post("/submit-task", {"task_type": "compute", "task_data": "a" * 600})
    assert reply.status == 413
    assert "value_bytes_max" in reply.json["error"]


@pytest.mark.parametrize("depth", [100, 390, 500, 900, 2_000, 20_000])
@pytest.mark.parametrize("inmost", [b"1", b'{"ref": "a"}'])
async def test_data_that_nest_deep_are_refused_or_handed_out(
    queue: Queue, depth: int, inmost: bytes
) -> None:
    data = b"[" * depth + inmost + b"]" * depth
    reply = await queue.rig.post(
        "/submit-task", b'{"task_type": "compute", "task_data": %s}' % data
    )
    assert reply.status == (201 if depth < 400 else 400)
    if depth < 400:
        task = await queue.poll("w")
        assert task is not None
        assert task["payload"] == {"limit": json.loads(data)}


async def test_a_restart_in_mid_task_changes_nothing_for_the_worker(
    start_journaled: StartMaster,
) -> None:
    rig = await start_journaled()
    queue = Queue(rig)
    ended, running, waiting = [
        await queue.submit("resize", task_data={"number": n}) for n in range(3)
    ]
    assert (await queue.polled("w"))["task_id"] == ended
    await queue.report("w", ended)
    assert (await queue.polled("w"))["task_id"] == running
    await rig.stop()

    rig = await start_journaled()
    queue = Queue(rig)
    jobs = rig.master.core.jobs
    await until(lambda: jobs.job(running).calls and jobs.job(waiting).calls, "the jobs go on")
    assert (await queue.shown(ended))["primes"] == [2, 3]
    task = await queue.shown(running)
    assert (task["status"], task["attempts"], task["assigned_to"]) == ("in-progress", 1, "w")
    assert (await queue.report("w", running))["saved"]
    # Its type is still known, though no such task has been submitted since.
    task = await queue.polled("w")
    assert (task["task_id"], task["payload"]) == (waiting, {"number": 2})
    assert (await queue.report("w", waiting))["saved"]
    assert (await queue.shown(waiting))["status"] == "completed"


async def test_a_task_that_ended_long_ago_is_shown_from_the_journal(
    start_journaled: StartMaster,
) -> None:
    rig = await start_journaled(jobs_kept=1)
    queue = Queue(rig)
    for _ in range(3):
        task_id = await queue.submit()
        await queue.polled("w")
        await queue.report("w", task_id)
    task = await queue.shown(1)
    assert (task["task_type"], task["status"], task["primes"]) == ("compute", "completed", [2, 3])
    assert (task["attempts"], task["assigned_to"]) == (1, "w")
    assert not (await queue.report("w", 1))["saved"]
