"""The scheduler's dialect: its clients and its workers, as they are, against a master."""

from __future__ import annotations

from datetime import datetime
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
    """Of a master with a journal, or without one; what fails is tried again soon."""
    kept = {"journal": str(tmp_path / "journal.db")} if journal else {}
    return {"retry_pause_s": 0.001, "retry_pause_max_s": 0.002} | kept


@pytest.mark.parametrize("file", conversations.files("scheduler"), ids=lambda file: file.stem)
async def test_the_replies_are_those_of_the_golden_files(
    start_master: StartMaster, bounds: dict[str, Any], file: Path
) -> None:
    await conversations.hold(await start_master(**bounds), file)


async def add(rig: Rig, function: str = "process_data", **more: Any) -> str:
    """Add a task, and give its id."""
    reply = await rig.post("/add_task", {"func_name": function} | more)
    assert reply.status == 201, reply.json
    task_id: str = reply.json["task_id"]
    assert isinstance(task_id, str)
    return task_id


async def poll(rig: Rig, worker: str) -> dict[str, Any] | None:
    """What a worker makes of the reply to its poll."""
    reply = await rig.get(f"/get_task/{worker}")
    if reply.status == 204:
        assert not reply.body
        return None
    assert reply.status == 200, reply.json
    return dict(reply.json)


async def polled(rig: Rig, worker: str) -> dict[str, Any]:
    """The task that a worker gets, as soon as there is one."""
    for _ in range(500):
        task = await poll(rig, worker)
        if task is not None:
            return task
        await next_moment(rig)
    raise AssertionError("no task came")


async def next_moment(rig: Rig) -> None:
    now = rig.master.now()
    await until(lambda: rig.master.now() > now + 0.01, "the next moment")


async def report(rig: Rig, worker: str | None, task_id: str, status: str, **more: Any) -> str:
    """What is said of a status that a worker reports."""
    body = {"task_id": task_id, "status": status, "worker_id": worker}
    reply = await rig.post("/task_status", body | more)
    assert reply.status == 200, reply.json
    return str(reply.json["message"])


async def statuses(rig: Rig) -> dict[str, int]:
    reply = await rig.get("/status")
    assert reply.json["total_tasks"] == sum(reply.json["tasks_by_status"].values())
    return dict(reply.json["tasks_by_status"])


