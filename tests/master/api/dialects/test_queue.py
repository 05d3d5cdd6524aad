"""The queue's dialect: its client and its workers, as they are, against a master."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from wire.plain import Line, Message
from wire.until import until

from master.api.dialects import conversations
from master.rig import Hire, Rig, StartMaster

pytestmark = pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])


@pytest.fixture
def bounds(journal: bool, tmp_path: Path) -> dict[str, Any]:
    """Of a master with a journal, or without one."""
    return {"journal": str(tmp_path / "journal.db")} if journal else {}


@pytest.mark.parametrize("file", conversations.files("queue"), ids=lambda file: file.stem)
async def test_the_replies_are_those_of_the_golden_files(
    start_master: StartMaster, bounds: dict[str, Any], file: Path
) -> None:
    await conversations.hold(await start_master(**bounds), file)


async def submit(rig: Rig, task_type: str = "compute", **data: Any) -> int:
    """Submit a task as the command-line client does, and look for its id where that looks."""
    reply = await rig.post("/submit-task", {"task_type": task_type, "task_data": data})
    assert reply.status == 201, reply.json
    assert reply.json["task_id"] == reply.json["data"]["task_id"]
    return int(reply.json["task_id"])


async def poll(rig: Rig, worker: str) -> dict[str, Any] | None:
    """What a worker makes of the reply to its poll."""
    reply = await rig.post("/get-task", {"worker_id": worker})
    assert reply.status == 200, reply.json
    if reply.json.get("task") is None and "task_id" not in reply.json:
        return None
    return {**reply.json, "payload": json.loads(reply.json["payload"])}


async def requeue(rig: Rig, worker: str, task_id: int, **more: Any) -> dict[str, Any]:
    """What is said of a result that a worker sends."""
    body = {
        "task_id": task_id,
        "worker_id": worker,
        "status": "completed",
        "primes": [2, 3],
        "computation_time": 0.5,
        "method": "sieve",
    }
    reply = await rig.post("/submit-result", body | more)
    assert reply.status == 200, reply.json
    return dict(reply.json["data"])


async def shown(rig: Rig, task_id: int) -> dict[str, Any]:
    reply = await rig.get(f"/task/{task_id}")
    assert reply.status == 200, reply.json
    assert reply.json["status"] == "success"
    return dict(reply.json["data"])


async def polled(rig: Rig, worker: str) -> dict[str, Any]:
    """The task that a worker gets, as soon as there is one."""
    tasks: list[dict[str, Any]] = []
    for _ in range(500):
        task = await poll(rig, worker)
        if task is not None:
            tasks.append(task)
            break
        await until_turn(rig)
    assert tasks, "no task came"
    return tasks[0]


async def until_turn(rig: Rig) -> None:
    """Let a moment pass."""
    now = rig.master.now()
    await until(lambda: rig.master.now() > now + 0.01, "the next moment")


async def test_one_task_goes_to_one_worker(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    tasks = {await submit(rig, limit=number) for number in range(5)}
    given = [await poll(rig, f"worker-{number}") for number in range(6)]
    assert {task["task_id"] for task in given if task} == tasks
    assert given[-1] is None


async def test_tasks_are_done_in_the_order_in_which_they_came(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    tasks = [await submit(rig) for _ in range(4)]
    assert [(await polled(rig, "w"))["task_id"] for _ in tasks] == tasks


@pytest.mark.parametrize("data", [[1, 2], "text", 7, None, {"ref": "a"}, {"literal": [{"ref": 1}]}])
async def test_the_data_come_back_as_they_were(
    start_master: StartMaster, bounds: dict[str, Any], data: Any
) -> None:
    rig = await start_master(**bounds)
    reply = await rig.post("/submit-task", {"task_type": "resize", "task_data": data})
    assert reply.status == 201, reply.json
    task = await poll(rig, "w")
    assert task is not None
    assert task["payload"] == data
    assert task["task_type"] == "resize"


async def test_a_lease_that_runs_out_gives_the_task_to_another_worker(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(queue_lease_s=0.5, **bounds)
    task_id = await submit(rig)
    assert await poll(rig, "first")
    again = await polled(rig, "second")
    assert again["task_id"] == task_id
    task = await shown(rig, task_id)
    assert (task["status"], task["attempts"], task["assigned_to"]) == ("in-progress", 2, "second")
    assert not (await requeue(rig, "first", task_id))["saved"]
    assert (await requeue(rig, "second", task_id))["saved"]


async def test_a_result_whose_lease_ran_out_counts_as_long_as_nobody_else_has_the_task(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(queue_lease_s=0.1, **bounds)
    task_id = await submit(rig)
    assert await poll(rig, "first")
    await until(lambda: not rig.master.core.calls.leases, "the lease's end")
    assert (await shown(rig, task_id))["status"] == "pending"
    assert (await shown(rig, task_id))["assigned_to"] is None
    assert (await requeue(rig, "first", task_id))["saved"]
    assert (await shown(rig, task_id))["status"] == "completed"
    assert await poll(rig, "second") is None


async def test_a_result_without_a_name_is_that_of_the_worker_that_polled(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    task_id = await submit(rig)
    assert await poll(rig, "w")
    assert (await requeue(rig, "", task_id, worker_id=None))["saved"]
    assert (await shown(rig, task_id))["assigned_to"] == "w"


@pytest.mark.parametrize("claims", [True, False], ids=["claims", "polls"])
async def test_a_result_without_a_name_does_not_count_for_a_worker_of_another_dialect(
    start_master: StartMaster, bounds: dict[str, Any], claims: bool
) -> None:
    rig = await start_master(**bounds)
    graph = {"a": {"handler": "process_data", "args": [1, 2]}}
    task_id = await rig.accept(graph=graph)
    if claims:
        claimed = await rig.post("/claim", {"worker": "able", "handlers": ["process_data"]})
        assert claimed.json["calls"]
    else:
        assert (await rig.get("/get_task/able")).status == 200
    said = await requeue(rig, "", task_id, worker_id=None)
    assert (said["saved"], said["status"]) == (False, "in-progress")
    assert said["message"] == "Task is not assigned to this worker"
    assert (await rig.job(task_id))["state"] == "running"


async def test_heartbeats_keep_the_lease(start_master: StartMaster, bounds: dict[str, Any]) -> None:
    rig = await start_master(queue_lease_s=0.5, **bounds)
    task_id = await submit(rig)
    assert await poll(rig, "w")
    end = rig.master.now() + 0.8
    while rig.master.now() < end:
        await rig.post("/heartbeat", {"worker_id": "w"})
        assert await poll(rig, "other") is None
        await until_turn(rig)
    assert (await shown(rig, task_id))["attempts"] == 1
    assert (await requeue(rig, "w", task_id))["saved"]


async def test_what_a_worker_forgot_is_not_kept_by_its_heartbeats(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(queue_lease_s=0.3, **bounds)
    task_id = await submit(rig)
    assert await poll(rig, "w")  # The reply is lost, say.
    assert await poll(rig, "w") is None
    for _ in range(100):
        await rig.post("/heartbeat", {"worker_id": "w"})
        task = await poll(rig, "w")
        if task is not None:
            break
        await until_turn(rig)
    assert task is not None
    assert task["task_id"] == task_id


async def test_a_worker_that_is_silent_is_dead_and_its_task_goes_to_another(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(queue_dead_after_s=0.2, **bounds)
    task_id = await submit(rig)
    await rig.post("/heartbeat", {"worker_id": "w", "status": "alive", "metadata": {"a": 1}})
    assert await poll(rig, "w")
    stats = (await rig.get("/stats")).json["data"]
    assert stats["active_workers"] == 1
    assert stats["workers"][0]["metadata"] == '{"a":1}'
    rig.master.core.workers()[0].last_seen_at -= 10
    await until(lambda: rig.master.core.workers()[0].gone, "the worker's end")
    stats = (await rig.get("/stats")).json["data"]
    assert (stats["active_workers"], stats["pending_tasks"]) == (0, 1)
    assert (await polled(rig, "other"))["task_id"] == task_id


async def test_a_task_that_loses_all_its_workers_fails(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(queue_lease_s=0.1, queue_attempts_max=2, **bounds)
    task_id = await submit(rig)
    assert (await shown(rig, task_id))["max_attempts"] == 2
    for number in range(2):
        await polled(rig, f"worker-{number}")
        await until(lambda: not rig.master.core.calls.leases, "the lease's end")
    await until(lambda: rig.idle, "the job's end")
    task = await shown(rig, task_id)
    assert (task["status"], task["attempts"]) == ("failed", 2)
    assert "2 workers died" in task["error"]


async def test_a_result_that_is_too_long_fails_its_task_and_says_why(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(value_bytes_max=1_000, **bounds)
    for primes in ([7] * 600, [7] * 5_000):
        task_id = await submit(rig)
        assert await poll(rig, "w")
        assert (await requeue(rig, "w", task_id, primes=primes))["saved"]
        task = await shown(rig, task_id)
        assert task["status"] == "failed"
        assert "value_bytes_max" in task["error"]


async def test_a_worker_that_is_called_does_the_tasks_too(
    start_master: StartMaster, bounds: dict[str, Any], hire: Hire
) -> None:
    asked: list[Any] = []

    async def compute(request: Message, line: Line) -> None:
        asked.append(request.json)
        result = {"status": "completed", "primes": [2], "computation_time": 0.1, "method": "sieve"}
        await line.reply(200, {"result": result})

    rig = await start_master(**bounds)
    await hire(rig, compute, handlers=["compute"], arithmetic=False)
    task_id = await submit(rig, limit=2, method="sieve")
    await until(lambda: rig.idle, "the job's end")
    assert asked[0]["args"] == {"limit": 2, "method": "sieve"}
    task = await shown(rig, task_id)
    assert (task["status"], task["primes"], task["assigned_to"]) == ("completed", [2], "w")


async def test_what_a_worker_can_do_that_says_so_is_left_to_it(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    await rig.post("/claim", {"worker": "able", "handlers": ["resize"], "wait": 0})
    await submit(rig, "resize")
    assert await poll(rig, "w") is None
    assert (await rig.post("/claim", {"worker": "able", "handlers": ["resize"]})).json["calls"]


async def test_jobs_of_other_kinds_are_shown(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    await rig.post("/submit", {"task": "1+2"})
    assert (await shown(rig, 1))["task_type"] == "formula"
    graph = {"a": {"handler": "compute", "args": [10]}, "b": {"handler": "prime", "args": [20]}}
    assert (await rig.post("/jobs", {"graph": graph})).status == 201
    assert (await shown(rig, 2))["task_type"] == "graph"
    assert (await shown(rig, 2))["status"] == "pending"
    # Both calls are of one job, whose number is all that such a worker says.
    for _ in graph:
        task = await polled(rig, "w")
        assert task["payload"] in ({"limit": 10}, {"limit": 20})
        assert task["task_id"] == 2
        assert (await requeue(rig, "w", 2))["saved"]
    task = await shown(rig, 2)
    assert task["status"] == "completed"
    assert set(task["result"]) == {"a", "b"}
    assert (await rig.get("/stats")).json["data"]["pending_tasks"] == 1


async def test_a_cancelled_task_is_failed_and_goes_to_nobody(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    task_id = await submit(rig)
    await rig.post(f"/job/{task_id}/cancel")
    assert await poll(rig, "w") is None
    task = await shown(rig, task_id)
    assert (task["status"], task["error"]) == ("failed", "cancelled")
    assert not (await requeue(rig, "w", task_id))["saved"]


async def test_two_polls_at_a_time_under_one_name_get_two_tasks(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    tasks = [await submit(rig), await submit(rig)]
    given = await asyncio.gather(poll(rig, "worker_auto"), poll(rig, "worker_auto"))
    assert sorted(task["task_id"] for task in given if task) == tasks
    for task_id in tasks:
        assert (await requeue(rig, "worker_auto", task_id))["saved"]


async def test_a_body_that_is_too_large_is_refused(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(body_bytes_max=1_000, value_bytes_max=500, **bounds)
    for path in ("/submit-task", "/get-task", "/submit-result", "/heartbeat"):
        reply = await rig.post(path, {"task_type": "compute", "task_data": "a" * 1_000})
        assert reply.status == 413, path
    reply = await rig.post("/submit-task", {"task_type": "compute", "task_data": "a" * 600})
    assert reply.status == 413
    assert "value_bytes_max" in reply.json["error"]


@pytest.mark.parametrize("depth", [100, 500, 900, 2_000])
@pytest.mark.parametrize("inmost", [b"1", b'{"ref": "a"}'])
async def test_data_that_nest_deep_are_refused_or_handed_out(
    start_master: StartMaster, bounds: dict[str, Any], depth: int, inmost: bytes
) -> None:
    rig = await start_master(**bounds)
    data = b"[" * depth + inmost + b"]" * depth
    reply = await rig.post("/submit-task", b'{"task_type": "compute", "task_data": %s}' % data)
    assert reply.status == (201 if depth == 100 else 400)
    if depth == 100:
        task = await poll(rig, "w")
        assert task is not None
        assert task["payload"] == {"limit": json.loads(data)}


async def test_who_meets_a_bound_is_told_when_to_come_again(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(jobs_waiting_max=1, workers_max=1, **bounds)
    await submit(rig)
    reply = await rig.post("/submit-task", {"task_type": "compute"})
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert await poll(rig, "w")
    reply = await rig.post("/get-task", {"worker_id": "another"})
    assert (reply.status, reply.headers["retry-after"]) == (429, "5")
    assert "workers_max" in reply.json["error"]


async def test_a_restart_in_mid_task_changes_nothing_for_the_worker(
    start_master: StartMaster, bounds: dict[str, Any], journal: bool
) -> None:
    if not journal:
        pytest.skip("nothing survives without a journal")
    rig = await start_master(**bounds)
    ended, running, waiting = [await submit(rig, "resize", number=n) for n in range(3)]
    assert (await polled(rig, "w"))["task_id"] == ended
    await requeue(rig, "w", ended)
    assert (await polled(rig, "w"))["task_id"] == running
    await rig.stop()

    rig = await start_master(**bounds)
    jobs = rig.master.core.jobs
    await until(lambda: jobs.job(running).calls and jobs.job(waiting).calls, "the jobs go on")
    assert (await shown(rig, ended))["primes"] == [2, 3]
    task = await shown(rig, running)
    assert (task["status"], task["attempts"], task["assigned_to"]) == ("in-progress", 1, "w")
    assert (await requeue(rig, "w", running))["saved"]
    # Its type is known still, though nobody has submitted one since.
    task = await polled(rig, "w")
    assert (task["task_id"], task["payload"]) == (waiting, {"number": 2})
    assert (await requeue(rig, "w", waiting))["saved"]
    assert (await shown(rig, waiting))["status"] == "completed"


async def test_a_task_that_ended_long_ago_is_shown_from_the_journal(
    start_master: StartMaster, bounds: dict[str, Any], journal: bool
) -> None:
    if not journal:
        pytest.skip("nothing is kept without a journal")
    rig = await start_master(jobs_kept=1, **bounds)
    for _ in range(3):
        task_id = await submit(rig)
        await polled(rig, "w")
        await requeue(rig, "w", task_id)
    task = await shown(rig, 1)
    assert (task["task_type"], task["status"], task["primes"]) == ("compute", "completed", [2, 3])
    assert (task["attempts"], task["assigned_to"]) == (1, "w")
    assert not (await requeue(rig, "w", 1))["saved"]