async def test_a_task_has_all_that_a_worker_reads(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    await add(rig, args=[1, 2], priority=3, timeout=30)
    task = await poll(rig, "w")
    assert task is not None
    created, started = (datetime.fromisoformat(task[key]) for key in ("created_at", "started_at"))
    assert created.tzinfo is None
    assert abs((datetime.now() - created).total_seconds()) < 60
    assert started >= created
    assert (task["timeout"], task["priority"], task["retries"]) == (30, 3, 0)
    assert (task["max_retries"], task["completed_at"], task["worker_id"]) == (3, None, "w")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([1, 2], {}),
        ([], {"x": 1, "y": 2}),
        ([1], {"y": 2}),
        ([{"ref": "a"}, {"literal": 1}], {}),
        ([], {"ref": "a"}),
    ],
)
async def test_arguments_are_handed_out_as_they_were_given(
    start_master: StartMaster, bounds: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    await add(rig, args=args, kwargs=kwargs)
    task = await poll(rig, "w")
    assert task is not None
    assert (task["args"], task["kwargs"]) == (args, kwargs)


async def test_a_worker_that_is_called_gets_named_arguments_where_both_kinds_were_given(
    start_master: StartMaster, bounds: dict[str, Any], hire: Hire
) -> None:
    asked: list[Any] = []

    async def compute(request: Message, line: Line) -> None:
        asked.append(request.json["args"])
        await line.reply(200, {"result": 3})

    rig = await start_master(**bounds)
    await hire(rig, compute, handlers=["process_data", "resize"], arithmetic=False)
    await add(rig, args=[1], kwargs={"y": 2})
    await until(lambda: rig.idle, "the first job's end")
    await add(rig, args=[1, 2])
    await until(lambda: rig.idle, "the second job's end")
    await add(rig, "resize", kwargs={"width": 2})
    await until(lambda: rig.idle, "the third job's end")
    assert asked == [{"x": 1, "y": 2}, [1, 2], {"width": 2}]
    assert await statuses(rig) == {"COMPLETED": 3}
    reply = await rig.post("/add_task", {"func_name": "resize", "args": [1], "kwargs": {"a": 2}})
    assert reply.status == 422


async def test_higher_priority_comes_first_and_a_task_that_waits_keeps_nobody_up(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    low = await add(rig, priority=1)
    waiting = await add(rig, priority=9, dependencies=[low])
    high = await add(rig, priority=5)
    order = []
    for _ in range(3):
        task = await polled(rig, "w")
        order.append(task["task_id"])
        await report(rig, "w", task["task_id"], "COMPLETED", result=1)
    assert order == [high, low, waiting]


async def test_what_fails_is_tried_three_times_and_takes_its_dependants_with_it(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    task_id = await add(rig)
    dependant = await add(rig, dependencies=[task_id])
    retries = []
    for status in ("FAILED", "TIMED_OUT", "FAILED"):
        task = await polled(rig, "w")
        assert task["task_id"] == task_id
        retries.append(task["retries"])
        await report(rig, "w", task_id, status, error_message="no")
    assert retries == [0, 1, 2]
    await until(lambda: rig.idle, "the dependant's end")
    assert await statuses(rig) == {"FAILED": 2}
    assert await poll(rig, "w") is None
    job = await rig.job(int(dependant))
    assert job["error"] == f"skipped because job {task_id} failed"
    # One that is added later fails as soon.
    await add(rig, dependencies=[int(dependant)])
    await until(lambda: rig.idle, "the job's end")
    assert await statuses(rig) == {"FAILED": 3}


async def test_a_task_that_takes_too_long_is_timed_out_without_its_worker(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    task_id = await add(rig, timeout=0.05)
    for number in range(3):
        assert (await polled(rig, f"worker-{number}"))["timeout"] == 0.05
    await until(lambda: rig.idle, "the job's end")
    assert await statuses(rig) == {"TIMED_OUT": 1}
    assert "ended before" in await report(rig, "worker-2", task_id, "COMPLETED", result=1)


async def test_a_silent_worker_is_dead_and_its_task_goes_to_another(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(scheduler_dead_after_s=0.5, **bounds)
    task_id = await add(rig)
    assert await poll(rig, "first")
    again = await polled(rig, "second")
    assert again["task_id"] == task_id
    assert "not with worker" in await report(rig, "first", task_id, "COMPLETED", result=1)
    assert f"Task {task_id} is COMPLETED" == await report(
        rig, "second", task_id, "COMPLETED", result=1
    )
    await until(lambda: all(worker.gone for worker in rig.master.core.workers()), "their ends")
    reply = (await rig.get("/status")).json
    assert reply["active_workers"] == 0
    assert reply["worker_details"]["first"]["status"] == "INACTIVE"


async def test_heartbeats_keep_the_task_of_a_worker_that_never_registered(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(scheduler_dead_after_s=0.5, **bounds)
    task_id = await add(rig)
    assert await poll(rig, "w")
    end = rig.master.now() + 0.8
    while rig.master.now() < end:
        assert (await rig.ask("PUT", "/heartbeat/w")).status == 200
        await next_moment(rig)
    assert await poll(rig, "other") is None
    assert await report(rig, "w", task_id, "COMPLETED", result=1) == "Task 1 is COMPLETED"


async def test_a_late_result_counts_as_long_as_nobody_else_has_the_task(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(scheduler_dead_after_s=0.1, **bounds)
    task_id = await add(rig)
    assert await poll(rig, "w")
    await until(lambda: not rig.master.core.calls.leases, "the lease's end")
    assert await statuses(rig) == {"PENDING": 1}
    assert await report(rig, "w", task_id, "COMPLETED", result=1) == "Task 1 is COMPLETED"
    assert await statuses(rig) == {"COMPLETED": 1}


async def test_a_status_without_a_name_is_that_of_the_worker_that_polled(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    task_id = await add(rig)
    assert await poll(rig, "w")
    assert await report(rig, None, task_id, "COMPLETED", result=1) == "Task 1 is COMPLETED"


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELED"])
async def test_a_status_without_a_name_does_not_count_for_a_worker_of_another_dialect(
    start_master: StartMaster, bounds: dict[str, Any], status: str
) -> None:
    rig = await start_master(**bounds)
    claim = {"worker": "able", "handlers": ["process_data", "compute"]}
    task_id = await add(rig)
    (call,) = (await rig.post("/claim", claim)).json["calls"]
    other = (await rig.post("/submit-task", {"task_type": "compute"})).json["task_id"]
    assert (await rig.post("/get-task", {"worker_id": "q"})).json["task_id"] == other
    for each in (task_id, str(other)):
        said = await report(rig, None, each, status, result=1)
        assert said == f"Task {each} is not with a worker that polls here; nothing is changed"
    assert await statuses(rig) == {"RUNNING": 2}
    results = {"worker": "able", "results": [{"lease": call["lease"], "result": 7}]}
    assert (await rig.post("/result", results)).json["accepted"] == [call["lease"]]
    assert (await rig.job(int(task_id)))["answer"] == 7


async def test_a_worker_that_leaves_gives_back_what_it_has(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    task_id = await add(rig)
    assert await poll(rig, "first")
    assert (await rig.ask("DELETE", "/unregister/first")).status == 200
    assert (await polled(rig, "second"))["task_id"] == task_id
    reply = (await rig.get("/status")).json
    assert list(reply["worker_details"]) == ["second"]


async def test_a_cancelled_task_never_starts_and_what_runs_ends_at_once(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    running, waiting = await add(rig), await add(rig)
    assert await poll(rig, "w")
    for task_id in (running, waiting):
        assert (await rig.post(f"/cancel_task/{task_id}")).status == 200
    assert await poll(rig, "other") is None
    assert await statuses(rig) == {"CANCELED": 2}
    assert (await rig.job(int(running)))["state"] == "cancelled"


async def test_jobs_of_other_kinds_are_seen_and_done(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    await rig.post("/submit", {"task": "1+2"})
    graph = {
        "a": {"handler": "calculate_pi", "args": {"n_digits": 3}},
        "b": {"handler": "process_data", "args": [{"ref": "a"}, 1]},
        "c": {"handler": "process_data", "args": [1, 1]},
    }
    assert (await rig.post("/jobs", {"graph": graph, "answer": "b"})).status == 201
    assert await statuses(rig) == {"PENDING": 2}
    results = {"calculate_pi": 3, "process_data": 4}
    for _ in graph:
        task = await polled(rig, "w")
        assert task["task_id"] == "2"
        await report(rig, "w", "2", "COMPLETED", result=results[task["func"]])
    assert (await rig.job(2))["answer"] == 4
    assert await statuses(rig) == {"PENDING": 1, "COMPLETED": 1}
    formula = await rig.submit("calculate_pi(3) * 2")
    task = await polled(rig, "w")
    assert (task["task_id"], task["args"]) == (str(formula), [3])
    await report(rig, "w", str(formula), "COMPLETED", result=3.5)


async def test_a_task_is_done_once_its_dependencies_in_another_dialect_are(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(**bounds)
    reply = await rig.post("/submit-task", {"task_type": "compute", "task_data": {"limit": 5}})
    first = reply.json["task_id"]
    task_id = await add(rig, dependencies=[str(first)])
    assert await poll(rig, "w") is None
    assert (await rig.post("/get-task", {"worker_id": "q"})).json["task_id"] == first
    body = {"task_id": first, "worker_id": "q", "status": "completed", "primes": [2, 3, 5]}
    assert (await rig.post("/submit-result", body)).json["data"]["saved"]
    task = await polled(rig, "w")
    assert (task["task_id"], task["dependencies"]) == (task_id, [str(first)])


async def test_who_meets_a_bound_is_told_when_to_come_again(
    start_master: StartMaster, bounds: dict[str, Any]
) -> None:
    rig = await start_master(jobs_waiting_max=1, workers_max=1, body_bytes_max=1_000, **bounds)
    await add(rig)
    reply = await rig.post("/add_task", {"func_name": "process_data"})
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert "jobs_waiting_max" in reply.json["detail"]
    assert await poll(rig, "w")
    reply = await rig.get("/get_task/another")
    assert (reply.status, reply.headers["retry-after"]) == (429, "5")
    for path in ("/add_task", "/task_status"):
        reply = await rig.post(path, {"func_name": "a" * 1_000})
        assert (reply.status, list(reply.json)) == (413, ["detail"])


async def test_a_restart_in_mid_task_changes_nothing_for_the_worker(
    start_master: StartMaster, bounds: dict[str, Any], journal: bool
) -> None:
    if not journal:
        pytest.skip("nothing survives without a journal")
    rig = await start_master(**bounds)
    running = await add(rig, args=[1], kwargs={"y": 2})
    dependant = await add(rig, args=[1], kwargs={"y": 2}, dependencies=[running])
    assert await poll(rig, "w")
    await rig.stop()

    rig = await start_master(**bounds)
    jobs = rig.master.core.jobs
    numbers = (int(running), int(dependant))
    await until(lambda: all(jobs.job(each).calls for each in numbers), "the jobs go on")
    assert (await rig.ask("PUT", "/heartbeat/w")).status == 200
    assert await statuses(rig) == {"RUNNING": 1, "PENDING": 1}
    assert await report(rig, "w", running, "COMPLETED", result=3) == "Task 1 is COMPLETED"
    task = await polled(rig, "w")
    assert (task["task_id"], task["dependencies"]) == (dependant, [running])
    assert (task["args"], task["kwargs"]) == ([1], {"y": 2})


async def test_a_cancelled_task_stays_so_after_a_restart(
    start_master: StartMaster, bounds: dict[str, Any], journal: bool
) -> None:
    if not journal:
        pytest.skip("nothing survives without a journal")
    rig = await start_master(**bounds)
    task_id = await add(rig)
    assert await poll(rig, "w")
    await rig.post(f"/cancel_task/{task_id}")
    await rig.stop()
    rig = await start_master(**bounds)
    assert await poll(rig, "w") is None
    assert await statuses(rig) == {"CANCELED": 1}
    assert "ended before" in await report(rig, "w", task_id, "COMPLETED", result=1)
